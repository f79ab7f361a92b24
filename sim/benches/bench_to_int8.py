"""Bench of the conversion to int8."""

import cocotb
import numpy as np

from terngen.hw.contract import formats
from terngen.sim.benches.floats import codes, compare, corners, fmt, rng

COUNT = 250


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.4], o_stall=[0, 0.4])
async def matches_contract(dut, i_stall, o_stall):
    a = np.concatenate([codes(COUNT // 2), formats.from_float(fmt, rng.uniform(-140, 140, COUNT // 2))])
    await compare(dut, (a,), formats.to_int8(fmt, a), i_stall=i_stall, o_stall=o_stall)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def corner_codes(dut):
    # A format small enough is tried in full.
    a = np.arange(1 << fmt.width) if fmt.width <= 10 else corners()
    await compare(dut, (a,), formats.to_int8(fmt, a))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def ties(dut):
    """Every multiple of a half up to 150, and the codes before and after it."""
    halves = formats.from_float(fmt, np.concatenate([np.arange(1, 301), -np.arange(1, 301)]) / 2)
    a      = np.concatenate([halves - 1, halves, halves + 1]) & (1 << fmt.width) - 1
    await compare(dut, (a,), formats.to_int8(fmt, a))
