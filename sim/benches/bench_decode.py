"""Bench of the loop of a text: random runs against a player, a sampler and draws that are played here."""

import json
import os
import random
from collections import deque

import cocotb
from amaranth.lib import data
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge

from terngen.hw.contract.config import Config
from terngen.hw.contract.regs import TOKEN_BITS
from terngen.hw.control.decode import READ_LATENCY, cycles
from terngen.hw.units import draw
from terngen.hw.units.sampler import PLACE_LATENCY, SHOW_LATENCY
from terngen.sim.cocotb_stream import encode, reset

CONFIG = Config.from_dict(json.loads(os.environ["CONFIG"]))
TOKENS = data.ArrayLayout(32, CONFIG.slots)
NOTHING = (1 << TOKEN_BITS) - 1
#: To draw from.
CANDIDATES = 2

rng = random.Random(int(os.environ["SEED"]))


class Machine:
    """Player, sampler and draws: steps of random length, after each of which every slot has another best candidate, and
    another one that is drawn, which is shown for a cycle."""

    def __init__(self, dut):
        self.dut    = dut
        self.best   = [rng.randrange(8) for _ in range(CONFIG.slots)]
        self.other  = [rng.randrange(8) for _ in range(CONFIG.slots)]
        self.draws  = 0         # slots that draw
        self.drawn  = []        # slots that have drawn, in order
        self.steps  = []        # active, tokens, opening, next tokens; of each step
        self.played = 0         # cycles in which the player was busy
        self.busy   = 0         # cycles in which the run was under way
        dut.player_busy.value = dut.drawn.value = 0
        cocotb.start_soon(self._run())

    async def _run(self):
        dut, left, drawing = self.dut, 0, 0
        shown  = deque([0] * (SHOW_LATENCY - 1))
        places = deque([0] * (PLACE_LATENCY - 1))
        while True:
            await ReadOnly()
            go, self.busy = int(dut.player_go.value), self.busy + int(dut.busy.value)
            self.played += left > 0
            shown.append(slot := int(dut.ask_slot.value))
            places.append(int(dut.drawn.value))
            begins = int(dut.draw.value)
            step = int(dut.active.value), int(dut.tokens.value), int(dut.opening.value)
            await RisingEdge(dut.clk)
            if int(dut.rst.value):
                left = drawing = 0
            elif go:
                assert not left, "A step must not begin while one is under way"
                left = rng.randint(1, 20)
                self.best  = [rng.randrange(8) for _ in range(CONFIG.slots)]
                self.other = [rng.randrange(8) for _ in range(CONFIG.slots)]
                self.steps.append((*step, [(self.other if self.draws >> slot & 1 else self.best)[slot]
                                           for slot in range(CONFIG.slots)]))
            elif begins:
                assert not drawing and not left
                drawing = draw.latency(CANDIDATES)
                self.drawn.append(slot)
            else:
                left, drawing = max(0, left - 1), max(0, drawing - 1)
            dut.player_busy.value, dut.drawn.value = left > 0, drawing == 1
            dut.best.value = (self.other if places.popleft() else self.best)[shown.popleft() % CONFIG.slots]


async def run(dut, machine: Machine, steps: int, stop: int, mask: int, first: list[int], draws: int = 0) -> None:
    """Make a run and hold it against what it must be."""
    machine.steps.clear()
    machine.drawn.clear()
    machine.played, machine.busy, machine.draws = 0, 0, draws
    dut.draws.value = draws
    dut.steps.value, dut.stop.value, dut.mask.value = steps, stop, mask
    dut.first.value = encode(first, TOKENS)
    dut.go.value = 1
    await RisingEdge(dut.clk)
    dut.go.value = 0
    await ReadOnly()
    assert int(dut.busy.value)
    while int(dut.busy.value):
        await RisingEdge(dut.clk)
        await ReadOnly()
    await RisingEdge(dut.clk)

    expected, active, tokens, drawn = [], mask, dict(enumerate(first)), []
    for made, (on, given, opening, best) in enumerate(machine.steps):
        assert on == active and bool(opening) == (made == 0)
        for slot in range(CONFIG.slots):
            if active >> slot & 1:
                assert given >> 32 * slot & 0xFFFF_FFFF == tokens[slot], f"Step {made}, slot {slot}"
        expected.append([best[slot] if active >> slot & 1 else NOTHING for slot in range(CONFIG.slots)])
        tokens = dict(enumerate(best))
        drawn += [slot for slot in range(CONFIG.slots) if (active & draws) >> slot & 1]
        active &= ~sum(1 << slot for slot in range(CONFIG.slots) if best[slot] == stop)
        assert active or made == len(machine.steps) - 1
    assert len(machine.steps) == max(1, steps) or not active
    assert int(dut.done.value) == len(expected)
    assert machine.drawn == drawn
    assert machine.busy - machine.played == cycles(CONFIG, steps=len(expected), drawn=[CANDIDATES] * len(drawn))
    for made, row in enumerate(expected):
        for slot, token in enumerate(row):
            dut.place.value = made << CONFIG.slot_bits | slot
            await ClockCycles(dut.clk, READ_LATENCY)
            await ReadOnly()
            assert int(dut.token.value) == token, f"Step {made}, slot {slot}"
            await RisingEdge(dut.clk)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def makes_runs(dut):
    machine = Machine(dut)
    await reset(dut)
    for _ in range(25):
        await run(dut, machine, steps=rng.choice([0, 1, 2, rng.randint(1, CONFIG.history), CONFIG.history]),
                  stop=rng.choice([rng.randrange(8), 0xFFFF_FFFF]), mask=rng.randrange(1 << CONFIG.slots),
                  first=[rng.randrange(1 << 16) for _ in range(CONFIG.slots)],
                  draws=rng.choice([0, rng.randrange(1 << CONFIG.slots)]))


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(after=[1, 3, 17, 40, 80])
async def resumes_after_reset(dut, after):
    machine = Machine(dut)
    await reset(dut)
    machine.draws = 1
    dut.steps.value, dut.mask.value, dut.stop.value, dut.draws.value, dut.go.value = 5, 1, 0xFFFF_FFFF, 1, 1
    await ClockCycles(dut.clk, after)
    dut.go.value = 0
    await reset(dut)
    await ReadOnly()
    assert not int(dut.busy.value)
    await RisingEdge(dut.clk)
    await run(dut, machine, steps=3, stop=0xFFFF_FFFF, mask=1, first=[7] * CONFIG.slots)
