import dataclasses
import json

import pytest

from terngen.hw.contract.config import Config, Sites
from terngen.hw.contract.formats import FloatFormat, Multiplier
from terngen.hw.units.vector import Vector
from terngen.sim.verilog import run_bench

SMALL = Config(beat_bits=64, lanes=2, hidden=8, wide=12, rows=12, state=24, top_k=3)


@pytest.mark.parametrize("changes", [
    {},
    {"slots": 3, "readable": True},
    {"lanes": 1, "path": FloatFormat(8, 7), "sites": Sites.all(Multiplier("lmul"))},
    {"lanes": 4, "slots": 2, "readable": True, "top_k": 1, "embedding": FloatFormat(4, 3),
     "sites": Sites(gate=Multiplier("lmul"), square=Multiplier("lmul"))},
], ids=["one-slot", "three-slots", "lmul", "mixed"])
def test_vector(changes):
    config = dataclasses.replace(SMALL, **changes)
    run_bench(Vector(config), "bench_vector",
              env={"CONFIG": json.dumps(config.to_dict()), "ROUNDS": 4})
