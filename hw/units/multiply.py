"""Multiplication of floats, exact or by L-Mul as the configuration of each site asks."""

from amaranth import C, Cat, Module, Mux
from amaranth.hdl import EnableInserter
from amaranth.lib import wiring

from terngen.hw.stream import delay
from terngen.hw.units.lmul import LMul
from terngen.hw.units.packing import all_ones, halve_even, pair_ports, rounded

__all__ = ["ExactMultiply", "Multiply"]


class Multiply(wiring.Component):
    """Multiplies floats with the chosen multiplier.

    Computes :func:`~terngen.hw.contract.formats.multiply` exactly. Provides no flow control: a pair is taken
    and a result given on every enabled cycle. Latency is ``LATENCY`` cycles, which depends on the
    multiplier.

    Parameters
    ----------
    fmt : :class:`~terngen.hw.contract.formats.FloatFormat`
        Format of operands and result.
    multiplier : :class:`~terngen.hw.contract.formats.Multiplier`
        ``exact``, or a policy of :class:`LMul`.

    Members
    -------
    en : ``In(1, init=1)``
        Clock enable.
    a, b : ``In(fmt.width)``
        Factors.
    o : ``Out(fmt.width)``
        Product.
    """

    def __init__(self, *, fmt, multiplier):
        # The offset is asked for here so that one that does not fit is refused here.
        multiplier.offset(fmt)
        self._fmt        = fmt
        self._multiplier = multiplier
        self.LATENCY     = ExactMultiply.LATENCY if multiplier.is_exact else LMul.LATENCY
        super().__init__(pair_ports(fmt))

    def elaborate(self, platform):
        m = Module()
        if self._multiplier.is_exact:
            unit = ExactMultiply(fmt=self._fmt)
        else:
            unit = LMul(fmt=self._fmt, multiplier=self._multiplier)
        m.submodules.unit = unit
        wiring.connect(m, wiring.flipped(self), unit)
        return m


class ExactMultiply(wiring.Component):
    """Multiplies floats, rounding to nearest even.

    Computes :func:`~terngen.hw.contract.formats.multiply` with ``exact`` exactly. Provides no flow control:
    a pair is taken and a result given on every enabled cycle. Latency is ``LATENCY`` cycles. The product of
    the significands has a register before it and two behind, which are those of a DSP block.

    Parameters
    ----------
    fmt : :class:`~terngen.hw.contract.formats.FloatFormat`
        Format of operands and result.

    Members
    -------
    en : ``In(1, init=1)``
        Clock enable.
    a, b : ``In(fmt.width)``
        Factors.
    o : ``Out(fmt.width)``
        Product.
    """

    LATENCY = 5

    def __init__(self, *, fmt):
        self._fmt = fmt
        super().__init__(pair_ports(fmt))

    def elaborate(self, platform):
        m    = Module()
        bits = self._fmt.mantissa_bits
        high = bits + self._fmt.exponent_bits

        # Operands.
        a, b = delay(m, self.a, name="a"), delay(m, self.b, name="b")

        # Product. Minus the bias is plus one step of the exponent, which `rounded` adds, and minus half of its range.
        product  = Cat(a[:bits], C(1, 1)) * Cat(b[:bits], C(1, 1))
        product  = delay(m, product, 2, name="product")
        exponent = delay(m, a[bits:high] + b[bits:high], name="exponent")
        exponent = delay(m, exponent - (1 << high - bits - 1), name="exponent")
        sign     = delay(m, a[high] ^ b[high], 2, name="sign")
        zero     = delay(m, ~(a[bits:high].any() & b[bits:high].any()), 2, name="zero")

        # Normalise: the product lies between 1 and 4. Rounding is looked at for both cases beside each other.
        tall     = product[-1]
        sticky   = product[:bits - 1].any()
        kept     = Mux(tall, product[bits + 1:-1], product[bits:-2])
        up       = Mux(tall, halve_even(product[bits + 1:], product[bits], product[bits - 1] | sticky),
                       halve_even(product[bits:], product[bits - 1], sticky))
        up       = delay(m, up, name="up")
        full     = all_ones(m, kept, "full")
        mantissa = delay(m, kept, name="mantissa")
        exponent = delay(m, (exponent + tall)[:len(exponent)].as_signed(), name="exponent")
        sign, zero = delay(m, sign), delay(m, zero)

        # Round.
        result = rounded(self._fmt, mantissa, exponent, up, up & full.all(), sign=sign, zero=zero)
        m.d.comb += self.o.eq(delay(m, result, name="result"))

        return EnableInserter(self.en)(m)
