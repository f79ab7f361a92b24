"""The bench of the float adder."""

import pytest

from terngen.hw.contract.formats import FloatFormat
from terngen.hw.stream import Streamed
from terngen.hw.units.add import Add
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("fmt", ["e6m11", "e8m7", "e5m10", "e4m3", "e6m9", "e3m2"])
def test_add(fmt):
    unit = Streamed(Add(fmt=FloatFormat.parse(fmt)))
    run_bench(unit, "bench_add", env={"FORMAT": fmt, "LATENCY": unit.LATENCY})
