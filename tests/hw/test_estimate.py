"""The estimator counts what the machine counts, to the cycle.

The machines are compiled once; the driver of the host plays them.
"""

import dataclasses
import math
import random
import time
from fractions import Fraction

import numpy as np
import pytest

from terngen.host.compile import default_config
from terngen.host.convert.geometry import PUBLISHED, Geometry
from terngen.host.device import Device
from terngen.host.layout import Layout
from terngen.hw import estimate
from terngen.hw.contract.config import ArrayVariant, Config, Sites
from terngen.hw.contract.formats import FloatFormat, Multiplier
from terngen.hw.contract.tape import walk
from terngen.hw.tape.reader import TapeReader
from terngen.hw.units.vector import Timing
from terngen.sim.memory import MemoryModel

TINY, FAIRY = "tests/data/reference/tiny", "models/fairy-1m"


def source(memory):
    """The timing of a simulated memory."""
    return estimate.Source(**{field.name: getattr(memory, field.name)
                              for field in dataclasses.fields(estimate.Source) if hasattr(memory, field.name)})


class Played:
    """Steps of a simulated machine, and the same by the estimator."""

    def __init__(self, tape, memory):
        self.tape    = tape
        self.source  = source(memory)
        self.device  = Device.open("sim", tape, memory=memory, direct=True)
        self.device.load()
        self._steps  = []       # counters, end in cycles of the simulation, and what is to be estimated
        self._fields = {}

    def _play(self, counters, mark, **given):
        if mark not in self._fields:
            self._fields[mark] = [fields for _, fields, _ in walk(self.tape.config, self.tape.image, mark)]
        end = self.device.transport.model.counters.cycles
        self._steps.append((counters, end, {"descriptors": self._fields[mark], "start": mark.start,
                                            "count": mark.count, **given}))

    def step(self, tokens, *, head=True):
        model, marks = self.tape.model, self.tape.marks
        mark = marks["layers"]
        if head:
            mark = dataclasses.replace(mark, count=mark.count + marks["head"].count)
        self._play(self.device.step(tokens, reset=tokens, head=head), mark, active=len(tokens), tokens=tokens,
                   hidden=model["hidden_size"], embedding=(model["embedding_start"], model["embedding_beats"]))

    def part(self, name, slots):
        self._play(self.device.play(name, slots), self.tape.marks[name], active=len(slots))

    def check(self, period=1):
        """Cycles and beats of every step are equal. How far the clock of a memory is when a step begins
        is not known, but how far it is from one step to the next."""
        counted = [(counters.cycles, counters.beats) for counters, _, _ in self._steps]
        tried   = []
        for phase in range(period):
            steps = [estimate.step(self.tape.config, **given, source=self.source,
                                   phase=end - counters.cycles + phase)
                     for counters, end, given in self._steps]
            tried.append([(step.cycles, step.beats) for step in steps])
        assert counted in tried
        assert len(set(counted)) > 1


@pytest.fixture
def played():
    """Opens simulated machines, and lets go of them."""
    made = []

    def open_(tape, memory=""):
        made.append(Played(tape, MemoryModel.parse(memory)))
        return made[-1]

    yield open_
    for each in made:
        each.device.close()


def at_random(machine, rng, steps, *, parts=True):
    """Steps of any tokens and slots, with the head or without; and parts of the tape."""
    vocab, slots = machine.tape.model["vocab_size"], range(machine.tape.config.slots)
    for _ in range(steps):
        chosen = [slot for slot in slots if rng.random() < 0.6] or [int(rng.integers(len(slots)))]
        machine.step({slot: int(rng.integers(vocab)) for slot in chosen}, head=bool(rng.random() < 0.6))
        if parts and rng.random() < 0.5:
            machine.part("layer.0", chosen)
            machine.part("head", chosen)
    machine.step(dict.fromkeys(slots, 0))
    machine.step(dict.fromkeys(slots, vocab - 1), head=False)


