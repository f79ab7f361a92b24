"""What the benches of the float units share: operands worth trying, and the comparison itself.

A bench runs on a :class:`~terngen.hw.stream.Streamed` unit. It finds in its environment ``FORMAT``, the
name of the float format, ``LATENCY``, the cycles that the unit promises, and ``SEED``.
"""

import os
import random

import cocotb
import numpy as np

from terngen.hw.contract.formats import FloatFormat
from terngen.sim.cocotb_stream import Sink, Source, reset

__all__ = ["codes", "compare", "corners", "edges", "every_pair", "fmt", "rng"]

#: Format of the unit under test.
fmt = FloatFormat.parse(os.environ["FORMAT"])

#: Generator of the operands.
rng = np.random.default_rng(int(os.environ["SEED"]))


def codes(count):
    """Random codes, half of them within a few binades of one: int64 (count,)."""
    spread = min(4, fmt.bias) << fmt.mantissa_bits
    near   = fmt.one + rng.integers(-spread, spread, count) | rng.integers(0, 2, count) << fmt.width - 1
    return np.where(rng.integers(0, 2, count) == 1, near, rng.integers(0, 1 << fmt.width, count))


def corners():
    """Codes at the edges of the format, of both signs: int64 (n,).

    Among them are those that mean zero without being code 0.
    """
    magnitudes = np.unique([0, 1, fmt.smallest - 1,
                            fmt.smallest, fmt.smallest + 1, 2 * fmt.smallest - 1,
                            fmt.one - fmt.smallest, fmt.one - 1, fmt.one, fmt.one + 1,
                            fmt.one + fmt.smallest // 2, fmt.one + fmt.smallest - 1,
                            fmt.largest - fmt.smallest, fmt.largest - 1, fmt.largest])
    return np.concatenate([magnitudes, magnitudes | 1 << fmt.width - 1])


def edges(count):
    """Magnitudes below the smallest value, below two, and at the largest value: float64 (count,).

    Their mantissas are all ones, or all but one, and quarters of a place, which take them over the edge or not.
    """
    significands = 2 * fmt.smallest - 1 ^ rng.integers(0, 2, count) << rng.integers(0, fmt.mantissa_bits, count)
    exponents    = rng.choice([0, fmt.bias, (1 << fmt.exponent_bits) - 1], count) - fmt.bias - fmt.mantissa_bits
    return (significands + rng.integers(0, 5, count) / 4) * 2.0 ** exponents


def every_pair(values):
    """All pairs of values: two int64 (n * n,)."""
    first, second = np.meshgrid(values, values, indexing="ij")
    return first.ravel(), second.ravel()


async def compare(dut, operands, expected, *, width=fmt.width, i_stall=0.0, o_stall=0.0):
    """Send operands, and hold every result against the expected one.

    Without stalls, latency and throughput are held against the promise as well.

    Parameters
    ----------
    operands : sequence of int64 (n,)
        One array per operand, the first in the lowest bits of the payload.
    expected : integers (n,)
    width : :class:`int`
        Bits of an operand.
    i_stall, o_stall : :class:`float`
        Probability that the producer or the consumer pauses in a cycle.
    """
    chance = random.Random(int(os.environ["SEED"]))
    source = Source(dut, "i", stall=lambda: chance.random() < i_stall)
    sink   = Sink(dut, "o", stall=lambda: chance.random() < o_stall)
    masked = [operand & (1 << width) - 1 for operand in operands]
    values = sum(operand << width * index for index, operand in enumerate(masked))

    await reset(dut)
    cocotb.start_soon(source.put(values.tolist()))
    actual = np.array([payload.to_unsigned() for payload in await sink.get(len(values))])
    expected = expected.astype(np.int64) & (1 << len(dut.o__payload)) - 1
    wrong    = np.flatnonzero(actual != expected)
    if wrong.size:
        first = wrong[0]
        given = ", ".join(hex(operand[first]) for operand in masked)
        raise AssertionError(f"{wrong.size} of {len(values)} results are wrong; result {first}, of {given}, "
                             f"must be {expected[first]:#x}, not {actual[first]:#x}")
    if not i_stall and not o_stall:
        assert sink.cycles[0] - source.cycles[0] == int(os.environ["LATENCY"])
        assert sink.cycles[-1] - sink.cycles[0] == len(values) - 1
