"""Conversion between integers and floats."""

from amaranth import C, Cat, Module, Mux, signed
from amaranth.hdl import EnableInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.stream import delay
from terngen.hw.units.packing import all_ones, halve_even, normalize, rounded, shift_right

__all__ = ["FromInt", "ToInt8"]


class FromInt(wiring.Component):
    """Converts signed integers to floats, rounding to nearest even.

    Computes :func:`~terngen.hw.contract.formats.from_int` exactly. Provides no flow control: a value is taken
    and a result given on every enabled cycle. Latency is ``LATENCY`` cycles, which depends on the width.

    Parameters
    ----------
    fmt : :class:`~terngen.hw.contract.formats.FloatFormat`
        Format of the result.
    width : :class:`int`
        Bits of the integers, 2 to 64.

    Members
    -------
    en : ``In(1, init=1)``
        Clock enable.
    a : ``In(signed(width))``
        Integer.
    o : ``Out(fmt.width)``
        Float.
    """

    def __init__(self, *, fmt, width):
        if not 2 <= width <= 64:
            raise ValueError(f"Width of the integers must be 2 to 64 bits, not {width!r}")
        self._fmt   = fmt
        self._width = width
        steps       = [1 << bit for bit in reversed(range((width - 1).bit_length()))]
        # Two levels of the shifter fit a cycle. The first cycle has one of them if their number is odd: it
        # looks at the most bits.
        odd          = len(steps) % 2
        self._steps  = [steps[:1]] * odd + [steps[index:index + 2] for index in range(odd, len(steps), 2)]
        self.LATENCY = 1 + len(self._steps) + 1
        super().__init__({
            "en": In(1, init=1),
            "a":  In(signed(width)),
            "o":  Out(fmt.width),
        })

    def elaborate(self, platform):
        m    = Module()
        bits = self._fmt.mantissa_bits

        sign  = delay(m, self.a[-1], name="sign")
        value = delay(m, Mux(self.a[-1], -self.a, self.a)[:self._width], name="magnitude")
        # Room for the hidden bit, the mantissa, and two bits to round by.
        value = Cat(C(0, max(0, bits + 3 - self._width)), value)

        skipped = []
        for steps in self._steps[:-1]:
            value, taken = normalize(m, value, steps)
            value   = delay(m, value, name="value")
            skipped = [delay(m, bit) for bit in skipped + taken]
            sign    = delay(m, sign)
        value, taken = normalize(m, value, self._steps[-1])
        below    = value[:-1]
        mantissa = below[-bits:]
        guard    = below[-bits - 1]
        up       = delay(m, halve_even(mantissa, guard, below[:-bits - 1].any()), name="up")
        full     = all_ones(m, mantissa, "full")
        mantissa = delay(m, mantissa, name="mantissa")
        zero     = delay(m, ~value[-1], name="zero")
        skipped  = Cat(reversed(skipped + taken))
        exponent = delay(m, C(self._fmt.bias + self._width - 2) - skipped, name="exponent")
        sign     = delay(m, sign)

        result = rounded(self._fmt, mantissa, exponent, up, up & full.all(), sign=sign, zero=zero)
        m.d.comb += self.o.eq(delay(m, result, name="result"))

        return EnableInserter(self.en)(m)


class ToInt8(wiring.Component):
    """Converts floats to the nearest integers from -127 to 127, ties to even.

    Computes :func:`~terngen.hw.contract.formats.to_int8` exactly. Provides no flow control: a value is taken
    and a result given on every enabled cycle. Latency is ``LATENCY`` cycles.

    Parameters
    ----------
    fmt : :class:`~terngen.hw.contract.formats.FloatFormat`
        Format of the operand.

    Members
    -------
    en : ``In(1, init=1)``
        Clock enable.
    a : ``In(fmt.width)``
        Float.
    o : ``Out(signed(8))``
        Integer.
    """

    LATENCY = 3

    def __init__(self, *, fmt):
        self._fmt = fmt
        super().__init__({
            "en": In(1, init=1),
            "a":  In(fmt.width),
            "o":  Out(signed(8)),
        })

    def elaborate(self, platform):
        m    = Module()
        bits = self._fmt.mantissa_bits
        high = bits + self._fmt.exponent_bits
        bias = self._fmt.bias

        # With the hidden bit worth 64, values from 1/2 to 128 are shifted by 7 to 0.
        exponent = self.a[bits:high]
        amount   = delay(m, (bias + 6 - exponent)[:3], name="amount")
        over     = delay(m, exponent > bias + 6, name="over")
        under    = delay(m, exponent < max(bias - 1, 1), name="under")
        mantissa = delay(m, self.a[:bits], name="mantissa")
        sign     = delay(m, self.a[high], name="sign")

        # Seven bits of integer, and below them two at least to round by.
        pad    = max(0, 8 - bits)
        value, lost = shift_right(m, Cat(C(0, pad), mantissa, C(1, 1)), amount)
        whole  = value[-7:]
        guard  = value[-8]
        up     = halve_even(whole, guard, lost.any() | value[:-8].any()) & ~whole.all()
        whole  = delay(m, (whole | over.replicate(7)) & ~under.replicate(7), name="whole")
        up     = delay(m, up & ~over & ~under, name="up")
        sign   = delay(m, sign, name="sign")

        # Minus (whole + up) is not whole, plus one, minus up.
        result = (Cat(whole, C(0, 1)) ^ sign.replicate(8)) + (up ^ sign)
        m.d.comb += self.o.eq(delay(m, result, name="result"))

        return EnableInserter(self.en)(m)
