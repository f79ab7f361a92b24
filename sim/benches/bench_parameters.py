"""Bench of the parameter vectors on their way to the vector unit, against the contract."""

import json
import os
from collections import deque

import cocotb
import numpy as np
from amaranth.lib import data
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge
from cocotb.utils import get_sim_time

from terngen.hw.contract import tape
from terngen.hw.contract.config import Config
from terngen.hw.units.parameters import PUSH_CYCLES, READ_LATENCY, group_width
from terngen.sim.cocotb_stream import CLOCK_PERIOD_NS, Source, reset

CONFIG = Config.from_dict(json.loads(os.environ["CONFIG"]))
LAYOUT = data.ArrayLayout(CONFIG.path.width, CONFIG.lanes)

rng = np.random.default_rng(int(os.environ["SEED"]))


class Vector:
    """A parameter vector or an embedding row, on the tape and as it must be read."""

    def __init__(self, length: int):
        self.is_row = bool(rng.integers(2))
        if self.is_row:
            length = min(length, CONFIG.hidden)
        fmt    = CONFIG.embedding_format if self.is_row else CONFIG.path.parameter
        words  = rng.integers(0, 1 << fmt.width, length)
        # Of some the exponent field is zero, which makes all of them zero.
        words  = np.where(rng.random(length) < 0.1, words & fmt.smallest - 1, words)
        octets = tape.pack_embedding(CONFIG, words[None]) if self.is_row else tape.pack_parameters(CONFIG, words)
        size   = CONFIG.beat_bytes
        self.beats  = [int.from_bytes(octets[place:place + size], "little")
                       for place in range(0, len(octets), size)]
        padded      = CONFIG.groups(length) * CONFIG.lanes
        unpack      = tape.unpack_embedding if self.is_row else tape.unpack_parameters
        self.groups = unpack(CONFIG, octets.ljust(4 * padded, b"\0"), padded).reshape(-1, CONFIG.lanes)


class Harness:
    """Producer and consumer, with stalls."""

    def __init__(self, dut, *, i_stall=0.0, o_stall=0.0):
        self.dut      = dut
        self.stall    = o_stall
        self.commands = Source(dut, "command", stall=lambda: rng.random() < i_stall)
        self.beats    = Source(dut, "i", stall=lambda: rng.random() < i_stall)
        dut.o__group.value = dut.o__row.value = dut.o__pop.value = 0

    def send(self, vectors):
        self.commands.send(len(vector.beats) for vector in vectors)
        self.beats.send(beat for vector in vectors for beat in vector.beats)

    async def ready(self) -> int:
        """Wait for a vector in front, and return the clock cycle."""
        await ReadOnly()
        while not int(self.dut.o__ready.value):
            await RisingEdge(self.dut.clk)
            await ReadOnly()
        return round(get_sim_time("ns")) // CLOCK_PERIOD_NS

    async def check(self, vector):
        """Read the groups of the vector in front in any order, and pop it with the last of them."""
        dut   = self.dut
        queue = deque(rng.permutation(np.tile(np.arange(len(vector.groups)), 2)).tolist())
        due   = deque([None] * READ_LATENCY)
        while queue or any(group is not None for group in due):
            await RisingEdge(dut.clk)
            dut.o__row.value = vector.is_row
            due.append(queue.popleft() if queue and rng.random() >= self.stall else None)
            if due[-1] is not None:
                dut.o__group.value = due[-1]
            dut.o__pop.value = due[-1] is not None and not queue
            await ReadOnly()
            group = due.popleft()
            if group is not None:
                codes = LAYOUT.from_bits(dut.o__codes.value.to_unsigned())
                actual = [codes[lane] for lane in range(CONFIG.lanes)]
                assert actual == vector.groups[group].tolist(), f"Group {group}"
        await RisingEdge(dut.clk)


def draw(count: int) -> list[Vector]:
    """Vectors of any length; of whole lane groups, as they are in machines, where a beat does not fill one."""
    least   = CONFIG.lanes if group_width(CONFIG) > CONFIG.beat_bits else 1
    lengths = [rng.choice([1, CONFIG.lanes, CONFIG.wide, rng.integers(1, CONFIG.wide + 1)]) for _ in range(count)]
    return [Vector(int(-(-length // least) * least)) for length in lengths]


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.5], o_stall=[0, 0.5])
async def matches_contract(dut, i_stall, o_stall):
    harness, vectors = Harness(dut, i_stall=i_stall, o_stall=o_stall), draw(30)
    await reset(dut)
    harness.send(vectors)
    for vector in vectors:
        await harness.ready()
        await harness.check(vector)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def loses_no_cycle(dut):
    harness, vectors = Harness(dut), [Vector(CONFIG.wide) for _ in range(3)]
    await reset(dut)
    harness.send(vectors)
    cycle  = await harness.ready()
    first, second, _ = (len(vector.beats) for vector in vectors)
    starts = harness.beats.cycles
    assert cycle - harness.beats.cycles[first - 1] == PUSH_CYCLES
    await ClockCycles(dut.clk, 4 * first + 4 * second)
    # Two vectors are held, and the third waits.
    assert harness.beats.cycles == [starts[0] + beat + (beat >= first) for beat in range(first + second)]
    assert len(harness.commands.cycles) == 2
    for vector in vectors:
        await harness.ready()
        await harness.check(vector)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(after=[1, 2, 5, 17])
async def resumes_after_reset(dut, after):
    harness, vectors = Harness(dut), draw(4)
    await reset(dut)
    harness.send(vectors)
    await ClockCycles(dut.clk, after)
    harness.commands.clear()
    harness.beats.clear()
    await reset(dut)
    harness.send(vectors)
    for vector in vectors:
        await harness.ready()
        await harness.check(vector)
