"""Bench of the float multipliers.

``MULTIPLIER`` in the environment names the multiplier, ``FUNCTION`` that of :mod:`terngen.hw.contract.formats`.
"""

import os

import cocotb
import numpy as np

from terngen.hw.contract import formats
from terngen.hw.contract.formats import Multiplier
from terngen.sim.benches.floats import codes, compare, corners, edges, every_pair, fmt, rng

COUNT = 250

multiplier = Multiplier.parse(os.environ["MULTIPLIER"])
multiply   = getattr(formats, os.environ["FUNCTION"])


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.4], o_stall=[0, 0.4])
async def matches_contract(dut, i_stall, o_stall):
    a, b = codes(COUNT), codes(COUNT)
    await compare(dut, (a, b), multiply(fmt, a, b, multiplier), i_stall=i_stall, o_stall=o_stall)


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def corner_pairs(dut):
    # A format small enough is tried in full.
    a, b = every_pair(np.arange(1 << fmt.width) if fmt.width <= 8 else corners())
    await compare(dut, (a, b), multiply(fmt, a, b, multiplier))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def ties(dut):
    """Products that end half a place below the mantissa: the trailing zeros of the factors add up."""
    zeros  = rng.integers(0, fmt.mantissa_bits, COUNT)
    others = fmt.mantissa_bits - 1 + rng.integers(0, 2, COUNT) - zeros
    a, b   = (fmt.one | _mantissas(zeros), fmt.one | _mantissas(others))
    await compare(dut, (a, b), multiply(fmt, a, b, multiplier))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def limits(dut):
    """Products near the smallest and the largest value."""
    mantissas = rng.integers(0, fmt.smallest, (2, COUNT))
    exponent  = rng.integers(1, 1 << fmt.exponent_bits, COUNT)
    goal      = np.where(rng.integers(0, 2, COUNT) == 1, 0, (1 << fmt.exponent_bits) - 1)
    partner   = goal + fmt.bias + rng.integers(-2, 2, COUNT) - exponent
    keep      = (partner > 0) & (partner < 1 << fmt.exponent_bits)
    a = (exponent << fmt.mantissa_bits | mantissas[0])[keep]
    b = (partner << fmt.mantissa_bits | mantissas[1])[keep]
    await compare(dut, (a, b), multiply(fmt, a, b, multiplier))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def over_edges(dut):
    """Products that rounding takes over the edges of the format or of a binade, or just not."""
    a = rng.integers(fmt.smallest, fmt.largest + 1, 6 * COUNT)
    b = formats.from_float(fmt, edges(len(a)) / formats.to_float(fmt, a))
    await compare(dut, (a, b), multiply(fmt, a, b, multiplier))


def _mantissas(zeros):
    """Random mantissas of significands with so many trailing zeros."""
    above = rng.integers(0, fmt.smallest, len(zeros)) >> zeros << zeros
    return (above | 1 << zeros) & fmt.smallest - 1
