"""The bench of the sum of squares."""

import pytest

from terngen.hw.contract.formats import FloatFormat
from terngen.hw.units.squaresum import SquareSum
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("fmt, lanes, slots, sums", [
    ("e6m11", 4, 1, 150), ("e6m11", 2, 3, 150), ("e8m7", 1, 2, 80), ("e4m3", 4, 1, 80), ("e5m10", 8, 1, 60),
])
def test_square_sum(fmt, lanes, slots, sums):
    unit = SquareSum(fmt=FloatFormat.parse(fmt), lanes=lanes, slots=slots)
    run_bench(unit, "bench_squaresum",
              env={"FORMAT": fmt, "LANES": lanes, "SLOTS": slots, "SUMS": sums, "LATENCY": unit.LATENCY})
