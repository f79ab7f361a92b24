"""Colorlight i9 v7.2 with an LFE5U-45F and 8 MB of 32-bit SDRAM, on its extension board.

Pins: documented by wuxx (Colorlight-FPGA-Projects, colorlight_i9_v7.2.md) and smunaut. The clock enable, the chip
select and the masks of the SDRAM are tied on the module.
"""

from amaranth.build import Attrs, Clock, Pins, PinsN, Resource
from amaranth.vendor import LatticeECP5Platform

from terngen.hw.boards.board import Board, OnChip, Sdram, Serial, open_fpga_loader
from terngen.hw.boards.ecp5 import BLOCK_RAM_OCTETS, LFE5_45, Ecp5Top

__all__ = ["BOARD"]

_IO = Attrs(IO_TYPE="LVCMOS33")


def platform():
    from amaranth_boards.resources import SDRAMResource, UARTResource

    class ColorlightI9Platform(LatticeECP5Platform):
        device      = "LFE5U-45F"
        package     = "BG381"
        speed       = "6"
        default_clk = "clk25"
        resources   = [
            Resource("clk25", 0, Pins("P3", dir="i"), Clock(25e6), _IO),
            Resource("led", 0, PinsN("L2", dir="o"), _IO),
            UARTResource(0, rx="H18", tx="J17", attrs=_IO),
            SDRAMResource(
                0, clk="B9", we_n="A10", cas_n="A9", ras_n="B10", ba="B11 C8",
                a="B13 C14 A16 A17 B16 B15 A14 A13 A12 A11 B12",
                dq="D15 E14 E13 D12 E12 D11 C10 B17 B8 A8 C7 A7 A6 B6 A5 B5 "
                   "D5 C5 D6 C6 E7 D7 E8 D8 E9 D9 E11 C11 C12 D13 D14 C15",
                attrs=Attrs(PULLMODE="NONE", DRIVE="4", SLEWRATE="FAST", IO_TYPE="LVCMOS33")),
        ]
        connectors  = []

    return ColorlightI9Platform()


BOARD = Board(
    name     = "colorlight-i9",
    title    = "Colorlight i9 v7.2",
    device   = "LFE5U-45F-6BG381C",
    cells    = LFE5_45,
    family   = "ecp5",
    tier     = 1,
    clock_hz = 120_000_000,
    # As on the ULX3S, for the slower of both chips, by their grade and not by their sheets: 2 ns of setup and 1 of
    # hold, and it has 5.4 and 2.9; data from 6 to 2 ns after its edges, so steady from 11.4 to 15.7 without the way,
    # which may take 1.0 to 5.2 ns.
    memories = {"sdram": Sdram("M12L64322A-7", 5.4, 2, {"variant": "tree", "row_lanes": 1, "lanes": 2}, seed=2),
                "onchip": OnChip(LFE5_45["bram"] * BLOCK_RAM_OCTETS, clock_hz=80_000_000)},
    link     = Serial(3_000_000, "DAPLink"),
    platform = platform,
    top      = Ecp5Top,
    remarks  = "Not tried on silicon.",

    programmer = open_fpga_loader("colorlight-i9"),
)
