"""Bench of the tape in single-port memories."""

import os
import random

import cocotb

from terngen.hw.contract.config import PRESETS
from terngen.hw.contract.tape import Play
from terngen.hw.tape.loader import load_layout
from terngen.hw.tape.spram import SpramTape
from terngen.sim.cocotb_stream import Sink, Source, reset


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.4], o_stall=[0, 0.4])
async def plays_what_was_loaded(dut, i_stall, o_stall):
    rng   = random.Random(int(os.environ["SEED"]))
    depth = int(os.environ["DEPTH"])
    load  = Source(dut, "load", shape=load_layout(PRESETS["processor"]), stall=lambda: rng.random() < i_stall)
    play  = Source(dut, "play", shape=Play, stall=lambda: rng.random() < i_stall)
    beats = Sink(dut, "beats", stall=lambda: rng.random() < o_stall)
    await reset(dut)
    contents = [rng.getrandbits(16) for _ in range(depth)]
    places   = rng.sample(range(depth), depth)
    await load.put([{"address": place, "data": contents[place]} for place in places])

    plays  = [(0, depth), (depth - 1, 1), (3, 0), (0, 1), (1, 1), (2, 2)]
    plays += [(start, rng.randrange(min(10, depth - start) + 1))
              for start in (rng.randrange(depth) for _ in range(20))]
    expected = [beat for start, count in plays for beat in contents[start:start + count]]
    play.send([{"start": start, "count": count} for start, count in plays])
    assert [beat.to_unsigned() for beat in await beats.get(len(expected))] == expected

    # What is written in between waits until nothing is played, and is played then.
    play.send([{"start": 0, "count": 7}])
    await beats.get(1)
    load.send([{"address": 1, "data": contents[0] ^ 1}])
    assert [beat.to_unsigned() for beat in await beats.get(6)] == contents[1:7]
    await load.put([{"address": depth - 1, "data": 5}])
    play.send([{"start": 0, "count": 2}, {"start": depth - 1, "count": 1}])
    assert [beat.to_unsigned() for beat in await beats.get(3)] == [contents[0], contents[0] ^ 1, 5]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def latency_and_throughput(dut):
    play, beats = Source(dut, "play", shape=Play), Sink(dut, "beats")
    await reset(dut)
    play.send([{"start": 0, "count": 7}])
    await beats.get(7)
    assert beats.cycles[0] - play.cycles[0] == SpramTape.LATENCY_CYCLES
    assert beats.cycles[-1] - beats.cycles[0] == 6
