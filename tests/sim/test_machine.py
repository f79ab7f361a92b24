"""Whole models on the generated gateware: every value inside equals the golden machine's.

The machines are compiled once; the host drives them through the frames of the link, which stalls, as
do the memory's streams.
"""

import dataclasses
import functools
from fractions import Fraction

import numpy as np
import pytest

from terngen.host.device import Device
from terngen.host.errors import DeviceError
from terngen.host.sampling import Sampling
from terngen.hw import estimate
from terngen.hw.contract.config import ArrayVariant, Sites
from terngen.hw.contract.formats import FloatFormat, Multiplier
from terngen.hw.contract.tape import Op, pack_descriptor, walk
from terngen.hw.tape.onchip import OnChipTape
from terngen.sim.bench import Bench, greedy
from terngen.sim.memory import MemoryModel

#: Every stream stalls, at random.
STALLS = {"memory": MemoryModel(latency=17, refresh_period=701, refresh_pause=43, stall=0.15),
          "link_stall": 0.1}


@pytest.fixture
def bench():
    """Makes machines that are checked, and lets go of them."""
    made = []

    def make(tape, *, load=True, **options):
        made.append(Bench(tape, **options))
        if load:
            made[-1].device.load()
        return made[-1]

    yield make
    for each in made:
        each.device.close()


@pytest.mark.parametrize("slots", [1, 3])
def test_gate(make_tape, bench, slots):
    """The model that we ship, 64 tokens back to back without a reset, everything stalling."""
    machine = bench(make_tape("models/fairy-1m", slots=slots), direct=True, seed=slots, **STALLS)
    steps   = greedy(machine.device, 64, seed=1)
    outcome = machine.gate()
    assert outcome["gate"] == "pass"
    assert outcome["mismatches"] == 0
    assert outcome["values_compared"] >= 1_000_000
    assert machine.checked.steps == len(steps) == 64
    # The stalls were there.
    figures = machine.figures(steps)
    assert figures["stall_tape_per_token"] > 1000


@pytest.mark.parametrize("slots", [1, 3])
def test_gate_of_tables(make_tape, bench, slots):
    """The same with the other array; the slots of the second one share block RAMs."""
    tape    = make_tape("models/fairy-1m", variant=ArrayVariant.TABLE, row_lanes=1, slots=slots)
    machine = bench(tape, direct=True, seed=slots, **STALLS)
    greedy(machine.device, 16, seed=1)
    outcome = machine.gate()
    assert outcome["gate"] == "pass"
    assert outcome["mismatches"] == 0
    assert outcome["values_compared"] >= 400_000 * slots


def test_gate_of_processor(make_tape, bench):
    """The machine that is a program, everything stalling; and its memory read back."""
    tape    = make_tape("tests/data/reference/tiny", preset="processor")
    machine = bench(tape, direct=True, seed=9, **STALLS)
    greedy(machine.device, 3, seed=1)
    machine.device.step({0: 5}, head=False)
    made = list(machine.device.decode({0: 3}, 3, reset=[0]))
    assert len(made) == 3
    machine.device.logits({0: 7}, reset=[0])
    assert machine.device.damaged() == []
    assert machine.gate()["mismatches"] == 0


def test_slots_by_turns(make_tape, bench):
    """Slots that pause, begin anew and take part in any combination; heads left out at times."""
    machine = bench(make_tape("tests/data/reference/tiny", slots=3), seed=5, **STALLS)
    rng     = np.random.default_rng(3)
    known   = set()
    for step in range(40):
        slots  = [slot for slot in range(3) if rng.random() < 0.6] or [1]
        reset  = [slot for slot in slots if slot not in known or rng.random() < 0.1]
        known |= set(slots)
        machine.device.step({slot: int(rng.integers(128)) for slot in slots}, reset=reset,
                            head=bool(rng.random() < 0.7))
        if step % 10 == 9:
            machine.device.logits({1: 5}, reset=[1])
    assert machine.gate()["mismatches"] == 0


def test_prefill(make_tape, bench):
    """Slots as consecutive tokens, every value compared; then as sequences of their own again."""
    machine = bench(make_tape("tests/data/reference/tiny", slots=3), seed=6, **STALLS)
    device  = machine.device
    device.step({1: 4, 2: 5}, reset=[1, 2])
    device.prefill([3, 14, 15, 92, 65], state=1)
    device.step({0: 35, 1: 89, 2: 79}, reset=[0])
    device.step({0: 1, 1: 2, 2: 3}, reset=[2], states={0: 1, 1: 1, 2: 1})
    assert machine.gate()["mismatches"] == 0


