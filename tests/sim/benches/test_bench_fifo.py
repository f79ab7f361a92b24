"""The benches of Amaranth's FIFO, on every simulator of this machine."""

import pytest
from amaranth import Module
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.sim.verilog import run_bench


class Fifo(wiring.Component):
    """Amaranth's FIFO with stream ports. `fault` breaks one promise."""

    def __init__(self, *, depth, fault=None):
        self.depth = depth
        self.fault = fault
        super().__init__({"i": In(stream.Signature(20)), "o": Out(stream.Signature(20))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = inner = fifo.SyncFIFO(width=20, depth=self.depth)
        wiring.connect(m, wiring.flipped(self.i), inner.w_stream)
        wiring.connect(m, inner.r_stream, wiring.flipped(self.o))
        return m


@pytest.mark.parametrize("depth", [2, 5])
def test_fifo(depth):
    run_bench(Fifo(depth=depth), "bench_fifo", env={"DEPTH": depth})
