"""Rules of single units, for :mod:`~terngen.sim.formal`: what is assumed of who is on the other side, what is claimed,
and what induction has to know of the registers inside."""

from collections.abc import Mapping, Sequence
from typing import Any

from amaranth import Array, Module, Mux, Signal
from amaranth.hdl import Assert, Assume

from terngen.hw.contract.config import Config
from terngen.hw.contract.trits import GRAY_FIRST, GRAY_STEPS, TRITS_PER_BYTE, TritCode, trit_table
from terngen.hw.stream import delay
from terngen.hw.units.activations import READ_LATENCY
from terngen.hw.units.table import BIAS, ENTRIES

__all__ = ["GRAY", "gray_filling"]

#: Trits of each octet of a table, by what the contract says.
GRAY = {octet: trit_table(TritCode.GRAY)[octet].tolist() for octet in GRAY_STEPS}
#: Place in the walk where an entry is zero; in the next ones activations are subtracted, until it is that of all minus.
ZERO = GRAY_FIRST - TRITS_PER_BYTE


def _changes(trits: Mapping[int, Sequence[int]]) -> dict[int, tuple[int, int]]:
    """By place in the walk: which digit is another one in the next entry, and whether it is less."""
    entries = {ZERO + count: [-1] * count + [0] * (TRITS_PER_BYTE - count) for count in range(TRITS_PER_BYTE)}
    entries |= {number: list(trits[GRAY_STEPS[number]]) for number in range(GRAY_FIRST, len(GRAY_STEPS))}
    changes = {}
    for number in range(ZERO, len(GRAY_STEPS) - 1):
        [(digit, change)] = [(digit, new - old) for digit, (old, new)
                             in enumerate(zip(entries[number], entries[number + 1])) if new != old]
        changes[number] = digit, int(change < 0)
    return changes


def gray_filling(config: Config, trits: Mapping[int, Sequence[int]] = GRAY) -> Any:
    """Tables are filled one after the other, each octet of each, in the bank that is not read. The first entry is zero;
    each is the one before, more or less the activation that makes the difference between their octets. So each is the
    sum that its octet says.

    One octet is watched, whichever, so it stands for all.

    Parameters
    ----------
    config
        Has one slot, and fills one table after the other.
    trits
        Of each octet. From one to the next, in the order of the walk, one of them changes, by one.
    """
    assert config.slots == config.table_builders == 1
    blocks, sides = config.blocks(config.wide), config.lane_bytes

    def more(m: Module, unit: Any, claim: Any) -> None:
        # There are codes until the bank is given back; blocks come in order, and the last one ends any matrix.
        rewound, was_ready, block = Signal(init=1), Signal(), Signal(range(blocks))
        m.d.sync += [rewound.eq(unit.take & unit.rewind), was_ready.eq(unit.ready)]
        with m.If(unit.take):
            m.d.sync += block.eq(Mux(unit.rewind, 0, block + 1))
        m.d.comb += [
            Assume(unit.loaded | ~unit.take), Assume(~unit.take | unit.rewind | (block != blocks - 1)),
            Assume(rewound | ~was_ready | unit.ready), Assert(claim.inner("block") == block),
        ]

        # Where the walk is. It stands still at one of two places: full, and without codes.
        walk, turn, read = claim.inner("walk"), claim.inner("turn"), claim.inner("read")
        number, side     = Signal(range(len(GRAY_STEPS))), Signal(range(sides))
        m.d.comb += number.eq(_place(walk))
        with m.Switch(turn):
            for place in range(sides):
                with m.Case(1 << place):
                    m.d.comb += side.eq(place)
        m.d.comb += [
            Assert(walk != 0), Assert(turn != 0), Assert((turn & (turn - 1)) == 0),
            Assert(~unit.loaded | (number == 0) & turn[0]),
            Assert(unit.ready | (number == 1) & turn[0] & ~unit.loaded), Assert(claim.inner("fill") != read),
        ]
        for bit in range(len(side)):
            ring = claim.inner(f"side_{bit}")
            m.d.comb += [Assert(ring[place] == (side + place)[bit]) for place in range(len(ring))]

        # What comes to the entry, and the entry.
        entry, asked = claim.inner("entry_0_0"), delay(m, unit.address, READ_LATENCY, name="asked")
        digit, minus, adds = Signal(range(TRITS_PER_BYTE)), Signal(), Signal()
        with m.Switch(number):
            for place, change in _changes(trits).items():
                with m.Case(place):
                    m.d.comb += [digit.eq(change[0]), minus.eq(change[1]), adds.eq(1)]
        was, code, less, added = Signal.like(entry), Signal.like(unit.codes[0][0]), Signal(), Signal()
        m.d.sync += [was.eq(entry), code.eq(unit.codes[0][0]), less.eq(minus), added.eq(adds)]
        m.d.comb += Assert((number != ZERO) | (entry == BIAS))
        with m.If(adds):
            m.d.comb += Assert(asked == (block * TRITS_PER_BYTE + digit) * sides + side)
        with m.If(added):
            m.d.comb += Assert(entry == (was + Mux(less, -code, code))[:len(entry)])

        # What is written of the octet that is watched, since the last block was taken.
        watched, before, begun = claim.free(8, "watched"), Signal(8), Signal()
        m.d.sync += [before.eq(watched), begun.eq(1)]
        m.d.comb += [Assume(~begun | (watched == before)), Assume(_place(watched) >= GRAY_FIRST)]
        for place in range(sides):
            address, written, enable = claim.write_port(f"table_0_{place}_0")
            there = Signal(name=f"there_{place}")
            m.d.sync += there.eq(~unit.take & (there | enable.any() & (address[:8] == watched)))
            m.d.comb += Assert(there | ~(unit.loaded | (side > place) | (side == place) & (number > _place(watched))))
            with m.If(enable.any()):
                m.d.comb += Assert((side == place) & (address[:8] == walk) & (address[8] != read) & (written == entry))
    return more


def _place(octet: Any) -> Any:
    """Where in the walk it is."""
    return Array(GRAY_STEPS.index(each) if each else 0 for each in range(ENTRIES))[octet]