def test_decode(make_tape, bench):
    """The machine goes on by itself, and gives what it gives when the host makes every step."""
    machine = bench(make_tape("tests/data/reference/tiny", slots=3), seed=7, **STALLS)
    device  = machine.device
    made    = list(device.decode({0: 3, 2: 14}, 6, reset=[0, 2]))
    tokens  = {0: 3, 2: 14}
    for step, expected in enumerate(made):
        device.step(tokens, reset=[0, 2] if step == 0 else [])
        tokens = {slot: int(device.results(slot).tokens[0]) for slot in tokens}
        assert tokens == expected
    assert len(made) == 6
    stop = made[2][0]
    list(device.decode({0: 3, 2: 14}, 6, reset=[0, 2], stop=stop))
    assert machine.gate()["mismatches"] == 0


def samplings(number):
    """How slots choose: one takes the best, the others draw from the lists of the machine, or less of them."""
    return {0: Sampling(temperature=1.3, seed=number), 1: Sampling(),
            2: Sampling(temperature=0.4, top_k=5, seed=number + 1)}


def test_decode_draws(make_tape, bench):
    """Slots draw with temperatures and seeds of their own; the host draws the same, step by step."""
    machine = bench(make_tape("tests/data/reference/tiny", slots=3), seed=8, **STALLS)
    device  = machine.device
    first   = {0: 3, 1: 4, 2: 14}
    again   = samplings(1)
    made    = [*device.decode(first, 6, reset=[0, 1, 2], sampling=again)]
    made   += device.decode(made[-1], 4, sampling=again)
    best    = list(device.decode(first, 10, reset=[0, 1, 2]))
    tokens, choosing = first, samplings(1)
    for step, expected in enumerate(made):
        device.step(tokens, reset=[0, 1, 2] if step == 0 else [])
        tokens = {slot: choosing[slot].choose(device.results(slot)) for slot in tokens}
        assert tokens == expected
    assert [step[1] for step in made] == [step[1] for step in best]
    assert all([step[slot] for step in made] != [step[slot] for step in best] for slot in (0, 2))
    # A slot leaves with what it drew, and others that take part come and go.
    list(device.decode({0: 3, 2: 14}, 8, reset=[0, 2], stop=made[2][0], sampling=samplings(1)))
    list(device.decode({2: 5}, 3, sampling=samplings(7)))
    assert machine.gate()["mismatches"] == 0


def foretold(tape, given, **options):
    """Cycles and beats of steps that take these tokens by slot, as the estimator tells them."""
    parts  = [tape.marks["layers"], tape.marks["head"]]
    played = [fields for mark in parts for _, fields, _ in walk(tape.config, tape.image, mark)]
    model  = tape.model
    steps  = [estimate.step(tape.config, played, active=len(tokens), tokens=tokens, hidden=model["hidden_size"],
                            embedding=(model["embedding_start"], model["embedding_beats"]), start=parts[0].start,
                            count=sum(mark.count for mark in parts), **options) for tokens in given]
    return sum(step.cycles for step in steps), sum(step.beats for step in steps)


@pytest.mark.parametrize("preset, changes", [
    ("onchip", {"beat_bits": 256, "lanes": 4, "top_k": 3}), ("tiny", {"top_k": 15, "path": FloatFormat(5, 7)}),
    ("small", {"sites": Sites.all(Multiplier("lmul")), "slots": 2})], ids=["onchip", "tiny", "lmul"])
def test_cycles_of_drawing(make_tape, bench, preset, changes):
    """Draws take what is foretold, and a run without any takes no cycle more for them."""
    tape    = make_tape("tests/data/reference/tiny", preset, **changes)
    machine = bench(tape, direct=True)
    device  = machine.device
    slots   = range(tape.config.slots)
    first   = {slot: 3 + slot for slot in slots}
    for top_k in (None, 1, 2, tape.config.top_k):
        sampling = {slot: Sampling(temperature=2.0, top_k=top_k, seed=slot) for slot in slots} if top_k else {}
        made     = list(device.decode(first, 4, reset=slots, sampling=sampling))
        [counted] = device.counters
        drawn    = [top_k] * len(sampling)
        assert (counted.cycles, counted.beats) == foretold(tape, [first, *made[:-1]], drawn=drawn)
    assert machine.gate()["mismatches"] == 0


