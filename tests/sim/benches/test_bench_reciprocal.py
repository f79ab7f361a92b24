"""The bench of the reciprocal."""

import pytest

from terngen.hw.contract.formats import FloatFormat
from terngen.hw.units.reciprocal import Reciprocal
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("fmt", ["e6m11", "e8m7", "e4m3", "e3m2"])
def test_reciprocal(fmt):
    unit = Reciprocal(fmt=FloatFormat.parse(fmt))
    run_bench(unit, "bench_reciprocal", env={"FORMAT": fmt, "LATENCY": unit.LATENCY})
