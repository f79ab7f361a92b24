"""Bench of the conversion from integers. ``WIDTH`` in the environment is the width of the integers."""

import os

import cocotb
import numpy as np

from terngen.hw.contract import formats
from terngen.sim.benches.floats import compare, fmt, rng

COUNT = 250

width     = int(os.environ["WIDTH"])
low, high = -1 << width - 1, (1 << width - 1) - 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.4], o_stall=[0, 0.4])
async def matches_contract(dut, i_stall, o_stall):
    # As many of each length.
    values = rng.integers(low, high, COUNT, endpoint=True) >> rng.integers(0, width, COUNT)
    await compare(dut, (values,), formats.from_int(fmt, values), width=width, i_stall=i_stall, o_stall=o_stall)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def corner_values(dut):
    powers = 1 << np.arange(width)
    values = np.concatenate([sign * powers + step for sign in (-1, 1) for step in (-1, 0, 1)])
    values = np.concatenate([values.clip(low, high), [low, low + 1, high - 1, high]])
    await compare(dut, (values,), formats.from_int(fmt, values), width=width)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def ties(dut):
    """Integers half a place between two floats, and a step before and after that."""
    places = np.arange(max(0, width - 1 - fmt.mantissa_bits - 2)).repeat(20)
    kept   = rng.integers(fmt.smallest, 2 * fmt.smallest, len(places))
    values = ((2 * kept + 1) << places) + rng.integers(-1, 2, len(places))
    values = np.concatenate([values, [0]]) * rng.choice([-1, 1], len(places) + 1)
    await compare(dut, (values,), formats.from_int(fmt, values), width=width)
