"""L-Mul: the gateware equals what the words say, for all operands of formats that are too wide to try them.

The words are those of ``docs/lmul.md``, written here from the fields, each with its bias, and with a case for each
way in which a result can leave the format. Gateware adds packed fields and finds the cases beside the addition.
"""

import pytest
from amaranth import Cat, Module, Mux, Signal, signed

from terngen.hw.build import BuildError
from terngen.hw.contract.formats import FloatFormat, Multiplier
from terngen.hw.units.literal import LiteralLMul
from terngen.hw.units.lmul import LMul

each_case = pytest.mark.parametrize("name, policy", [
    ("e4m3", "lmul"), ("e5m2", "lmul-mitchell"), ("e8m7", "lmul"), ("e8m7", "lmul-unbiased"), ("e5m10", "lmul"),
    ("e5m10", "lmul-unbiased"), ("e6m9", "lmul-77"), ("e6m11", "lmul"), ("e6m11", "lmul-unbiased"), ("e10m15", "lmul"),
])


def unpack(m, fmt, code, name):
    """Sign, exponent without its bias, mantissa, and whether the code is a zero."""
    low, high = fmt.mantissa_bits, fmt.mantissa_bits + fmt.exponent_bits
    exponent  = Signal(signed(fmt.exponent_bits + 3), name=f"{name}_exponent")
    m.d.comb += exponent.eq(code[low:high] - fmt.bias)
    return code[high], exponent, code[:low], code[low:high] == 0


def pack(m, fmt, sign, exponent, mantissa, zero):
    """The code of a result with any exponent: below the smallest it is zero, above the largest it is that."""
    lowest, highest = 1 - fmt.bias, (1 << fmt.exponent_bits) - 1 - fmt.bias
    field = Signal(fmt.exponent_bits)
    m.d.comb += field.eq(exponent + fmt.bias)
    result = Mux(exponent > highest, fmt.largest, Cat(mantissa, field))
    return Mux(zero | (exponent < lowest), 0, Cat(result[:fmt.width - 1], sign))


def offset_of(fmt, policy, x, y, *, literal):
    offset = policy.offset(fmt, literal=literal)
    return Mux((x != 0) & (y != 0), offset, 0) if policy.is_gated else offset


def added(fmt, policy):
    """Fractions add; for each whole one the exponent is one more."""
    def specification(m: Module, a, b):
        a_sign, a_exponent, x, a_zero = unpack(m, fmt, a, "a")
        b_sign, b_exponent, y, b_zero = unpack(m, fmt, b, "b")
        fraction = Signal(fmt.mantissa_bits + 2)
        exponent = Signal(signed(fmt.exponent_bits + 3))
        m.d.comb += fraction.eq(x + y + offset_of(fmt, policy, x, y, literal=False))
        m.d.comb += exponent.eq(a_exponent + b_exponent + fraction[fmt.mantissa_bits:])
        return pack(m, fmt, a_sign != b_sign, exponent, fraction[:fmt.mantissa_bits], a_zero | b_zero)
    return specification


def printed(fmt, policy):
    """The significand is one and both fractions; from two on it is halved, to the nearest and else the even one."""
    def specification(m: Module, a, b):
        a_sign, a_exponent, x, a_zero = unpack(m, fmt, a, "a")
        b_sign, b_exponent, y, b_zero = unpack(m, fmt, b, "b")
        one         = 1 << fmt.mantissa_bits
        significand = Signal(fmt.mantissa_bits + 3)
        half        = Signal(fmt.mantissa_bits + 3)
        kept        = Signal(fmt.mantissa_bits + 3)
        exponent    = Signal(signed(fmt.exponent_bits + 3))
        m.d.comb += significand.eq(one + x + y + offset_of(fmt, policy, x, y, literal=True))
        m.d.comb += half.eq(significand // 2)
        with m.If(significand < 2 * one):
            m.d.comb += [kept.eq(significand), exponent.eq(a_exponent + b_exponent)]
        with m.Elif(significand % 2 == 0):
            m.d.comb += [kept.eq(half), exponent.eq(a_exponent + b_exponent + 1)]
        with m.Else():
            m.d.comb += [kept.eq(half + half % 2), exponent.eq(a_exponent + b_exponent + 1)]
        return pack(m, fmt, a_sign != b_sign, exponent, kept[:fmt.mantissa_bits], a_zero | b_zero)
    return specification


@each_case
def test_lmul(prove, name, policy):
    fmt, policy = FloatFormat.parse(name), Multiplier.parse(policy)
    prove(LMul(fmt=fmt, multiplier=policy), added(fmt, policy))


@each_case
def test_literal(prove, name, policy):
    fmt, policy = FloatFormat.parse(name), Multiplier.parse(policy)
    prove(LiteralLMul(fmt=fmt, multiplier=policy), printed(fmt, policy))


def test_difference_is_found(prove):
    """The two functions are not the same, nor are two offsets."""
    fmt = FloatFormat.parse("e5m10")
    with pytest.raises(BuildError, match="proof did fail"):
        prove(LMul(fmt=fmt, multiplier=Multiplier("lmul")), printed(fmt, Multiplier("lmul")))
    with pytest.raises(BuildError, match="proof did fail"):
        prove(LiteralLMul(fmt=fmt, multiplier=Multiplier("lmul-65")), printed(fmt, Multiplier("lmul-64")))
