"""Boards with a Gowin device, by the names that their resources have in Amaranth's platforms."""

from terngen.hw.boards.ecp5 import Ecp5Top
from terngen.hw.vendor.pll import GowinPll

__all__ = ["GW2A_18", "GowinTop"]

#: Cells of a GW2A-18 (Gowin DS226, product resources); multipliers of 18 bits.
GW2A_18 = {"lut": 20736, "ff": 15552, "bram": 46, "dsp": 48}



class GowinTop(Ecp5Top):
    """The same with another PLL."""

    @staticmethod
    def pll(platform, clock, **options):
        return GowinPll(clock, device=platform.family, **options)
