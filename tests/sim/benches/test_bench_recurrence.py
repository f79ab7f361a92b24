"""The bench of the recurrent state."""

import dataclasses
import json

import pytest

from terngen.hw.contract.config import Config, Sites
from terngen.hw.contract.formats import FloatFormat, Multiplier
from terngen.hw.units.recurrence import Recurrence
from terngen.sim.verilog import run_bench

SMALL = Config(beat_bits=64, lanes=2, hidden=8, wide=12, rows=12, state=44)


@pytest.mark.parametrize("changes", [
    {},
    {"lanes": 1, "slots": 3, "state": 16, "path": FloatFormat(8, 7), "sites": Sites.all(Multiplier("lmul"))},
    {"lanes": 4, "slots": 2, "sites": Sites(recurrence=Multiplier("lmul-unbiased"))},
], ids=["small", "lmul", "wide"])
def test_recurrence(changes):
    config = dataclasses.replace(SMALL, **changes)
    run_bench(Recurrence(config), "bench_recurrence",
              env={"CONFIG": json.dumps(config.to_dict()), "FORMAT": config.path})
