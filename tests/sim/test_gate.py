"""The gate finds every value that is not that of the golden machine."""

import dataclasses
import re
from fractions import Fraction

import numpy as np
import pytest

from terngen.host.compile import compile_tape, default_config
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.device import Device
from terngen.host.errors import GateError
from terngen.hw.contract import regs
from terngen.hw.contract.regs import Reg
from terngen.hw.contract.tape import Op, Tape, walk
from terngen.hw.contract.trace import ELEMENTS, SCALARS, event_layout
from terngen.sim.bench import Bench, greedy
from terngen.sim.device import GoldenTransport
from terngen.sim.gate import CheckedTransport
from terngen.sim.memory import MemoryModel

PAIRS = [(op, name) for op, names in ELEMENTS.items() for name in names]
#: The root is taken by SQUARE only, and not by each.
SCALAR_PAIRS = [(op, name) for op, names in SCALARS.items() for name in names]


class Traced(GoldenTransport):
    """The golden machine, which shows its inside as the gateware does; `spoil` may change what it shows,
    and `lie` what it answers."""

    def __init__(self, config, *, spoil=lambda rows: rows, lie=None):
        super().__init__(config)
        self.spoil, self.lie = spoil, lie or {}
        self.on      = False
        self.closed  = 0
        self._log    = []
        # What means nothing may be anything.
        elements     = ("acc", "value", "state", "weighted", "code")
        self._unset  = {name: np.full(config.lanes, 0xDEAD) if name in elements else 0xDEAD
                        for name, _ in event_layout(config)}
        self.machine.observe = self._log.append

    def trace(self, on=True):
        self.on = on

    def rows(self):
        """One event for each lane group, then one with the scalars, for each slot."""
        lanes, rows = self.config.lanes, []
        for event in self._log:
            for place, slot in enumerate(event.slots.tolist()):
                length = next(iter(event.elements.values())).shape[1]
                for group in range(self.config.groups(length)):
                    row = self._blank(event.op, slot, group, 0)
                    for name, values in event.elements.items():
                        row[name] = values[place, group * lanes:(group + 1) * lanes]
                    rows.append(row)
                row = self._blank(event.op, slot, 0, 1)
                row.update({name: int(values[place]) for name, values in event.scalars.items()})
                rows.append(row)
        self._log.clear()
        return rows

    def _blank(self, op, slot, group, scalars):
        return self._unset | {"op": op.value, "slot": slot, "group": group, "scalars": scalars}

    def events(self):
        rows = self.spoil(self.rows())
        return {name: np.array([row[name] for row in rows]) if rows else np.zeros(0, np.int64)
                for name in self._unset}

    def read(self, address, octets, *, timeout=None):
        words = np.frombuffer(super().read(address, octets), "<u4").copy()
        for place, change in self.lie.items():
            if address <= place < address + octets:
                words[(place - address) // 4] ^= change
        return words.tobytes()

    def close(self):
        self.closed += 1


@pytest.fixture(scope="module")
def tape(root, tmp_path_factory):
    model = Checkpoint.open(root / "tests" / "data" / "reference" / "tiny")
    path  = tmp_path_factory.mktemp("tape") / "tiny.tape"
    compile_tape(model, default_config(model.geometry, slots=3), path)
    return Tape.open(path)


@pytest.fixture
def checked(tape):
    """A device that is checked, with its tape; a step on slots 0 and 2 has been made."""
    def checked(**faults):
        transport = CheckedTransport(Traced(tape.config))
        device    = Device(transport, tape)
        device.load()
        device.step({0: 5, 2: 9}, reset=[0, 2])
        transport.device.__dict__.update(faults)
        return transport, device
    return checked


def descriptor(tape, op, number=0):
    """Beat of the descriptor with an operation."""
    layers, head = tape.marks["layers"], tape.marks["head"]
    whole = dataclasses.replace(layers, count=layers.count + head.count)
    return [beat for beat, fields, _ in walk(tape.config, tape.image, whole) if fields["opcode"] is op][number]


def flip(op, name, *, slot, element=None, lanes=2):
    """Changes one bit of one value, in the first operation of its kind."""
    def spoil(rows):
        for row in rows:
            found = row["op"] == op.value and row["slot"] == slot and row["scalars"] == (element is None)
            if not found or (element is not None and row["group"] != element // lanes):
                continue
            if element is None:
                row[name] ^= 1
            else:
                row[name] = row[name].copy()
                row[name][element % lanes] ^= 1
            break
        return rows
    return spoil


# Equal machines.

def test_equal(checked, tape):
    """Every value is compared, and none differs."""
    transport, device = checked()
    before = transport.values_compared
    device.step({0: 5, 1: 7, 2: 9})
    device.results(1)
    assert (transport.mismatches, transport.first, transport.steps) == (0, None, 2)
    # By hand: for each of three slots the embedding row, and what each operation of the two layers and
    # of the head shows, with hidden and state 64, inner 256.
    layer = (3 * (64 + 2) + 3 * 64          # SCAN and QUANTISE f, g, i; the first layer has one SCAN more
             + (64 + 1)                     # SQUARE
             + (2 * 64 + 1)                 # GATE
             + (3 * 64 + 1)                 # STORE
             + (4 * 64 + 3) + 64 + (64 + 1)     # MLGRU, QUANTISE o, SQUARE
             + (3 * 64 + 3) + 64 + (64 + 1)     # RESIDUAL, QUANTISE p, SQUARE
             + (2 * 256 + 1)                # SILU
             + (3 * 256 + 3) + 256 + (256 + 1)  # GLU, QUANTISE d, SQUARE
             + (3 * 64 + 3))                # RESIDUAL
    head  = 64 + (64 + 1) + (128 + 1)       # QUANTISE, SQUARE, LOGITS
    values = 3 * (64 + 2 * layer - (64 + 2) + head)
    words  = 2 + (1 + 2 * tape.config.top_k)    # WAIT and BEATS, not the times; a result
    assert transport.values_compared - before == values + words


def test_only_what_was_traced(tape):
    """What a device collected before is none of the gate's business."""
    device = Traced(tape.config)
    device.machine.observe(device.machine)      # nonsense
    device.rows = lambda: device._log.clear() or []
    CheckedTransport(device)
    assert device.on


def test_time_is_not_compared(checked):
    """The golden machine has no cycles and no stalls."""
    _, device = checked(lie={register.value: 12345 for register in
                             (Reg.CYCLES, Reg.STALL_TAPE, Reg.STALL_ARRAY, Reg.STALL_VECTOR, Reg.STATUS)})
    counters = device.step({0: 5})
    assert (counters.cycles, counters.stall_tape, counters.stall_array, counters.stall_vector) == (12345,) * 4


# Values that differ.

@pytest.mark.parametrize("op, name", PAIRS, ids=lambda value: getattr(value, "name", value))
def test_one_bit_of_one_element(checked, tape, op, name):
    """In every field of every operation; operation, descriptor, slot, element and both values are told."""
    transport, device = checked(spoil=flip(op, name, slot=2, element=37))
    with pytest.raises(GateError) as caught:
        device.step({0: 5, 2: 9})
    first = transport.first
    assert transport.mismatches == 1
    assert (first.step, first.op, first.slot, first.element, first.field) == (1, op.name, 2, 37, name)
    assert first.beat == (-1 if op is Op.EMBED else descriptor(tape, op))
    assert first.device == first.golden ^ 1
    what = "embedding row" if op is Op.EMBED else r"\d+ (elements|rows).*"
    assert re.fullmatch(
        rf"Machine and golden machine must compute the same numbers, but 1 of {transport.values_compared} differ, "
        rf"the first in step 1, {op.name} at beat {first.beat} \({what}\), slot 2, element 37, field {name}: golden "
        rf"machine {first.golden}, device {first.device}", str(caught.value))
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("op, name", SCALAR_PAIRS, ids=lambda value: getattr(value, "name", value))
def test_one_bit_of_one_scalar(checked, tape, op, name):
    transport, device = checked(spoil=flip(op, name, slot=0))
    with pytest.raises(GateError, match=rf"step 1, {op.name} at beat \d+ .* slot 0, element -1, field {name}: "):
        device.step({0: 5, 2: 9})
    assert transport.first.beat == descriptor(tape, op)
    assert transport.mismatches == 1


def test_first_of_many(checked, tape):
    """Differences are counted, the first is named, and a later step does not take its place."""
    def spoil(rows):
        for row in rows:
            if row["op"] in (Op.GLU.value, Op.RESIDUAL.value) and not row["scalars"]:
                row["value"] = row["value"] + 1
        return rows

    transport, device = checked(spoil=spoil)
    for step in (1, 2):
        with pytest.raises(GateError, match=rf"but {step * 2 * 2 * (256 + 2 * 64)} of \d+ differ, the first in step 1, "
                                            rf"RESIDUAL at beat {descriptor(tape, Op.RESIDUAL)} "):
            device.step({0: 5, 2: 9})
    assert transport.steps == 3


# Events that are others.

def at(op, slot, change):
    """Changes the list of events where the first of an operation and slot stands."""
    def spoil(rows):
        place = next(place for place, row in enumerate(rows) if row["op"] == op.value and row["slot"] == slot)
        change(rows, place)
        return rows
    return spoil


def swap(rows, place):
    rows[place], rows[place + 1] = rows[place + 1], rows[place]


@pytest.mark.parametrize("op, slot, change, element, golden, device", [
    (Op.SILU, 2, lambda rows, place: rows.pop(place), 0, "slot 2, group 0", "slot 2, group 1"),
    (Op.SILU, 2, lambda rows, place: rows.pop(place + 5), 10, "slot 2, group 5", "slot 2, group 6"),
    (Op.GATE, 0, lambda rows, place: rows.insert(place, rows[place]), 2, "slot 0, group 1", "slot 0, group 0"),
    (Op.GATE, 0, swap, 0, "slot 0, group 0", "slot 0, group 1"),
    (Op.GLU, 0, lambda rows, place: rows.pop(place + 128), 0, "slot 0, scalars", "slot 2, group 0"),
    (Op.STORE, 2, lambda rows, place: rows[place].update(slot=1), 0, "slot 2, group 0", "slot 1, group 0"),
])
def test_another_order(checked, tape, op, slot, change, element, golden, device):
    transport, opened = checked(spoil=at(op, slot, change))
    with pytest.raises(GateError, match=rf"{op.name} at beat {descriptor(tape, op)} .*, field order: golden machine "
                                        rf"operation {op.value}, {golden}, device operation {op.value}, {device}$"):
        opened.step({0: 5, 2: 9})
    assert transport.first.element == element
    assert transport.first.slot == slot


def test_another_operation(checked, tape):
    transport, device = checked(spoil=at(Op.MLGRU, 0, lambda rows, place: rows[place].update(op=Op.GLU.value)))
    with pytest.raises(GateError, match=rf"MLGRU at beat {descriptor(tape, Op.MLGRU)} .* golden machine operation 8, "
                                        r"slot 0, group 0, device operation 9, slot 0, group 0$"):
        device.step({0: 5, 2: 9})


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_too_few_events(checked, keep):
    transport, device = checked(spoil=lambda rows: rows[:keep])
    with pytest.raises(GateError, match=r"field order: golden machine operation \d+, .*, device nothing$"):
        device.step({0: 5, 2: 9})
    assert transport.first.op == {0: "EMBED", 100: "SCAN", -1: "LOGITS"}[keep]


def test_too_many_events(checked):
    transport, device = checked(spoil=lambda rows: [*rows, rows[-1]])
    with pytest.raises(GateError, match=r"step 1, end at beat -1 \(no more events\), .* golden machine nothing, device "
                                        r"operation 11, slot 2, scalars$"):
        device.step({0: 5, 2: 9})


# Registers that differ.

@pytest.mark.parametrize("address, call", [
    (Reg.BEATS.value,             lambda device: device.step({0: 5})),
    (Reg.WAIT.value,              lambda device: device.step({0: 5})),
    (regs.result_address(2, 0),   lambda device: device.results(2)),
    (regs.result_address(2, 1),   lambda device: device.results(2)),
    (regs.result_address(2, 16),  lambda device: device.results(2)),
    (regs.SUMS_BASE + 4 * 5,      lambda device: device.logits({0: 5})),
])
def test_register(checked, address, call):
    transport, device = checked(lie={address: 2})
    with pytest.raises(GateError, match=rf"step \d, register {address:#x}: golden machine \d+, device \d+$"):
        call(device)
    assert transport.mismatches == 1
    assert transport.first.device == transport.first.golden ^ 2


# The bench.

class Counted(Traced):
    """As a simulated machine, which counts its cycles, behind a memory that is slower than it."""

    memory = MemoryModel(rate=Fraction(3, 4))

    class model:
        class counters:
            cycles      = 0
            source_idle = 0


@pytest.fixture
def bench(tape, monkeypatch):
    def bench(**faults):
        monkeypatch.setattr("terngen.sim.bench.SimTransport.open", lambda config, **options: Counted(config, **faults))
        return Bench(tape)
    return bench


def test_bench(bench, tape):
    with bench(lie={Reg.CYCLES.value: 10_000, Reg.STALL_ARRAY.value: 600}) as machine:
        machine.device.load()
        machine.start()
        steps = greedy(machine.device, 4, seed=1)
        machine.simulated.model.counters.cycles = 40_000
        machine.simulated.model.counters.source_idle = 400
        figures = {**machine.gate(), **machine.figures(steps)}
    assert machine.simulated.closed == 1
    beats = 3 * tape.model["embedding_beats"] + tape.marks["layers"].count + tape.marks["head"].count
    assert figures["gate"] == "pass"
    assert figures["mismatches"] == 0
    assert figures["values_compared"] > 4 * 3 * 7000
    assert figures["slots"] == 3
    assert figures["tokens"] == 4
    assert figures["cycles_per_token"] == 10_000
    assert figures["tape_bytes_per_token"] == 8 * beats
    assert figures["peak_bytes_per_cycle"] == 6
    assert figures["attainment"] == pytest.approx(beats / 7_500)
    assert figures["source_idle_per_token"] == 100
    assert figures["stall_array_per_token"] == 600
    assert figures["stall_tape_per_token"] == 0
    assert figures["sim_cycles_per_second"] > 0


def test_bench_fails(bench):
    with bench(spoil=flip(Op.GLU, "acc", slot=1, element=3)) as machine:
        machine.device.load()
        with pytest.raises(GateError):
            greedy(machine.device, 4, seed=1)
        outcome = machine.gate()
    assert outcome["gate"] == "fail"
    assert outcome["mismatches"] == 1
    assert outcome["first"].keys() >= {"beat", "op", "descriptor", "slot", "element", "field", "golden", "device"}
    assert (outcome["first"]["op"], outcome["first"]["element"]) == ("GLU", 3)
    assert not {"cycles_per_token", "attainment", "sim_cycles_per_second"} & outcome.keys()


def test_greedy(bench, tape):
    """Each slot goes on with its own best token."""
    with bench() as machine:
        machine.device.load()
        greedy(machine.device, 3, seed=7)
        after = [machine.device.results(slot).tokens[0] for slot in range(3)]
        tokens = dict(enumerate(np.random.default_rng(7).integers(0, 128, 3).tolist()))
        for step in range(3):
            machine.device.step(tokens, reset=range(3) if step == 0 else ())
            tokens = {slot: int(machine.device.results(slot).tokens[0]) for slot in range(3)}
        assert list(tokens.values()) == after
