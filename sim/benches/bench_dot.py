"""Bench of the dot product. ``MULTIPLIER`` in the environment names the multiplier."""

import os
import random

import cocotb
import numpy as np
from amaranth.lib import data

from terngen.hw.contract import formats
from terngen.hw.contract.formats import Multiplier
from terngen.sim.benches.floats import codes, corners, fmt, rng
from terngen.sim.cocotb_stream import Sink, Source, reset

multiplier = Multiplier.parse(os.environ["MULTIPLIER"])
PAIR = data.StructLayout({"a": fmt.width, "b": fmt.width, "last": 1})


async def compare(dut, vectors, *, i_stall=0.0, o_stall=0.0, begin=()):
    """Send pairs of vectors one after the other, and hold every sum against the contract.

    Before them comes a beginning without an end, which a reset makes forgotten.
    """
    chance = random.Random(int(os.environ["SEED"]))
    source = Source(dut, "i", stall=lambda: chance.random() < i_stall, shape=PAIR)
    if begin:
        await reset(dut)
        await source.put(begin)
    sink   = Sink(dut, "o", stall=lambda: chance.random() < o_stall)
    await reset(dut)
    pairs  = [{"a": int(x), "b": int(y), "last": index == len(a) - 1} for a, b in vectors
              for index, (x, y) in enumerate(zip(a, b))]
    cocotb.start_soon(source.put(pairs))
    actual   = [payload.to_signed() for payload in await sink.get(len(vectors))]
    expected = [int(formats.dot(fmt, a, b, multiplier)) for a, b in vectors]
    assert actual == expected
    return source, sink


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.4], o_stall=[0, 0.4])
async def matches_contract(dut, i_stall, o_stall):
    vectors = [(codes(length), codes(length)) for length in (1, 1, 2, 300, 1, 17, *rng.integers(1, 40, 10))]
    await compare(dut, vectors, i_stall=i_stall, o_stall=o_stall)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def throughput(dut):
    """A pair in each cycle, vectors without a pause between them, and the promised latency."""
    vectors = [(codes(length), codes(length)) for length in (5, 1, 1, 8)]
    source, sink = await compare(dut, vectors)
    ends = np.cumsum([len(a) for a, _ in vectors]) - 1
    assert source.cycles[-1] - source.cycles[0] == ends[-1]
    assert [out - source.cycles[end] for out, end in zip(sink.cycles, ends)] == [int(os.environ["LATENCY"])] * 4


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def products(dut):
    """Vectors of one pair, of all corners: each place of the sum, what is cut off and what is above."""
    values = corners()
    scales = np.arange(1 << fmt.exponent_bits) << fmt.mantissa_bits
    ones   = np.concatenate([scales | rng.integers(0, fmt.smallest, len(scales)), values])
    await compare(dut, [([x], [y]) for x in values for y in ones])


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def saturation(dut):
    """Sums that end at either limit, and come back from it."""
    large, minus = fmt.largest, fmt.largest | 1 << fmt.width - 1
    signs = rng.integers(0, 2, 400)
    await compare(dut, [([large] * 40, [large] * 40), ([large] * 40, [minus] * 40),
                        ([large] * 40 + [large] * 50, [large] * 40 + [minus] * 50),
                        (np.where(signs, large, minus), codes(400) | fmt.largest & ~(fmt.largest >> 2))])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def resumes_after_reset(dut):
    """A vector that a reset interrupts leaves nothing behind."""
    await compare(dut, [([fmt.one], [fmt.one + 1])], begin=[{"a": fmt.one, "b": fmt.one, "last": 0}] * 7)
