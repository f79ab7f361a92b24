"""Tapes that no model would make: the gateware computes what the golden machine does."""

import dataclasses

import numpy as np
import pytest

from terngen.host.device import Device
from terngen.hw.contract.config import PRESETS, ArrayVariant, Config, Sites
from terngen.hw.contract.formats import FloatFormat, Multiplier
from terngen.hw.contract.tape import Op, walk
from terngen.sim.bench import Bench
from terngen.sim.device import GoldenTransport
from terngen.sim.hostile import MADE_WITH, hostile_tape, twin_tape
from terngen.sim.memory import MemoryModel

CONFIG = dataclasses.replace(PRESETS["small"], hidden=64, wide=256, rows=256, state=128, slots=2)


def test_valid():
    """Every operation is there; the same seed gives the same tape, another one another."""
    tapes = [hostile_tape(CONFIG, seed) for seed in range(4)]
    for tape in tapes:
        tape.check()
    ops = {fields["opcode"] for tape in tapes for _, fields, _ in walk(CONFIG, tape.image, tape.marks["layers"])}
    assert ops == set(Op) - {Op.EMBED}
    assert hostile_tape(CONFIG, 1).image.tobytes() == tapes[1].image.tobytes() != tapes[2].image.tobytes()


def test_twins():
    """There are two of each that are the best."""
    tape   = twin_tape(CONFIG, 0)
    device = Device(GoldenTransport(CONFIG), tape)
    device.load()
    device.step({slot: MADE_WITH + slot for slot in range(CONFIG.slots)}, reset=range(CONFIG.slots))
    for slot in range(CONFIG.slots):
        sums = device.results(slot).sums
        assert (sums[::2] == sums[1::2]).all() and sums[0] > sums[-1]


def gate(config: Config, seed: int):
    """Some steps of a tape; every value inside is compared."""
    tape = hostile_tape(config, seed)
    rng  = np.random.default_rng(seed)
    with Bench(tape, memory=MemoryModel(latency=7, refresh_period=301, refresh_pause=13, stall=0.1), direct=True,
               link_stall=0.1, seed=seed) as bench:
        bench.device.load()
        for step in range(6):
            tokens = {slot: (step * config.slots + slot) % 24 for slot in range(config.slots)}
            bench.device.step(tokens, reset=[slot for slot in tokens if step == 0 or rng.random() < 0.2],
                              states=dict.fromkeys(tokens, 0) if step == 4 else None)
            for slot in tokens:
                bench.device.results(slot)
        outcome = bench.gate()
    assert (outcome["gate"], outcome["mismatches"]) == ("pass", 0)
    assert outcome["values_compared"] > 10_000


@pytest.mark.parametrize("seed", range(3))
def test_gate(seed):
    gate(CONFIG, seed)


VARIANTS = {
    "table":   {"variant": ArrayVariant.TABLE, "row_lanes": 1, "slots": 3, "lanes": 4},
    "triples": {"variant": ArrayVariant.TRIPLES, "row_lanes": 1, "slots": 1},
    "lmul":    {"sites": Sites.all(Multiplier("lmul-unbiased")), "top_k": 1, "lanes": 1},
    "bfloat":  {"path": FloatFormat(8, 7), "embedding": FloatFormat(4, 3),
                "sites": Sites(gate=Multiplier("lmul"), square=Multiplier("lmul"))},
    "narrow":  {"beat_bits": 16, "row_lanes": 1, "path": FloatFormat(5, 10), "slots": 5, "top_k": 3},
}


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(variant, seed):
    gate(dataclasses.replace(CONFIG, **VARIANTS[variant]), seed)
