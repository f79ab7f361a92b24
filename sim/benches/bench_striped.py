"""Benches of the tape that is striped over AXI4 memories, and of the tape behind one."""

import functools
import itertools
import json
import os
import random
from collections import deque

import cocotb
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge
from cocotbext.axi import AxiBus, AxiRam

from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Play
from terngen.hw.tape.axi import PAGE_BYTES
from terngen.hw.tape.loader import load_layout
from terngen.sim.cocotb_stream import Sink, Source, reset

CONFIG   = Config.from_dict(json.loads(os.environ["CONFIG"]))
CHANNELS = int(os.environ["CHANNELS"])
BURST    = int(os.environ["BURST"])
BURSTS   = int(os.environ["BURSTS"])
BASES    = [int(base) for base in os.environ["BASES"].split()]

#: Octets of a beat in one memory.
PART = CONFIG.beat_bytes // CHANNELS
#: Octets before and after the tape that must stay as they are.
GUARD = 2 * PAGE_BYTES
SIZE  = 1 << 18


def prefix(channel):
    return f"axi__{channel}_" if CHANNELS > 1 else "axi_"


def port(dut, channel, name):
    return getattr(dut, f"{prefix(channel)}_{name}")


def drivers(dut, rng, i_stall=0.0, o_stall=0.0):
    return (Source(dut, "load", shape=load_layout(CONFIG), stall=lambda: rng.random() < i_stall),
            Source(dut, "play", shape=Play, stall=lambda: rng.random() < i_stall),
            Sink(dut, "beats", stall=lambda: rng.random() < o_stall))


class Rams:
    """Memories whose octets are all `GUARD_OCTET` at first. Each AXI4 channel of each stalls by itself."""

    GUARD_OCTET = 0xA5

    def __init__(self, dut, rng, stall):
        self.rams = []
        for channel in range(CHANNELS):
            ram = AxiRam(AxiBus.from_prefix(dut, prefix(channel)), dut.clk, dut.rst, size=SIZE)
            ram.write(0, bytes([self.GUARD_OCTET]) * SIZE)
            if stall:
                for pin in (ram.write_if.aw_channel, ram.write_if.w_channel, ram.write_if.b_channel,
                            ram.read_if.ar_channel, ram.read_if.r_channel):
                    pin.set_pause_generator(self._pauses(random.Random(rng.getrandbits(32)), stall))
            self.rams.append(ram)

    @staticmethod
    def _pauses(rng, stall):
        """Pauses of different lengths, one memory much slower than another at times."""
        while True:
            pause = rng.random() < stall
            yield from itertools.repeat(pause, rng.choice([1, 1, 2, 5, 40 if pause else 10]))

    def write(self, place, beat):
        octets = beat.to_bytes(CONFIG.beat_bytes, "little")
        for channel, ram in enumerate(self.rams):
            ram.write(BASES[channel] + place * PART, octets[channel * PART:(channel + 1) * PART])

    def check(self, contents):
        """The tape is `contents`, and nothing was written around it."""
        for channel, ram in enumerate(self.rams):
            tape = b"".join(beat.to_bytes(CONFIG.beat_bytes, "little")[channel * PART:(channel + 1) * PART]
                            for beat in contents)
            base, end = BASES[channel], BASES[channel] + len(tape)
            assert ram.read(base, len(tape)) == tape
            for start, stop in ((max(0, base - GUARD), base), (end, min(SIZE, end + GUARD))):
                assert ram.read(start, stop - start) == bytes([self.GUARD_OCTET]) * (stop - start)


