"""Benches of the tape in an SDRAM, on a chip that checks every command."""

import dataclasses
import json
import os
import random

import cocotb
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge
from cocotb.utils import get_sim_time

from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Play
from terngen.hw.tape.chips import CHIPS
from terngen.hw.tape.loader import load_layout
from terngen.hw.tape.sdram import Command, play_cycles
from terngen.sim.cocotb_stream import CLOCK_PERIOD_NS, Sink, Source, reset
from terngen.sim.sdram import Violation

CONFIG   = Config.from_dict(json.loads(os.environ["CONFIG"]))
CHIP     = dataclasses.replace(CHIPS[os.environ["CHIP"]], **json.loads(os.environ["SIZE"]))
CLOCK_HZ = int(os.environ["CLOCK_HZ"])
FLIGHT   = int(os.environ["FLIGHT"])
RATIO    = CONFIG.beat_bits // CHIP.width
#: Beats that the chip holds.
DEPTH    = CHIP.words // RATIO
TIMING   = CHIP.timing(CLOCK_HZ)
#: A word of the chip before it is written.
GUARD    = int(os.environ["GUARD"])
#: What the chip holds, from one test to the next: a reset does not clear it.
CONTENTS = [sum(GUARD << CHIP.width * word for word in range(RATIO))] * DEPTH


async def judge(dut, seen=None):
    """Fail at the first violation; count commands."""
    while True:
        await RisingEdge(dut.clk)
        await ReadOnly()
        if not dut.rst.value:
            assert not int(dut.violation.value), Violation(int(dut.violation.value)).name
            if seen is not None:
                command = Command(int(dut.command.value))
                seen[command] = seen.get(command, 0) + 1


async def started(dut, rng, i_stall=0.0, o_stall=0.0, seen=None):
    """Drivers of the streams, after the reset; the clock cycle of its end."""
    drivers = (Source(dut, "load", shape=load_layout(CONFIG), stall=lambda: rng.random() < i_stall),
               Source(dut, "play", shape=Play, stall=lambda: rng.random() < i_stall),
               Sink(dut, "beats", stall=lambda: rng.random() < o_stall))
    await reset(dut)
    cocotb.start_soon(judge(dut, seen))
    return *drivers, cycle()


def cycle():
    return round(get_sim_time("ns")) // CLOCK_PERIOD_NS


def promised(start, count, tick):
    return play_cycles(CHIP, CLOCK_HZ, beat_bits=CONFIG.beat_bits, start=start, count=count, tick=tick, flight=FLIGHT)


def requests(plays):
    return [{"start": start, "count": count} for start, count in plays]


async def check(beats, plays):
    expected = [CONTENTS[place] for start, count in plays for place in range(start, start + count)]
    assert [beat.to_unsigned() for beat in await beats.get(len(expected))] == expected


async def filled(load, rng, count):
    """Write so many beats, in any order, and some beyond the chip."""
    places = rng.sample(range(DEPTH), count)
    for place in places:
        CONTENTS[place] = rng.getrandbits(CONFIG.beat_bits)
    writes = [{"address": place, "data": CONTENTS[place]} for place in places]
    writes += [{"address": place, "data": 0} for place in (DEPTH, 2 * DEPTH + 1, 2**32 - 1)]
    rng.shuffle(writes)
    await load.put(writes)


