"""The link endpoint as Verilog."""

import pytest

from terngen.hw.link.endpoint import Endpoint
from terngen.sim.benches.bench_endpoint import IDLE_CYCLES
from terngen.sim.verilog import run_bench


def test_endpoint():
    run_bench(Endpoint(idle_cycles=IDLE_CYCLES), "bench_endpoint")


@pytest.mark.parametrize("cycles", [0, 1, 3, 100])
def test_idle_cycles_wrong(cycles):
    with pytest.raises(ValueError, match=rf"^Idle cycles must be a power of two from 2 on, not {cycles}$"):
        Endpoint(idle_cycles=cycles)