#: Machines that are compiled and played in a moment; the others are for `make test-long`.
SHORT = {"tiny-3", "tiny-processor", "tiny-table", "tiny-triples", "fairy"}
MACHINES = {
    "tiny-3":      (TINY,  {"slots": 3}),
    "tiny-narrow": (TINY,  {"preset": "tiny", "prefetch": 2}),
    "tiny-octets": (TINY,  {"embedding": FloatFormat(4, 3), "slots": 2}),
    "tiny-processor": (TINY, {"preset": "processor"}),
    "tiny-wide":   (TINY,  {"preset": "wide", "slots": 2}),
    "tiny-table":  (TINY,  {"variant": ArrayVariant.TABLE, "builders": 1, "row_lanes": 2, "lanes": 4, "slots": 2}),
    "tiny-triples": (TINY, {"variant": ArrayVariant.TRIPLES, "lanes": 4, "slots": 2}),
    "fairy":       (FAIRY, {}),
}


@pytest.mark.parametrize("memory", [pytest.param("", marks=pytest.mark.long), "latency=37"])
@pytest.mark.parametrize("machine", [name if name in SHORT else pytest.param(name, marks=pytest.mark.long)
                                     for name in MACHINES])
def test_exact(make_tape, played, machine, memory):
    """A memory that never pauses: masks, heads, parts of the tape."""
    name, changes = MACHINES[machine]
    machine = played(make_tape(name, **changes), memory)
    at_random(machine, np.random.default_rng(1), 6)
    machine.check()


@pytest.mark.parametrize("machine", ["tiny-3", pytest.param("tiny-narrow", marks=pytest.mark.long)])
@pytest.mark.parametrize("memory, period", [
    ("rate=3/4", 4),
    ("rate=2/5,latency=90", 5),
    ("refresh_period=61,refresh_pause=9", 61),
    ("row_beats=64,row_pause=7", 1),
    ("rate=9/10,latency=11,row_beats=32,row_pause=5,refresh_period=70,refresh_pause=6", 700),
])
def test_exact_with_pauses(make_tape, played, machine, memory, period):
    """A memory with a clock of its own, rows and refresh."""
    name, changes = MACHINES[machine]
    machine = played(make_tape(name, **changes), memory)
    at_random(machine, np.random.default_rng(2), 6, parts=False)
    machine.check(period)


class BeatByBeat:
    """The source, the prefetch FIFO and the beat of the check, a beat at a time."""

    def __init__(self, config, source, phase):
        self.source, self.phase = source, phase
        self.room    = config.prefetch + 2 + 1
        self.given   = []
        self.taken   = []
        self.wanted  = []       # address of each beat that was asked for, and when it is ready
        self.row     = None

    def request(self, cycle, start, count):
        self.wanted += [(start + beat, cycle + self.source.latency) for beat in range(count)]

    def turn(self, cycle):
        """Whether the memory can give a beat."""
        absolute, rate, period = self.phase + cycle, self.source.rate, self.source.refresh_period
        tick = math.floor(absolute * rate)
        return math.floor((absolute + 1) * rate) > tick and not (
            period and tick % period < self.source.refresh_pause)

    def take(self, count, cycle):
        for _ in range(count):
            beat = len(self.taken)
            address, ready = self.wanted[beat]
            pauses = 0
            if self.source.row_beats and address // self.source.row_beats != self.row:
                self.row = address // self.source.row_beats
                pauses   = self.source.row_pause
            give = max(ready, self.given[-1] + 1 if self.given else 0)
            while not self.turn(give) or pauses:
                pauses -= self.turn(give)
                give   += 1
            if beat >= self.room:
                give = max(give, self.taken[beat - self.room] + 2)
            self.given.append(give)
            self.taken.append(max(cycle, self.taken[-1] + 1 if self.taken else 0,
                                  give + TapeReader.LATENCY_CYCLES))
            cycle = self.taken[-1] + 1
        return self.taken[-1]


