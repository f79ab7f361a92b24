"""The bench of the dot product."""

import pytest

from terngen.hw.contract.formats import FloatFormat, Multiplier
from terngen.hw.units.dot import Dot
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("fmt, multiplier", [
    ("e4m3", "lmul"), ("e4m3", "lmul-unbiased"), ("e5m2", "lmul-mitchell"), ("e8m7", "lmul"), ("e8m7", "lmul-unbiased"),
    ("e6m9", "lmul-500"), ("e2m1", "lmul-1"),
])
def test_dot(fmt, multiplier):
    dut = Dot(fmt=FloatFormat.parse(fmt), multiplier=Multiplier.parse(multiplier))
    run_bench(dut, "bench_dot", env={"FORMAT": fmt, "MULTIPLIER": multiplier, "LATENCY": dut.LATENCY})
