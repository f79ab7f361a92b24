"""The parts of the link endpoint as Verilog."""

import pytest

from terngen.hw.link.endpoint import Executor, Replier
from terngen.hw.link.receiver import Receiver
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("unit, tests", [(Receiver, "receives"), (Executor, "executes"), (Replier, "replies")])
def test_link(unit, tests):
    run_bench(unit(), "bench_link", tests=tests)
