"""Benches of the CRC of a part of the tape."""

import binascii
import os
import random

import cocotb
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge

from terngen.hw.contract.tape import Play
from terngen.sim.cocotb_stream import Sink, Source, encode, reset

WIDTH = int(os.environ["WIDTH"])
OCTETS = WIDTH // 8


def drivers(dut, rng, stall):
    def stalls():
        return rng.random() < stall
    return (Source(dut, "i", shape=Play, stall=stalls), Sink(dut, "o", stall=stalls),
            Sink(dut, "play", shape=Play, stall=stalls), Source(dut, "beats", stall=stalls))


async def checked(dut, play, beats, part, octets):
    """Read a part back; its CRC."""
    dut.part.value  = encode(part, Play)
    dut.start.value = 1
    await RisingEdge(dut.clk)
    dut.start.value = 0
    [request] = await play.get(1)
    assert {"start": request.start, "count": request.count} == part
    await beats.put([int.from_bytes(octets[place:place + OCTETS], "little")
                     for place in range(0, len(octets), OCTETS)])
    await ReadOnly()
    while dut.busy.value:
        await RisingEdge(dut.clk)
        await ReadOnly()
    value = int(dut.crc.value)
    await RisingEdge(dut.clk)
    return value


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0, 0.4])
async def crc_of_a_part(dut, stall):
    rng = random.Random(int(os.environ["SEED"]))
    i, o, play, beats = drivers(dut, rng, stall)
    dut.start.value = 0
    await reset(dut)
    for count in (1, 2, 0, 37, 1):
        octets = rng.randbytes(count * OCTETS)
        part   = {"start": rng.getrandbits(32), "count": count}
        assert await checked(dut, play, beats, part, octets) == binascii.crc32(octets)

        # Everything passes in between, and does not change what is shown.
        i.send([{"start": 5, "count": 7}])
        [request] = await play.get(1)
        assert (request.start, request.count) == (5, 7)
        values = [rng.getrandbits(WIDTH) for _ in range(7)]
        beats.send(values)
        assert [beat.to_unsigned() for beat in await o.get(7)] == values
        await ReadOnly()
        assert int(dut.crc.value) == binascii.crc32(octets)
        await RisingEdge(dut.clk)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def takes_nothing_else(dut):
    """Beats that come while none is due stay where they are, and a second start is ignored."""
    rng = random.Random(int(os.environ["SEED"]))
    i, o, play, beats = drivers(dut, rng, 0)
    dut.start.value = 0
    await reset(dut)
    octets = rng.randbytes(2 * OCTETS)
    dut.part.value  = encode({"start": 9, "count": 2}, Play)
    dut.start.value = 1
    await ClockCycles(dut.clk, 3)
    dut.start.value = 0
    await play.get(1)
    more = rng.getrandbits(WIDTH)
    beats.send([int.from_bytes(octets[:OCTETS], "little"), int.from_bytes(octets[OCTETS:], "little"), more])
    [beat] = await o.get(1)
    assert beat.to_unsigned() == more
    await ReadOnly()
    assert not dut.busy.value
    assert int(dut.crc.value) == binascii.crc32(octets)
