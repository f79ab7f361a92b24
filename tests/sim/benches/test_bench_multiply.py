"""The bench of the float multipliers."""

import pytest

from terngen.hw.contract.formats import FloatFormat, Multiplier
from terngen.hw.stream import Streamed
from terngen.hw.units.literal import LiteralLMul
from terngen.hw.units.multiply import Multiply
from terngen.sim.verilog import run_bench


# e7m11 is the format of the squares of e6m11.
@pytest.mark.parametrize("fmt, multiplier", [
    ("e6m11", "exact"), ("e8m7", "exact"), ("e5m10", "exact"), ("e4m3", "exact"), ("e7m11", "exact"),
    ("e6m11", "lmul"), ("e8m7", "lmul"), ("e4m3", "lmul"), ("e7m11", "lmul"),
    ("e6m11", "lmul-unbiased"), ("e3m2", "lmul-unbiased"), ("e6m9", "lmul-mitchell"), ("e5m10", "lmul-77"),
])
def test_multiply(fmt, multiplier):
    unit = Streamed(Multiply(fmt=FloatFormat.parse(fmt), multiplier=Multiplier.parse(multiplier)))
    run_bench(unit, "bench_multiply",
              env={"FORMAT": fmt, "MULTIPLIER": multiplier, "FUNCTION": "multiply", "LATENCY": unit.LATENCY})


@pytest.mark.parametrize("fmt, multiplier", [
    ("e8m7", "lmul"), ("e5m10", "lmul-unbiased"), ("e3m2", "lmul-unbiased"), ("e6m11", "lmul-mitchell"),
])
def test_literal(fmt, multiplier):
    unit = Streamed(LiteralLMul(fmt=FloatFormat.parse(fmt), multiplier=Multiplier.parse(multiplier)))
    run_bench(unit, "bench_multiply",
              env={"FORMAT": fmt, "MULTIPLIER": multiplier, "FUNCTION": "multiply_literal", "LATENCY": unit.LATENCY})
