"""Tapes at the edges: what is a number of a kind, and that each lane meets it."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from terngen.hw.contract import formats
from terngen.hw.contract.config import PRESETS, ArrayVariant
from terngen.hw.contract.floats import FloatFormat
from terngen.hw.contract.formats import Multiplier
from terngen.sim import edges
from terngen.sim.edges import close_roots, edge_tape, gate_tape, product_kinds, sum_kinds

CONFIG = dataclasses.replace(PRESETS["small"], hidden=64, wide=256, rows=256, state=128, slots=2)
FMT    = FloatFormat(5, 6)

#: Of :func:`product_kinds`: a product below the smallest value that is rounded to it; one that rounding takes over the
#: largest; one that has a tie, and goes down, or up.
LIFTED, TOPPED = 1 << 0, 1 << 5
TIED_DOWN, TIED_UP = 1 << 16 | 1 << 18, 1 << 17 | 1 << 19


def pairs(count: int = 50_000) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.random.default_rng(1).integers(0, FMT.largest + 1, (2, count)))


def floats(codes: np.ndarray) -> np.ndarray:
    return formats.to_float(FMT, codes)


def test_product_kinds():
    a, b  = pairs()
    kinds = product_kinds(FMT, a, b)
    exact, made = floats(a) * floats(b), formats.multiply(FMT, a, b, Multiplier("exact"))
    lowest, highest = floats(np.array([FMT.smallest, FMT.largest]))
    lifted = (exact < lowest) & (made == FMT.smallest)
    assert lifted.any() and ((kinds & LIFTED != 0) == lifted).all()
    assert (kinds & TOPPED != 0).any() and (made[kinds & TOPPED != 0] == FMT.largest).all()
    inside = (exact >= lowest) & (exact <= highest)
    halves = np.where(inside, exact * 2.0 ** (FMT.mantissa_bits + 1 - np.frexp(exact + ~inside)[1]), 0) * 2
    for kind, rest in (TIED_DOWN, 1), (TIED_UP, 3):
        wanted = halves % 4 == rest
        assert wanted.any() and ((kinds & kind != 0) == wanted)[inside].all()


def test_sum_kinds():
    """A difference that loses so many places, and a distance."""
    a, b  = pairs()
    kinds = sum_kinds(FMT, a, formats.negate(FMT, b))
    field = [codes >> FMT.mantissa_bits for codes in (a, b)]
    same  = (field[0] == field[1]) & (field[0] > 12) & (a != b)      # nothing is rounded, nothing flushed
    lost  = field[0] - (formats.subtract(FMT, a, b) >> FMT.mantissa_bits & 31)
    assert same.sum() > 100 and (kinds[same] >> 51 + lost[same] & 1).all()
    for distance in range(FMT.mantissa_bits + 3):
        there = (np.abs(field[0] - field[1]) == distance) & (np.minimum(*field) > 0) & (a != b)
        assert there.any() and (kinds[there] >> 32 + distance & 1).all()


def test_close_roots():
    """Of no other operand the root is as close to the middle between two codes."""
    size   = formats.root_bits(FMT)
    chosen = close_roots(FMT, 20)
    power  = FMT.mantissa_bits + 1 + size // 2

    def off(operand: int) -> Fraction:
        root = int(2.0 ** power / np.sqrt(operand)) | 1
        return abs(Fraction((1 << 2 * power) - root * root * operand, operand * root))

    others = np.random.default_rng(2).integers(1 << size - 2, 1 << size, 300)
    worst  = max(map(off, chosen.tolist()))
    assert min(off(other) for other in others.tolist() if other not in chosen) >= worst


@pytest.mark.parametrize("change", [{}, {"path": FloatFormat(8, 7), "embedding": FloatFormat(4, 3)},
                                    {"variant": ArrayVariant.TRIPLES, "row_lanes": 1, "slots": 1, "lanes": 4}])
def test_valid(change):
    for make in edge_tape, gate_tape:
        make(dataclasses.replace(CONFIG, **change), 1, rounds=1).check()


def test_each_lane():
    """Multipliers meet what rounding takes over an edge, in each lane."""
    writer = edges._Edges(CONFIG, 0, 24)
    writer.tape(4, 1)
    for lane in range(CONFIG.lanes):
        assert writer.seen["tail", lane] & LIFTED and writer.seen["tail", lane] & TOPPED
        assert writer.seen["glu", lane] & 0x1F
        for unit in "dequantise", "tail":
            assert writer.seen[unit, lane] & TIED_DOWN and writer.seen[unit, lane] & TIED_UP, unit


def test_gates():
    """Multipliers that take a gate, or what comes of it, meet ties and nearly all rests of one bit, in each lane."""
    writer = edges._Gates(CONFIG, 0, 24)
    writer.tape(8, 1)
    bits   = CONFIG.path.mantissa_bits
    single = ((1 << bits - 1) - 1) << 20 | ((1 << bits) - 1) << 36
    for unit in "glu", "recurrence", "silu of h", "output":
        for lane in range(CONFIG.lanes):
            seen = writer.seen[unit, lane]
            assert seen & TIED_DOWN == TIED_DOWN and seen & TIED_UP == TIED_UP, unit
            assert (single & ~seen).bit_count() <= 2, unit
