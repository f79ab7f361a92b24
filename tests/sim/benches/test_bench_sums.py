"""The bench of the queue of sums."""

import json

import pytest

from terngen.hw.contract.config import Config
from terngen.hw.units.sums import Sums
from terngen.sim.verilog import run_bench


# A row group is as much as a lane group, several of them, or a part of one.
@pytest.mark.parametrize("beat_bits, row_lanes, lanes, slots", [
    (16, 1, 1, 3),
    (128, 4, 4, 1),
    (64, 4, 1, 3),
    (64, 1, 4, 1),
])
def test_sums(beat_bits, row_lanes, lanes, slots):
    config = Config(beat_bits=beat_bits, row_lanes=row_lanes, lanes=lanes, slots=slots, hidden=16, wide=32, rows=40)
    run_bench(Sums(config), "bench_sums", env={"CONFIG": json.dumps(config.to_dict())})
