"""The bench of the ternary array."""

import json

import pytest

from terngen.hw.contract.config import Config
from terngen.hw.units.array import TernaryArray
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("beat_bits, lanes, slots", [(16, 1, 3), (64, 2, 1), (128, 4, 1)])
def test_array(beat_bits, lanes, slots):
    config = Config(beat_bits=beat_bits, lanes=lanes, slots=slots)
    run_bench(TernaryArray(config), "bench_array", env={"CONFIG": json.dumps(config.to_dict())})
