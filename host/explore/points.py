"""Points: the machines of a sweep, as plain data."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

__all__ = ["AXES", "FIGURES", "NUMBERS", "TOLERANCE", "Point", "front", "grid", "spread"]

#: A machine by what is swept: a value for each axis.
Point: TypeAlias = dict[str, Any]

#: What is swept where nothing else is said: fields of :class:`~terngen.hw.contract.config.Config`, and ``multiplier``,
#: that of every element-wise product.
AXES: dict[str, tuple[Any, ...]] = {
    "variant":    ("tree", "table", "triples"),
    "beat_bits":  (16, 32, 64, 128, 256, 512),
    "row_lanes":  (1, 2, 4, 8, 16),
    "lanes":      (1, 2, 4, 8),
    "slots":      (1, 2, 3, 4, 6, 8),
    "path":       ("e6m11", "e6m7"),
    "multiplier": ("exact", "lmul"),
    "prefetch":   (64, 512),
}

#: Figures by which a machine is better than another: more is better (1), or less is (-1). Power is none of them,
#: because a faster machine that takes no more energy for a token can rest.
FIGURES = {"tokens_per_second": 1, "lut": -1, "bram": -1, "energy_uj": -1}
#: Machines that differ in these compute other numbers, so that none is better than the other.
NUMBERS = ("path", "multiplier")
#: Share of a figure that makes no difference.
TOLERANCE = 0.01


def grid(axes: Mapping[str, Sequence[Any]]) -> Iterator[Point]:
    """All combinations, the last axis fastest."""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values))


def front(points: Sequence[Point]) -> list[Point]:
    """Points than which no other that computes the same numbers is as good in all of :data:`FIGURES`, to within
    :data:`TOLERANCE`; the fastest first."""
    kept: list[Point] = []
    for point in sorted(points, key=_costs):
        if not any(all(other[name] == point[name] for name in NUMBERS) and _as_good(other, point) for other in kept):
            kept.append(point)
    return kept


def _costs(point: Point) -> tuple[float, ...]:
    return tuple(-better * point[name] for name, better in FIGURES.items())


def _as_good(other: Point, point: Point) -> bool:
    # What comes later in the order of costs is no faster, so speed needs no look.
    return all(other[name] <= point[name] * (1 + TOLERANCE) for name, better in FIGURES.items() if better < 0)


def spread(points: Sequence[Point], count: int) -> list[Point]:
    """That many of a front, its ends and evenly between them."""
    if count >= len(points):
        return list(points)
    if count == 1:
        return [points[0]]
    return [points[round(place * (len(points) - 1) / (count - 1))] for place in range(count)]
