"""Bench of the serial port: the wires against octets."""

import os
import random

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge, Timer

from terngen.sim.cocotb_stream import CLOCK_PERIOD_NS, Sink, Source, reset

DIVISOR = int(os.environ["DIVISOR"])
BIT_NS  = DIVISOR * CLOCK_PERIOD_NS


async def wire(dut, octet, *, bit_ns=BIT_NS, stop=1):
    """Put an octet on `rx`, with the clock of somebody else."""
    for bit in [0, *(octet >> index & 1 for index in range(8)), stop]:
        dut.rx.value = bit
        await Timer(round(1000 * bit_ns), unit="ps")
    dut.rx.value = 1


async def on_wire(dut):
    """The next octet on `tx`, read in the middle of its bits, and the cycles from its start to that of its stop."""
    while dut.tx.value:
        await RisingEdge(dut.clk)
    await ClockCycles(dut.clk, DIVISOR // 2)
    octet = 0
    for index in range(9):
        assert index or not dut.tx.value
        await ClockCycles(dut.clk, DIVISOR)
        octet |= int(dut.tx.value) << index
    assert octet & 1 << 8, "there is no stop bit"
    return octet & 0xff


def taken(sink, count):
    """What `sink` gets, from now on."""
    return cocotb.start_soon(sink.get(count))


async def start(dut):
    dut.rx.value = 1
    await reset(dut)
    await ClockCycles(dut.clk, 4)


# The other end's clock is off by as much as the rate may be, and a little of a short bit is the sampling of it.
@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(rate=[0.98, 1.0, 1.02], gap=[0, 0.3])
async def receives(dut, rate, gap):
    rng  = random.Random(int(os.environ["SEED"]))
    sink = Sink(dut, "o")
    await start(dut)
    octets = [0x00, 0xff, 0x55, 0xaa, 0x80, 0x01, *(rng.getrandbits(8) for _ in range(40))]
    task = taken(sink, len(octets))
    for octet in octets:
        await wire(dut, octet, bit_ns=BIT_NS / rate)
        await Timer(round(1000 * gap * BIT_NS) + 1, unit="ps")
    assert [payload.to_unsigned() for payload in await task] == octets


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def drops_what_has_no_stop_bit(dut):
    task = taken(Sink(dut, "o"), 1)
    await start(dut)
    await wire(dut, 0x12, stop=0)
    await Timer(2 * 10 * BIT_NS, unit="ns")
    await wire(dut, 0x34)
    assert [payload.to_unsigned() for payload in await task] == [0x34]


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def ignores_spikes(dut):
    task = taken(Sink(dut, "o"), 1)
    await start(dut)
    dut.rx.value = 0
    await ClockCycles(dut.clk, DIVISOR // 2 - 1)
    dut.rx.value = 1
    await ClockCycles(dut.clk, 12 * DIVISOR)
    await wire(dut, 0x56)
    assert [payload.to_unsigned() for payload in await task] == [0x56]


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def drops_what_comes_before_the_last_was_taken(dut):
    stalled = True
    sink    = Sink(dut, "o", stall=lambda: stalled)
    await start(dut)
    for octet in (0x11, 0x22, 0x33):
        await wire(dut, octet)
    await ClockCycles(dut.clk, DIVISOR)
    stalled = False
    task = taken(sink, 2)
    await ClockCycles(dut.clk, 4)
    await wire(dut, 0x44)
    assert [payload.to_unsigned() for payload in await task] == [0x11, 0x44]


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.999])
async def sends(dut, i_stall):
    rng    = random.Random(int(os.environ["SEED"]))
    source = Source(dut, "i", stall=lambda: rng.random() < i_stall)
    await start(dut)
    octets = [0x00, 0xff, 0x55, *(rng.getrandbits(8) for _ in range(20))]
    cocotb.start_soon(source.put(octets))
    assert [await on_wire(dut) for _ in octets] == octets
    if not i_stall:
        # Ten bits each, without a pause.
        assert source.cycles[-1] - source.cycles[0] == 10 * DIVISOR * (len(octets) - 1)
