"""The bench of the loop of a text."""

import json

import pytest

from terngen.hw.contract.config import Config
from terngen.hw.control.decode import Decode
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("slots", [1, 3, 4])
def test_decode(slots):
    config = Config(slots=slots, history=16)
    run_bench(Decode(config), "bench_decode", env={"CONFIG": json.dumps(config.to_dict())})
