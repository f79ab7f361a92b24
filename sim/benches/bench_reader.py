"""Benches of the tape reader and of the loader."""

import os
import random

import cocotb
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge

from terngen.hw.contract.config import PRESETS
from terngen.hw.contract.regs import TAPE_BASE, Access
from terngen.hw.contract.tape import Play
from terngen.hw.tape.loader import Loader, load_layout
from terngen.hw.tape.reader import TapeReader
from terngen.sim.cocotb_stream import Sink, Source, reset


def content(beat, bits):
    """What stands at a beat of the tape."""
    return (beat + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**bits


class Tape:
    """A source of beats, and the drivers around a reader."""

    def __init__(self, dut, *, latency=0, rng=None, i_stall=0.0, source_stall=0.0, o_stall=0.0,
                 watched=True):
        rng = rng if rng is not None else random.Random(0)
        self.dut  = dut
        self.bits = len(dut.o__payload)
        self.player  = Source(dut, "i", shape=Play, stall=lambda: rng.random() < i_stall)
        self.play    = Sink(dut, "play", shape=Play, stall=lambda: rng.random() < source_stall)
        self.beats   = Source(dut, "beats", stall=lambda: rng.random() < source_stall)
        self.machine = None
        self.latency = latency
        if watched:
            self.watch(lambda: rng.random() < o_stall)
        dut.restart.value = 0
        cocotb.start_soon(self._serve())

    def watch(self, stall=None):
        self.machine = Sink(self.dut, "o", stall=stall)

    async def _serve(self):
        while True:
            [play] = await self.play.get(1)
            await ClockCycles(self.dut.clk, self.latency)
            self.beats.send(self.expected([(play.start, play.count)]))

    def expected(self, plays):
        return [content(start + index, self.bits) for start, count in plays for index in range(count)]

    def send(self, plays):
        self.player.send([{"start": start, "count": count} for start, count in plays])

    async def take(self, count):
        return [beat.to_unsigned() for beat in await self.machine.get(count)]

    async def idle(self):
        await ReadOnly()
        value = int(self.dut.idle.value)
        await RisingEdge(self.dut.clk)
        return value


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.4], source_stall=[0, 0.4], o_stall=[0, 0.4])
async def reads_in_order(dut, i_stall, source_stall, o_stall):
    rng  = random.Random(int(os.environ["SEED"]))
    tape = Tape(dut, rng=rng, i_stall=i_stall, source_stall=source_stall, o_stall=o_stall)
    plays = [(rng.randrange(2**32), rng.choice([0, 1, 2, 3, 40])) for _ in range(20)]
    expected = tape.expected(plays)
    await reset(dut)
    assert await tape.idle()
    tape.send(plays)
    assert await tape.take(len(expected)) == expected
    await ClockCycles(dut.clk, 30)
    assert await tape.idle()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def prefetches_and_streams(dut):
    """As many beats as promised come before one is taken; then one leaves in each cycle."""
    depth = int(os.environ["PREFETCH"])
    tape  = Tape(dut)
    await reset(dut)
    tape.send([(0, 3 * depth)])
    await ClockCycles(dut.clk, depth + 20)
    assert depth <= len(tape.beats.cycles) <= depth + 2
    assert not await tape.idle()
    assert await tape.take(3 * depth) == tape.expected([(0, 3 * depth)])
    assert tape.machine.cycles[-1] - tape.machine.cycles[0] == 3 * depth - 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def latency(dut):
    tape = Tape(dut)
    await reset(dut)
    tape.send([(0, 10)])
    await tape.take(10)
    assert tape.play.cycles[0] - tape.player.cycles[0] == 1
    assert tape.machine.cycles[0] - tape.beats.cycles[0] == TapeReader.LATENCY_CYCLES
    assert tape.machine.cycles[-1] - tape.machine.cycles[0] == 9


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(after=[0, 1, 2, 3, 4, 5, 6, 9, 25, 70], taking=[0, 1], source_stall=[0, 0.4])
async def restart_forgets(dut, after, taking, source_stall):
    """After a restart at any time only what is asked for later comes."""
    tape = Tape(dut, latency=3, rng=random.Random(int(os.environ["SEED"])), source_stall=source_stall,
                watched=False)
    dut.o__ready.value = taking
    await reset(dut)
    tape.send([(1000, 20), (2000, 10), (3000, 10)])
    await ClockCycles(dut.clk, after)
    tape.player.clear()
    dut.restart.value = 1
    await RisingEdge(dut.clk)
    dut.restart.value = 0
    # A beat is withdrawn by the restart, so the driver that judges streams comes after it.
    tape.watch()
    plays = [(5, 3), (70, 30)]
    tape.send(plays)
    assert await tape.take(33) == tape.expected(plays)
    await ClockCycles(dut.clk, 30)
    assert await tape.idle()


