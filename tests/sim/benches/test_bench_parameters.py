"""The bench of the parameter vectors."""

import json

import pytest

from terngen.hw.contract.config import Config
from terngen.hw.contract.formats import FloatFormat
from terngen.hw.units.parameters import Parameters
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("beat_bits, lanes, wide, path, embedding", [
    (16, 1, 12, "e6m11", None),         # a beat is a lane group
    (64, 2, 28, "e6m11", None),         # several groups in a beat, the last one not full
    (128, 2, 4, "e8m7", None),          # all in one beat
    (64, 4, 40, "e4m3", None),
    (16, 4, 12, "e6m11", None),         # a lane group is several beats
    (16, 4, 12, "e6m11", "e4m3"),
    (16, 1, 12, "e6m11", "e4m3"),       # a beat is two lane groups of an embedding row
    (64, 2, 28, "e6m11", "e4m3"),
    (64, 4, 40, "e4m5", "e4m2"),        # no field of eight bits, and an exponent as long as that of the path
    (16, 1, 12, "e6m11", "e6m11"),      # an element of an embedding row is two beats
    (64, 2, 28, "e6m11", "e6m11"),
    (32, 4, 16, "e8m7",  "e8m7"),
    (128, 1, 40, "e4m5", "e4m5"),
    (16, 4, 36, "e6m11", None),
    (32, 8, 16, "e6m11", None),
])
def test_parameters(beat_bits, lanes, wide, path, embedding):
    hidden = wide // 2 if embedding == path else wide
    config = Config(beat_bits=beat_bits, lanes=lanes, hidden=hidden, wide=wide, rows=wide,
                    path=FloatFormat.parse(path), embedding=embedding and FloatFormat.parse(embedding))
    run_bench(Parameters(config), "bench_parameters", env={"CONFIG": json.dumps(config.to_dict())})
