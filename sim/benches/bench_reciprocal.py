"""Bench of the reciprocal."""

import os
import random

import cocotb
import numpy as np

from terngen.hw.contract import formats
from terngen.sim.benches.floats import codes, corners, fmt
from terngen.sim.cocotb_stream import Sink, Source, reset


async def compare(dut, magnitudes, *, i_stall=0.0, o_stall=0.0):
    """Send magnitudes, and hold every result against the contract."""
    chance = random.Random(int(os.environ["SEED"]))
    source = Source(dut, "i", stall=lambda: chance.random() < i_stall)
    sink   = Sink(dut, "o", stall=lambda: chance.random() < o_stall)
    await reset(dut)
    cocotb.start_soon(source.put(magnitudes.tolist()))
    actual   = np.array([payload.to_unsigned() for payload in await sink.get(len(magnitudes))])
    expected = formats.reciprocal127(fmt, magnitudes)
    wrong    = np.flatnonzero(actual != expected)
    assert not len(wrong), (f"{len(wrong)} of {len(magnitudes)} results are wrong; that of "
                            f"{magnitudes[wrong[0]]:#x} must be {expected[wrong[0]]:#x}, "
                            f"not {actual[wrong[0]]:#x}")
    return source, sink


@cocotb.test(timeout_time=10, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.9], o_stall=[0, 0.9])
async def matches_contract(dut, i_stall, o_stall):
    source, sink = await compare(dut, codes(150) & fmt.largest, i_stall=i_stall, o_stall=o_stall)
    if not i_stall and not o_stall:
        latency = int(os.environ["LATENCY"])
        assert sink.cycles[0] - source.cycles[0] == latency
        assert set(np.diff(sink.cycles)) == {latency}


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def every_mantissa_and_corners(dut):
    mantissas = np.arange(min(fmt.smallest, 2048)) * max(fmt.smallest // 2048, 1)
    exponents = np.arange(len(mantissas)) % (1 << fmt.exponent_bits)
    await compare(dut, np.concatenate([corners() & fmt.largest,
                                       mantissas | exponents << fmt.mantissa_bits]))
