"""The bench of the queue of codes."""

import json

import pytest

from terngen.hw.contract.config import Config
from terngen.hw.units.activations import Activations
from terngen.sim.verilog import run_bench


# A part of a lane group is read at a time, a lane group, or several.
@pytest.mark.parametrize("beat_bits, row_lanes, lanes, slots, width", [
    (16, 1, 1, 1, 1),
    (64, 2, 8, 3, 2),
    (128, 4, 4, 1, 4),
    (128, 2, 2, 2, 8),
])
def test_activations(beat_bits, row_lanes, lanes, slots, width):
    config = Config(beat_bits=beat_bits, row_lanes=row_lanes, lanes=lanes, slots=slots, hidden=16, wide=48, rows=32)
    run_bench(Activations(config, width=width), "bench_activations",
              env={"CONFIG": json.dumps(config.to_dict()), "WIDTH": width})


@pytest.mark.parametrize("width", [0, 3, 8])
def test_width_wrong(width):
    with pytest.raises(ValueError, match=rf"^Width must be a power of two and at most .* \(4\), not {width}$"):
        Activations(Config(beat_bits=64, row_lanes=2), width=width)
