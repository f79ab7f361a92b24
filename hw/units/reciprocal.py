"""The reciprocal of a peak: the scale of a quantisation."""

from amaranth import C, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.stream import delay
from terngen.hw.units.packing import all_ones, halve_even, rounded

__all__ = ["Reciprocal"]


class Reciprocal(wiring.Component):
    """Divides 127 by a magnitude.

    Computes :func:`~terngen.hw.contract.formats.reciprocal127` exactly, by restoring division: one bit
    of the quotient in a cycle. Latency is ``LATENCY`` cycles, and the next magnitude is taken with the
    result at the earliest, so that throughput is one in ``LATENCY`` cycles.

    Parameters
    ----------
    fmt : :class:`~terngen.hw.contract.formats.FloatFormat`
        Format of magnitude and result.

    Members
    -------
    i : ``In(stream.Signature(fmt.width - 1))``
        Magnitudes: codes without their sign.
    o : ``Out(stream.Signature(fmt.width))``
        Their reciprocals times 127.
    """

    def __init__(self, *, fmt):
        self._fmt    = fmt
        # 127 / 64 and the significand are both from 1 to 2, and never far from each other: the quotient
        # begins with 1, or with 01. Behind its M + 1 bits comes one to round by.
        self._digits = fmt.mantissa_bits + 3
        self.LATENCY = self._digits + 3
        super().__init__({
            "i": In(stream.Signature(fmt.width - 1)),
            "o": Out(stream.Signature(fmt.width)),
        })

    def elaborate(self, platform):
        m    = Module()
        fmt  = self._fmt
        bits = fmt.mantissa_bits
        tail = max(6 - bits, 0)         # 127 has seven significant bits

        exponent  = Signal(fmt.exponent_bits)
        divisor   = Signal(bits + tail + 1)
        remainder = Signal(bits + tail + 2)
        quotient  = Signal(self._digits)
        left      = Signal(range(self._digits + 1))
        busy      = Signal()            # a magnitude is being divided by

        rest = Signal(len(remainder) + 1)
        m.d.comb += rest.eq(remainder - divisor)
        with m.If(left != 0):
            m.d.sync += [
                left.eq(left - 1),
                quotient.eq(Cat(~rest[-1], quotient)),
                remainder.eq(Mux(rest[-1], remainder, rest) << 1),
            ]

        # Round. The remainder has gone one place too far, which does not matter to what is lost.
        low      = ~quotient[-1]
        aligned  = Mux(low, quotient << 1, quotient)[:self._digits]
        kept     = aligned[2:-1]
        up       = delay(m, halve_even(kept, aligned[1], aligned[0] | remainder.any()), name="up")
        full     = all_ones(m, kept, "full")
        mantissa = delay(m, kept, name="mantissa")
        field    = delay(m, C(2 * fmt.bias + 5) - exponent - low, name="field")
        zero     = delay(m, exponent == 0, name="zero")
        result   = rounded(fmt, mantissa, field, up, up & full.all(), sign=C(0, 1), zero=zero)
        ready    = Signal()             # the quotient has met the registers above
        m.d.sync += ready.eq(busy & (left == 0))
        step     = ~self.o.valid | self.o.ready
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(ready & step):
            m.d.sync += self.o.valid.eq(1)
            m.d.sync += self.o.payload.eq(result)
            m.d.sync += busy.eq(0)
            m.d.sync += ready.eq(0)

        m.d.comb += self.i.ready.eq(~busy)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                exponent.eq(self.i.payload[bits:]),
                divisor.eq(Cat(C(0, tail), self.i.payload[:bits], C(1, 1))),
                remainder.eq(127 << len(divisor) - 7),
                left.eq(self._digits),
                busy.eq(1),
            ]
        return m
