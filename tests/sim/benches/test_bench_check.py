"""The CRC of a part of the tape as Verilog."""

import pytest

from terngen.hw.contract.config import Config
from terngen.hw.tape.check import TapeCheck
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("width", [16, 32, 64, 256])
def test_check(width):
    run_bench(TapeCheck(Config(beat_bits=width, row_lanes=1)), "bench_check", env={"WIDTH": width})
