"""The bench of the link behind AXI4-Lite."""

from terngen.hw.link.mailbox import Mailbox
from terngen.sim.verilog import run_bench


def test_mailbox():
    run_bench(Mailbox(), "bench_mailbox")
