"""Float multipliers. What they compute is held against the contract in their bench."""

import pytest

from terngen.hw.contract.formats import PATH, Multiplier
from terngen.hw.units.lmul import LMul
from terngen.hw.units.multiply import ExactMultiply, Multiply


@pytest.mark.parametrize("policy, unit", [("exact", ExactMultiply), ("lmul", LMul), ("lmul-unbiased", LMul)])
def test_latency_is_that_of_the_choice(policy, unit):
    assert Multiply(fmt=PATH, multiplier=Multiplier(policy)).LATENCY == unit.LATENCY
