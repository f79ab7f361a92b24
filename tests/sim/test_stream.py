"""The testbench helpers can fail, and count right."""

import random

import pytest
from amaranth import ClockDomain, Module, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.sim import stream as bench


class Pair(data.Struct):
    low: 4
    high: 8


class Register(wiring.Component):
    """A stream register: latency 1, throughput 1. `fault` breaks one rule."""

    def __init__(self, *, shape=8, fault=None):
        self.fault = fault
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.i.ready):
            m.d.sync += self.o.valid.eq(self.i.valid)
        with m.If(self.i.ready & self.i.valid):
            m.d.sync += self.o.payload.eq(self.i.payload)
        age = Signal(2)
        m.d.sync += age.eq(age + 1)
        if self.fault == "withdraws":
            with m.If(age == 3):
                m.d.sync += self.o.valid.eq(0)
        if self.fault == "changes":
            with m.If(self.o.valid & ~self.o.ready & (age == 3)):
                m.d.sync += self.o.payload.eq(self.o.payload + 1)
        if self.fault == "loses":
            with m.If((age == 3) & self.i.valid & self.i.ready):
                m.d.sync += self.o.valid.eq(0)
        return m


def exchange(dut, values, *, i_stall=None, o_stall=None, **kwargs):
    actual = []

    async def i_testbench(ctx):
        await bench.put(ctx, dut.i, values, stall=i_stall)

    async def o_testbench(ctx):
        actual.extend(await bench.get(ctx, dut.o, len(values), stall=o_stall))

    cycles = bench.run(dut, i_testbench, o_testbench, **kwargs)
    return actual, cycles


@pytest.mark.parametrize("i_stall, o_stall", [(0, 0), (0.4, 0), (0, 0.4), (0.4, 0.4)])
def test_order_and_values(i_stall, o_stall):
    rng = random.Random(1)
    values = [rng.getrandbits(8) for _ in range(100)]
    actual, _ = exchange(Register(), values, i_stall=lambda: rng.random() < i_stall,
                         o_stall=lambda: rng.random() < o_stall)
    assert actual == values


def test_cycles():
    """A register with latency 1 hands over 100 values at the edges 2 to 101."""
    _, cycles = exchange(Register(), range(100))
    assert cycles == 100 + 1


def test_structures():
    values = [{"low": 15, "high": 200}, {"low": 1, "high": 2}]
    actual, _ = exchange(Register(shape=Pair), values)
    assert [(pair.low, pair.high) for pair in actual] == [(15, 200), (1, 2)]


@pytest.mark.parametrize("fault, message", [
    ("withdraws", r"^Producer must hold valid until the transfer, but withdrew \d+$"),
    ("changes",   r"^Producer must hold the payload until the transfer, but changed \d+ to \d+$"),
])
def test_rules(fault, message):
    rng = random.Random(2)
    with pytest.raises(bench.StreamError, match=message):
        exchange(Register(fault=fault), range(100), o_stall=lambda: rng.random() < 0.6)


def test_lost_transfer():
    with pytest.raises(AssertionError, match=r"^After 300 cycles these still wait: "
                                             r"o_testbench \(getting value \d+ of 100\)$"):
        exchange(Register(fault="loses"), range(100), cycles=300)


def test_failure_in_testbench():
    """The first failure is the one that is seen, whatever the others wait for."""
    dut = Register()

    async def i_testbench(ctx):
        await ctx.tick().until(dut.o.valid)

    async def o_testbench(ctx):
        await ctx.tick().repeat(3)
        raise AssertionError("values differ")

    with pytest.raises(AssertionError, match="^values differ$"):
        bench.run(dut, i_testbench, o_testbench)


def test_reset():
    """Reset drops what the register holds, and is no broken rule."""
    sync = ClockDomain("sync")
    dut = Register()
    actual = []

    async def testbench(ctx):
        await bench.put(ctx, dut.i, [1])
        ctx.set(sync.rst, 1)
        await ctx.tick()
        ctx.set(sync.rst, 0)
        await bench.put(ctx, dut.i, [2])
        actual.extend(await bench.get(ctx, dut.o, 1))

    bench.run(dut, testbench, domain=sync)
    assert actual == [2]


def test_combinational():
    class Inverter(wiring.Component):
        i: In(stream.Signature(8))
        o: Out(stream.Signature(8))

        def elaborate(self, platform):
            m = Module()
            m.d.comb += [self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready),
                         self.o.payload.eq(~self.i.payload)]
            return m

    actual, cycles = exchange(Inverter(), [0, 1, 255])
    assert actual == [255, 254, 0]
    assert cycles == 3


def test_library_fifo():
    dut = fifo.SyncFIFOBuffered(width=8, depth=4)
    dut.i, dut.o = dut.w_stream, dut.r_stream
    actual, _ = exchange(dut, range(20))
    assert actual == list(range(20))


@pytest.mark.parametrize("side", ["put", "get"])
def test_stall_refused(side):
    """A stream without the signal cannot be stalled."""
    class Wire(wiring.Component):
        i: In(stream.Signature(8, always_valid=True, always_ready=True))
        o: Out(stream.Signature(8, always_valid=True, always_ready=True))

        def elaborate(self, platform):
            m = Module()
            m.d.comb += self.o.payload.eq(self.i.payload)
            return m

    who = {"put": "valid cannot be stalled by its producer", "get": "ready cannot be stalled by its consumer"}
    with pytest.raises(ValueError, match=f"^Stream that is always {who[side]}$"):
        exchange(Wire(), [1, 2], **{{"put": "i_stall", "get": "o_stall"}[side]: lambda: False})
    assert exchange(Wire(), [1, 2])[0] == [1, 2]
