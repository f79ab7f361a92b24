"""Dot products without a multiplier.

The L-Matmul of Luo and Sun, "Addition is All You Need for Energy-efficient Language Models", arXiv 2410.00907. The
sum is a fixed-point number as Kulisch's accumulator is one, so that addition loses nothing and needs no rounding.
"""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract import formats
from terngen.hw.stream import delay
from terngen.hw.vendor.adder import add_subtract

__all__ = ["Dot"]


class Dot(wiring.Component):
    """Adds up L-Mul products of pairs.

    Computes :func:`~terngen.hw.contract.formats.dot` exactly, for vectors of any length but none; they follow each
    other without a pause. Throughput is one pair per cycle. The sum appears ``LATENCY`` cycles after the last pair.
    A sum that is not taken holds the whole pipeline.

    ::

        a ──┐                   exponent: place of the term ─┐
            + ── total ─────────┤                            shift ── term ── + ── sum
        b ──┘  (and offset)     significand: 1 and fraction ─┘                └────┘

    Parameters
    ----------
    fmt : :class:`~terngen.hw.contract.formats.FloatFormat`
        Format of the operands. At most 8 exponent bits.
    multiplier : :class:`~terngen.hw.contract.formats.Multiplier`
        Offset of the addition. Not ``exact``.

    Members
    -------
    i : ``In(stream.Signature(StructLayout({"a": fmt.width, "b": fmt.width, "last": 1})))``
        Pairs; ``last`` ends a vector.
    o : ``Out(stream.Signature(signed(width)))``
        Sums, in the format of :func:`~terngen.hw.contract.formats.dot_format`.
    """

    LATENCY = 5

    def __init__(self, *, fmt, multiplier):
        if multiplier.is_exact:
            raise ValueError(f"Multiplier of a dot product must be one of the lmul policies, not {multiplier}")
        self._fmt    = fmt
        self._offset = multiplier.offset(fmt)
        self._gated  = multiplier.is_gated
        self._width, self._unit = formats.dot_format(fmt)
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"a": fmt.width, "b": fmt.width, "last": 1}))),
            "o": Out(stream.Signature(signed(self._width))),
        })

    def elaborate(self, platform):
        m    = Module()
        bits = self._fmt.mantissa_bits
        high = bits + self._fmt.exponent_bits
        en   = Signal()
        m.d.comb += en.eq(~self.o.valid | self.o.ready)
        m.d.comb += self.i.ready.eq(en)

        def after(value, cycles=1, **options):
            return delay(m, value, cycles, en, **options)

        # Multiply. Neither bias nor saturation: the sum of the fields has room for all of its bits.
        a, b   = self.i.payload.a, self.i.payload.b
        offset = C(self._offset, bits)
        if self._gated:
            offset = offset & (a[:bits].any() & b[:bits].any()).replicate(bits)
        total  = after((a[:high] + b[:high] + offset)[:high + 2], name="total")
        sign   = after(a[high] ^ b[high], name="sign")
        zero   = after(~(a[bits:high].any() & b[bits:high].any()), name="zero")
        valid  = after(self.i.valid, reset=True, name="valid")
        last   = after(self.i.payload.last, name="last")

        # Find the place of the significand, whose last bit may lie below the unit.
        cut         = bits if self._unit > 2 * (1 - self._fmt.bias) - bits else 0
        lowest      = 2 * self._fmt.bias + bits + self._unit - cut      # exponent of the lowest place
        highest     = lowest + cut + self._width - 2 - bits
        exponent    = total[bits:]
        zero        = zero | (exponent < lowest)
        place       = after((exponent - lowest)[:(highest - lowest).bit_length()], name="place")
        above       = after((exponent > highest) & ~zero, name="above")
        significand = after(Cat(total[:bits], 1) & ~zero.replicate(bits + 1), name="significand")
        sign, valid, last = after(sign), after(valid, reset=True), after(last)

        # Shift by less than eight places, then by eights.
        near  = after((significand << place[:3])[:bits + 8], name="near")
        place = after(place[3:], name="place")
        above = after(above)
        sign, valid, last = after(sign), after(valid, reset=True), after(last)
        term  = (near << (place << 3))[cut:cut + self._width - 1] | above.replicate(self._width - 1)
        term  = after(term, name="term")
        sign, valid, last = after(sign), after(valid, reset=True), after(last)

        # Add. With one bit more than it has, the sum shows whether it fits.
        first = Signal(init=1)
        base  = Signal(signed(self._width + 1))
        m.d.comb += base.eq(Mux(first, 0, self.o.payload))
        total = add_subtract(m, platform, base, term, sign, name="total")
        limit = Cat((~total[-1]).replicate(self._width - 1), total[-1])
        with m.If(en):
            m.d.sync += self.o.valid.eq(valid & last)
            with m.If(valid):
                m.d.sync += first.eq(last)
                m.d.sync += self.o.payload.eq(Mux(total[-1] ^ total[-2], limit, total[:-1]))
        return m
