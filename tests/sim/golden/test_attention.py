"""The attention head: against float32, and with its dot products on the gateware."""

import random

import numpy as np
import pytest

from terngen.hw.contract import formats
from terngen.hw.contract.formats import FloatFormat, Multiplier
from terngen.hw.units.dot import Dot
from terngen.sim import stream
from terngen.sim.golden.attention import attend, attend_float


def exact_dot(fmt, a, b, multiplier):
    return (formats.to_float(fmt, a) * formats.to_float(fmt, b)).sum(-1) / 2.0**formats.dot_format(fmt)[1]


def drawn(seed, tokens, width):
    return np.random.default_rng(seed).normal(size=(3, tokens, width))


def test_float():
    """By the definition, one query at a time."""
    q, k, v = drawn(1, 9, 5)
    results, weights = attend_float(q, k, v)
    assert results.dtype == weights.dtype == np.float32
    for place in range(9):
        powers = np.exp(q[place] @ k[:place + 1].T / np.sqrt(5))
        assert weights[place, :place + 1] == pytest.approx(powers / powers.sum(), rel=1e-5)
        assert not weights[place, place + 1:].any()
        assert results[place] == pytest.approx(powers @ v[:place + 1] / powers.sum(), rel=1e-4, abs=1e-6)


def test_exact_products():
    """In a fine format, with exact products, the head is that of float32."""
    q, k, v = drawn(2, 12, 16)
    results, weights = attend(FloatFormat(8, 15), q, k, v, Multiplier("lmul"), dot=exact_dot)
    expected = attend_float(q, k, v)
    assert results == pytest.approx(expected[0], abs=2e-4)
    assert weights == pytest.approx(expected[1], abs=1e-4)


@pytest.mark.parametrize("name, multiplier, bound", [("e8m7", "lmul", 0.06), ("e8m7", "lmul-unbiased", 0.05),
                                                     ("e4m3", "lmul", 0.10), ("e4m3", "lmul-unbiased", 0.09)])
def test_error(name, multiplier, bound):
    """What docs/lmul.md says, with some room for the numbers that are drawn."""
    q, k, v  = drawn(3, 48, 64)
    expected = attend_float(q, k, v)[0]
    results  = attend(FloatFormat.parse(name), q, k, v, Multiplier(multiplier))[0]
    assert np.sqrt(((results - expected)**2).mean() / (expected**2).mean()) < bound


@pytest.mark.parametrize("name, multiplier", [("e4m3", "lmul"), ("e8m7", "lmul-unbiased")])
def test_gateware(name, multiplier):
    """Scores and weighted sums come from the unit, which stalls now and then, and the results are the same."""
    rng  = random.Random(name)
    sums = []

    def on_gateware(fmt, a, b, multiplier):
        a, b   = np.broadcast_arrays(a, b)
        dut    = Dot(fmt=fmt, multiplier=multiplier)
        pairs  = [{"a": int(x), "b": int(y), "last": place == a.shape[-1] - 1}
                  for first, second in zip(a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]))
                  for place, (x, y) in enumerate(zip(first, second))]
        found  = []

        async def producer(ctx):
            await stream.put(ctx, dut.i, pairs, stall=lambda: rng.random() < 0.1)

        async def consumer(ctx):
            found.extend(await stream.get(ctx, dut.o, a.size // a.shape[-1], stall=lambda: rng.random() < 0.1))

        stream.run(dut, producer, consumer)
        sums.extend(found)
        return np.array(found).reshape(a.shape[:-1])

    head = (FloatFormat.parse(name), *drawn(4, 8, 8), Multiplier(multiplier))
    for found, expected in zip(attend(*head, dot=on_gateware), attend(*head)):
        assert np.array_equal(found, expected)
    assert len(sums) == 8 * 8 + 8 * 9
