"""Bench of drawing: tokens against those of the contract, for random lists, scales and choices."""

import json
import math
import os
import random

import cocotb
import numpy as np
from amaranth.hdl import signed
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge

from terngen.hw.contract import drawing, formats
from terngen.hw.contract.config import Config
from terngen.hw.contract.drawing import COLDNESS
from terngen.hw.contract.regs import Choice
from terngen.hw.units.draw import choice_layout, latency
from terngen.hw.units.sampler import PLACE_LATENCY
from terngen.sim.cocotb_stream import encode, reset

CONFIG = Config.from_dict(json.loads(os.environ["CONFIG"]))
LIMIT  = 1 << CONFIG.acc_width - 1

rng = random.Random(int(os.environ["SEED"]))


class Harness:
    """The design, a sampler that is played here, and the state that each slot should have."""

    def __init__(self, dut):
        self.dut    = dut
        self.sums   = [0] * CONFIG.top_k
        self.states = [0] * CONFIG.slots
        for name in ("go", "slot", "scale", "sum", "choose", "choice"):
            getattr(dut, name).value = 0
        cocotb.start_soon(self._show())

    async def _show(self):
        shown = [0] * (PLACE_LATENCY - 1)
        while True:
            await ReadOnly()
            shown.append(int(self.dut.place.value))
            await RisingEdge(self.dut.clk)
            place = shown.pop(0)
            shown_sum = self.sums[place] if place < CONFIG.top_k else rng.randrange(LIMIT)
            self.dut.sum.value = encode(shown_sum, signed(CONFIG.acc_width))

    async def choose(self, slot: int, second: int, word: int):
        """Write what says how a slot draws."""
        self.dut.choice.value = encode({"second": second, "slot": slot, "word": word}, choice_layout(CONFIG))
        self.dut.choose.value = 1
        await RisingEdge(self.dut.clk)
        self.dut.choose.value = 0
        if not second:
            self.states[slot] = word

    async def draw(self, slot: int, sums: list[int], scale: int, coldness: int, candidates: int):
        """Let a slot draw, and hold it against the contract."""
        dut = self.dut
        self.sums = sums
        await self.choose(slot, 1, encode({"coldness": coldness, "candidates": candidates}, Choice))
        dut.slot.value, dut.scale.value = slot, scale
        await ClockCycles(dut.clk, PLACE_LATENCY + 1)
        dut.go.value = 1
        await RisingEdge(dut.clk)
        dut.go.value = 0
        cycles = 1
        await ReadOnly()
        while not int(dut.done.value):
            await RisingEdge(dut.clk)
            await ReadOnly()
            cycles += 1
        slope = drawing.slope(float(formats.to_float(CONFIG.path, scale)), coldness)
        place, state = drawing.draw(self.states[slot], slope, np.array(sums[:max(1, candidates)]))
        assert int(dut.place.value) == place, f"Of {sums} with slope {slope}"
        assert cycles == latency(candidates)
        self.states[slot] = int(state)
        await RisingEdge(dut.clk)


def sorted_sums() -> list[int]:
    """Candidates, from equal ones to those as far from each other as there are."""
    spread = 1 << rng.randint(0, CONFIG.acc_width)
    best   = rng.randint(-LIMIT, LIMIT - 1)
    return sorted((max(-LIMIT, best - rng.randrange(spread)) for _ in range(CONFIG.top_k)), reverse=True)


def any_scale(coldness: int) -> int:
    """A scale of the logits: mostly one with which it is not clear who wins."""
    fmt = CONFIG.path
    if rng.random() < 0.2:
        return rng.choice([0, fmt.smallest, fmt.largest, rng.randrange(fmt.largest + 1) | fmt.smallest])
    wanted = 2.0 ** rng.uniform(-CONFIG.acc_width, 3)
    return int(formats.from_float(fmt, min(wanted / (float(formats.to_float(COLDNESS, coldness)) or 1), 1e300)))


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def equals_contract(dut):
    harness = Harness(dut)
    await reset(dut)
    for slot in range(CONFIG.slots):
        await harness.choose(slot, 0, rng.getrandbits(32) or 1)
    for _ in range(300):
        slot     = rng.randrange(CONFIG.slots)
        coldness = rng.choice([drawing.coldness(math.exp(rng.uniform(-4, 4))), drawing.coldness(1.0), 0,
                               COLDNESS.largest, rng.randrange(COLDNESS.largest + 1)])
        if not coldness >> COLDNESS.mantissa_bits:
            coldness = 0
        if rng.random() < 0.1:
            await harness.choose(slot, 0, rng.choice([1, 1 << 31, rng.getrandbits(32) or 1, 0xFFFF_FFFF, 1 << 14]))
        await harness.draw(slot, sorted_sums(), any_scale(coldness), coldness, rng.randint(0, CONFIG.top_k))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def equal_scores(dut):
    """A generator without a bit gives each candidate the same: the first one wins."""
    harness = Harness(dut)
    await reset(dut)
    await harness.choose(0, 0, 0)
    await harness.draw(0, [5] * CONFIG.top_k, CONFIG.path.one, drawing.coldness(1.0), CONFIG.top_k)


@cocotb.test(timeout_time=4, timeout_unit="ms")
async def every_shift(dut):
    """All exponents of the slope, from where it is lost to where it is too large."""
    harness, fmt = Harness(dut), CONFIG.path
    await reset(dut)
    for slot in range(CONFIG.slots):
        await harness.choose(slot, 0, rng.getrandbits(32) or 1)
    sums = [LIMIT - 1, *sorted((rng.randrange(-LIMIT, LIMIT) for _ in range(CONFIG.top_k - 2)), reverse=True), -LIMIT]
    for shift in range(-60, 8):
        field = max(1, min(fmt.bias + shift // 2, (1 << fmt.exponent_bits) - 1))
        cold  = max(1, min(COLDNESS.bias + shift - (field - fmt.bias), (1 << COLDNESS.exponent_bits) - 1))
        await harness.draw(rng.randrange(CONFIG.slots), rng.choice([sums, sorted_sums()]),
                           field << fmt.mantissa_bits | rng.getrandbits(fmt.mantissa_bits),
                           cold << COLDNESS.mantissa_bits | rng.getrandbits(COLDNESS.mantissa_bits), CONFIG.top_k)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(after=[1, 20, 60, 75, 76])
async def resumes_after_reset(dut, after):
    harness = Harness(dut)
    await reset(dut)
    for slot in range(CONFIG.slots):
        await harness.choose(slot, 0, 1 + slot)
    dut.go.value = 1
    await RisingEdge(dut.clk)
    dut.go.value = 0
    await ClockCycles(dut.clk, after)
    await reset(dut)
    for slot in range(CONFIG.slots):
        await harness.choose(slot, 0, 1 + slot)
        await harness.draw(slot, sorted_sums(), CONFIG.path.one >> 1, drawing.coldness(2.0), CONFIG.top_k)
