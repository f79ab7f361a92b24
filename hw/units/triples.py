"""Ternary array of small tables: sums of three activations in distributed RAM, and a pair that is added to each.

Three activations have 27 signed sums, 14 without those that are the opposite of another, and so they fit the 16 words
of a distributed RAM. An octet on the tape (:attr:`TritCode.TRIPLES`) is a place in such a table, which of two further
activations are added to what stands there, and a sign. T-MAC (arXiv 2407.00088) has tables of four binary weights.
"""

import dataclasses

from amaranth import C, Cat, Module, Signal, signed
from amaranth.hdl import Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from terngen.hw.contract.config import Config
from terngen.hw.contract.trits import TRITS_PER_BYTE
from terngen.hw.stream import delay
from terngen.hw.units.activations import READ_LATENCY, Activations
from terngen.hw.units.partials import ArraySignature, sum_width
from terngen.hw.vendor.adder import add_inverted, add_modes, add_subtract

__all__ = ["ENTRIES", "ENTRY_BITS", "Triples", "TriplesArray"]

#: Entries of a table.
ENTRIES = 16
#: Bits of a sum of three activations.
ENTRY_BITS = sum_width(3)
#: Cycles from an entry's turn to its writing.
_WRITE_CYCLES = 3
#: Cycles from the taking of a block to its first beat, but for one.
_SETTLE_CYCLES = 19
#: Cycles after the taking of a block in which the window moves on.
_MOVES = 2, 3, 8, 19, 20
#: ... in which its elder half is cleared.
_CLEARS = 2, 7
#: ... in which the first entry and the one after the last have their turn.
_FIRST, _PAST = 2, 19


