"""Addition of floats."""

from amaranth import C, Cat, Module, Mux
from amaranth.hdl import EnableInserter
from amaranth.lib import wiring

from terngen.hw.stream import delay
from terngen.hw.units.packing import all_ones, halve_even, normalize, pair_ports, rounded, shift_right

__all__ = ["Add"]


class Add(wiring.Component):
    """Adds floats, rounding to nearest even.

    Computes :func:`~terngen.hw.contract.formats.add` exactly; invert the sign of ``b`` to subtract. Provides
    no flow control: a pair is taken and a result given on every enabled cycle. Latency is ``LATENCY``
    cycles, one for each of: compare, exchange, align, add, two for normalise, round.

    Parameters
    ----------
    fmt : :class:`~terngen.hw.contract.formats.FloatFormat`
        Format of operands and result.

    Members
    -------
    en : ``In(1, init=1)``
        Clock enable.
    a, b : ``In(fmt.width)``
        Addends.
    o : ``Out(fmt.width)``
        Sum.
    """

    LATENCY = 7

    def __init__(self, *, fmt):
        self._fmt = fmt
        super().__init__(pair_ports(fmt))

    def elaborate(self, platform):
        m     = Module()
        bits  = self._fmt.mantissa_bits
        field = self._fmt.exponent_bits
        high  = bits + field

        # Compare. Packed magnitudes order like integers; the upper field of their difference is that of the
        # exponents, less the borrow of the mantissas.
        difference = self.a[:high] - self.b[:high]
        exchange   = delay(m, difference[-1], name="exchange")
        distance   = delay(m, difference[bits:high], name="difference")
        a, b       = delay(m, self.a, name="a"), delay(m, self.b, name="b")
        subtract   = delay(m, self.a[high] ^ self.b[high], name="subtract")

        # Exchange, so that the larger magnitude stands first.
        borrow   = distance[0] ^ a[bits] ^ b[bits]
        distance = (distance ^ exchange.replicate(field)) + (borrow ^ exchange)
        distance = delay(m, distance[:field], name="distance")
        large    = delay(m, Mux(exchange, b[:high], a[:high]), name="large")
        sign     = delay(m, Mux(exchange, b[high], a[high]), name="sign")
        small    = delay(m, Mux(exchange, a[:bits], b[:bits]), name="small")
        present  = delay(m, Mux(exchange, a[bits:high].any(), b[bits:high].any()), name="present")
        subtract = delay(m, subtract, name="subtract")

        # Align. Two bits below the mantissa and a third that collects the rest are enough: a difference
        # loses more than one leading bit only if the exponents differ by at most one.
        small       = Cat(C(0, 2), small, C(1, 1)) & present.replicate(bits + 3)
        small, lost = shift_right(m, small, distance)
        small       = delay(m, Cat(lost.any(), small) ^ subtract.replicate(bits + 4), name="small")
        large, sign, subtract = (delay(m, value) for value in (large, sign, subtract))

        # Add the one's complement, and one, in the place where the larger has no bits. A difference is never
        # negative, and then always carries; a one in the place of the carry takes that away. If the larger is
        # zero so are both, and as the exponent field of the result is then not positive the hidden bit makes
        # no difference.
        total = Cat(subtract, C(0, 2), large[:bits], C(1, 1), subtract) + small
        total = delay(m, total[:bits + 5], name="total")
        exponent, sign = delay(m, large[bits:]), delay(m, sign)

        # Normalise. The leading one is expected in the place of the carry, an exponent above the larger's.
        steps = [1 << bit for bit in reversed(range((bits + 4).bit_length()))]
        total, coarse = normalize(m, total, steps[:-2])
        total    = delay(m, total, name="total")
        coarse   = delay(m, Cat(reversed(coarse)), name="coarse")
        exponent, sign = delay(m, exponent), delay(m, sign)
        total, fine = normalize(m, total, steps[-2:])
        mantissa = total[4:-1]
        up       = delay(m, halve_even(mantissa, total[3], total[:3].any()), name="up")
        full     = all_ones(m, mantissa, "full")
        mantissa = delay(m, mantissa, name="mantissa")
        zero     = delay(m, ~total[-1], name="zero")
        exponent = delay(m, exponent - Cat(reversed(fine), coarse), name="exponent")
        sign     = delay(m, sign)

        # Round.
        result = rounded(self._fmt, mantissa, exponent, up, up & full.all(), sign=sign, zero=zero)
        m.d.comb += self.o.eq(delay(m, result, name="result"))

        return EnableInserter(self.en)(m)
