"""L-Mul by the formula as it is printed, without the carry into the exponent.

Luo and Sun, "Addition is All You Need for Energy-efficient Language Models", arXiv 2410.00907, equation 1. The
addition of packed fields that they propose to build is another function, which :mod:`terngen.hw.units.lmul` has.
"""

from amaranth import C, Cat, Module, Mux
from amaranth.hdl import EnableInserter
from amaranth.lib import wiring

from terngen.hw.stream import delay
from terngen.hw.units.packing import pair_ports, rounded

__all__ = ["LiteralLMul"]


class LiteralLMul(wiring.Component):
    """Multiplies floats without a multiplier, by the printed formula.

    Computes :func:`~terngen.hw.contract.formats.multiply_literal` exactly. Provides no flow control: a pair is
    taken and a result given on every enabled cycle. Latency is ``LATENCY`` cycles, one for each of: add, add the
    offset, halve, round.

    Parameters
    ----------
    fmt : :class:`~terngen.hw.contract.formats.FloatFormat`
        Format of operands and result.
    multiplier : :class:`~terngen.hw.contract.formats.Multiplier`
        Offset in the formula. Not ``exact``.

    Members
    -------
    en : ``In(1, init=1)``
        Clock enable.
    a, b : ``In(fmt.width)``
        Factors.
    o : ``Out(fmt.width)``
        Product.
    """

    LATENCY = 4

    def __init__(self, *, fmt, multiplier):
        if multiplier.is_exact:
            raise ValueError(f"Multiplier of the literal formula must be one of the lmul policies, not {multiplier}")
        self._fmt    = fmt
        self._offset = multiplier.offset(fmt, literal=True)
        self._gated  = multiplier.is_gated
        super().__init__(pair_ports(fmt))

    def elaborate(self, platform):
        m    = Module()
        bits = self._fmt.mantissa_bits
        high = bits + self._fmt.exponent_bits
        a, b = self.a, self.b

        # Minus the bias, which is one step of the exponent, added by `rounded`, less than half of its range.
        fraction = delay(m, a[:bits] + b[:bits], name="fraction")
        exponent = delay(m, a[bits:high] + b[bits:high], name="exponent")
        sign     = delay(m, a[high] ^ b[high], name="sign")
        zero     = delay(m, ~(a[bits:high].any() & b[bits:high].any()), name="zero")
        offset   = C(self._offset, bits)
        if self._gated:
            gate   = delay(m, a[:bits].any() & b[:bits].any(), name="gate")
            offset = offset & gate.replicate(bits)

        fraction = delay(m, (fraction + offset)[:bits + 2], name="fraction")
        exponent = delay(m, exponent - (1 << high - bits - 1), name="exponent")
        sign, zero = delay(m, sign), delay(m, zero)

        # From two on, half of the significand: 2 + f becomes 1 + f / 2, so that the bit of one in the fraction goes
        # and that of two takes its place. The bit that is lost is a tie; a mantissa of ones never comes with one.
        tall     = fraction[bits:].any()
        mantissa = Mux(tall, Cat(fraction[1:bits], fraction[bits + 1]), fraction[:bits])
        up       = delay(m, tall & fraction[0] & mantissa[0], name="up")
        mantissa = delay(m, mantissa, name="mantissa")
        exponent = delay(m, (exponent + tall).as_signed(), name="exponent")
        sign, zero = delay(m, sign), delay(m, zero)

        result = rounded(self._fmt, mantissa, exponent, up, C(0, 1), sign=sign, zero=zero)
        m.d.comb += self.o.eq(delay(m, result, name="result"))

        return EnableInserter(self.en)(m)
