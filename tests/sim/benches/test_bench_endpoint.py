"""The link endpoint as Verilog."""

from terngen.hw.link.endpoint import Endpoint
from terngen.sim.verilog import run_bench


def test_endpoint():
    run_bench(Endpoint(), "bench_endpoint")