def some_plays(rng):
    """Requests of any length, over the ends of bursts, rows and the chip."""
    row = CHIP.cols // RATIO
    found = [(0, 2 * row + 3), (row - 1, 2), (3, 0), (row - 1, 1), (DEPTH - 1, 1), (DEPTH - row - 5, row + 5)]
    found += [(start, rng.randrange(min(80, DEPTH - start) + 1)) for start in (rng.randrange(DEPTH) for _ in range(25))]
    return found


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize((("i_stall", "o_stall"), [(0, 0), (0.4, 0), (0, 0.4), (0.3, 0.9)]))
async def plays_what_was_loaded(dut, i_stall, o_stall):
    """And what was not written stays as it was."""
    rng = random.Random(int(os.environ["SEED"]))
    load, play, beats, _ = await started(dut, rng, i_stall, o_stall)
    await filled(load, rng, DEPTH // 3)
    # At once: what was written before has arrived all the same.
    plays = some_plays(rng)
    play.send(requests(plays))
    await check(beats, plays)
    for _ in range(20):
        place  = rng.randrange(DEPTH)
        values = [rng.getrandbits(CONFIG.beat_bits) for _ in range(3)]
        CONTENTS[place] = values[-1]
        load.send([{"address": place, "data": value} for value in values])
        if i_stall:
            await load.put([])
        play.send([{"start": place, "count": 1}])
        await check(beats, [(place, 1)])
    play.send(requests([(0, DEPTH)]))
    await check(beats, [(0, DEPTH)])


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(o_stall=[0, 0.5])
async def writes_while_it_plays(dut, o_stall):
    """Between bursts, and while nobody takes the beats."""
    rng = random.Random(int(os.environ["SEED"]))
    load, play, beats, _ = await started(dut, rng, 0.9, o_stall)
    half = DEPTH // 2
    await filled(load, rng, DEPTH // 4)
    play.send(requests([(0, half)]))
    for place in rng.sample(range(half, DEPTH), half // 2):
        CONTENTS[place] = rng.getrandbits(CONFIG.beat_bits)
        load.send([{"address": place, "data": CONTENTS[place]}])
    await check(beats, [(0, half // 2)])
    await load.put([])
    await check(beats, [(half // 2, half - half // 2)])
    play.send(requests([(0, DEPTH)]))
    await check(beats, [(0, DEPTH)])


@cocotb.test(timeout_time=8, timeout_unit="ms")
async def refreshes(dut):
    """While nothing is asked for, and while nobody takes what was."""
    rng  = random.Random(int(os.environ["SEED"]))
    seen = {}
    load, play, beats, _ = await started(dut, rng, seen=seen)
    await filled(load, rng, DEPTH // 8)
    for waiting in (False, True):
        if waiting:
            play.send(requests([(0, DEPTH)]))
        before = seen.get(Command.REFRESH, 0)
        rounds = 2 * TIMING.postponed + 3
        await ClockCycles(dut.clk, rounds * TIMING.interval)
        assert rounds - TIMING.postponed <= seen[Command.REFRESH] - before <= rounds + 1
    await check(beats, [(0, DEPTH)])


@cocotb.test(timeout_time=8, timeout_unit="ms")
async def time_of_plays(dut):
    """What the tape promises, to the cycle, wherever a refresh falls."""
    rng = random.Random(int(os.environ["SEED"]))
    load, play, beats, start = await started(dut, rng)
    await filled(load, rng, 3)
    row   = CHIP.cols // RATIO
    plays = [(0, DEPTH), (5, 1), (row - 1, 3), (row - 1, row), (3, DEPTH - 3), (row // 2 + 1, DEPTH // 2)]
    plays += [(place, rng.randrange(1, min(DEPTH - place, 3 * row) + 1))
              for place in (rng.randrange(DEPTH) for _ in range(8))]
    for place, count in plays:
        # Until what was owed has been made up for, and then to any time, also just before a refresh falls due.
        passed = (cycle() - start) % TIMING.interval
        ticks  = [rng.randrange(TIMING.interval), rng.randrange(12), TIMING.interval - 1 - rng.randrange(12)]
        await ClockCycles(dut.clk, 2 * TIMING.interval - passed + rng.choice(ticks))
        play.send(requests([(place, count)]))
        await beats.get(count)
        tick = (play.cycles[-1] - start) % TIMING.interval
        assert beats.cycles[-1] - play.cycles[-1] == promised(place, count, tick)


@cocotb.test(timeout_time=8, timeout_unit="ms")
async def attainment(dut):
    """A long play takes the peak of the chip, but for its refreshes."""
    rng  = random.Random(int(os.environ["SEED"]))
    seen = {}
    load, play, beats, start = await started(dut, rng, seen=seen)
    await filled(load, rng, 3)
    await ClockCycles(dut.clk, TIMING.interval + rng.randrange(TIMING.interval))
    play.send(requests([(0, DEPTH)]))
    await beats.get(DEPTH)
    cycles = beats.cycles[-1] - play.cycles[-1]
    assert cycles == promised(0, DEPTH, (play.cycles[-1] - start) % TIMING.interval)
    share = DEPTH * RATIO / (cycles + 1)
    dut._log.info(f"attainment {share:.4f} of {CHIP.words} words, promised {TIMING.share:.4f} of any number")
    if CHIP.words > 3 * TIMING.postponed * TIMING.interval:
        assert seen[Command.REFRESH] >= 3 * TIMING.postponed
        assert share >= 0.97
        assert abs(share - TIMING.share) < 0.003


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(after=[1, 7, 30, 200])
async def resumes_after_reset(dut, after):
    """A reset, of the chip as well, ends what is played, and keeps the tape."""
    rng = random.Random(int(os.environ["SEED"]))
    load, play, beats, _ = await started(dut, rng)
    await filled(load, rng, DEPTH // 8)
    await ClockCycles(dut.clk, 40)
    play.send(requests([(0, DEPTH)]))
    await ClockCycles(dut.clk, after)
    play.clear()
    await reset(dut)
    play.send(requests([(4, DEPTH - 4)]))
    await check(beats, [(4, DEPTH - 4)])