# The loader.

def words(rng, config, beats):
    """Writes that load `beats`, pairs of place and contents; of each the last word is the last one."""
    octets = config.beat_bytes
    count  = octets // 4
    return [{"write": 1, "address": TAPE_BASE + place * octets + 4 * index, "data": beat >> 32 * index & 0xFFFFFFFF}
            for place, beat in beats for index in [*rng.sample(range(count - 1), count - 1), count - 1]]


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.4], o_stall=[0, 0.4])
async def loads(dut, i_stall, o_stall):
    rng    = random.Random(int(os.environ["SEED"]))
    config = PRESETS[os.environ["CONFIG"]]
    bits, octets = config.beat_bits, config.beat_bytes
    source = Source(dut, "i", shape=Access, stall=lambda: rng.random() < i_stall)
    sink   = Sink(dut, "o", shape=load_layout(config), stall=lambda: rng.random() < o_stall)
    highest = 2**31 // octets - 1
    if octets >= 4:
        beats = [(place, rng.getrandbits(bits)) for place in [0, 1, 2, 3, highest, 7, 6]
                                                          + [rng.randrange(highest) for _ in range(40)]]
        accesses = words(rng, config, beats)
    else:
        pairs = [(2 * place, rng.getrandbits(32)) for place in [0, 1, 2, highest // 2]
                                                            + [rng.randrange(highest // 2) for _ in range(60)]]
        beats = [(place + part, word >> 16 * part & 0xFFFF) for place, word in pairs for part in range(2)]
        accesses = [{"write": 1, "address": TAPE_BASE + 2 * place, "data": word} for place, word in pairs]
    await reset(dut)
    source.send(accesses)
    actual = [(beat.address, beat.data) for beat in await sink.get(len(beats))]
    assert actual == beats
    if not i_stall and not o_stall:
        per_word = 2 if octets < 4 else 1
        assert source.cycles[-1] - source.cycles[0] == (len(accesses) - 1) * per_word
        assert sink.cycles[-1] - source.cycles[-1] == Loader.LATENCY_CYCLES + per_word - 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(after=[1, 2, 3, 4, 9])
async def loads_after_reset(dut, after):
    config = PRESETS[os.environ["CONFIG"]]
    source = Source(dut, "i", shape=Access)
    dut.o__ready.value = 0
    await reset(dut)
    source.send({"write": 1, "address": TAPE_BASE + 4 * word, "data": word} for word in range(20))
    await ClockCycles(dut.clk, after)
    source.clear()
    sink = Sink(dut, "o", shape=load_layout(config))
    await reset(dut)
    count = max(1, config.beat_bytes // 4)
    source.send({"write": 1, "address": TAPE_BASE + 4 * word, "data": ~word & 0xFFFFFFFF} for word in range(count))
    octets = b"".join((~word & 0xFFFFFFFF).to_bytes(4, "little") for word in range(count))
    size   = config.beat_bytes
    actual = [(beat.address, beat.data) for beat in await sink.get(len(octets) // size)]
    assert actual == [(place, int.from_bytes(octets[place * size:(place + 1) * size], "little"))
                      for place in range(len(octets) // size)]
