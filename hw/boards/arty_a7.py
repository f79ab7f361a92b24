"""Digilent Arty A7-100T: DDR3 behind the memory controller of the vendor, a serial port."""

import functools

from terngen.hw.boards import vivado
from terngen.hw.boards.board import Board, Serial

__all__ = ["BOARD"]

_DDR = vivado.AxiMemory("DDR3 x16, 667 MT/s", 256 << 20, channels=1, width=128, peak_bytes=1_333_000_000, addr_width=28)

BOARD = Board(
    name     = "arty-a7-100",
    title    = "Digilent Arty A7-100T",
    device   = "XC7A100T-1CSG324",
    cells    = {"lut": 63400, "ff": 126800, "bram": 270, "dsp": 240},
    family   = "xc7",
    tier     = 2,
    clock_hz = 83_333_333,
    memories = {"ddr3": _DDR},
    link     = Serial(3_000_000, "FT2232H"),
    scripts  = functools.partial(vivado.files, part="xc7a100tcsg324-1", memory=_DDR, design=["arty-a7-100"],
                                 board_part="digilentinc.com:arty-a7-100:part0:1.1", constraints="arty-a7-100.xdc"),
    remarks  = "Verilog and scripts for Vivado, which need Digilent's board files; not run in Vivado and not tried on "
               "silicon.",
)