class Delayed:
    """A memory for reads with a latency, any number under way; it judges the port as well."""

    def __init__(self, dut, channel, contents, latency):
        self.cycle = 0
        self.bursts: list[tuple[int, int]] = []
        self.most   = 0                     # beats under way at once
        self._dut, self._channel, self._contents, self._latency = dut, channel, contents, latency
        for name in ("awready", "wready", "bvalid", "bid", "bresp", "rid", "rresp", "rvalid", "rdata", "rlast"):
            port(dut, channel, name).value = 0
        port(dut, channel, "arready").value = 1
        cocotb.start_soon(self._run())

    async def _run(self):
        pins  = {name: port(self._dut, self._channel, name)
                 for name in ("arvalid", "araddr", "arlen", "arsize", "arburst", "rvalid", "rdata", "rlast", "rready")}
        queue = deque()                     # cycle, place, whether it is the last of its burst
        while True:
            await RisingEdge(self._dut.clk)
            self.cycle += 1
            given = bool(queue) and queue[0][0] <= self.cycle
            pins["rvalid"].value = given
            if given:
                _, place, last = queue[0]
                beat = self._contents[place].to_bytes(CONFIG.beat_bytes, "little")
                pins["rdata"].value = int.from_bytes(beat[self._channel * PART:(self._channel + 1) * PART], "little")
                pins["rlast"].value = last
            await ReadOnly()
            if self._dut.rst.value:
                queue.clear()
                continue
            if given and pins["rready"].value:
                queue.popleft()
            if pins["arvalid"].value:
                address = int(pins["araddr"].value)
                count   = int(pins["arlen"].value) + 1
                assert int(pins["arsize"].value) == PART.bit_length() - 1
                assert int(pins["arburst"].value) == 1
                assert count <= BURST
                assert address // PAGE_BYTES == (address + count * PART - 1) // PAGE_BYTES
                place = (address - BASES[self._channel]) // PART
                self.bursts.append((place, count))
                ready = self.cycle + self._latency()
                queue.extend((ready, place + index, index == count - 1) for index in range(count))
                self.most = max(self.most, len(queue))


def plays(rng, depth):
    """Requests of any length, and the beats that belong to them."""
    found = [(0, depth), (depth - 1, 1), (3, 0), (0, 1), (1, 1), (BURST - 1, 2)]
    found += [(start, rng.randrange(min(4 * BURST, depth - start) + 1))
              for start in (rng.randrange(depth) for _ in range(20))]
    return found


def requests(found):
    return [{"start": start, "count": count} for start, count in found]


