"""The bench of the sampler."""

import json

import pytest

from terngen.hw.contract.config import Config
from terngen.hw.units.sampler import Sampler
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("lanes, slots, top_k", [(1, 1, 1), (2, 3, 4), (4, 1, 15), (8, 2, 1)])
def test_sampler(lanes, slots, top_k):
    config = Config(lanes=lanes, slots=slots, top_k=top_k, hidden=16, wide=16, rows=256)
    run_bench(Sampler(config), "bench_sampler", env={"CONFIG": json.dumps(config.to_dict())})
