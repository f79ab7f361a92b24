"""The bench of the ternary array, in every variant."""

import json

import pytest

from terngen.hw.contract.config import ArrayVariant, Config
from terngen.hw.units import table
from terngen.hw.units.array import ternary_array
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("beat_bits, row_lanes, lanes, slots", [
    (16, 1, 1, 3),
    (64, 2, 2, 1),
    (128, 4, 8, 1),
])
def test_tree(beat_bits, row_lanes, lanes, slots):
    config = Config(beat_bits=beat_bits, row_lanes=row_lanes, lanes=lanes, slots=slots, hidden=16, wide=112, rows=64)
    run_bench(ternary_array(config), "bench_array", env={"CONFIG": json.dumps(config.to_dict())})


# Builders that read a part of a lane group, a lane group and several of them; tables of one slot, of
# three slots in a word and of more.
@pytest.mark.parametrize("beat_bits, row_lanes, builders, lanes, slots", [
    (16, 2, 1, 1, 1),
    (32, 1, 1, 4, 3),
    (32, 1, 2, 2, 1),
    (64, 2, 4, 1, 8),
    (64, 4, 2, 2, 3),
])
def test_table(beat_bits, row_lanes, builders, lanes, slots):
    config = Config(variant=ArrayVariant.TABLE, beat_bits=beat_bits, row_lanes=row_lanes, builders=builders,
                    lanes=lanes, slots=slots, hidden=16, wide=48, rows=64)
    run_bench(ternary_array(config), "bench_array", env={"CONFIG": json.dumps(config.to_dict())})


def test_table_without_places(monkeypatch):
    """Where a matrix has too many blocks, places of digits are added up."""
    monkeypatch.setattr(table, "has_places", lambda config: False)
    config = Config(variant=ArrayVariant.TABLE, beat_bits=32, row_lanes=1, builders=2, lanes=2, slots=1, hidden=16,
                    wide=48, rows=64)
    run_bench(ternary_array(config), "bench_array", env={"CONFIG": json.dumps(config.to_dict())})


# Octets alone, in pairs and in more, several rows, and lane groups that are read in parts and together.
@pytest.mark.parametrize("beat_bits, row_lanes, lanes, slots", [
    (16, 2, 2, 2),
    (32, 2, 1, 3),
    (64, 1, 4, 1),
    (128, 2, 16, 1),
])
def test_triples(beat_bits, row_lanes, lanes, slots):
    config = Config(variant=ArrayVariant.TRIPLES, beat_bits=beat_bits, row_lanes=row_lanes, lanes=lanes, slots=slots,
                    hidden=32, wide=112, rows=64)
    run_bench(ternary_array(config), "bench_array", env={"CONFIG": json.dumps(config.to_dict())})