def expected(contents, found):
    return [beat for start, count in found for beat in contents[start:start + count]]


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize((("i_stall", "o_stall", "stall"), [(0, 0, 0), (0.4, 0.4, 0), (0, 0, 0.3), (0.4, 0.4, 0.3)]))
async def plays_what_was_loaded(dut, i_stall, o_stall, stall):
    """Through memories of others, loaded through their ports, with stalls everywhere."""
    rng = random.Random(int(os.environ["SEED"]))
    load, play, beats = drivers(dut, rng, i_stall, o_stall)
    rams  = Rams(dut, rng, stall)
    await reset(dut, cycles=4)
    depth    = 3 * BURST + 5
    contents = [rng.getrandbits(CONFIG.beat_bits) for _ in range(depth)]
    places   = rng.sample(range(depth), depth)
    await load.put([{"address": place, "data": contents[place]} for place in places])
    # At once: what was written before has arrived all the same.
    found = plays(rng, depth)
    play.send(requests(found))
    assert [beat.to_unsigned() for beat in await beats.get(len(expected(contents, found)))] \
        == expected(contents, found)
    rams.check(contents)

    # What is written is played: after all that is offered before it or with it, without a pause, has arrived.
    for _ in range(20):
        place  = rng.randrange(depth)
        values = [rng.getrandbits(CONFIG.beat_bits) for _ in range(3)]
        contents[place] = values[-1]
        load.send([{"address": place, "data": value} for value in values])
        if i_stall:
            await load.put([])
        play.send([{"start": place, "count": 1}])
        [beat] = await beats.get(1)
        assert beat.to_unsigned() == contents[place]
    rams.check(contents)
    await ReadOnly()
    assert not dut.error.value


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(o_stall=[0, 0.4], spread=[0, 300])
async def latencies_differ(dut, o_stall, spread):
    """Each burst of each memory has its own latency."""
    rng = random.Random(int(os.environ["SEED"]) + spread)
    load, play, beats = drivers(dut, rng, o_stall, o_stall)
    depth    = PAGE_BYTES // PART + 99 if spread == 0 else 500
    contents = [rng.getrandbits(CONFIG.beat_bits) for _ in range(depth)]
    slowest  = [rng.randrange(spread + 1) for _ in range(CHANNELS)]
    rams     = [Delayed(dut, channel, contents, functools.partial(rng.randint, 1, 1 + slowest[channel]))
                for channel in range(CHANNELS)]
    await reset(dut)
    found = [(5, depth - 5), *plays(rng, depth)[1:]]
    play.send(requests(found))
    assert [beat.to_unsigned() for beat in await beats.get(len(expected(contents, found)))] \
        == expected(contents, found)
    for ram in rams:
        assert expected(range(depth), found) == [place + index for place, count in ram.bursts for index in range(count)]


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def one_beat_per_cycle(dut):
    """With the latency that is promised to be hidden, also from one request to the next."""
    rng = random.Random(int(os.environ["SEED"]))
    load, play, beats = drivers(dut, rng)
    depth    = 6 * BURST * BURSTS
    latency  = BURST * (BURSTS - 1) - 8
    assert latency >= 100
    contents = [rng.getrandbits(CONFIG.beat_bits) for _ in range(depth)]
    rams     = [Delayed(dut, channel, contents, lambda: latency) for channel in range(CHANNELS)]
    await reset(dut)
    found = [(0, depth // 2), (7, 3 * BURST), (depth // 2, depth // 2)]
    play.send(requests(found))
    values = await beats.get(len(expected(contents, found)))
    assert [beat.to_unsigned() for beat in values] == expected(contents, found)
    assert beats.cycles[-1] - beats.cycles[0] == len(values) - 1
    assert max(ram.most for ram in rams) <= BURST * BURSTS


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def holds_back(dut):
    """No memory is asked for more than there is room for."""
    rng = random.Random(int(os.environ["SEED"]))
    load, play, beats = drivers(dut, rng)
    contents = [rng.getrandbits(CONFIG.beat_bits) for _ in range(3 * BURST * BURSTS)]
    rams     = [Delayed(dut, channel, contents, lambda: 3) for channel in range(CHANNELS)]
    await reset(dut)
    play.send([{"start": 0, "count": len(contents)}])
    await ClockCycles(dut.clk, 2 * BURST * BURSTS + 50)
    asked = [sum(count for _, count in ram.bursts) for ram in rams]
    assert asked == [BURST * BURSTS] * CHANNELS
    # The room for less than a burst is not asked for.
    values = await beats.get(BURST - 1)
    await ClockCycles(dut.clk, 50)
    assert asked == [sum(count for _, count in ram.bursts) for ram in rams]
    values += await beats.get(len(contents) - len(values))
    assert [beat.to_unsigned() for beat in values] == contents


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(after=[1, 4, 9, 40, 150])
async def resumes_after_reset(dut, after):
    """A reset, of the memories as well, ends what is played."""
    rng = random.Random(int(os.environ["SEED"]))
    load, play, beats = drivers(dut, rng)
    contents = [rng.getrandbits(CONFIG.beat_bits) for _ in range(300)]
    for channel in range(CHANNELS):
        Delayed(dut, channel, contents, lambda: 20)
    await reset(dut)
    play.send([{"start": 0, "count": 100}] * 3)
    await ClockCycles(dut.clk, after)
    play.clear()
    await reset(dut)
    play.send([{"start": 4, "count": 200}])
    assert [beat.to_unsigned() for beat in await beats.get(200)] == contents[4:204]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def tells_errors(dut):
    rng = random.Random(int(os.environ["SEED"]))
    load, play, beats = drivers(dut, rng)
    for channel in range(CHANNELS):
        Delayed(dut, channel, [1, 2, 3], lambda: 5)
    await reset(dut)
    play.send([{"start": 0, "count": 3}])
    await beats.get(2)
    await ReadOnly()
    assert not dut.error.value
    await RisingEdge(dut.clk)
    port(dut, CHANNELS - 1, "rresp").value = 2
    play.send([{"start": 0, "count": 1}])
    await beats.get(2)
    await ReadOnly()
    assert dut.error.value
