"""Benches of the tape in block RAM."""

import os
import random

import cocotb
from cocotb.triggers import ClockCycles

from terngen.hw.contract.config import PRESETS
from terngen.hw.contract.tape import Play
from terngen.hw.tape.loader import load_layout
from terngen.hw.tape.onchip import OnChipTape
from terngen.sim.cocotb_stream import Sink, Source, reset


def drivers(dut, rng, i_stall=0.0, o_stall=0.0):
    layout = load_layout(PRESETS[os.environ["CONFIG"]])
    return (Source(dut, "load", shape=layout, stall=lambda: rng.random() < i_stall),
            Source(dut, "play", shape=Play, stall=lambda: rng.random() < i_stall),
            Sink(dut, "beats", stall=lambda: rng.random() < o_stall))


async def filled(load, rng):
    """Load random beats, in any order, and some beyond the end; what the memory must hold then."""
    depth, bits = int(os.environ["DEPTH"]), PRESETS[os.environ["CONFIG"]].beat_bits
    contents = [rng.getrandbits(bits) for _ in range(depth)]
    places = list(range(depth)) + [depth, depth + 1, 2**32 - 1]
    rng.shuffle(places)
    await load.put([{"address": place, "data": contents[place] if place < depth else rng.getrandbits(bits)}
                    for place in places])
    return contents


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def plays_what_it_began_with(dut):
    """It must come first: a reset does not bring back what was there."""
    depth = int(os.environ["DEPTH"])
    _, play, beats = drivers(dut, random.Random(int(os.environ["SEED"])))
    await reset(dut)
    play.send([{"start": 0, "count": depth}])
    assert [beat.to_unsigned() for beat in await beats.get(depth)] == [
        *(7 * place % 251 for place in range(depth - 1)), 0]


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.4], o_stall=[0, 0.4])
async def plays_what_was_loaded(dut, i_stall, o_stall):
    rng = random.Random(int(os.environ["SEED"]))
    load, play, beats = drivers(dut, rng, i_stall, o_stall)
    await reset(dut)
    contents = await filled(load, rng)
    depth = len(contents)
    plays = [(0, depth), (depth - 1, 1), (3, 0), (0, 1), (1, 1), (2, 2)]
    plays += [(start, rng.randrange(min(10, depth - start) + 1))
              for start in (rng.randrange(depth) for _ in range(20))]
    expected = [beat for start, count in plays for beat in contents[start:start + count]]
    play.send([{"start": start, "count": count} for start, count in plays])
    assert [beat.to_unsigned() for beat in await beats.get(len(expected))] == expected

    # What was played stays; what is written in between is played.
    await load.put([{"address": 1, "data": contents[0] ^ 1}])
    play.send([{"start": 0, "count": 3}])
    assert [beat.to_unsigned() for beat in await beats.get(3)] == [contents[0], contents[0] ^ 1, contents[2]]

    # A request finds what was loaded two cycles before.
    await load.put([{"address": depth - 1, "data": contents[0]}])
    play.send([{"start": depth - 1, "count": 1}])
    assert [beat.to_unsigned() for beat in await beats.get(1)] == [contents[0]]
    if not i_stall:
        assert play.cycles[-1] - load.cycles[-1] == 2


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def latency_and_throughput(dut):
    rng = random.Random(int(os.environ["SEED"]))
    load, play, beats = drivers(dut, rng)
    await reset(dut)
    depth = len(await filled(load, rng))
    assert load.cycles[-1] - load.cycles[0] == len(load.cycles) - 1
    counts = [5, 1, 1, 7, 2]
    play.send([{"start": 0, "count": count} for count in counts])
    await beats.get(sum(counts))
    assert beats.cycles[0] - play.cycles[0] == OnChipTape.LATENCY_CYCLES
    assert beats.cycles[-1] - beats.cycles[0] == sum(counts) - 1
    assert depth >= 7


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(after=[1, 4, 9])
async def resumes_after_reset(dut, after):
    """A reset ends what is played, and keeps the memory."""
    rng = random.Random(int(os.environ["SEED"]))
    load, play, beats = drivers(dut, rng)
    await reset(dut)
    contents = await filled(load, rng)
    play.send([{"start": 0, "count": 7}] * 3)
    await ClockCycles(dut.clk, after)
    play.clear()
    await reset(dut)
    play.send([{"start": 4, "count": 2}])
    assert [beat.to_unsigned() for beat in await beats.get(2)] == contents[4:6]
