"""Bench of the sampler: its lists against those of the golden machine."""

import json
import os

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge
from cocotb.utils import get_sim_time

from terngen.hw.contract import tape
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Mark, Op
from terngen.hw.units.sampler import PLACE_LATENCY, Sampler, cycles, list_latency
from terngen.sim.cocotb_stream import CLOCK_PERIOD_NS, Source, reset
from terngen.sim.golden.machine import GoldenMachine

CONFIG  = Config.from_dict(json.loads(os.environ["CONFIG"]))
LARGEST = (1 << CONFIG.acc_width - 1) - 1

rng = np.random.default_rng(int(os.environ["SEED"]))


class Harness:
    """The design, and the golden machine that sees the same sums."""

    def __init__(self, dut, *, stall=0.0):
        self.dut    = dut
        self.golden = GoldenMachine(CONFIG, np.zeros(0, np.uint8))
        shape       = Sampler(CONFIG).i.payload.shape()
        self.source = Source(dut, "i", shape=shape, stall=lambda: rng.random() < stall)
        self.row    = 0
        for name in ("vocab", "clear", "slot", "place"):
            getattr(dut, name).value = 0

    async def tile(self, sums: np.ndarray, slots: list[int], *, first: bool, vocab: int):
        """Offer the sums of a row tile, ``(slots, rows)``."""
        octets = tape.pack_descriptor(CONFIG, opcode=Op.LOGITS, length=sums.shape[1], first=int(first))
        self.golden.image = np.frombuffer(octets, np.uint8)
        self.golden.forget()
        self.golden.push_sums(sums, np.zeros(CONFIG.slots, np.int64))
        self.golden.play(Mark(0, tape.descriptor_beats(CONFIG)), slots, vocab=vocab)

        dut = self.dut
        await self.idle()
        await RisingEdge(dut.clk)
        dut.vocab.value = vocab
        if first:
            self.row = 0
            dut.clear.value = sum(1 << slot for slot in slots)
            await RisingEdge(dut.clk)
            dut.clear.value = 0
        for slot in slots:
            await self.source.put([
                {"slot": slot, "row": self.row + row, "sums": sums[slot, row:row + CONFIG.lanes].tolist()}
                for row in range(0, sums.shape[1], CONFIG.lanes)])
        self.row += sums.shape[1]

    async def idle(self) -> int:
        """Wait until the design is idle, and return the clock cycle."""
        await ReadOnly()
        while not int(self.dut.idle.value):
            await RisingEdge(self.dut.clk)
            await ReadOnly()
        return round(get_sim_time("ns")) // CLOCK_PERIOD_NS

    async def check(self):
        """Compare all lists."""
        await self.idle()
        for slot in range(CONFIG.slots):
            for place in range(CONFIG.top_k):
                await RisingEdge(self.dut.clk)
                self.dut.slot.value, self.dut.place.value = slot, place
                await ClockCycles(self.dut.clk, PLACE_LATENCY)
                await ReadOnly()
                actual   = self.dut.row.value.to_unsigned(), self.dut.sum.value.to_signed()
                expected = self.golden.top_index[slot, place], self.golden.top_sum[slot, place]
                assert actual == expected, f"Candidate {place} of slot {slot}"
        await RisingEdge(self.dut.clk)


def draw(groups: int) -> np.ndarray:
    """Sums of a few values, so that many are equal, and of many, ``(slots, rows)``."""
    limit = rng.choice([2, 40, LARGEST])
    sums  = rng.integers(-limit, limit + 1, (CONFIG.slots, groups * CONFIG.lanes))
    return np.where(rng.random(sums.shape) < 0.02, rng.choice([-LARGEST - 1, LARGEST], sums.shape), sums)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0, 0.6])
async def equals_golden_machine(dut, stall):
    harness = Harness(dut, stall=stall)
    await reset(dut)
    await harness.check()
    for _ in range(6):
        slots = np.flatnonzero(rng.random(CONFIG.slots) < 0.7).tolist() or [0]
        tiles = [draw(int(rng.integers(1, 15))) for _ in range(3)]
        rows  = sum(tile.shape[1] for tile in tiles)
        vocab = int(rng.choice([rows, rows - 1, rng.integers(1, rows)]))
        for index, sums in enumerate(tiles):
            await harness.tile(sums, slots, first=not index, vocab=vocab)
        await harness.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(step=[-1, 0, 1])
async def order_of_rows(dut, step):
    """Rising, equal and falling sums."""
    harness = Harness(dut)
    rows    = CONFIG.lanes * (2 * CONFIG.top_k + 1)
    await reset(dut)
    await harness.tile(np.tile(step * np.arange(rows), (CONFIG.slots, 1)), list(range(CONFIG.slots)),
                       first=True, vocab=rows)
    await harness.check()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def throughput(dut):
    harness = Harness(dut)
    await reset(dut)
    await harness.tile(draw(20), [0], first=True, vocab=1 << 20)
    taken = harness.source.cycles
    assert np.diff(taken).tolist() == [cycles(CONFIG)] * 19
    assert await harness.idle() - taken[-1] == cycles(CONFIG) + list_latency(CONFIG)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def resumes_after_reset(dut):
    harness = Harness(dut)
    await reset(dut)
    await harness.tile(draw(5), [0], first=True, vocab=1 << 20)
    await reset(dut)
    harness.golden, harness.row = GoldenMachine(CONFIG, np.zeros(0, np.uint8)), 0
    await harness.check()
    await harness.tile(draw(5), [0], first=False, vocab=1 << 20)
    await harness.check()
