"""The bench of the conversion from integers."""

import pytest

from terngen.hw.contract.formats import FloatFormat
from terngen.hw.stream import Streamed
from terngen.hw.units.convert import FromInt
from terngen.sim.verilog import run_bench


# Narrower than the mantissa, about as wide, wider, and wider than the range of the format.
@pytest.mark.parametrize("fmt, width", [
    ("e6m11", 8), ("e6m11", 13), ("e6m11", 24), ("e6m11", 32), ("e8m7", 20), ("e5m10", 22), ("e4m3", 16),
])
def test_from_int(fmt, width):
    unit = Streamed(FromInt(fmt=FloatFormat.parse(fmt), width=width))
    run_bench(unit, "bench_from_int", env={"FORMAT": fmt, "WIDTH": width, "LATENCY": unit.LATENCY})
