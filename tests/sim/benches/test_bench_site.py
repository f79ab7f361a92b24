"""The bench of the multiplication whose product is selected."""

import pytest

from terngen.hw.contract.formats import FloatFormat, Multiplier
from terngen.hw.units.site import SiteMultiply
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("fmt, multipliers", [
    ("e6m11", "exact,lmul,exact"),          # of different latency
    ("e8m7",  "lmul,lmul-unbiased,exact,lmul-mitchell"),
    ("e6m11", "lmul,lmul"),
    ("e6m11", "exact"),
])
def test_site(fmt, multipliers):
    unit = SiteMultiply(fmt=FloatFormat.parse(fmt), multipliers=map(Multiplier.parse, multipliers.split(",")))
    run_bench(unit, "bench_site", env={"FORMAT": fmt, "MULTIPLIERS": multipliers, "LATENCY": unit.LATENCY})
