"""The estimator counts what the machine counts, to the cycle.

The machines are compiled once; the driver of the host plays them.
"""

import dataclasses

import numpy as np
import pytest

from terngen.host.compile import compile_tape, default_config
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.device import Device
from terngen.hw import estimate
from terngen.hw.contract.config import ArrayVariant
from terngen.hw.contract.tape import Tape, walk
from terngen.sim.memory import MemoryModel

TINY, FAIRY = "tests/data/reference/tiny", "models/fairy-1m"


@pytest.fixture(scope="module")
def make_tape(root, tmp_path_factory):
    """Makes the tape of a checkpoint for a machine, once."""
    made = {}

    def make(name, preset="small", **changes):
        key = repr((name, preset, changes))
        if key not in made:
            source = Checkpoint.open(root / name)
            path   = tmp_path_factory.mktemp("tapes") / "model.tape"
            compile_tape(source, default_config(source.geometry, preset, **changes), path)
            made[key] = Tape.open(path)
        return made[key]

    return make


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


MACHINES = {
    "tiny-3":      (TINY,  {"slots": 3}),
    "tiny-narrow": (TINY,  {"preset": "tiny", "prefetch": 2}),
    "tiny-wide":   (TINY,  {"preset": "wide", "slots": 2}),
    "tiny-table":  (TINY,  {"variant": ArrayVariant.TABLE, "builders": 1, "row_lanes": 2, "lanes": 4, "slots": 2}),
    "fairy":       (FAIRY, {}),
}


@pytest.mark.parametrize("memory", ["", "latency=37"])
@pytest.mark.parametrize("machine", MACHINES)
def test_exact(make_tape, played, machine, memory):
    """A memory that never pauses: masks, heads, parts of the tape."""
    name, changes = MACHINES[machine]
    machine = played(make_tape(name, **changes), memory)
    at_random(machine, np.random.default_rng(1), 6)
    machine.check()


@pytest.mark.parametrize("machine", ["tiny-3", "tiny-narrow"])
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
