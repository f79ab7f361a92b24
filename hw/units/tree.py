"""Ternary array of adders: no tables, and little time to prepare a column block."""

import dataclasses

from amaranth import C, Cat, Module, Signal, signed
from amaranth.hdl import Value
from amaranth.lib import wiring
from amaranth.utils import ceil_log2

from terngen.hw.contract.config import Config
from terngen.hw.contract.trits import TRITS_PER_BYTE
from terngen.hw.stream import delay
from terngen.hw.units.activations import Activations
from terngen.hw.units.partials import ArraySignature, sum_width

__all__ = ["TreeArray", "codes_at_once"]


class TreeArray(wiring.Component):
    """Multiplies a beat of ternary weights with the codes of every slot, in an adder tree.

    Each row sums the ``block_cols`` codes of a column block, each taken, negated or left out as its
    trit says. See :class:`~terngen.hw.units.partials.ArraySignature` for the ports. The latency is
    :meth:`latency` cycles, the throughput one beat per cycle.

    ::

        fill -> Activations -> next block -> block
                                               |
        beat -> decode           (x ^ neg) & nz  + | + | ... -> partials
                                      +1 for a negated operand

    While the array works on one block the next one is loaded into a second set of registers. Codes
    beyond the columns of a matrix are whatever was there before; their trits are zero.

    A negated code is inverted, and the one that completes its two's complement is the carry into one
    of the adders above it. Decoder and carries are shared by all slots.

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
        """Cycles from a beat to its partial sums: one to decode it, one for each level of the tree."""
        return 1 + ceil_log2(config.block_cols)

    @staticmethod
    def load_cycles(config: Config) -> int:
        """Cycles from one ``take`` to the next, at least: the loading of a block."""
        return config.block_cols // codes_at_once(config) + 2

    @staticmethod
    def settle_cycles(config: Config) -> int:
        """Cycles in which no beat is taken, after ``take``: none."""
        return 0

    def elaborate(self, platform):
        m      = Module()
        config = self._config
        blocks = self._blocks(m)
        for row in range(config.row_lanes):
            octets = self.beat.word_select(row, 8 * config.lane_bytes)
            nz     = Signal(config.block_cols, name=f"nz_{row}", reset_less=True)
            neg    = Signal(config.block_cols, name=f"neg_{row}", reset_less=True)
            # By column: the first trits of all octets, then the second ones.
            decoded = [_decode_pairs(octets.word_select(place, 8)) for place in range(config.lane_bytes)]
            trits   = [trit for same in zip(*decoded) for trit in same]
            m.d.sync += nz.eq(Cat(trit[0] for trit in trits))
            m.d.sync += neg.eq(Cat(trit[1] for trit in trits))

            terms = [_Term([_product(codes[col], nz[col], neg[col]) for codes in blocks], neg[col], 1)
                     for col in range(config.block_cols)]
            level = 0
            while len(terms) > 1:
                terms = [_add(m, terms[place:place + 2], f"sum_{row}_{level}_{place // 2}")
                         for place in range(0, len(terms), 2)]
                level += 1
            # The number of columns is no power of two, so that somewhere a term without a partner
            # has taken up the carry that the adders have no room for.
            assert terms[0].carry is None
            for slot, value in enumerate(terms[0].values):
                m.d.comb += self.partials[slot][row].eq(value)
        return m

    def _blocks(self, m: Module) -> list[list[Signal]]:
        """The codes of the block that is worked on, for each slot, when its first beat is decoded."""
        config = self._config
        step   = codes_at_once(config)
        words  = config.block_cols // step
        m.submodules.activations = activations = Activations(config, width=step)
        wiring.connect(m, wiring.flipped(self.fill), activations.fill)

        index = Signal(range(words))        # in the block
        read  = Signal()
        done  = Signal()                    # all words of the block are read
        place = Signal.like(activations.address)
        m.d.comb += [
            read.eq(~done & activations.ready),
            activations.address.eq(place),
            activations.pop.eq(self.take & self.rewind & self.pop),
            self.tags.eq(activations.tags),
        ]
        with m.If(read):
            m.d.sync += [place.eq(place + 1), index.eq(index + 1)]
            with m.If(index == words - 1):
                m.d.sync += [index.eq(0), done.eq(1)]

        valid      = Signal(2)                                      # read one and two cycles ago
        last_index = delay(m, index, name="index")
        this_index = delay(m, last_index, name="index")
        m.d.sync += valid.eq(Cat(read, valid))
        with m.If(self.take):
            m.d.sync += [done.eq(0), self.loaded.eq(0)]
            with m.If(self.rewind):
                m.d.sync += place.eq(0)
        # The last word is still on its way, but the block is copied a cycle after it was taken.
        with m.Elif(valid[0] & (last_index == words - 1)):
            m.d.sync += self.loaded.eq(1)

        copy   = delay(m, self.take, reset=True, name="copy")
        blocks = []
        for slot, codes in enumerate(activations.codes):
            following, current = ([Signal(8, name=f"{name}_{slot}_{col}", reset_less=True)
                                   for col in range(config.block_cols)] for name in ("following", "current"))
            with m.If(valid[1]), m.Switch(this_index):
                for word in range(words):
                    with m.Case(word):
                        m.d.sync += [following[word * step + col].eq(codes[col]) for col in range(step)]
            with m.If(copy):
                m.d.sync += [code.eq(new) for code, new in zip(current, following)]
            blocks.append(current)
        return blocks


def codes_at_once(config: Config) -> int:
    """Codes that are loaded in one cycle: those of a lane group that lie in one block."""
    return min(config.lanes, config.lane_bytes)


def _product(code: Value, nz: Value, neg: Value) -> Value:
    """Code times trit, less one if `neg`."""
    return ((code ^ neg.replicate(8)) & nz.replicate(8)).as_signed()


@dataclasses.dataclass(frozen=True)
class _Term:
    """Sum of `count` products, for each slot: ``value``, plus one if ``carry``."""

    values: list[Value]
    carry:  Value | None
    count:  int


def _add(m: Module, terms: list[_Term], name: str) -> _Term:
    """The sum of one or two terms, one cycle later. One of their carries enters the adder."""
    carries = [term.carry for term in terms if term.carry is not None]
    count   = sum(term.count for term in terms)
    values  = []
    for slot, operands in enumerate(zip(*[term.values for term in terms])):
        value = Signal(signed(sum_width(count)), name=f"{name}_{slot}", reset_less=True)
        if carries:
            # As one adder of one more bit, because synthesis makes two out of `a + b + carry`.
            low   = Cat(C(1, 1), operands[0]).as_signed()
            other = operands[1] if len(operands) > 1 else C(0, 1)
            m.d.sync += value.eq((low + Cat(carries[0], other).as_signed()) >> 1)
        else:
            m.d.sync += value.eq(sum(operands[1:], operands[0]))
        values.append(value)
    kept = delay(m, carries[1], name=f"{name}_carry") if len(carries) > 1 else None
    return _Term(values, kept, count)


def _decode_pairs(octet: Value) -> list[tuple[Value, Value]]:
    """Five trits of an octet of ``TritCode.PAIRS``: whether each is not zero, whether it is minus."""
    top, second, first = octet[6:8], octet[3:6], octet[0:3]
    escape  = top.all()
    both    = escape & octet[3:5].all()                         # both pairs are zero
    zeros   = [both | escape & ~octet[5], both | escape & octet[5]]
    # Out of an escape the low bits are the first pair, in one the pair that is not zero.
    codes   = [first, Cat(*[escape & low | ~escape & high for low, high in zip(first, second)])]
    single  = Cat(*[~escape & a | escape & ~both & b | both & c
                    for a, b, c in zip(top, octet[3:5], octet[0:2])])
    trits   = []
    for code, zero in zip(codes, zeros):
        minus = code[2]
        for place, absent in enumerate([0b10, 0b11]):           # b alone, a alone
            nz = ~zero & (code[:2] != absent)
            trits.append((nz, nz & (minus ^ (code[:2] == 0b01) if place else minus)))
    trits.append((single.any(), single[1]))
    assert len(trits) == TRITS_PER_BYTE
    return trits