def sequence(device, tokens):
    """All that the host sees of a sequence: candidates, sums and scales."""
    seen = []
    for place, token in enumerate(tokens):
        device.step({0: token}, reset=[0] if place == 0 else [])
        result = device.results(0)
        seen.append((result.tokens.tolist(), result.sums.tolist(), result.scale))
    return seen


@pytest.fixture(scope="module")
def tape(make_tape):
    return make_tape("tests/data/reference/tiny", slots=3)


@pytest.fixture(scope="module")
def answers(tape):
    """What the golden machine gives for :data:`TOKENS`."""
    with Device.open("golden", tape) as device:
        device.load()
        return sequence(device, TOKENS)


TOKENS = [3, 14, 15, 92, 65, 35, 89, 79]


@pytest.fixture
def device(tape):
    with Device.open("sim", tape, seed=9, **STALLS) as device:
        device.load()
        # Not past the link.
        assert device.transport.model.counters.octets_in > len(tape.image)
        yield device


def test_reset_or_not(device, answers):
    """Tokens without a reset between them, and the same with one, give the same."""
    assert sequence(device, TOKENS) == answers
    assert sequence(device, TOKENS) == answers
    device.transport.reset()
    assert sequence(device, TOKENS) == answers


class Cut(Exception):
    """The machine was interrupted."""


class CutModel:
    """A machine whose clock stops when some cycles have passed."""

    def __init__(self, model, cycles):
        self._model = model
        self._end   = model.counters.cycles + cycles

    def __getattr__(self, name):
        return getattr(self._model, name)

    def run(self, octets=b"", *, want=0, max_cycles):
        left = self._end - self._model.counters.cycles
        if left <= 0:
            raise Cut
        return self._model.run(octets, want=want, max_cycles=min(left, max_cycles))


def busy(device):
    """Steps without end."""
    while True:
        device.step({0: 7, 2: 8}, reset=[2])
        device.results(2)


@pytest.mark.parametrize("again", ["reset", "session"])
def test_interrupted(device, answers, again):
    """Wherever it is cut off, by its reset or by a new session of the host, the machine recovers."""
    transport = device.transport
    rng       = np.random.default_rng(11)
    for cycles in np.concatenate([rng.integers(1, 1500, 12), rng.integers(1500, 60_000, 6)]):
        transport.pipe.model = CutModel(transport.model, int(cycles))
        with pytest.raises(Cut):
            busy(device)
        transport.pipe.model = transport.model
        if again == "reset":
            transport.reset()
        else:
            transport._connect()                        # says HELLO on the same link
        device = Device(transport, device.tape)
        device.load(start=len(device.tape.image))       # the memory has kept the tape
        assert sequence(device, TOKENS[:3]) == answers[:3]


@pytest.mark.parametrize("op, change", [
    (Op.SCAN,   {"length": 0}),
    (Op.SCAN,   {"beats": 0}),
    (Op.MATVEC, {"beats": 1}),
    (Op.MATVEC, {"beats": 1000}),
    (Op.MATVEC, {"beats": 0xFFFF_FFFF}),
    (Op.MLGRU,  {"place": 0xF_FFFF}),
])
def test_senseless(tape, device, answers, op, change):
    """A descriptor that makes no sense is a fault of both machines; then a new session has right answers."""
    beat, fields, _ = next(step for step in walk(tape.config, tape.image, tape.marks["layers"])
                           if step[1]["opcode"] is op)
    octets = pack_descriptor(tape.config, **fields | change)
    image  = np.array(tape.image)
    image[beat * tape.config.beat_bytes:][:len(octets)] = np.frombuffer(octets, np.uint8)
    broken = dataclasses.replace(tape, image=image)
    golden = Device.open("golden", broken)
    golden.load()
    device.transport.model.memory_write(0, image.tobytes())
    for each in golden, device:
        with pytest.raises(DeviceError, match=r"machine met a descriptor that makes no sense to it"):
            each.step({0: 3}, reset=[0])
    device.transport.model.memory_write(0, tape.image.tobytes())
    device.transport._connect()
    device = Device(device.transport, tape)
    device.load(start=len(tape.image))
    assert sequence(device, TOKENS[:2]) == answers[:2]


def remember(told, done, total):
    """Progress of a load."""
    told.append((done, total))


def test_interrupted_load(tape, device, answers):
    """A load that was cut off and goes on leaves the whole tape."""
    transport = device.transport
    rng       = np.random.default_rng(12)
    for cycles in rng.integers(1000, 40_000, 5):
        told = [(0, 0)]
        transport.model.memory_write(0, bytes(len(tape.image)))     # nothing is left of the first load
        transport.pipe.model = CutModel(transport.model, int(cycles))
        with pytest.raises(Cut):
            device.load(functools.partial(remember, told))
        transport.pipe.model = transport.model
        transport._connect()
        device = Device(transport, tape)
        device.load(start=told[-1][0])
        assert sequence(device, TOKENS[:2]) == answers[:2]


