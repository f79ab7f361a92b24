"""AMD Alveo U250 with DDR4, U280 with HBM2: PCIe through XDMA, the tape striped over four ports."""

import functools

from terngen.hw.boards import vivado
from terngen.hw.boards.board import Board

__all__ = ["U250", "U280"]

#: Twice as many lanes bring 370M weights from 93 to 95 % of the ports' peak, and have the Verilog twice as long.
CONFIG = {"lanes": 16}

_REMARKS = "Verilog and scripts for Vivado; not run in Vivado and not tried on silicon."


def _board(name, title, device, cells, memory, **options):
    return Board(
        name=name, title=title, device=device, cells=cells, family="xcup", tier=3, clock_hz=300_000_000,
        memories={"hbm2" if "HBM" in memory.title else "ddr4": memory},
        link=vivado.MailboxLink("PCIe x16, registers", 4e6),
        scripts=functools.partial(vivado.files, memory=memory, **options), remarks=_REMARKS)


U250 = _board(
    "alveo-u250", "AMD Alveo U250", "XCU250-FIGD2104-2L", {"lut": 1728000, "ff": 3456000, "bram": 5376, "dsp": 12288},
    vivado.AxiMemory("DDR4, four x72 of 2400 MT/s", 64 << 30, channels=4, width=256, addr_width=34,
                     peak_bytes=76_800_000_000, config=CONFIG),
    part="xcu250-figd2104-2L-e", board_part="xilinx.com:au250:part0:1.3", design=["alveo-host", "alveo-u250"])

U280 = _board(
    "alveo-u280", "AMD Alveo U280", "XCU280-FSVH2892-2L", {"lut": 1304000, "ff": 2607000, "bram": 4032, "dsp": 9024},
    vivado.AxiMemory("HBM2, four of 32 ports", 8 << 30, channels=4, width=256, addr_width=33,
                     peak_bytes=57_600_000_000, bases=tuple(index << 31 for index in range(4)),
                     config=CONFIG),
    part="xcu280-fsvh2892-2L-e", board_part="xilinx.com:au280:part0:1.2", design=["alveo-host", "alveo-u280"])
