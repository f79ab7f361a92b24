"""Bench of the player: random steps, and what each of them must ask for."""

import json
import os
import random

import cocotb
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge

from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Play
from terngen.hw.control.player import IDLE_CYCLES, SETTLE_CYCLES, cycles
from terngen.hw.control.sequencer import segment_layout
from terngen.sim.cocotb_stream import Sink, reset

CONFIG = Config.from_dict(json.loads(os.environ["CONFIG"]))

rng = random.Random(int(os.environ["SEED"]))


class Step:
    """A random step."""

    def __init__(self):
        self.tokens = [rng.choice([0, 1, rng.randrange(1 << 16)]) for _ in range(CONFIG.slots)]
        self.mask   = rng.randrange(1 << CONFIG.slots)
        self.embed  = rng.randrange(1 << 16), rng.choice([0, rng.randrange(1, 1 << 12)])
        self.play   = rng.randrange(1 << 32), rng.choice([0, rng.randrange(1, 1 << 32), 1])

    @property
    def on(self) -> dict[int, int]:
        """Tokens of the slots that take part."""
        return {slot: token for slot, token in enumerate(self.tokens) if self.mask >> slot & 1}

    @property
    def segments(self) -> list[tuple[int, int, int, int]]:
        """What is played: first beat, beats, whether it is an embedding row, slot."""
        start, beats = self.embed
        rows = [((start + token * beats) % (1 << 32), beats, 1, slot) for slot, token in self.on.items()]
        part = [(*self.play, 0, None)]
        return (rows if beats else []) + (part if self.play[1] else [])

    @property
    def cycles(self) -> int:
        return cycles(CONFIG, tokens=self.on if self.embed[1] else None, part=bool(self.play[1]))


class Harness:
    def __init__(self, dut, *, play_stall=0.0, segment_stall=0.0, busy=0.0):
        self.dut     = dut
        self.held    = False        # no segment is taken
        self.play    = Sink(dut, "play", shape=Play, stall=lambda: rng.random() < play_stall)
        self.segment = Sink(dut, "segment", shape=segment_layout(CONFIG),
                            stall=lambda: self.held or rng.random() < segment_stall)
        self.busy    = busy
        self.idle    = []           # of the machine, in each cycle
        self.taking  = []           # tasks
        dut.go.value = dut.machine_idle.value = 0
        cocotb.start_soon(self._machine())

    async def _machine(self):
        while True:
            await RisingEdge(self.dut.clk)
            self.idle.append(rng.random() >= self.busy)
            self.dut.machine_idle.value = self.idle[-1]

    async def play_step(self, step: Step) -> int:
        """Play it, and return for how many cycles the player was busy."""
        dut = self.dut
        dut.mask.value   = step.mask
        dut.tokens.value = sum(token << 32 * slot for slot, token in enumerate(step.tokens))
        dut.embed_start.value, dut.embed_beats.value = step.embed
        dut.play_start.value, dut.play_count.value   = step.play
        dut.go.value = 1
        await RisingEdge(dut.clk)
        dut.go.value = 0
        self.taking = plays, segments = [cocotb.start_soon(port.get(len(step.segments)))
                                         for port in (self.play, self.segment)]
        await ReadOnly()
        busy = 0
        while int(dut.busy.value):
            busy += 1
            await RisingEdge(dut.clk)
            dut.go.value = not plays.done() and rng.random() < 0.2      # nobody minds
            await ReadOnly()
        await RisingEdge(dut.clk)
        end = -2 - IDLE_CYCLES
        assert self.idle[end - SETTLE_CYCLES:end] == [True] * SETTLE_CYCLES
        assert plays.done(), "A step ended before all was asked for"
        assert segments.done(), "A step ended before all was announced"
        for (start, beats, embed, slot), play, segment in zip(step.segments, await plays, await segments):
            assert (play.start, play.count) == (start, beats)
            assert (segment.embed, segment.beats) == (embed, beats)
            assert segment.slot == slot or not embed
        return busy


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(play_stall=[0, 0.7], segment_stall=[0, 0.9], busy=[0, 0.4])
async def asks_for_rows_and_part(dut, play_stall, segment_stall, busy):
    harness = Harness(dut, play_stall=play_stall, segment_stall=segment_stall, busy=busy)
    await reset(dut)
    for _ in range(25):
        step  = Step()
        taken = await harness.play_step(step)
        if not (play_stall or segment_stall or busy):
            assert taken == step.cycles


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def runs_ahead(dut):
    """All of a step is asked for while its first segment waits."""
    harness = Harness(dut)
    await reset(dut)
    for _ in range(5):
        step = Step()
        step.mask, step.embed, step.play = (1 << CONFIG.slots) - 1, (7, 5), (1000, 10**6)
        harness.held = True
        playing = cocotb.start_soon(harness.play_step(step))
        await ClockCycles(dut.clk, cycles(CONFIG, tokens=step.on))
        plays, segments = harness.taking
        assert plays.done()
        assert not segments.done()
        harness.held = False
        await playing


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(after=[1, 3, 8, 30])
async def resumes_after_reset(dut, after):
    harness = Harness(dut, segment_stall=0.5)
    await reset(dut)
    step    = Step()
    playing = cocotb.start_soon(harness.play_step(step))
    await ClockCycles(dut.clk, after)
    for task in (playing, *harness.taking):
        task.cancel()
    harness.play.clear()
    harness.segment.clear()
    dut.go.value = 0
    await reset(dut)
    for _ in range(3):
        await harness.play_step(Step())
