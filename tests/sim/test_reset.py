"""A reset, and a new session, while any automaton of the machine is in any of its states; afterwards all is well."""

import itertools
import random

import pytest
from amaranth.hdl import Fragment

from terngen.host.device import Device
from terngen.host.errors import DeviceError, LinkError
from terngen.host.exercises import exercises
from terngen.host.sampling import Sampling
from terngen.hw.contract import regs, wire
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Mark
from terngen.hw.contract.wire import Frame, Type
from terngen.hw.top import Machine
from terngen.sim.compiled import Waveform
from terngen.sim.device import SimTransport
from terngen.sim.formal import state_names

CONFIG = Config(hidden=64, wide=64, rows=64, state=128, slots=2)
#: Cycles that are looked at, and units of time of each in the waveform.
WINDOW, UNITS = 60_000, 10


def automata(component):
    """The registers of all automata in a design, by their place, and the names of their states."""
    found = {}

    def walk(fragment, path):
        for statements in fragment.statements.values():
            for statement in statements:
                for signal in statement._lhs_signals():
                    if signal.decoder is not None and signal.name.endswith("_state"):
                        found[".".join([*path, signal.name])] = state_names(signal)
        for part, name, _ in fragment.subfragments:
            walk(part, [*path, str(name)])

    walk(Fragment.get(component, None), [])
    return found


def changes(path, wanted):
    """Of some signals in a waveform, by their place: ``(time, value)`` of each change."""
    scopes, codes, found, time = [], {}, {name: [] for name in wanted}, 0
    with open(path) as file:
        for line in file:
            words = line.split()
            if not words:
                continue
            if words[0] == "$scope":
                scopes.append(words[2].partition("$")[0])       # Verilog numbers a part that is called as a signal is
            elif words[0] == "$upscope":
                scopes.pop()
            elif words[0] == "$var":
                place = ".".join([*scopes, words[4]])
                for name in wanted:
                    if place.endswith(f".{name}"):
                        codes.setdefault(words[3], name)
            elif line[0] == "#":
                time = int(line[1:])
            elif line[0] in "01" and (name := codes.get(line[1:].strip())):
                found[name].append((time, int(line[0])))
            elif line[0] == "b" and (name := codes.get(words[1])):
                found[name].append((time, int(words[0][1:].replace("x", "0"), 2)))
    return found


def drawn():
    """One slot draws, the other takes the best."""
    return {0: Sampling(temperature=0.8, seed=3)}


class Cut(Exception):
    """The reset comes now."""


def session(transport, tape):
    """Something of everything: reads and writes, operations, tokens in a row, drawn and best ones, the memory read
    back, a request that is refused, and a descriptor that makes no sense."""
    device = Device(transport, tape)
    device.damaged()
    for name in ("scan", "mlgru"):
        device.sums_after([tape.marks[name]], {0: 1, 1: 2}, tape_rows(tape))
    list(device.decode({0: 1, 1: 2}, 2, reset=[0, 1], sampling=drawn()))
    foreign = Frame(type=Type.WRITE, generation=(transport._generation + 1) % 256, length=8, payload=bytes(8))
    transport.pipe.send(wire.encode_frame(foreign))
    device.results(0)
    with pytest.raises(DeviceError, match="met a descriptor that makes no sense"):
        device._run(Mark(0, 64), [0], [], embed=False)


def tape_rows(tape):
    return tape.model["vocab_size"] // 2


def seen(device, tape):
    """What is to be the same."""
    found = []
    for name in ("square", "mlgru"):
        found.append(device.sums_after([tape.marks[name]], {0: 3, 1: 4}, tape_rows(tape)).tolist())
        found += [(result.tokens.tolist(), result.sums.tolist(), result.scale)
                  for result in (device.results(slot) for slot in (0, 1))]
    return [*found, list(device.decode({0: 5, 1: 6}, 3, reset=[0, 1], sampling=drawn()))]


@pytest.mark.long
def test_in_every_state(tmp_path, monkeypatch):
    monkeypatch.setattr(random.SystemRandom, "randrange", lambda self, limit: 77 % limit)
    tape      = exercises(CONFIG)
    path      = tmp_path / "session.vcd"
    transport = SimTransport(CONFIG, direct=True, waveform=Waveform(path, 0, WINDOW))
    transport.write(regs.TAPE_BASE, tape.image.tobytes())
    transport.reset()
    model, begin = transport.model, transport.model.counters.cycles
    session(transport, tape)
    length = model.counters.cycles - begin
    assert begin + length < WINDOW
    with Device.open("golden", tape) as golden:
        golden.load()
        expected = seen(golden, tape)

    states = automata(Machine(CONFIG))
    assert (len(states), sum(map(len, states.values()))) == (10, 70)        # as docs/trust.md says
    cuts = {}
    for name, history in changes(path, states).items():
        # A state lasts from one change to the next; the reset comes in its last cycle.
        for (_, value), (until, _) in zip(history, [*history[1:], (None, None)], strict=True):
            cycle = begin + length - 1 if until is None else until // UNITS
            if begin < cycle <= begin + length:
                cuts.setdefault((name, states[name][value]), cycle - begin)
    everything = {(name, state) for name, names in states.items() for state in names.values()}
    assert everything == cuts.keys()

    run = model.run
    for (place, cycle), again in itertools.product(sorted(cuts.items()), (transport.reset, transport.abort)):
        transport.reset()
        start = model.counters.cycles

        def until(octets=b"", *, want=0, max_cycles, start=start, cycle=cycle):
            end = start + cycle
            got = run(octets, want=want, max_cycles=min(max_cycles, end - model.counters.cycles))
            if model.counters.cycles == end:
                raise Cut
            return got

        monkeypatch.setattr(model, "run", until)
        with pytest.raises((Cut, LinkError)):           # who waits for the rest of a text meets a session that is over
            session(transport, tape)
        monkeypatch.setattr(model, "run", run)
        assert model.counters.cycles - start == cycle
        again()
        device = Device(transport, tape)
        assert device.damaged() == []
        assert seen(device, tape) == expected, (place, again)
    transport.close()
