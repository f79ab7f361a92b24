"""The bench of the queue of codes."""

import json

import pytest

from terngen.hw.contract.config import Config
from terngen.hw.units.activations import Activations
from terngen.sim.verilog import run_bench


# One with several codes loaded per cycle, one with a lane group in two blocks.
@pytest.mark.parametrize("beat_bits, lanes, slots", [(16, 1, 1), (64, 2, 3), (128, 8, 1)])
def test_activations(beat_bits, lanes, slots):
    config = Config(beat_bits=beat_bits, lanes=lanes, slots=slots, hidden=16, wide=48, rows=32)
    run_bench(Activations(config), "bench_activations", env={"CONFIG": json.dumps(config.to_dict())})
