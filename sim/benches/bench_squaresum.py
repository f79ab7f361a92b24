"""Bench of the sum of squares and its inverse root."""

import os
import random

import cocotb
import numpy as np

from terngen.hw.contract import formats
from terngen.hw.units.squaresum import SquareSum
from terngen.sim.benches.floats import fmt, rng
from terngen.sim.cocotb_stream import Sink, Source, reset

LANES, SLOTS = int(os.environ["LANES"]), int(os.environ["SLOTS"])
SHAPE = SquareSum(fmt=fmt, lanes=LANES, slots=SLOTS).i.payload.shape()


def squares(count):
    """Random codes of the format of squares, in one of several manners."""
    wide = fmt.wide
    match rng.integers(5):
        case 0:
            values = rng.integers(0, wide.largest + 1, count)                       # any
        case 1:
            values = np.full(count, rng.integers(wide.smallest, wide.largest + 1))  # all the same
        case 2:
            values = np.where(rng.random(count) < 0.8, 0, rng.integers(0, wide.largest + 1, count))
        case 3:                                         # an even power of two, and a step beside it
            values = np.zeros(count, np.int64)
            values[-1] = (2 * rng.integers(1, 1 << wide.exponent_bits - 1) + 1 << wide.mantissa_bits
                          ) + rng.integers(-1, 2)
        case _:                                         # as in a norm
            value  = formats.from_float(fmt, rng.normal(0, 2.0 ** rng.integers(-8, 8), count))
            values = formats.square(fmt, value, formats.EXACT)
    return np.minimum(values, wide.largest)


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.4], o_stall=[0, 0.9])
async def matches_contract(dut, i_stall, o_stall):
    """Sums of all slots grow by turns; one that is begun again forgets what it was."""
    chance = random.Random(int(os.environ["SEED"]))
    source = Source(dut, "i", shape=SHAPE, stall=lambda: chance.random() < i_stall)
    sink   = Sink(dut, "o", stall=lambda: chance.random() < o_stall)
    totals = np.zeros((SLOTS, formats.bins(fmt)), np.int64)
    fresh  = [True] * SLOTS
    sent, expected, lasts = [], [], []
    for _ in range(int(os.environ["SUMS"])):
        slot  = int(rng.integers(SLOTS))
        terms = squares(LANES * int(rng.integers(1, 12)))
        last  = bool(rng.random() < 0.7)
        first = fresh[slot] or bool(rng.random() < 0.3)
        totals[slot] = formats.accumulate(fmt, np.zeros_like(totals[slot]) if first else totals[slot], terms)
        fresh[slot]  = last
        groups = terms.reshape(-1, LANES).tolist()
        for index, group in enumerate(groups):
            sent.append({"terms": group, "slot": slot, "first": first and index == 0,
                         "last": last and index == len(groups) - 1})
        if last:
            expected.append(int(formats.inverse_root(fmt, totals[slot])))
            lasts.append(len(sent) - 1)

    await reset(dut)
    cocotb.start_soon(source.put(sent))
    actual = [payload.to_unsigned() for payload in await sink.get(len(expected))]
    wrong  = [index for index, pair in enumerate(zip(actual, expected)) if pair[0] != pair[1]]
    assert not wrong, (f"{len(wrong)} of {len(expected)} roots are wrong; number {wrong[0]} must be "
                       f"{expected[wrong[0]]:#x}, not {actual[wrong[0]]:#x}")
    if not i_stall and not o_stall:
        for index, last in enumerate(lasts):
            assert sink.cycles[index] - source.cycles[last] == int(os.environ["LATENCY"])
        apart = np.diff(source.cycles)
        assert (np.delete(apart, [last for last in lasts if last < len(apart)]) == 1).all()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_forgets(dut):
    """A reset while a root is being found; what was summed before counts no more."""
    source, sink = Source(dut, "i", shape=SHAPE), Sink(dut, "o")
    one   = {"terms": [fmt.wide.one] * LANES, "slot": 0}
    await reset(dut)
    await source.put([{**one, "first": 1}, {**one, "last": 1}])
    for _ in range(5):
        await cocotb.triggers.RisingEdge(dut.clk)
    await reset(dut)
    await source.put([{**one, "last": 1}])
    actual, = await sink.get(1)
    assert actual.to_unsigned() == formats.from_float(fmt, 1 / np.sqrt(LANES))
