"""Bench of the multiplication whose product is selected. ``MULTIPLIERS`` in the environment names them.

The unit has no streams: it takes a pair and gives a product in every cycle.
"""

import os

import cocotb
import numpy as np
from cocotb.triggers import ReadOnly, RisingEdge

from terngen.hw.contract import formats
from terngen.hw.contract.formats import Multiplier
from terngen.sim.benches.floats import codes, corners, every_pair, fmt, rng
from terngen.sim.cocotb_stream import reset

LATENCY     = int(os.environ["LATENCY"])
MULTIPLIERS = [Multiplier.parse(name) for name in os.environ["MULTIPLIERS"].split(",")]


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(product=range(len(MULTIPLIERS)))
async def matches_contract(dut, product):
    some = rng.permutation(np.stack(every_pair(corners())), axis=1)[:, :300]
    a, b = np.concatenate([np.stack([codes(300), codes(300)]), some], axis=1)
    dut.product.value = product
    await reset(dut)
    actual = []
    for pair in [*zip(a.tolist(), b.tolist()), *[(0, 0)] * LATENCY]:
        await RisingEdge(dut.clk)
        dut.a.value, dut.b.value = pair
        await ReadOnly()
        actual.append(dut.o.value)
    actual   = np.array([int(value) for value in actual[LATENCY:]])
    expected = formats.multiply(fmt, a, b, MULTIPLIERS[product])
    wrong    = np.flatnonzero(actual != expected)
    assert not len(wrong), (f"{len(wrong)} of {len(a)} products are wrong; that of {a[wrong[0]]:#x} and "
                            f"{b[wrong[0]]:#x} must be {expected[wrong[0]]:#x}, not {actual[wrong[0]]:#x}")
