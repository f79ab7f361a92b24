"""Radiona ULX3S with an LFE5U-85F."""

from terngen.hw.boards.board import Board, OnChip, Sdram, Serial, open_fpga_loader
from terngen.hw.boards.ecp5 import BLOCK_RAM_OCTETS, LFE5_85, Ecp5Top
from terngen.hw.contract.config import PRESETS

__all__ = ["BOARD"]


def platform():
    from amaranth_boards.ulx3s import ULX3S_85F_Platform
    return ULX3S_85F_Platform()


BOARD = Board(
    name     = "ulx3s-85f",
    title    = "Radiona ULX3S 85F",
    device   = "LFE5U-85F-6BG381C",
    cells    = LFE5_85,
    family   = "ecp5",
    tier     = 1,
    clock_hz = 120_000_000,
    # The chip wants 1.5 ns of setup and 0.8 of hold: it has 5.0 and 3.3. Its data are taken two periods, 16.7 ns,
    # after the edge here; without the way they are steady from 10.4 to 16.0. So the way may take 0.7 to 6.2 ns.
    memories = {"sdram": Sdram("IS42S16160G-7", 5.0, 2, {"variant": "tree", "row_lanes": 1, "lanes": 2}),
                "onchip": OnChip(LFE5_85["bram"] * BLOCK_RAM_OCTETS, PRESETS["onchip"].choices, 87_500_000, seed=2),
                # A quarter of the width at half as much clock again: a third of the logic.
                "onchip-narrow": OnChip(LFE5_85["bram"] * BLOCK_RAM_OCTETS, {
                    **PRESETS["onchip"].choices, "beat_bits": 128, "row_lanes": 4, "lanes": 2}, 130_000_000, seed=1)},
    link     = Serial(3_000_000, "FT231X"),
    platform = platform,
    top      = Ecp5Top,
    remarks  = "Not tried on silicon.",

    programmer = open_fpga_loader("ulx3s"),
)
