"""The bench of the registers."""

import json

import pytest

from terngen.hw.contract.config import Config
from terngen.hw.control.registers import Registers
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("lanes, slots, top_k", [(1, 1, 1), (2, 3, 4), (4, 2, 15)])
def test_registers(lanes, slots, top_k):
    config = Config(lanes=lanes, slots=slots, top_k=top_k, hidden=12, wide=12, rows=20, readable=slots > 1)
    run_bench(Registers(config), "bench_registers", env={"CONFIG": json.dumps(config.to_dict())})
