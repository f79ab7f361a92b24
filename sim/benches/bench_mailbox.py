"""Bench of the link behind AXI4-Lite: somebody else's bus manager against octets."""

import os
import random

import cocotb
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from terngen.hw.contract.mailbox import DEPTH, Register
from terngen.sim.cocotb_stream import Sink, Source, reset


async def start(dut, *, i_stall=0.0, o_stall=0.0):
    rng    = random.Random(int(os.environ["SEED"]))
    bus    = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "bus_"), dut.clk, dut.rst)
    source = Source(dut, "i", stall=lambda: rng.random() < i_stall)
    sink   = Sink(dut, "o", stall=lambda: rng.random() < o_stall)
    await reset(dut)
    return rng, bus, source, sink


async def register(bus, which):
    return await bus.read_dword(which.value)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(o_stall=[0, 0.6])
async def writes_become_octets(dut, o_stall):
    """Whole words and parts of them, in order; there is as much room as ever afterwards."""
    rng, bus, _, sink = await start(dut, o_stall=o_stall)
    octets = bytes(rng.getrandbits(8) for _ in range(203))
    taken  = cocotb.start_soon(sink.get(len(octets)))
    place  = 0
    while place < len(octets):
        count = min(rng.choice([1, 2, 4, 4]), len(octets) - place)
        await bus.write(Register.DATA.value, octets[place:place + count])
        place += count
    assert bytes(payload.to_unsigned() for payload in await taken) == octets
    await ClockCycles(dut.clk, 4)
    assert await register(bus, Register.ROOM) == DEPTH


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.9])
async def octets_are_read(dut, i_stall):
    rng, bus, source, _ = await start(dut, i_stall=i_stall)
    octets = bytes(rng.getrandbits(8) for _ in range(203))
    cocotb.start_soon(source.put(octets))
    found = b""
    while len(found) < len(octets):
        waiting = await register(bus, Register.WAITING)
        assert waiting <= len(octets) - len(found)
        if waiting >= 4:
            found += (await bus.read(Register.DATA.value, 4)).data
        elif waiting:
            found += bytes([await register(bus, Register.OCTET)])
    assert found == octets
    # There is nothing more, and asking does not wait for it.
    assert await register(bus, Register.WAITING) == 0
    assert (await bus.read(Register.DATA.value, 4)).data == bytes(4)
    assert await register(bus, Register.OCTET) == 0


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def never_blocks_the_bus(dut):
    """More than there is room for is lost; what was in is not."""
    _, bus, source, sink = await start(dut, o_stall=1.0)
    octets = bytes(index % 251 for index in range(DEPTH))
    for place in range(0, DEPTH, 4):
        await bus.write(Register.DATA.value, octets[place:place + 4])
    assert await register(bus, Register.ROOM) <= 3      # what has left the queue waits at the stream
    for _ in range(4):
        await bus.write(Register.DATA.value, bytes([255] * 4))
    await bus.write(Register.ROOM.value, bytes(4))      # does nothing
    assert await register(bus, Register.ROOM) == 0
    # Nor does what nobody reads.
    source.send(range(256))
    await ClockCycles(dut.clk, 300)
    assert await register(bus, Register.WAITING) == 256
