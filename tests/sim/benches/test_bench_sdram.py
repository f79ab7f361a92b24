"""The tape in an SDRAM as Verilog, on a chip that checks every command."""

import dataclasses
import json

import pytest

from terngen.hw.contract.config import Config
from terngen.hw.tape.chips import CHIPS
from terngen.hw.tape.sdram import SdramTape
from terngen.sim.sdram import SdramBoard
from terngen.sim.verilog import run_bench

#: A word of the chip before it is written.
GUARD = 0xA5C3


def run(name, clock_hz, beat_bits, *, flight=0, tests=None, **size):
    config = Config(beat_bits=beat_bits)
    size   = {"power_up": 2000, **size}
    chip   = dataclasses.replace(CHIPS[name], **size)
    board  = SdramBoard(config, chip=chip, clock_hz=clock_hz, flight=flight, init=[GUARD] * chip.words)
    assert isinstance(board.tape, SdramTape)
    run_bench(board, "bench_sdram", tests=tests, env={
        "CONFIG": json.dumps(config.to_dict()), "CHIP": name, "SIZE": json.dumps(size), "CLOCK_HZ": clock_hz,
        "FLIGHT": flight, "GUARD": GUARD})


@pytest.mark.parametrize("name, clock_hz, beat_bits, flight", [
    ("IS42S16160G-7", 120_000_000,  64, 0),
    ("AS4C32M16SB-7", 142_857_142,  16, 0),
    ("M12L64322A-7",  133_333_333, 256, 1),
    ("EM638325-6",    100_000_000,  32, 0),
    ("EM638325-6",    166_666_666, 512, 2),
    ("IS42S16160G-7",  50_000_000, 128, 0),
])
def test_sdram(name, clock_hz, beat_bits, flight):
    """With rows of eight bursts, so that many end."""
    run(name, clock_hz, beat_bits, flight=flight, rows=4, cols=64)


@pytest.mark.parametrize("name, clock_hz, beat_bits, rows", [
    ("IS42S16160G-7", 120_000_000, 64, 16),
    ("IS42S16160G-7", 133_333_333, 64, 16),
    ("AS4C32M16SB-7", 142_857_142, 64, 8),
    ("M12L64322A-7",  133_333_333, 64, 32),
    ("EM638325-6",    142_857_142, 64, 64),
])
def test_attainment(name, clock_hz, beat_bits, rows):
    """With rows as long as those of the chip."""
    run(name, clock_hz, beat_bits, tests="attainment", rows=rows)