class Triples(wiring.Component):
    """Tables of the sums of three codes, their filling, and the adders behind them: :class:`TriplesArray` without its
    codes.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    ready : ``In(1)``
        There are codes.
    address : ``Out(range(...))``
        Place of the codes that are needed, divided by ``lane_bytes``.
    codes : ``In(signed(8)).array(slots, lane_bytes)``
        They, ``READ_LATENCY`` cycles later.
    loaded, take, rewind, pop, beat, partials, carries
        As in :class:`~terngen.hw.units.partials.ArraySignature`, from the other side.
    popped : ``Out(1)``
        `pop`, when the codes are not needed any more.
    """

    def __init__(self, config: Config):
        self._config = config
        ports = ArraySignature(config).members
        super().__init__({
            "ready":   In(1),
            "address": Out(range(TRITS_PER_BYTE * config.blocks(config.wide))),
            "codes":   In(signed(8)).array(config.slots, config.lane_bytes),
            "popped":  Out(1),
            **{name: ports[name].flip() for name in ("loaded", "take", "rewind", "pop", "beat", "partials", "carries")},
        })

    def elaborate(self, platform):
        m      = Module()
        config = self._config

        # What happens after a block was taken, in a row of flip-flops.
        after = [self.take]
        while len(after) <= _SETTLE_CYCLES:
            after.append(delay(m, after[-1], reset=True, name=f"after_{len(after)}"))

        busy = Signal()
        with m.If(self.take):
            m.d.sync += busy.eq(1)
        with m.Elif(after[_SETTLE_CYCLES]):
            m.d.sync += busy.eq(0)
        rewind, pop = Signal(), Signal()
        place = Signal.like(self.address)
        read  = Signal()
        m.d.comb += [
            read.eq(Cat(after[move - READ_LATENCY] for move in _MOVES).any()),
            self.address.eq(place),
            self.popped.eq(after[_SETTLE_CYCLES] & pop),
            self.loaded.eq(self.ready & ~busy),
        ]
        with m.If(self.take):
            m.d.sync += [rewind.eq(self.rewind), pop.eq(self.rewind & self.pop)]
        with m.If(read):
            m.d.sync += place.eq(place + 1)
        with m.If(after[_SETTLE_CYCLES] & rewind):
            m.d.sync += place.eq(0)

        # The entry whose turn it is. That one before the first is minus the first activation, which is
        # needed later, when the last entry is not there yet.
        filling = Signal()
        entry   = Signal(range(ENTRIES), init=ENTRIES - 1, reset_less=True)
        m.d.sync += entry.eq(entry + 1)
        with m.If(after[_FIRST - 1]):
            m.d.sync += [filling.eq(1), entry.eq(ENTRIES - 1)]
        with m.Elif(after[_PAST - 1]):
            m.d.sync += filling.eq(0)

        fill = _Fill(
            busy=busy, entry=delay(m, entry, _WRITE_CYCLES, name="entry"),
            write=delay(m, filling, _WRITE_CYCLES, reset=True, name="write"),
            # An entry is a pair, or that and the first activation, or that without it.
            mode=Cat(filling & ~(entry[1] ^ entry[0]), filling & ~entry[1]), last=filling & entry[3] & entry[2],
            empty=delay(m, filling & (~entry[3] | after[_FIRST]), name="empty"))
        move    = delay(m, read, READ_LATENCY, reset=True, name="move")
        windows = [self._window(m, codes, move, Cat(after[cycle] for cycle in _CLEARS).any(), slot)
                   for slot, codes in enumerate(self.codes)]
        for row in range(config.row_lanes):
            beat  = self.beat.word_select(row, 8 * config.lane_bytes)
            terms = []
            for octet in range(config.lane_bytes):
                terms.append(self._octet(m, platform, beat.word_select(octet, 8), [each[octet] for each in windows],
                                         fill, f"{row}_{octet}"))
            level = 0
            while len(terms) > 1:
                terms = [_add(m, platform, pair, first=not level, last=len(terms) == 2,
                              name=f"sum_{row}_{level}_{place}")
                         for place, pair in enumerate(zip(terms[::2], terms[1::2]))]
                level += 1
            [term] = terms
            m.d.comb += self.carries[row].eq(term.flags[0])
            for slot, value in enumerate(term.values):
                if not level:
                    value = Cat(value[:-1] ^ term.flags[0].replicate(len(value) - 1), ~(value[-1] ^ term.flags[0]))
                m.d.comb += self.partials[slot][row].eq(value.as_signed())
        return m

    @staticmethod
    def _window(m: Module, codes, move: Value, clear: Value, slot: int) -> list[tuple[Signal, Signal]]:
        """The last two activations of each octet, the elder one first."""
        windows = []
        for octet, code in enumerate(codes):
            elder, other = (Signal(8, name=f"{name}_{slot}_{octet}", reset_less=True) for name in ("elder", "other"))
            with m.If(move):
                m.d.sync += [elder.eq(other), other.eq(code)]
            with m.If(clear):
                m.d.sync += elder.eq(0)
            windows.append((elder, other))
        return windows

    @staticmethod
    def _octet(m: Module, platform, octet: Value, windows: list[tuple[Signal, Signal]], fill: "_Fill",
               name: str) -> "_Term":
        """The sums of an octet, for each slot, but for the sign."""
        # While tables are filled there is an octet of zeros.
        held = Signal(8, name=f"octet_{name}", reset_less=True)
        m.d.sync += held.eq(octet)
        with m.If(fill.busy):
            m.d.sync += held.eq(0)

        # A flip-flop that can be set begins set, or else that is logic before it.
        place = Signal(range(ENTRIES), name=f"place_{name}", init=ENTRIES - 1, reset_less=True)
        mode  = Signal(2, name=f"mode_{name}", init=0b11, reset_less=True)
        alone = Signal(name=f"alone_{name}", reset_less=True)
        sign, back = (delay(m, held[bit], name=f"{side}_{name}") for bit, side in ((4, "sign"), (7, "back")))
        escape = held[3] & ~held[1] & ~held[0]
        m.d.sync += [
            place.eq(Cat(held[0] | escape & held[5], held[1] | escape & held[6], held[2],
                         held[3] & ~(escape & ~held[7]))),
            mode.eq(held[5:7]),
            alone.eq(escape),
        ]
        with m.If(fill.last):
            m.d.sync += place.eq(ENTRIES - 1)
        for bit in range(2):
            with m.If(fill.mode[bit]):
                m.d.sync += mode[bit].eq(1)

        table = memory.Memory(shape=ENTRY_BITS * len(windows), depth=ENTRIES, init=[])
        m.submodules[f"table_{name}"] = table
        write_port, read_port = table.write_port(), table.read_port(domain="comb")
        words = Signal(ENTRY_BITS * len(windows), name=f"words_{name}", reset_less=True)
        m.d.comb += read_port.addr.eq(place)
        m.d.sync += words.eq(read_port.data)
        with m.If(fill.empty):
            m.d.sync += words.eq(0)

        minus  = delay(m, back, name=f"minus_{name}")
        values = []
        for slot, (elder, other) in enumerate(windows):
            pair = Signal(9, name=f"pair_{name}_{slot}", reset_less=True)
            m.d.sync += pair.eq(add_modes(m, platform, elder, other, mode, name=f"pairs_{name}_{slot}"))
            with m.If(alone):
                m.d.sync += pair.eq(0)
            word = Signal(sum_width(TRITS_PER_BYTE), name=f"word_{name}_{slot}")
            m.d.comb += word.eq(words.word_select(slot, ENTRY_BITS).as_signed())
            # With the highest bit inverted it has no sign.
            values.append(delay(m, add_subtract(m, platform, word, pair.as_signed(), minus, invert=True,
                                                name=f"add_{name}_{slot}"), name=f"value_{name}_{slot}"))
        m.d.comb += [
            write_port.addr.eq(fill.entry),
            write_port.data.eq(Cat(value[:ENTRY_BITS] for value in values)),
            write_port.en.eq(fill.write),
        ]
        return _Term(values, [delay(m, sign, 2, name=f"inverted_{name}")])


