"""Memories and multipliers are counted as they are built."""

import collections
import dataclasses

import pytest
from amaranth.hdl import Fragment, MemoryInstance, Shape

from terngen.hw import area
from terngen.hw.contract.config import ArrayVariant, Config, Sites
from terngen.hw.contract.formats import Multiplier
from terngen.hw.top import Machine
from terngen.sim.area import ARRAYS, MACHINES, UNITS, measure

SMALL = {"hidden": 128, "wide": 512, "rows": 512, "state": 512}


def memories(fragment, path=()):
    """Width and depth of every memory, but for those of the trace and of queues of a few words."""
    if isinstance(fragment, MemoryInstance):
        data = fragment._data
        if not any("trace" in name or name == "queue" and "store" not in path for name in path):
            yield Shape.cast(data.shape).width, data.depth
    for child, name, _ in fragment.subfragments:
        yield from memories(child, (*path, name or ""))


@pytest.mark.parametrize("changes", [
    {},
    {"variant": ArrayVariant.TABLE, "slots": 4, "lanes": 4, "builders": 1},
    {"variant": ArrayVariant.TRIPLES, "slots": 2, "lanes": 1},
    {"beat_bits": 16, "row_lanes": 1, "lanes": 1, "prefetch": 1024},
    {"beat_bits": 32, "lanes": 8},
    {"beat_bits": 128, "row_lanes": 4, "lanes": 2, "slots": 2, "history": 64},
    {"beat_bits": 16, "lanes": 2, "embedding": Config().path, "readable": True},
], ids=["tree", "tables", "triples", "narrow", "lanes", "parts", "linked"])
def test_stores(changes):
    """Every memory of a machine is on the list, and nothing else."""
    config = Config(**SMALL, **changes)
    built  = collections.Counter(memories(Fragment.get(Machine(config), None)))
    listed = collections.Counter()
    for store in area.stores(config):
        listed[store.width, store.depth] += store.count
    assert listed == built


# What memory_libmap of Yosys makes of memories of these widths (rows) and depths (columns).
DEPTHS = [16, 32, 64, 128, 256, 384, 512, 1024, 2048, 4096]
CHOSEN = {
    4:   [0, 0, 0, 0, 0, 1, 1, 1, 1, 1],
    8:   [0, 0, 0, 0, 1, 1, 1, 1, 1, 2],
    16:  [0, 0, 0, 1, 1, 1, 1, 1, 2, 4],
    18:  [0, 0, 0, 1, 1, 1, 1, 1, 2, 4],
    33:  [0, 0, 1, 1, 1, 1, 1, 2, 4, 8],
    36:  [0, 0, 1, 1, 1, 1, 1, 2, 4, 8],
    64:  [0, 0, 2, 2, 2, 2, 2, 4, 8, 16],
    144: [0, 0, 4, 4, 4, 4, 4, 8, 16, 32],
    256: [0, 0, 8, 8, 8, 8, 8, 15, 29, 58],
}


@pytest.mark.parametrize("width", CHOSEN)
def test_blocks(width):
    assert [area.blocks(area.Store("", width, depth)) for depth in DEPTHS] == CHOSEN[width]
    assert area.blocks(area.Store("", width, 4096, at_once=True)) == 0


def test_distributed():
    """Memories of up to so many words have none."""
    config = Config(**SMALL)
    small  = sum(store.count * area.blocks(store) for store in area.stores(config) if store.depth <= 256)
    assert small > 0
    assert area.block_rams(config, distributed=256) == area.block_rams(config) - small


def test_tape_block_rams():
    """57 block RAMs of 9 bits for each 2048 beats of 512 bits, 15 of 36 for the rest."""
    assert area.tape_block_rams(Config(beat_bits=512), 6339) == 3 * 57 + 15


