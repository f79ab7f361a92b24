"""Bench of the stream register in `tests/sim/test_verilog.py`, which breaks the rules on request."""

import os
import random

import cocotb
from cocotb.triggers import ReadOnly

from terngen.sim.cocotb_stream import Sink, Source, reset

WITHDRAWS, CHANGES, CORRUPTS, PAUSES = range(1, 5)


async def exchange(dut, *, fault=0, i_stall=0, o_stall=0):
    """Send a hundred values; return them, what arrived, source and sink."""
    rng = random.Random(int(os.environ["SEED"]))
    dut.fault.value = fault
    source = Source(dut, "i", stall=lambda: rng.random() < i_stall)
    sink = Sink(dut, "o", stall=lambda: rng.random() < o_stall)
    values = [rng.getrandbits(20) for _ in range(100)]
    await reset(dut)
    source.send(values)
    return values, [payload.to_unsigned() for payload in await sink.get(len(values))], source, sink


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(i_stall=[0, 0.4], o_stall=[0, 0.6])
async def keeps_order(dut, i_stall, o_stall):
    values, actual, source, sink = await exchange(dut, i_stall=i_stall, o_stall=o_stall)
    assert actual == values
    if not i_stall and not o_stall:
        assert [out - into for into, out in zip(source.cycles, sink.cycles)] == [1] * 100
        assert [cycle - sink.cycles[0] for cycle in sink.cycles] == list(range(100))


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(fault=[WITHDRAWS, CHANGES])
async def broken_rule(dut, fault):
    await exchange(dut, fault=fault, o_stall=0.6)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def broken_values(dut):
    values, actual, _, _ = await exchange(dut, fault=CORRUPTS)
    assert actual == values


@cocotb.test(timeout_time=100, timeout_unit="us")
async def broken_throughput(dut):
    _, _, source, _ = await exchange(dut, fault=PAUSES)
    assert source.cycles[-1] - source.cycles[0] == 99


@cocotb.test(timeout_time=100, timeout_unit="us")
async def resumes_after_reset(dut):
    source, sink = Source(dut, "i"), Sink(dut, "o")
    dut.fault.value = 0
    await reset(dut)
    source.send([1, 2, 3])
    await sink.get(1)
    source.clear()
    sink.clear()
    await reset(dut)
    await source.put([4])
    assert [payload.to_unsigned() for payload in await sink.get(1)] == [4]


@cocotb.test(timeout_time=100, timeout_unit="us")
async def settles(dut):
    """What depends on nothing but a register shows its first value before that ever changes."""
    dut.fault.value = 0
    await reset(dut)
    await ReadOnly()
    assert dut.phase.value == 2


@cocotb.test(skip="HANG" not in os.environ)
async def hangs(dut):
    while True:
        await cocotb.triggers.NullTrigger()
