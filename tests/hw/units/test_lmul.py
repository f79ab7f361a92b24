# amaranth: UnusedElaboratable=no
"""L-Mul. What it computes is held against the contract in the bench of the multipliers."""

import pytest
from amaranth.back import rtlil

from terngen.hw.contract.formats import PATH, FloatFormat, Multiplier
from terngen.hw.units.lmul import LMul
from terngen.hw.units.multiply import Multiply


@pytest.mark.parametrize("policy", ["lmul", "lmul-unbiased", "lmul-mitchell", "lmul-5"])
def test_has_no_multiplier(policy):
    assert "$mul" not in rtlil.convert(LMul(fmt=PATH, multiplier=Multiplier(policy)))


def test_multiplier_is_found():
    """The product of the exact multiplier is what the test above looks for."""
    assert "$mul" in rtlil.convert(Multiply(fmt=PATH, multiplier=Multiplier("exact")))


def test_multiplier_wrong():
    with pytest.raises(ValueError, match=r"^Multiplier of L-Mul must be one of the lmul policies, not exact"):
        LMul(fmt=PATH, multiplier=Multiplier("exact"))


def test_offset_wrong():
    with pytest.raises(ValueError, match=r"^Offset of lmul-8 must be less than one \(8 steps\) in e4m3, not 8"):
        LMul(fmt=FloatFormat(4, 3), multiplier=Multiplier("lmul-8"))
