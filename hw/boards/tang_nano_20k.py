"""Sipeed Tang Nano 20K: a GW2AR-18C with 8 MB of 32-bit SDRAM in its package.

Pins: documented by Sipeed, and in LiteX-Boards. The SDRAM has no pins outside; its pads are those that Apicula's
database has for the package (Project Apicula, ``sip_cst`` of GW2AR-18C).
"""

from amaranth.build import Attrs, Clock, Pins, PinsN, Resource
from amaranth.vendor import GowinPlatform

from terngen.hw.boards.board import Board, Sdram, Serial, open_fpga_loader
from terngen.hw.boards.gowin import GW2A_18, GowinTop

__all__ = ["BOARD"]

_IO = Attrs(IO_TYPE="LVCMOS33")


def platform():
    from amaranth_boards.resources import SDRAMResource, UARTResource

    class TangNano20kPlatform(GowinPlatform):
        part        = "GW2AR-LV18QN88C8/I7"
        family      = "GW2AR-18C"
        default_clk = "clk27"
        resources   = [
            Resource("clk27", 0, Pins("4", dir="i"), Clock(27e6), _IO),
            Resource("led", 0, PinsN("15", dir="o"), _IO),
            UARTResource(0, rx="70", tx="69", attrs=_IO),
            SDRAMResource(
                0, clk="IOR11B", cke="IOL13A", cs_n="IOL14B", we_n="IOL12B", cas_n="IOL14A", ras_n="IOL13B",
                ba="IOR13A IOR12A", dqm="IOL12A IOR11A IOL18A IOR15B",
                a="IOR14A IOR13B IOR14B IOR15A IOL16B IOL17B IOL16A IOL17A IOL15B IOL15A IOR12B",
                dq="IOL3A IOL3B IOL8A IOL8B IOL9A IOL9B IOL11A IOL11B IOR9B IOR9A IOR5B IOR6A IOR5A IOR4B IOR3B IOR3A "
                   "IOL39B IOL39A IOL35B IOL35A IOL30B IOL30A IOL20A IOL18B IOR17A IOR16A IOR16B IOR17B IOR18A IOR18B "
                   "IOR44A IOR44B",
                attrs=_IO),
        ]
        connectors  = []

    return TangNano20kPlatform()


BOARD = Board(
    name     = "tang-nano-20k",
    title    = "Sipeed Tang Nano 20K",
    device   = "GW2AR-LV18QN88C8/I7",
    cells    = GW2A_18,
    family   = "gowin",
    tier     = 1,
    clock_hz = 54_000_000,
    # As on the ULX3S; the chip is in the package.
    memories = {"sdram": Sdram("M12L64322A-7", 2.5, 1, {"variant": "tree", "row_lanes": 1, "lanes": 1})},
    link     = Serial(1_000_000, "BL616"),
    platform = platform,
    top      = GowinTop,
    remarks  = "Not tried on silicon.",

    programmer = open_fpga_loader("tangnano20k"),
)
