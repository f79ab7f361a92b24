"""Bench of matrix times vector: many matrices, back to back, against the integer product."""

import dataclasses
import json
import os
import random

import cocotb
import numpy as np
from amaranth.lib import data
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge
from cocotb.utils import get_sim_time

from terngen.hw.contract import tape
from terngen.hw.contract.config import Config
from terngen.hw.units.array import load_cycles, settle_cycles
from terngen.hw.units.matvec import Command, cycles, pause_cycles
from terngen.sim.benches.bench_activations import Filler
from terngen.sim.benches.bench_sums import Drainer
from terngen.sim.cocotb_stream import CLOCK_PERIOD_NS, Source, encode, reset

CONFIG = Config.from_dict(json.loads(os.environ["CONFIG"]))
#: Cycles from the taking of a block to the next, at least.
PERIOD = pause_cycles(CONFIG)


@dataclasses.dataclass(frozen=True)
class Codes:
    values: np.ndarray      # (slots, length)
    tags:   list[int]       # (slots,)

    @classmethod
    def draw(cls, rng, length: int):
        return cls(rng.integers(-127, 128, (CONFIG.slots, length)),
                   rng.integers(0, 1 << CONFIG.path.width, CONFIG.slots).tolist())


@dataclasses.dataclass(frozen=True)
class Matrix:
    trits:   np.ndarray     # (rows, cols)
    codes:   Codes
    release: bool

    @property
    def command(self) -> dict[str, int]:
        rows, cols = self.trits.shape
        return {"rows": rows, "cols": cols, "release": int(self.release), "single": int(cols <= CONFIG.block_cols)}

    @property
    def beats(self) -> list[int]:
        octets = tape.pack_matrix(CONFIG, self.trits)
        size   = CONFIG.beat_bytes
        return [int.from_bytes(octets[place:place + size], "little") for place in range(0, len(octets), size)]

    @property
    def product(self) -> np.ndarray:
        """``(slots, rows)``"""
        return self.codes.values[:, :self.trits.shape[1]] @ self.trits.T.astype(int)

    @property
    def tags(self) -> int:
        return encode(self.codes.tags, data.ArrayLayout(CONFIG.path.width, CONFIG.slots))


def draw_trits(rng, rows: int, cols: int) -> np.ndarray:
    return rng.integers(-1, 2, (rows, cols)).astype(np.int8)


def draw_matrices(rng, uses) -> list[Matrix]:
    """Matrices of random size; each element of `uses` is how many of them share their codes."""
    matrices = []
    for count in uses:
        codes = Codes.draw(rng, int(rng.integers(1, CONFIG.wide + 1)))
        for use in range(count):
            # Half of them have fewer row groups than the accumulator has stages.
            most = rng.choice([4 * CONFIG.row_lanes, CONFIG.rows])
            rows = int(rng.integers(1, most + 1))
            cols = int(rng.integers(1, codes.values.shape[1] + 1))
            matrices.append(Matrix(draw_trits(rng, rows, cols), codes, use == count - 1))
    return matrices


class Harness:
    """Everything around the design, with stalls of weights, commands and vector unit."""

    def __init__(self, dut, *, w_stall=lambda: False, c_stall=lambda: False, v_stall=lambda: False):
        self.filler   = Filler(dut, CONFIG, stall=v_stall)
        self.drainer  = Drainer(dut, CONFIG, stall=v_stall)
        self.commands = Source(dut, "command", shape=Command, stall=c_stall)
        self.weights  = Source(dut, "weights", stall=w_stall)
        #: For each beat that was taken, whether it was to be the last one of its matrix.
        self.ends     = []
        cocotb.start_soon(self._watch(dut))

    async def _watch(self, dut):
        while True:
            await RisingEdge(dut.clk)
            await ReadOnly()
            if dut.weights__valid.value == 1 and dut.weights__ready.value == 1:
                self.ends.append(int(dut.at_end.value))

    async def fill(self, matrices: list[Matrix]):
        for matrix in matrices:
            if matrix.release:
                await self.filler.fill(matrix.codes.values, matrix.codes.tags)

    def send(self, matrices: list[Matrix]):
        self.commands.send(matrix.command for matrix in matrices)
        for matrix in matrices:
            self.weights.send(matrix.beats)

    async def check(self, matrices: list[Matrix]):
        for matrix in matrices:
            assert await self.drainer.ready() == matrix.tags
            actual = await self.drainer.read(len(matrix.trits))
            assert (actual == matrix.product).all(), f"{actual} != {matrix.product}"

    async def play(self, matrices: list[Matrix]):
        cocotb.start_soon(self.fill(matrices))
        self.send(matrices)
        await self.check(matrices)


