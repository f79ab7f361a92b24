"""The bench of the conversion to int8."""

import pytest

from terngen.hw.contract.formats import FloatFormat
from terngen.hw.stream import Streamed
from terngen.hw.units.convert import ToInt8
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("fmt", ["e6m11", "e8m7", "e5m10", "e4m3", "e6m9", "e2m5"])
def test_to_int8(fmt):
    unit = Streamed(ToInt8(fmt=FloatFormat.parse(fmt)))
    run_bench(unit, "bench_to_int8", env={"FORMAT": fmt, "LATENCY": unit.LATENCY})
