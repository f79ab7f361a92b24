"""The bench of the logistic function."""

import pytest

from terngen.hw.contract.formats import FloatFormat
from terngen.hw.stream import Streamed
from terngen.hw.units.sigmoid import Sigmoid
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("fmt", ["e6m11", "e8m7", "e5m10", "e4m3", "e6m9", "e2m5"])
def test_sigmoid(fmt):
    unit = Streamed(Sigmoid(fmt=FloatFormat.parse(fmt)))
    run_bench(unit, "bench_sigmoid", env={"FORMAT": fmt, "LATENCY": unit.LATENCY})
