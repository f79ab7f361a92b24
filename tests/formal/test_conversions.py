"""The quantiser: the gateware equals what the words say, for all operands."""

import pytest
from amaranth import Cat, Module, Mux, Signal, signed

from terngen.hw.build import BuildError
from terngen.hw.contract.formats import FloatFormat
from terngen.hw.units.convert import ToInt8


def nearest(fmt, largest=127):
    """The nearest integer, of two the even one, at most `largest` from zero; in fixed point, where nothing is lost."""
    def specification(m: Module, a):
        bits     = fmt.mantissa_bits
        exponent = a[bits:bits + fmt.exponent_bits]
        place    = Signal(4)                        # of the lowest bit, above that of one half
        fixed    = Signal(bits + 10)                # with bits + 1 bits behind the point
        m.d.comb += place.eq(exponent - (fmt.bias - 1))
        m.d.comb += fixed.eq(Cat(a[:bits], 1) << place)
        whole, rest = fixed[bits + 1:], fixed[:bits + 1]
        half        = 1 << bits
        rounded, size = Signal(10), Signal(8)
        m.d.comb += rounded.eq(whole + ((rest > half) | ((rest == half) & whole[0])))
        with m.If(exponent < max(fmt.bias - 1, 1)):     # below one half; the smallest exponent is that of zero
            m.d.comb += size.eq(0)
        with m.Elif((exponent > fmt.bias + 7) | (rounded > largest)):
            m.d.comb += size.eq(largest)
        with m.Else():
            m.d.comb += size.eq(rounded)
        result = Signal(signed(9))
        m.d.comb += result.eq(Mux(a[-1], -size, size))
        return result[:8].as_signed()
    return specification


@pytest.mark.parametrize("name", ["e5m2", "e4m3", "e6m9", "e6m11", "e8m7", "e5m10"])
def test_to_int8(prove, name):
    fmt = FloatFormat.parse(name)
    prove(ToInt8(fmt=fmt), nearest(fmt))


def test_another_limit_is_found(prove):
    fmt = FloatFormat.parse("e6m11")
    with pytest.raises(BuildError, match="proof did fail"):
        prove(ToInt8(fmt=fmt), nearest(fmt, largest=126))
