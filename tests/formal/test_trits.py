"""Packed trits: the gateware of each array makes of an octet the trits that the contract says, for all octets that
are codes. That the host packs and unpacks as the contract says is tried with every vector in
``tests/hw/contract/test_trits.py``; how tables are filled, whose addresses octets are, is among the rules of streams.
"""

import pytest
from amaranth import Cat, Const, Module, Signal
from amaranth.hdl import Assume, Fragment
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from terngen.hw.build import BuildError
from terngen.hw.contract.trits import TRIPLES, TRITS_PER_BYTE, TritCode, trit_table, trit_valid
from terngen.hw.units import triples
from terngen.hw.units.tree import _decode_pairs

#: Two activations that a mode of the adder takes, and how.
PAIRS = ((1, 1), (1, -1), (0, 1), (1, 0))


class Pairs(wiring.Component):
    """The decoder of an array of adders: each trit as it is meant, in two bits."""

    LATENCY = 1

    octet: In(8)
    o:     Out(2 * TRITS_PER_BYTE)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(Cat(Cat(nz, nz & neg) for nz, neg in _decode_pairs(self.octet)))
        return m


class Octet(wiring.Component):
    """The decoder of an array of small tables: what its registers select, as trits in two bits."""

    LATENCY = 2

    octet: In(8)
    o:     Out(2 * TRITS_PER_BYTE)

    def elaborate(self, platform):
        m, inside = Module(), Module()
        never     = triples._Fill(*(Const(0, width) for width in (1, 2, 1, 1, ceil_log2(triples.ENTRIES), 1)))
        triples.Triples._octet(inside, platform, self.octet, [(Const(0, 8), Const(0, 8))], never, "it")
        fragment  = Fragment.get(inside, None)
        m.submodules.inside = fragment
        place, mode, alone, sign, back = (register(fragment, f"{name}_it") for name in (
            "place", "mode", "alone", "sign", "back"))
        three, pair = Signal(6), Signal(4)
        with m.Switch(Cat(place, sign)):
            for index, trits in enumerate(TRIPLES):
                for negative in range(2):
                    with m.Case(index | negative << len(place)):
                        m.d.comb += three.eq(packed((1 - 2 * negative) * trit for trit in trits or ()))
        with m.Switch(Cat(mode, alone, sign ^ back)):
            for index, trits in enumerate(PAIRS):
                for negative in range(2):
                    with m.Case(index | negative << 3):
                        m.d.comb += pair.eq(packed((1 - 2 * negative) * trit for trit in trits))
        m.d.comb += self.o.eq(Cat(three, pair))
        return m


def register(fragment, name):
    """A register by its name."""
    return next(signal for statements in fragment.statements.values() for statement in statements
                for signal in statement._lhs_signals() if signal.name == name)


def packed(trits):
    """Trits in two bits each, plus as 1, minus as 3."""
    return sum((int(trit) & 3) << 2 * place for place, trit in enumerate(trits))


def swapped(code, one, other):
    """The trits of each octet, but for two."""
    trits = trit_table(code).copy()
    trits[[one, other]] = trits[[other, one]]
    return trits


def contract(code, trits=None):
    """Trits of an octet; of octets that are codes."""
    def specification(m: Module, octet):
        told = Signal(2 * TRITS_PER_BYTE)
        with m.Switch(octet):
            for value, each in enumerate(trit_table(code) if trits is None else trits):
                with m.Case(value):
                    m.d.comb += told.eq(packed(each)) if trit_valid(code)[value] else Assume(0)
        return told
    return specification


def test_pairs(prove):
    prove(Pairs(), contract(TritCode.PAIRS))


def test_triples(prove):
    prove(Octet(), contract(TritCode.TRIPLES))


def test_difference_is_found(prove):
    with pytest.raises(BuildError, match="proof did fail"):
        prove(Pairs(), contract(TritCode.PAIRS, swapped(TritCode.PAIRS, 0b00_111_110, 0b00_111_111)))
    with pytest.raises(BuildError, match="proof did fail"):
        prove(Octet(), contract(TritCode.TRIPLES, swapped(TritCode.TRIPLES, 0b0_00_0_0001, 0b0_00_1_0001)))