def generator() -> np.random.Generator:
    return np.random.default_rng(int(os.environ["SEED"]))


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(w_stall=[0, 0.4], c_stall=[0, 0.8], v_stall=[0, 0.6])
async def multiplies(dut, w_stall, c_stall, v_stall):
    harness  = Harness(dut, w_stall=lambda: random.random() < w_stall,
                       c_stall=lambda: random.random() < c_stall, v_stall=lambda: random.random() < v_stall)
    matrices = draw_matrices(generator(), [1, 3, 2, 1, 1, 2])
    await reset(dut)
    await harness.play(matrices)
    await ReadOnly()
    assert int(dut.idle.value)
    assert harness.ends == [place == len(matrix.beats) - 1
                            for matrix in matrices for place in range(len(matrix.beats))]
    # What was popped last can still be read.
    last = matrices[-1]
    assert (await harness.drainer.read(len(last.trits), last=True, pop=False) == last.product).all()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def adds_to_what_was_just_written(dut):
    """With few row groups, and the last beat of a block so late that the next block waits for it already."""
    waited = 0

    def stall():
        nonlocal waited
        late   = len(harness.weights.cycles) % groups == groups - 1 and waited < 2 * PERIOD
        waited = waited + 1 if late else 0
        return late

    harness = Harness(dut, w_stall=stall)
    await reset(dut)
    for groups in (1, 2, 3, 4, 5):
        harness.weights.cycles.clear()
        trits = np.ones((groups * CONFIG.row_lanes, CONFIG.wide), np.int8)
        await harness.play([Matrix(trits, Codes.draw(generator(), CONFIG.wide), True)])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def does_not_overflow(dut):
    harness  = Harness(dut)
    matrices = []
    for trit in (-1, 1):
        for code in (-127, 127):
            codes = Codes(np.full((CONFIG.slots, CONFIG.wide), code), [0] * CONFIG.slots)
            matrices.append(Matrix(np.full((2 * CONFIG.row_lanes, CONFIG.wide), trit, np.int8), codes, True))
    await reset(dut)
    await harness.play(matrices)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def loses_no_cycle(dut):
    rng     = generator()
    harness = Harness(dut)
    load    = load_cycles(CONFIG)
    settle  = settle_cycles(CONFIG)
    await reset(dut)
    for groups in (1, 2, 3, 4, 5, PERIOD - 1, PERIOD, PERIOD + 1, CONFIG.row_groups(CONFIG.rows)):
        for blocks in (1, 2, CONFIG.blocks(CONFIG.wide)):
            cols   = min(blocks * CONFIG.block_cols, CONFIG.wide)
            rows   = groups * CONFIG.row_lanes - int(rng.integers(CONFIG.row_lanes))
            matrix = Matrix(draw_trits(rng, rows, cols), Codes.draw(rng, cols), True)
            await harness.fill([matrix])
            await ClockCycles(dut.clk, load + 4)
            harness.send([matrix])
            await harness.drainer.ready()
            ready = round(get_sim_time("ns")) // CLOCK_PERIOD_NS
            assert ready - harness.commands.cycles[-1] == cycles(CONFIG, rows=rows, cols=cols)
            if groups >= PERIOD:
                beats = CONFIG.matrix_beats(rows, cols)
                taken = harness.weights.cycles[-beats:]
                assert taken == [taken[0] + beat + beat // groups * settle for beat in range(beats)]
                assert taken[0] == harness.commands.cycles[-1] + 1 + settle
            assert (await harness.drainer.read(rows) == matrix.product).all()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def goes_on_without_a_pause(dut):
    """From the last beat of a matrix to the first one of the next is one cycle for the command."""
    rng      = generator()
    harness  = Harness(dut)
    rows     = PERIOD * CONFIG.row_lanes
    codes    = [Codes.draw(rng, CONFIG.wide) for _ in range(3)]
    matrices = [Matrix(draw_trits(rng, rows, CONFIG.wide), codes[index // 2], bool(index % 2))
                for index in range(6)]
    await reset(dut)
    cocotb.start_soon(harness.fill(matrices))
    cocotb.start_soon(harness.check(matrices))
    while int(dut.fill__free.value):
        await RisingEdge(dut.clk)
        await ReadOnly()
    await RisingEdge(dut.clk)
    harness.send(matrices)
    beats = CONFIG.matrix_beats(rows, CONFIG.wide)
    while len(harness.weights.cycles) < 4 * beats:
        await RisingEdge(dut.clk)
    taken = np.array(harness.weights.cycles[:4 * beats])
    pause = np.diff(taken)
    # Codes of the first two pairs are there, and two banks of sums; a third pair waits for its sums.
    place = np.arange(1, 2 * beats)
    wait  = np.where(place % beats, 1, 2) + np.where(place % PERIOD, 0, settle_cycles(CONFIG))
    assert (pause[:2 * beats - 1] == wait).all()
    while len(harness.weights.cycles) < 6 * beats:
        await RisingEdge(dut.clk)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def resumes_after_reset(dut):
    rng      = generator()
    harness  = Harness(dut)
    matrices = draw_matrices(rng, [2, 1])
    await reset(dut)
    for _ in range(6):
        playing = [cocotb.start_soon(harness.fill(matrices)), cocotb.start_soon(harness.check(matrices))]
        harness.send(matrices)
        await ClockCycles(dut.clk, int(rng.integers(1, 200)))
        for task in playing:
            task.cancel()
        harness.commands.clear()
        harness.weights.clear()
        for name in ("fill__valid", "fill__push", "drain__pop"):
            getattr(dut, name).value = 0
        await reset(dut)
    await harness.play(matrices)
