"""The bench of matrix times vector."""

import json

import pytest

from terngen.hw.contract.config import Config
from terngen.hw.units.matvec import MatVec
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("beat_bits, lanes, slots", [
    (16, 1, 3),
    (64, 2, 1),
    (64, 4, 3),
    (128, 4, 1),
])
def test_matvec(beat_bits, lanes, slots):
    config = Config(beat_bits=beat_bits, lanes=lanes, slots=slots, hidden=16, wide=48, rows=60)
    run_bench(MatVec(config), "bench_matvec", env={"CONFIG": json.dumps(config.to_dict())})
