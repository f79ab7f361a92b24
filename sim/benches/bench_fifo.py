"""Bench of Amaranth's own FIFO: proves the drivers, and is the example to copy."""

import os
import random

import cocotb
from amaranth.lib import data

from terngen.sim.cocotb_stream import Sink, Source, reset


class Sample(data.Struct):
    """What goes through the FIFO in `test_bench_fifo.py`."""

    index: 8
    pair:  data.ArrayLayout(6, 2)


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(i_stall=[0, 0.4], o_stall=[0, 0.4])
async def keeps_order(dut, i_stall, o_stall):
    rng = random.Random(int(os.environ["SEED"]))
    source = Source(dut, "i", stall=lambda: rng.random() < i_stall)
    sink = Sink(dut, "o", stall=lambda: rng.random() < o_stall)
    values = [rng.getrandbits(20) for _ in range(100)]

    await reset(dut)
    cocotb.start_soon(source.put(values))
    actual = [payload.to_unsigned() for payload in await sink.get(len(values))]
    assert actual == values
    if not i_stall and not o_stall:
        assert source.cycles[-1] - source.cycles[0] == len(values) - 1
        assert sink.cycles[-1] - sink.cycles[0] == len(values) - 1


@cocotb.test(timeout_time=100, timeout_unit="us")
async def carries_structures(dut):
    source, sink = Source(dut, "i", shape=Sample), Sink(dut, "o", shape=Sample)
    await reset(dut)
    source.send([{"index": 200, "pair": [1, 63]}, {"index": 7}])
    first, second = await sink.get(2)
    assert (first.index, first.pair[0], first.pair[1]) == (200, 1, 63)
    assert (second.index, second.pair[0], second.pair[1]) == (7, 0, 0)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def fills_up_and_resumes_after_reset(dut):
    depth = int(os.environ["DEPTH"])
    source, sink = Source(dut, "i"), Sink(dut, "o")
    await reset(dut)
    source.send(range(depth + 10))
    for _ in range(depth + 20):
        await cocotb.triggers.RisingEdge(dut.clk)
    assert len(source.cycles) == depth

    source.clear()
    await reset(dut)
    source.send([1, 2, 3])
    assert [payload.to_unsigned() for payload in await sink.get(3)] == [1, 2, 3]