def test_dsps():
    """A multiplier for each exact product of a lane, and one for scales; none with L-Mul everywhere."""
    assert area.dsps(Config(lanes=4)) == 4 * 8 + 1
    assert area.dsps(Config(lanes=4, sites=Sites.all(Multiplier("lmul")))) == 0
    assert area.dsps(Config(lanes=2, sites=Sites(gate=Multiplier("lmul"), square=Multiplier("lmul")))) == 2 * 7 + 1


# What was synthesised. `python -m terngen.sim.area` does it again.
BASELINES = area.Baselines.read()
#: Growth of a unit by more than this must be meant, and then the baselines are made again.
DRIFT = 0.05
#: Units that take a second or two.
SHORT = ("add", "multiply", "to-int8", "reciprocal", "parameters", "player", "sums")


@pytest.mark.parametrize("name", ["arrays", "machines"])
def test_fits(name):
    """Look-up tables and flip-flops are within a tenth of what was synthesised; the others are exact."""
    model = area.Model(BASELINES)
    for each in getattr(BASELINES, name):
        found = model.array(each.config) if name == "arrays" else area.area(each.config)
        for key in ("lut", "ff"):
            assert found[key] == pytest.approx(getattr(each, key), rel=0.1), f"{key} of {each.config}"
    for each in BASELINES.machines:
        assert area.block_rams(each.config) == each.bram, each.config
        assert area.dsps(each.config) == each.dsp, each.config


def test_fits_others():
    """A machine is told by the others nearly as well; those with most slots, beyond all others, least."""
    for each in BASELINES.machines:
        others = [other for other in BASELINES.machines if other is not each]
        found  = area.Model(dataclasses.replace(BASELINES, machines=others)).machine(each.config)
        assert found["lut"] == pytest.approx(each.lut, rel=0.12), each.config
        assert found["ff"] == pytest.approx(each.ff, rel=0.03), each.config


def test_page(root):
    """docs/performance.md says how near the model is."""
    def worst(known, found):
        return 100 * max(abs(found(each)[key] / getattr(each, key) - 1) for each in known for key in ("lut", "ff"))

    def by_the_others(each):
        others = [other for other in BASELINES.machines if other is not each]
        return area.Model(dataclasses.replace(BASELINES, machines=others)).machine(each.config)

    text = " ".join((root / "docs/performance.md").read_text().split())
    assert f"fitted to {len(BASELINES.arrays)} arrays and {len(BASELINES.machines)} machines" in text
    arrays   = worst(BASELINES.arrays, lambda each: area.Model(BASELINES).array(each.config))
    machines = worst(BASELINES.machines, lambda each: area.area(each.config))
    others   = worst(BASELINES.machines, by_the_others)
    assert f"Each array is within {arrays:.1f} % of what was synthesised" in text
    assert f"and each machine within {machines:.1f} %; a machine that is left out of the fit is told" in text
    assert f"is told within {others:.1f} % by the others" in text


def drift(component, baseline):
    """Synthesise again, and compare."""
    found = measure(component, baseline.config)
    for key in ("lut", "ff"):
        assert found[key] == pytest.approx(getattr(baseline, key), rel=DRIFT), f"{key} of {component}"
    assert (found["bram"], found["dsp"]) == (baseline.bram, baseline.dsp)


@pytest.mark.parametrize("component", [name if name in SHORT else pytest.param(name, marks=pytest.mark.long)
                                       for name in BASELINES.units])
def test_unit_drift(component):
    drift(component, BASELINES.units[component])


@pytest.mark.long
@pytest.mark.parametrize("place", range(len(BASELINES.arrays)))
def test_array_drift(place):
    drift("matvec", BASELINES.arrays[place])


@pytest.mark.long
@pytest.mark.parametrize("place", range(len(BASELINES.machines)))
def test_machine_drift(place):
    drift("machine", BASELINES.machines[place])


def test_baselines_complete():
    """The file is of what is asked for today."""
    assert list(BASELINES.units) == list(UNITS)
    assert [each.config for each in BASELINES.arrays] == ARRAYS
    assert [each.config for each in BASELINES.machines] == MACHINES
