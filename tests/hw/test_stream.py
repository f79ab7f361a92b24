"""Streams around pipelines, and delays."""

import random

import pytest
from amaranth import ClockDomain, Module, Signal, signed
from amaranth.hdl import EnableInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.stream import Relay, SkidBuffer, Streamed, delay
from terngen.sim import stream


class SumDifference(wiring.Component):
    """A pipeline with several inputs and outputs."""

    def __init__(self, *, latency):
        self.LATENCY = latency
        super().__init__({
            "en":         In(1, init=1),
            "a":          In(8),
            "b":          In(8),
            "total":      Out(9),
            "difference": Out(signed(9)),
        })

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.total.eq(delay(m, self.a + self.b, self.LATENCY))
        m.d.comb += self.difference.eq(delay(m, self.a - self.b, self.LATENCY))
        return EnableInserter(self.en)(m)


class Delayed(wiring.Component):
    """A delay, or with ``held`` one that `en` advances."""

    def __init__(self, *, cycles, held=False, reset=False):
        self.options = {"cycles": cycles, "reset": reset}
        self.held = held
        super().__init__({"en": In(1), "i": In(signed(8)), "o": Out(signed(8))})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(delay(m, self.i, en=self.en if self.held else None, **self.options))
        return m


@pytest.mark.parametrize("i_stall, o_stall", [(0, 0), (0.4, 0), (0, 0.4), (0.4, 0.4)])
@pytest.mark.parametrize("unit, latency", [(Relay, Relay.LATENCY_CYCLES), (SkidBuffer, 0)])
def test_cuts_ready(unit, latency, i_stall, o_stall):
    rng    = random.Random(1)
    values = [rng.getrandbits(8) for _ in range(100)]
    dut    = unit(8)
    actual = []

    async def i_testbench(ctx):
        await stream.put(ctx, dut.i, values, stall=lambda: rng.random() < i_stall)

    async def o_testbench(ctx):
        actual.extend(await stream.get(ctx, dut.o, len(values), stall=lambda: rng.random() < o_stall))

    cycles = stream.run(dut, i_testbench, o_testbench)
    assert actual == values
    if not i_stall and not o_stall:
        assert cycles == len(values) + latency


@pytest.mark.parametrize("i_stall, o_stall", [(0, 0), (0.4, 0), (0, 0.4), (0.4, 0.4)])
@pytest.mark.parametrize("latency", [1, 2, 5])
def test_keeps_order_under_stalls(latency, i_stall, o_stall):
    rng = random.Random(latency)
    pairs = [(rng.getrandbits(8), rng.getrandbits(8)) for _ in range(100)]
    dut = Streamed(SumDifference(latency=latency))
    actual = []

    async def i_testbench(ctx):
        await stream.put(ctx, dut.i, [{"a": a, "b": b} for a, b in pairs], stall=lambda: rng.random() < i_stall)

    async def o_testbench(ctx):
        actual.extend(await stream.get(ctx, dut.o, len(pairs), stall=lambda: rng.random() < o_stall))

    cycles = stream.run(dut, i_testbench, o_testbench)
    assert [(result.total, result.difference) for result in actual] == [(a + b, a - b) for a, b in pairs]
    if not i_stall and not o_stall:
        assert cycles == len(pairs) + latency


def test_reset_empties_the_pipeline():
    sync = ClockDomain("sync")
    dut = Streamed(SumDifference(latency=4))
    actual = []

    async def testbench(ctx):
        ctx.set(dut.i.valid, 1)
        await ctx.tick().repeat(3)
        ctx.set(dut.i.valid, 0)
        ctx.set(sync.rst, 1)
        await ctx.tick()
        ctx.set(sync.rst, 0)
        for _ in range(8):
            assert not ctx.get(dut.o.valid)
            await ctx.tick()
        ctx.set(dut.i.payload, {"a": 3, "b": 4})
        ctx.set(dut.i.valid, 1)
        await ctx.tick()
        ctx.set(dut.i.valid, 0)
        actual.extend(await stream.get(ctx, dut.o, 1))

    stream.run(dut, testbench, domain=sync)
    assert [(result.total, result.difference) for result in actual] == [(7, -1)]


def test_payload_of_one_port_is_its_shape():
    dut = Streamed(Unary(latency=2))
    assert dut.i.payload.shape() == signed(7)
    assert dut.o.payload.shape() == signed(8)


class Unary(wiring.Component):
    def __init__(self, *, latency):
        self.LATENCY = latency
        super().__init__({"en": In(1, init=1), "a": In(signed(7)), "o": Out(signed(8))})


def test_unit_wrong():
    with pytest.raises(TypeError, match=r"^Streamed unit must have a clock enable 'en', NoEnable has none"):
        Streamed(NoEnable())
    with pytest.raises(ValueError, match=r"^Latency of a streamed unit must be at least 1 cycle, not 0"):
        Streamed(Unary(latency=0))


class NoEnable(wiring.Component):
    LATENCY = 1
    a: In(8)
    o: Out(8)


@pytest.mark.parametrize("cycles", [0, 1, 3])
def test_delay(cycles):
    dut = Delayed(cycles=cycles)
    values = [random.Random(cycles).randrange(-128, 128) for _ in range(20)]
    actual = []

    async def testbench(ctx):
        for value in values:
            ctx.set(dut.i, value)
            actual.append(ctx.get(dut.o))
            await ctx.tick()

    stream.run(dut, testbench)
    assert actual[cycles:] == values[:len(values) - cycles]


def test_delay_enabled():
    dut = Delayed(cycles=2, held=True)
    rng = random.Random(1)
    enables = [rng.random() < 0.5 for _ in range(50)]
    expected, actual, pipeline = [], [], [0, 0]

    async def testbench(ctx):
        for index, enable in enumerate(enables):
            ctx.set(dut.i, index)
            ctx.set(dut.en, enable)
            await ctx.tick()
            actual.append(ctx.get(dut.o))
            if enable:
                pipeline[:] = [index, pipeline[0]]
            expected.append(pipeline[1])

    stream.run(dut, testbench)
    assert actual == expected


@pytest.mark.parametrize("reset, left", [(False, 5), (True, 0)])
def test_delay_reset(reset, left):
    sync = ClockDomain("sync")
    dut = Delayed(cycles=2, reset=reset)

    async def testbench(ctx):
        ctx.set(dut.i, 5)
        await ctx.tick()
        ctx.set(sync.rst, 1)
        await ctx.tick()
        assert ctx.get(dut.o) == left

    stream.run(dut, testbench, domain=sync)


def test_delay_wrong():
    with pytest.raises(ValueError, match=r"^Delay must be zero or more cycles, not -1"):
        delay(Module(), Signal(), -1)