def test_on_chip(make_tape, bench):
    """A tape in block RAM, loaded through the link."""
    tape    = make_tape("tests/data/reference/tiny", slots=1)
    machine = bench(tape, onchip=len(tape.image) // tape.config.beat_bytes, link_stall=0.1)
    greedy(machine.device, 6, seed=2)
    assert machine.gate()["mismatches"] == 0


def test_comes_with_model(make_tape, bench):
    """A machine that a bitstream makes: nobody loads it, and it goes on by itself, in as many cycles as foretold."""
    tape     = make_tape("tests/data/reference/tiny", "onchip", beat_bits=256, lanes=4)
    machine  = bench(tape, load=False, onchip=tape)
    made     = list(machine.device.decode({0: 3}, 5, reset=[0]))
    [counted] = machine.device.counters
    outcome  = machine.gate()
    assert (outcome["gate"], outcome["mismatches"]) == ("pass", 0)
    assert outcome["values_compared"] > 30_000
    source = estimate.Source(latency=OnChipTape.LATENCY_CYCLES)
    assert (counted.cycles, counted.beats) == foretold(tape, [{0: 3}, *made[:-1]], source=source)


def test_striped(make_tape, bench):
    """A tape over four memories, loaded through the link and their ports; each has random latencies and stalls."""
    tape    = make_tape("tests/data/reference/tiny", slots=1)
    memory  = MemoryModel(channels=4, latency=30, jitter=60, refresh_period=701, refresh_pause=43, stall=0.1)
    machine = bench(tape, memory=memory, link_stall=0.1, seed=4)
    assert machine.simulated.model.counters.loads == len(tape.image) // tape.config.beat_bytes
    assert machine.simulated.model.memory_read(0, len(tape.image)) == tape.image.tobytes()
    greedy(machine.device, 6, seed=2)
    assert machine.gate()["mismatches"] == 0


def test_source_never_waits(make_tape, bench):
    """With a deep queue no pause of the machine reaches a memory that is slower: what it idles is the start of a
    step and what the machine does after the last beat, which takes as long whatever the memory."""
    tape = make_tape("models/fairy-1m", prefetch=8192)
    lost = {}
    for rate in Fraction(1, 2), Fraction(3, 4):
        machine = bench(tape, memory=MemoryModel(rate=rate, latency=10), direct=True)
        machine.start()
        figures = machine.figures(greedy(machine.device, 2, seed=1))
        assert machine.gate()["mismatches"] == 0
        assert figures["peak_bytes_per_cycle"] == 8 * rate
        beats = figures["tape_bytes_per_token"] / tape.config.beat_bytes
        idle  = figures["source_idle_per_token"]
        assert figures["attainment"] == pytest.approx(beats / (beats + idle), rel=1e-3)
        lost[rate] = float(idle / rate)             # in cycles of the machine
    assert 0 < lost[Fraction(3, 4)] < 0.02 * beats
    assert lost[Fraction(1, 2)] == pytest.approx(lost[Fraction(3, 4)], abs=8)


VARIANTS = {
    "tiny":    ("tiny", {}),
    "wide":    ("wide", {"slots": 2}),
    "lmul":    ("small", {"sites": Sites.all(Multiplier("lmul-unbiased"))}),
    "bfloat":  ("small", {"path": FloatFormat(8, 7), "slots": 2}),
    "narrow":  ("small", {"beat_bits": 16, "lanes": 1}),
    "table":   ("small", {"variant": ArrayVariant.TABLE, "row_lanes": 4, "builders": 1, "lanes": 8, "slots": 8}),
    "onchip":  ("onchip", {}),
    "lanes":   ("wide", {"variant": ArrayVariant.TABLE, "lanes": 2}),
    "triples": ("small", {"variant": ArrayVariant.TRIPLES, "lanes": 4, "slots": 2}),
}


@pytest.mark.long
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(make_tape, bench, variant):
    """Other widths, formats and multipliers."""
    preset, changes = VARIANTS[variant]
    machine = bench(make_tape("tests/data/reference/tiny", preset, **changes), direct=True, **STALLS)
    greedy(machine.device, 20, seed=3)
    assert machine.gate()["mismatches"] == 0
