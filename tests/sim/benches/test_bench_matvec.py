"""The bench of matrix times vector."""

import json

import pytest

from terngen.hw.contract.config import ArrayVariant, Config
from terngen.hw.units.matvec import MatVec
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("beat_bits, row_lanes, lanes, slots", [
    (16, 1, 1, 3),
    (64, 2, 2, 1),
    (64, 4, 8, 3),
    (128, 4, 2, 1),
])
def test_tree(beat_bits, row_lanes, lanes, slots):
    config = Config(beat_bits=beat_bits, row_lanes=row_lanes, lanes=lanes, slots=slots, hidden=16, wide=48, rows=64)
    run_bench(MatVec(config), "bench_matvec", env={"CONFIG": json.dumps(config.to_dict())})


@pytest.mark.parametrize("beat_bits, row_lanes, lanes, slots", [
    (16, 2, 1, 2),
    (64, 1, 4, 1),
])
def test_triples(beat_bits, row_lanes, lanes, slots):
    config = Config(variant=ArrayVariant.TRIPLES, beat_bits=beat_bits, row_lanes=row_lanes, lanes=lanes, slots=slots,
                    hidden=16, wide=100, rows=64)
    run_bench(MatVec(config), "bench_matvec", env={"CONFIG": json.dumps(config.to_dict())})


# With one table for a row, sums are announced in the very cycle of their beat.
@pytest.mark.parametrize("beat_bits, row_lanes, builders, lanes, slots, rows, wide", [
    (16, 2, 1, 4, 2, 516, 12),
    (32, 2, 2, 1, 1, 516, 20),
])
def test_table(beat_bits, row_lanes, builders, lanes, slots, rows, wide):
    config = Config(variant=ArrayVariant.TABLE, beat_bits=beat_bits, row_lanes=row_lanes, builders=builders,
                    lanes=lanes, slots=slots, hidden=8, wide=wide, rows=rows)
    run_bench(MatVec(config), "bench_matvec", env={"CONFIG": json.dumps(config.to_dict())})
