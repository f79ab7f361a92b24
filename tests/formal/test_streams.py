"""Rules of streams and ports, proved; and that a proof fails where they do not hold."""

import dataclasses
import importlib
import inspect
import pkgutil
import re

import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring

import terngen.hw
from terngen.hw.build import BuildError
from terngen.hw.memory import Queue
from terngen.hw.stream import Relay
from terngen.hw.tape.axi import AxiTape
from terngen.hw.units.table import Tables
from terngen.sim.formal import (
    CASES,
    ELSEWHERE,
    FILLED,
    NARROW,
    Case,
    axi_rules,
    keeps_order,
    prove,
    queue_keeps_order,
)
from terngen.sim.rules import CHIP, GRAY, JudgedSdram, gray_filling, sdram_rules

#: Seconds of each, which the default suite does not have.
SLOW = {"mailbox", "receiver", "SDRAM tape, 142 MHz"}


@pytest.mark.parametrize("case", [
    pytest.param(case, id=case.name, marks=[pytest.mark.long] if case.name in SLOW else []) for case in CASES])
def test_rules(case):
    outcome = prove(case)
    assert outcome["streams"] > 0 or outcome["claim"]
    assert outcome["how"] in ("induction", f"{case.depth} cycles")


def components():
    """All that have a port of streams, of a bus, or of a memory."""
    port  = re.compile(r"(stream\.|Bus|Axi|AxiLite|Sdram)Signature\(|(machine|source)_members\(")
    found = set()
    for module in pkgutil.walk_packages(terngen.hw.__path__, "terngen.hw."):
        for name, each in vars(importlib.import_module(module.name)).items():
            if (isinstance(each, type) and issubclass(each, wiring.Component) and each.__module__ == module.name
                    and port.search(inspect.getsource(each))):
                found.add(name)
    return found


def test_nothing_is_forgotten():
    """Every component with streams is in the list, or it is said why not."""
    proved = {type(case.make()).__name__ for case in CASES}
    assert components() <= proved | ELSEWHERE.keys()
    assert ELSEWHERE.keys() <= components()
    assert not proved & ELSEWHERE.keys()


class Wrong(wiring.Component):
    """A unit with one thing changed on the way."""

    def __init__(self, unit, change):
        self._unit, self._change = unit, change
        super().__init__(dict(unit.signature.members))

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = unit = self._unit
        for path, member, value in self.signature.flatten(self):
            inner = unit
            for name in path:
                inner = inner[name] if isinstance(name, int) else getattr(inner, name)
            if member.flow is wiring.In:
                m.d.comb += inner.eq(value)
            else:
                m.d.comb += value.eq(self._change(m, path, inner))
        return m


def impatient(m, path, value):
    """What is offered is withdrawn when nobody takes it."""
    if path == ("o", "valid"):
        odd = Signal()
        m.d.sync += odd.eq(~odd)
        return value & odd
    return value


def inverted(of):
    return lambda m, path, value: ~value if path == of else value


@pytest.mark.parametrize("case", [
    Case("withdrawn", lambda: Wrong(Relay(2), impatient)),
    Case("another payload", lambda: Wrong(Relay(2), inverted(("o", "payload"))), keeps_order("i", "o", 2), depth=12),
    Case("holds more", lambda: Relay(2), keeps_order("i", "o", 1), depth=12),
    Case("queue holds more", lambda: Queue(shape=1, depth=2), keeps_order("i", "o", 3), depth=12),
    Case("queue is deeper", lambda: Queue(shape=1, depth=4), queue_keeps_order(2), depth=12),
    Case("tables of another order", lambda: Tables(FILLED), gray_filling(FILLED, {
        octet: trits[::-1] for octet, trits in GRAY.items()}), depth=16, steps=2),
    Case("longer bursts", lambda: AxiTape(data_width=8, addr_width=16, burst=8, bursts=2), axi_rules(4), depth=12),
    Case("SDRAM that closes rows later", lambda: JudgedSdram(NARROW, 100_000_000, dataclasses.replace(CHIP, rp=40)),
         sdram_rules, depth=18),
], ids=lambda case: case.name)
def test_what_is_wrong_is_found(case):
    with pytest.raises(BuildError, match="proof did fail"):
        prove(case)


@pytest.mark.long
@pytest.mark.parametrize("changes", [{"rcd": 40}, {"ras": 60}, {"rc": 90}, {"wr": 30}, {"rfc": 90}, {"ras_max": 1500},
                                     {"rrd": 80}, {"refreshes": 120_000}], ids=str)
def test_another_sheet_is_found(changes):
    """A chip that wants more of what it is given is not proved to be content."""
    outcome = prove(Case("SDRAM", lambda: JudgedSdram(NARROW, 100_000_000, dataclasses.replace(CHIP, **changes)),
                         sdram_rules, steps=10, depth=12))
    assert outcome["how"] == "12 cycles"


def test_nothing_claimed():
    with pytest.raises(ValueError, match="Nothing is claimed"):
        prove(Case("wire", lambda: Wrong(Silent(), lambda m, path, value: value)))


class Silent(wiring.Component):
    """It has no stream."""

    i: wiring.In(1)
    o: wiring.Out(1)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(self.i)
        return m
