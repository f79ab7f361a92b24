"""Points of a sweep, and the front."""

import random

import pytest

from terngen.host.explore import points
from terngen.host.explore.points import AXES, front, grid, spread


def test_grid():
    found = list(grid({"lanes": (1, 2), "variant": ("tree", "table", "triples")}))
    assert found[:2] == [{"lanes": 1, "variant": "tree"}, {"lanes": 1, "variant": "table"}]
    assert len(found) == 6
    assert len(list(grid(AXES | {"beat_bits": (16,)}))) > 2000


def machine(speed, lut, bram, energy, numbers="exact"):
    return {"tokens_per_second": speed, "lut": lut, "bram": bram, "energy_uj": energy, "path": "e6m11",
            "multiplier": numbers}


def dominates(a, b):
    """`a` is as good as `b`, but for the tolerance in what it costs."""
    return (a["multiplier"] == b["multiplier"] and a["tokens_per_second"] >= b["tokens_per_second"]
            and all(a[name] <= b[name] * 1.01 for name in ("lut", "bram", "energy_uj")))


@pytest.mark.parametrize("seed", range(5))
def test_front(seed):
    """Nothing on it is covered by another, and everything else is."""
    rng   = random.Random(seed)
    every = [machine(rng.randint(1, 30), rng.randint(1, 30), rng.randint(1, 9), rng.randint(1, 9),
                     rng.choice(["exact", "lmul"])) for _ in range(200)]
    best  = front(every)
    assert [point["tokens_per_second"] for point in best] == sorted(
        (point["tokens_per_second"] for point in best), reverse=True)
    for point in best:
        assert not any(dominates(other, point) for other in best if other is not point)
    for point in every:
        assert any(dominates(other, point) for other in best)


def test_front_tolerance():
    """A hundredth of the cost is no reason to be slower."""
    fast = machine(100, 10_000, 10, 1.0)
    assert front([fast, machine(99, 9_950, 10, 1.0)]) == [fast]
    assert len(front([fast, machine(99, 9_850, 10, 1.0)])) == 2


def test_front_numbers():
    """Machines that compute other numbers do not stand in each other's way."""
    assert len(front([machine(100, 10, 10, 1.0), machine(50, 20, 20, 2.0, "lmul")])) == 2
    assert points.NUMBERS == ("path", "multiplier")


def test_front_empty():
    assert front([]) == []


@pytest.mark.parametrize("count, expected", [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (10, list(range(10))),
                                             (99, list(range(10)))])
def test_spread(count, expected):
    assert spread([{"place": place} for place in range(10)], count) == [{"place": place} for place in expected]
