"""Bench of the float adder."""

import cocotb
import numpy as np

from terngen.hw.contract import formats
from terngen.sim.benches.floats import codes, compare, corners, edges, every_pair, fmt, rng

COUNT = 250


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.4], o_stall=[0, 0.4])
async def matches_contract(dut, i_stall, o_stall):
    a, b = codes(COUNT), codes(COUNT)
    await compare(dut, (a, b), formats.add(fmt, a, b), i_stall=i_stall, o_stall=o_stall)


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def corner_pairs(dut):
    # A format small enough is tried in full.
    a, b = every_pair(np.arange(1 << fmt.width) if fmt.width <= 8 else corners())
    await compare(dut, (a, b), formats.add(fmt, a, b))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def ties(dut):
    """The smaller addend ends half a place below the larger, or a step before or after that."""
    distance    = rng.integers(1, min(fmt.mantissa_bits + 2, 2 * fmt.bias), COUNT)
    exponent    = rng.integers(distance + 1, 1 << fmt.exponent_bits)
    large       = exponent << fmt.mantissa_bits | rng.integers(0, fmt.smallest, COUNT)
    half        = 1 << distance - 1
    significand = rng.integers(fmt.smallest, 2 * fmt.smallest, COUNT) & -2 * half | half
    small       = (exponent - distance - 1 << fmt.mantissa_bits) + significand + rng.integers(-1, 2, COUNT)
    small       = small | rng.integers(0, 2, COUNT) << fmt.width - 1
    await compare(dut, (large, small), formats.add(fmt, large, small))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def cancellation(dut):
    """Differences of neighbours, which lose any number of leading bits."""
    a    = rng.integers(fmt.smallest, fmt.largest + 1, COUNT)
    step = rng.integers(-(2 << fmt.mantissa_bits), 2 << fmt.mantissa_bits, COUNT)
    b    = np.clip(a + (step >> rng.integers(0, fmt.mantissa_bits + 2, COUNT)), 0, fmt.largest)
    flip = rng.integers(0, 2, COUNT) << fmt.width - 1
    a, b = a ^ flip, b ^ flip ^ 1 << fmt.width - 1
    await compare(dut, (a, b), formats.add(fmt, a, b))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def over_edges(dut):
    """Sums that rounding takes over the largest value or into the next binade, or just not."""
    wanted = edges(3 * COUNT)
    large  = formats.from_float(fmt, wanted - 2.0 ** (np.frexp(wanted)[1] - fmt.mantissa_bits - 2))
    small  = formats.from_float(fmt, wanted - formats.to_float(fmt, large))
    await compare(dut, (large, small), formats.add(fmt, large, small))
