"""RHS Research NiteFury II: DDR3 behind the memory controller of the vendor, PCIe."""

import functools

from terngen.hw.boards import vivado
from terngen.hw.boards.board import Board

__all__ = ["BOARD"]

_DDR = vivado.AxiMemory("DDR3 x16, 800 MT/s", 1 << 30, channels=1, width=128, peak_bytes=1_600_000_000)

BOARD = Board(
    name     = "nitefury-ii",
    title    = "RHS Research NiteFury II",
    device   = "XC7A200T-2FBG484",
    cells    = {"lut": 134600, "ff": 269200, "bram": 730, "dsp": 740},
    family   = "xc7",
    tier     = 2,
    clock_hz = 100_000_000,
    memories = {"ddr3": _DDR},
    link     = vivado.MailboxLink("PCIe x4, registers", 4e6),
    scripts  = functools.partial(vivado.files, part="xc7a200tfbg484-2", memory=_DDR, design=["nitefury-ii"],
                                 constraints="nitefury-ii.xdc"),
    remarks  = "Verilog and scripts for Vivado, which need mig.prj of the board's sample project; not run in Vivado "
               "and not tried on silicon.",
)
