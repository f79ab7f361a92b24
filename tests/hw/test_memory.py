"""Memories behind streams: order, throughput, back-pressure."""

import random

import pytest
from amaranth.lib import data

from terngen.hw.memory import Queue, StreamMemory
from terngen.sim import stream

STALLS = pytest.mark.parametrize("i_stall, o_stall", [(0, 0), (0.4, 0), (0, 0.4), (0.4, 0.4)])


def played(dut, values, *, source, i_stall=0, o_stall=0):
    """What leaves `dut` when `values` enter its stream `source`, and the cycles that took."""
    rng = random.Random(1)
    actual = []

    async def i_testbench(ctx):
        await stream.put(ctx, source, values, stall=lambda: rng.random() < i_stall)

    async def o_testbench(ctx):
        actual.extend(await stream.get(ctx, dut.o, len(values), stall=lambda: rng.random() < o_stall))

    return actual, stream.run(dut, i_testbench, o_testbench)


@STALLS
def test_memory_reads_in_order(i_stall, o_stall):
    rng = random.Random(0)
    contents = [rng.getrandbits(12) for _ in range(37)]
    addresses = [rng.randrange(37) for _ in range(200)]
    dut = StreamMemory(shape=12, depth=37, init=contents)
    actual, _ = played(dut, addresses, source=dut.addresses, i_stall=i_stall, o_stall=o_stall)
    assert actual == [contents[address] for address in addresses]


def test_memory_throughput():
    dut = StreamMemory(shape=8, depth=16)
    _, cycles = played(dut, list(range(16)) * 4, source=dut.addresses)
    assert cycles == 64 + StreamMemory.LATENCY_CYCLES


def test_memory_writes():
    dut = StreamMemory(shape=data.StructLayout({"a": 3, "b": 5}), depth=4)
    actual = []

    async def testbench(ctx):
        await stream.put(ctx, dut.writes, [{"address": place, "data": {"a": place, "b": 9 + place}}
                                           for place in (2, 0, 3)])
        for place in range(4):
            await stream.put(ctx, dut.addresses, [place])
            actual.extend((element.a, element.b) for element in await stream.get(ctx, dut.o, 1))

    stream.run(dut, testbench)
    assert actual == [(0, 9), (0, 0), (2, 11), (3, 12)]


@STALLS
@pytest.mark.parametrize("depth", [1, 2, 16])
def test_queue_keeps_order(depth, i_stall, o_stall):
    rng = random.Random(depth)
    values = [rng.getrandbits(9) for _ in range(200)]
    dut = Queue(shape=9, depth=depth)
    actual, _ = played(dut, values, source=dut.i, i_stall=i_stall, o_stall=o_stall)
    assert actual == values


@pytest.mark.parametrize("depth", [2, 16])
def test_queue_throughput(depth):
    dut = Queue(shape=8, depth=depth)
    _, cycles = played(dut, range(100), source=dut.i)
    assert cycles == 100 + Queue.LATENCY_CYCLES


@pytest.mark.parametrize("depth", [1, 2, 4, 64])
def test_queue_holds_what_it_promises(depth):
    dut = Queue(shape=8, depth=depth)
    observed = []

    async def testbench(ctx):
        observed.append(ctx.get(dut.empty))
        await stream.put(ctx, dut.i, range(depth))
        observed.append(ctx.get(dut.empty))
        assert await stream.get(ctx, dut.o, depth) == list(range(depth))
        observed.append(ctx.get(dut.empty))

    stream.run(dut, testbench)
    assert observed == [1, 0, 1]


@pytest.mark.parametrize("depth", [0, -1, 2.0])
def test_memory_depth_wrong(depth):
    with pytest.raises(ValueError, match=r"^Memory depth must be a positive integer, not "):
        StreamMemory(shape=8, depth=depth)


@pytest.mark.parametrize("depth", [0, 3, -2, "4"])
def test_queue_depth_wrong(depth):
    with pytest.raises(ValueError, match=r"^Queue depth must be a power of two, not "):
        Queue(shape=8, depth=depth)
