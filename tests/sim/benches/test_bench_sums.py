"""The bench of the queue of sums."""

import json

import pytest

from terngen.hw.contract.config import Config
from terngen.hw.units.sums import Sums
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("beat_bits, lanes, slots", [(16, 1, 3), (128, 4, 1)])
def test_sums(beat_bits, lanes, slots):
    config = Config(beat_bits=beat_bits, lanes=lanes, slots=slots, hidden=16, wide=32, rows=40)
    run_bench(Sums(config), "bench_sums", env={"CONFIG": json.dumps(config.to_dict())})