@pytest.mark.parametrize("seed", range(100))
def test_runs(seed):
    """Counting in runs gives what counting beats gives, whatever the memory, the FIFO and the pauses."""
    rng    = np.random.default_rng(seed)
    period = int(rng.choice([0, 17, 100]))
    rows   = int(rng.choice([0, 8, 50]))
    values = {"latency": int(rng.integers(1, 40)), "rate": Fraction(int(rng.integers(5, 11)), 10),
              "row_beats": rows, "row_pause": int(rng.integers(7)) if rows else 0,
              "refresh_period": period, "refresh_pause": int(rng.integers(1, 9)) if period else 0}
    config = Config(prefetch=int(rng.choice([2, 4, 16, 128])))
    start  = int(rng.integers(1000))
    pair   = [each(config, estimate.Source(**values), start) for each in (estimate.Tape, BeatByBeat)]
    cycle  = 0
    for _ in range(6):
        runs  = [int(run) for run in rng.integers(1, rng.choice([4, 30, 300]), 8)]
        place = int(rng.integers(5000))
        for tape in pair:
            tape.request(cycle, place, sum(runs))
        for run in runs:
            wanted = cycle + int(rng.choice([0, 1, 2, 50, 400]))
            ends   = [tape.take(run, wanted) for tape in pair]
            assert ends[0] == ends[1]
            cycle  = ends[0] + 1


def test_speed():
    """A second is enough for the largest of the published sizes on the narrowest tape."""
    geometry = Geometry.from_config({"model_type": "hgrn_bit", **PUBLISHED["2.7b"]})
    config   = default_config(geometry, "tiny")
    begin    = time.process_time()
    layout   = Layout(geometry, config)
    layers, head = layout.marks["layers"], layout.marks["head"]
    step = estimate.step(config, [item.fields for name in ("layers", "head") for item in layout.items[name]],
                         active=1, tokens={0: 31_999}, hidden=2560, embedding=(0, layout.row_beats),
                         start=layers.start, count=layers.count + head.count)
    assert time.process_time() - begin < 1
    assert step.beats == layers.count + head.count + layout.row_beats > 250_000_000
    assert 0.99 < step.beats / step.cycles < 1


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8))
def test_exact_at_random(make_tape, played, seed):
    """Machines and memories of any kind."""
    rng       = np.random.default_rng(seed)
    beat_bits = int(rng.choice([16, 32, 64, 128, 256]))
    variant   = list(ArrayVariant)[int(rng.integers(3))]
    limit     = beat_bits // 8 // (2 if variant is ArrayVariant.TREE else 1)
    row_lanes = int(2 ** rng.integers(min(4, limit.bit_length())))
    machine   = played(make_tape(
        TINY, variant=variant, beat_bits=beat_bits, row_lanes=row_lanes, lanes=int(2 ** rng.integers(4)),
        slots=int(rng.integers(1, 7)), prefetch=int(2 ** rng.integers(1, 9))),
        str(rng.choice(["", "latency=60", "rate=3/4,latency=20", "row_beats=32,row_pause=9"])))
    at_random(machine, rng, 8, parts=not machine.source.row_beats)
    machine.check(4)


def test_latencies_found_once():
    """Machines that share latencies have them from one of them; their own are the same."""
    rng = random.Random(1)
    for _ in range(60):
        config = Config(
            variant=rng.choice(list(ArrayVariant)), beat_bits=rng.choice([16, 256]), row_lanes=rng.choice([1, 2]),
            lanes=rng.choice([1, 8]), slots=rng.choice([1, 2, 16]), hidden=64, wide=rng.choice([64, 1 << 10, 1 << 15]),
            rows=rng.choice([64, 4096]), state=rng.choice([64, 1 << 16]), prefetch=rng.choice([2, 64]),
            top_k=rng.choice([1, 8]), path=rng.choice([FloatFormat(6, 11), FloatFormat(6, 7)]),
            sites=rng.choice([Sites(), Sites.all(Multiplier("lmul"))]))
        assert estimate._timing(config) == Timing.of(config)
