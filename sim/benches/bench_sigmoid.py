"""Bench of the logistic function."""

import cocotb
import numpy as np

from terngen.hw.contract import formats
from terngen.sim.benches.floats import codes, compare, corners, fmt, rng

COUNT = 250


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.4], o_stall=[0, 0.4])
async def matches_contract(dut, i_stall, o_stall):
    a = np.concatenate([codes(COUNT // 2), formats.from_float(fmt, rng.normal(0, 5, COUNT // 2))])
    await compare(dut, (a,), formats.sigmoid(fmt, a), i_stall=i_stall, o_stall=o_stall)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def corner_codes(dut):
    # A format small enough is tried in full.
    a = np.arange(1 << fmt.width) if fmt.width <= 10 else corners()
    await compare(dut, (a,), formats.sigmoid(fmt, a))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def every_cell(dut):
    """Where each cell of the table begins, or the code before that, of both signs."""
    edges = [np.linspace(first, last, cells, endpoint=False)
             for first, last, cells in [(0, 1, 512), (1, 2, 256), (2, 4, 512), (4, 8, 512), (8, 16, 256)]]
    begin = np.unique(formats.from_float(fmt, np.concatenate([*edges, [16.0, 17.0]])))
    a     = np.concatenate([begin, begin | 1 << fmt.width - 1])
    a     = a - rng.integers(0, 2, len(a)) * (a != 0)
    await compare(dut, (a,), formats.sigmoid(fmt, a))