class TriplesArray(wiring.Component):
    """Multiplies a beat of ternary weights with the codes of every slot, by looking up sums of three.

    See :class:`~terngen.hw.units.partials.ArraySignature` for the ports. The latency is :meth:`latency` cycles, the
    throughput one beat per cycle, but for :meth:`settle_cycles` at the beginning of each block.

    ::

        fill -> Activations -> window of two --.
                                               v mode
        beat -> octet -> place, mode, signs -> pair  ----.
                            |                            v
                            '-> table ---------------> (+-) ---> (+-) + ... -> partials
                                  ^                      |
                                  '----------------------'

    There is one bank of tables. After a block was taken they are filled, all at the same time: the adders that add
    pairs to entries make the entries, from the pairs of the triple, which go through the window. Then the window has
    the pair of the block.

    A negative sum is inverted, and the one that completes its two's complement is the carry into one of the adders
    above; the last one has no adder and goes out with the partial sums. All rows of a beat have the same tables, each a
    copy. Codes beyond the columns of a matrix are whatever was there before; their trits are zero.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({name: member.flip() for name, member in ArraySignature(config).members.items()})

    @staticmethod
    def latency(config: Config) -> int:
        """Cycles from a beat to its partial sums: four to those of octets, one for each level of the tree."""
        return 4 + ceil_log2(config.lane_bytes)

    @staticmethod
    def load_cycles(config: Config) -> int:
        """Cycles from the codes to the first ``take``, at least."""
        return 1

    @staticmethod
    def settle_cycles(config: Config) -> int:
        """Cycles in which no beat is taken, after ``take``."""
        return _SETTLE_CYCLES

    def elaborate(self, platform):
        m      = Module()
        config = self._config
        m.submodules.activations = activations = Activations(config, width=config.lane_bytes)
        m.submodules.triples     = triples     = Triples(config)
        wiring.connect(m, wiring.flipped(self.fill), activations.fill)
        m.d.comb += [
            triples.ready.eq(activations.ready),
            activations.address.eq(triples.address),
            activations.pop.eq(triples.popped),
            self.tags.eq(activations.tags),
            self.loaded.eq(triples.loaded),
            *(getattr(triples, name).eq(getattr(self, name)) for name in ("take", "rewind", "pop", "beat")),
        ]
        for slot in range(config.slots):
            m.d.comb += [code.eq(read) for code, read in zip(triples.codes[slot], activations.codes[slot])]
            m.d.comb += [self.partials[slot][row].eq(triples.partials[slot][row]) for row in range(config.row_lanes)]
        m.d.comb += [self.carries[row].eq(triples.carries[row]) for row in range(config.row_lanes)]
        return m


@dataclasses.dataclass(frozen=True)
class _Fill:
    """What is the same for all octets while tables are filled."""

    busy:  Value    # beats do not count
    mode:  Value    # ones in the mode of the pair
    last:  Value    # to the last entry something is added, not to the first
    empty: Value    # ... to nothing, a cycle later
    entry: Value    # what is written
    write: Value


@dataclasses.dataclass(frozen=True)
class _Term:
    """Sums for each slot, without a sign: half their range is added. Ones that are still missing."""

    values: list[Value]
    flags:  list[Value]


def _add(m: Module, platform, terms: tuple[_Term, _Term], *, first: bool, last: bool, name: str) -> _Term:
    """The sum of two terms, one cycle later. Those of octets are inverted as their flags say."""
    flags    = [term.flags[0] for term in terms]
    inverted = (flags[0], flags[1]) if first else (C(0, 1), C(0, 1))
    values   = [delay(m, add_inverted(m, platform, *pair, inverted, flags[0], invert=last, name=f"add_{name}_{slot}"),
                      name=f"{name}_{slot}")
                for slot, pair in enumerate(zip(*[term.values for term in terms]))]
    return _Term(values, [delay(m, flags[1], name=f"{name}_flag")])
