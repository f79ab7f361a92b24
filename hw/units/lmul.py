"""L-Mul: multiplication of floats by one integer addition.

After Luo and Sun, "Addition is All You Need for Energy-efficient Language Models", arXiv 2410.00907: the
product of two significands ``(1 + x)(1 + y)`` is taken as ``1 + x + y + 2**-l``, so that the packed
exponents and mantissas are added as one integer.
"""

from amaranth import C, Module
from amaranth.hdl import EnableInserter
from amaranth.lib import wiring

from terngen.hw.stream import delay
from terngen.hw.units.packing import pair_ports, rounded

__all__ = ["LMul"]


class LMul(wiring.Component):
    """Multiplies floats without a multiplier.

    Computes :func:`~terngen.hw.contract.formats.multiply` with an L-Mul ``multiplier`` exactly. Provides no
    flow control: a pair is taken and a result given on every enabled cycle. Latency is ``LATENCY`` cycles.

    Parameters
    ----------
    fmt : :class:`~terngen.hw.contract.formats.FloatFormat`
        Format of operands and result.
    multiplier : :class:`~terngen.hw.contract.formats.Multiplier`
        Offset of the addition. Not ``exact``.

    Members
    -------
    en : ``In(1, init=1)``
        Clock enable.
    a, b : ``In(fmt.width)``
        Factors.
    o : ``Out(fmt.width)``
        Product.
    """

    LATENCY = 2

    def __init__(self, *, fmt, multiplier):
        if multiplier.is_exact:
            raise ValueError(f"Multiplier of L-Mul must be one of the lmul policies, not {multiplier}")
        self._fmt    = fmt
        self._offset = multiplier.offset(fmt)
        self._gated  = multiplier.is_gated
        super().__init__(pair_ports(fmt))

    def elaborate(self, platform):
        m    = Module()
        bits = self._fmt.mantissa_bits
        high = bits + self._fmt.exponent_bits

        a, b     = self.a[:high], self.b[:high]
        total    = delay(m, a + b, name="total")
        sign     = delay(m, self.a[high] ^ self.b[high], name="sign")
        zero     = delay(m, ~(a[bits:].any() & b[bits:].any()), name="zero")
        fraction = C(self._offset, bits)
        carry    = total[:bits] >= (1 << bits) - self._offset
        if self._gated:
            gate     = delay(m, a[:bits].any() & b[:bits].any(), name="gate")
            fraction = fraction & gate.replicate(bits)
            carry    = carry & gate

        # Minus the bias, which is one step of the exponent less than half of its range: `rounded` adds the step
        # together with the offset, and the half range touches the leading bits only.
        exponent = total[bits:] - (1 << high - bits - 1)
        result   = rounded(self._fmt, total[:bits], exponent, fraction, carry, sign=sign, zero=zero)
        m.d.comb += self.o.eq(delay(m, result, name="result"))

        return EnableInserter(self.en)(m)
