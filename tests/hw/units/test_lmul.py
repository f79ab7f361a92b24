"""L-Mul, as an addition and as its formula is printed.

Formats of 8 bits are tried in full here, after synthesis; ``tests/formal`` has proofs for the wider ones. Latency,
throughput and stalls are tried in the bench of the multipliers.
"""

import numpy as np
import pytest
from amaranth.back import rtlil

from terngen.hw.contract import formats
from terngen.hw.contract.formats import EXACT, PATH, FloatFormat, Multiplier
from terngen.hw.units.dot import Dot
from terngen.hw.units.literal import LiteralLMul
from terngen.hw.units.lmul import LMul
from terngen.hw.units.multiply import ExactMultiply, Multiply
from terngen.sim.gates import Gates

each_form   = pytest.mark.parametrize("unit, function", [(LMul, formats.multiply),
                                                         (LiteralLMul, formats.multiply_literal)])
each_format = pytest.mark.parametrize("fmt", ["e4m3", "e5m2", "e3m4", "e2m5", "e6m1"])

#: All pairs of codes of 8 bits.
PAIRS = dict(zip("ab", (values.ravel() for values in np.meshgrid(np.arange(256), np.arange(256)))))


@each_form
@each_format
@pytest.mark.parametrize("policy", ["lmul", "lmul-unbiased", "lmul-mitchell", "lmul-1"])
def test_all_pairs(unit, function, fmt, policy):
    fmt, multiplier = FloatFormat.parse(fmt), Multiplier(policy)
    found = Gates(unit(fmt=fmt, multiplier=multiplier)).evaluate(PAIRS)["o"]
    assert np.array_equal(found, function(fmt, PAIRS["a"], PAIRS["b"], multiplier))


@each_format
def test_all_pairs_of_exact(fmt):
    """What L-Mul is compared with."""
    fmt   = FloatFormat.parse(fmt)
    found = Gates(ExactMultiply(fmt=fmt)).evaluate(PAIRS)["o"]
    assert np.array_equal(found, formats.multiply(fmt, PAIRS["a"], PAIRS["b"], EXACT))


@each_format
def test_edges(fmt):
    """What the page says of zeros, of what is too small or too large, and of the highest exponent."""
    fmt    = FloatFormat.parse(fmt)
    minus  = fmt.largest + 1
    zeros  = np.r_[:fmt.smallest, minus:minus + fmt.smallest]     # subnormals of other formats are among them
    others = np.r_[fmt.smallest:fmt.largest + 1]
    for unit, function in ((LMul, formats.multiply), (LiteralLMul, formats.multiply_literal)):
        gates = Gates(unit(fmt=fmt, multiplier=Multiplier("lmul")))

        def products(a, b, gates=gates, function=function):
            a, b  = np.broadcast_arrays(a, b)
            found = gates.evaluate({"a": a.ravel(), "b": b.ravel()})["o"].reshape(a.shape)
            assert np.array_equal(found, function(fmt, a, b, Multiplier("lmul")))
            return found

        assert not products(zeros[:, None], np.arange(256)).any()
        assert not products(np.array([fmt.smallest]), np.array([fmt.one - fmt.smallest])).any()
        assert not products(np.array([fmt.smallest | minus]), np.array([fmt.one - fmt.smallest])).any()
        # The smallest mantissa of the highest exponent, an infinity elsewhere, is a value like others.
        top = fmt.largest - fmt.smallest + 1
        assert products(np.array([top]), np.array([fmt.one])) == top + Multiplier("lmul").offset(fmt)
        assert products(np.array([top]), np.array([fmt.one + fmt.smallest])) == fmt.largest
        assert products(np.array([top | minus]), np.array([fmt.one + fmt.smallest])) == fmt.largest | minus
        assert (products(others, np.array([fmt.largest])) >= others).all()


@each_form
@pytest.mark.parametrize("policy", ["lmul", "lmul-unbiased", "lmul-mitchell", "lmul-5"])
def test_has_no_multiplier(unit, function, policy):
    assert "$mul" not in rtlil.convert(unit(fmt=PATH, multiplier=Multiplier(policy)))


def test_dot_has_no_multiplier():
    assert "$mul" not in rtlil.convert(Dot(fmt=FloatFormat(8, 7), multiplier=Multiplier("lmul")))


def test_multiplier_is_found():
    """The product of the exact multiplier is what the test above looks for."""
    assert "$mul" in rtlil.convert(Multiply(fmt=PATH, multiplier=Multiplier("exact")))


def test_multiplier_wrong():
    with pytest.raises(ValueError, match=r"^Multiplier of L-Mul must be one of the lmul policies, not exact"):
        LMul(fmt=PATH, multiplier=EXACT)
    with pytest.raises(ValueError, match=r"^Multiplier of the literal formula must be one of the lmul policies, not e"):
        LiteralLMul(fmt=PATH, multiplier=EXACT)
    with pytest.raises(ValueError, match=r"^Multiplier of a dot product must be one of the lmul policies, not exact"):
        Dot(fmt=PATH, multiplier=EXACT)


def test_offset_wrong():
    with pytest.raises(ValueError, match=r"^Offset of lmul-8 must be less than one \(8 steps\) in e4m3, not 8"):
        LMul(fmt=FloatFormat(4, 3), multiplier=Multiplier("lmul-8"))
