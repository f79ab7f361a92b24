"""Ternary array: a beat of packed trits times the activations of every slot."""

import dataclasses

from amaranth import C, Cat, Module, Signal, signed
from amaranth.hdl import Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from terngen.hw.contract.config import Config
from terngen.hw.contract.trits import TRITS_PER_BYTE
from terngen.hw.stream import delay

__all__ = ["TernaryArray", "latency", "partial_width"]

#: Largest magnitude of an activation, see :func:`~terngen.hw.contract.formats.to_int8`.
CODE_MAX = 127


def latency(config: Config) -> int:
    """Cycles from a beat to its partial sums: one to decode it, one for each level of the tree."""
    return 1 + ceil_log2(config.block_cols)


def partial_width(config: Config) -> int:
    """Bits of a partial sum: ``block_cols`` products of at most 127."""
    return _width(config.block_cols)


def _width(count: int) -> int:
    # One below the least sum as well: a carry may still be missing.
    return (count * CODE_MAX).bit_length() + 1


class TernaryArray(wiring.Component):
    """Multiplies a beat of ternary weights with the activations of every slot, in an adder tree.

    Each lane sums its ``block_cols`` activations, each taken, negated or left out as its trit says.
    The latency is :func:`latency` cycles, the throughput one beat per cycle. There is no flow control:
    every cycle brings a beat, and whoever uses the array keeps track of those that count.

    ::

        beat -> decode | (x ^ neg) & nz  + | + | ... -> partials
                                      +1 for a negated operand

    A negated activation is inverted, and the one that completes its two's complement is the carry
    into one of the adders above it. Decoder and carries are shared by all slots.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    beat : ``In(beat_bits)``
        Octets of :attr:`~terngen.hw.contract.trits.TritCode.PAIRS`, as
        :func:`~terngen.hw.contract.tape.pack_matrix` lays them.
    codes : ``In(signed(8)).array(slots, block_cols)``
        Activations, from -127 to 127. They meet the beat one cycle after it came in.
    partials : ``Out(signed(partial_width)).array(slots, lanes)``
        Partial sums.
    """

    def __init__(self, config: Config):
        self._config = config
        self.LATENCY = latency(config)
        super().__init__({
            "beat":     In(config.beat_bits),
            "codes":    In(signed(8)).array(config.slots, config.block_cols),
            "partials": Out(signed(partial_width(config))).array(config.slots, config.lanes),
        })

    def elaborate(self, platform):
        m      = Module()
        config = self._config
        for lane in range(config.lanes):
            octets = self.beat.word_select(lane, 8 * config.lane_bytes)
            nz     = Signal(config.block_cols, name=f"nz_{lane}", reset_less=True)
            neg    = Signal(config.block_cols, name=f"neg_{lane}", reset_less=True)
            trits  = [trit for place in range(config.lane_bytes)
                      for trit in _decode_pairs(octets.word_select(place, 8))]
            m.d.sync += nz.eq(Cat(trit[0] for trit in trits))
            m.d.sync += neg.eq(Cat(trit[1] for trit in trits))

            terms = [_Term([_product(codes[col], nz[col], neg[col]) for codes in self.codes], neg[col], 1)
                     for col in range(config.block_cols)]
            level = 0
            while len(terms) > 1:
                terms = [_add(m, terms[place:place + 2], f"sum_{lane}_{level}_{place // 2}")
                         for place in range(0, len(terms), 2)]
                level += 1
            # The number of columns is no power of two, so that somewhere a term without a partner
            # has taken up the carry that the adders have no room for.
            assert terms[0].carry is None
            for slot, value in enumerate(terms[0].values):
                m.d.comb += self.partials[slot][lane].eq(value)
        return m


def _product(code: Value, nz: Value, neg: Value) -> Value:
    """Code times trit, less one if `neg`."""
    return ((code.as_unsigned() ^ neg.replicate(8)) & nz.replicate(8)).as_signed()


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
        value = Signal(signed(_width(count)), name=f"{name}_{slot}", reset_less=True)
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
