"""Plots as SVG, of marks and text alone, to stand in a page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

__all__ = ["COLOURS", "Bar", "Panel", "bars", "plot"]

#: Of marks, in turn.
COLOURS = ("#2f6f9f", "#d98032", "#4d9950", "#a05195", "#8a8a8a")

_WIDTH, _LABELS, _ROW = 720, 190, 22


def _text(x: float, y: float, text: str, *, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return (f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}">'
            f"<title>{escape(title)}</title>{''.join(parts)}</svg>")


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart: lengths one behind the other, and what stands behind them."""

    label:   str
    lengths: Sequence[float]
    note:    str = ""


def bars(title: str, names: Sequence[str], rows: Sequence[Bar], *, limit: float | None = None) -> str:
    """Bars to the right, whose parts are called `names`; the longest, or `limit`, is as wide as there is room."""
    full   = limit or max((sum(row.lengths) for row in rows), default=0) or 1
    scale  = (_WIDTH - _LABELS - 190) / full
    top    = 24 if len(names) > 1 else 4
    parts  = []
    if len(names) > 1:
        x = float(_LABELS)
        for name, colour in zip(names, COLOURS):
            parts += [f'<rect x="{x:.1f}" y="4" width="12" height="12" fill="{colour}"/>', _text(x + 17, 14, name)]
            x += 40 + 7.5 * len(name)
    for place, row in enumerate(rows):
        y = top + place * _ROW
        x = float(_LABELS)
        parts.append(_text(_LABELS - 8, y + 15, row.label, anchor="end"))
        for length, colour in zip(row.lengths, COLOURS):
            width = max(0.0, min(length * scale, _WIDTH - x))
            parts.append(f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 7}" fill="{colour}"/>')
            x += width
        parts.append(_text(x + 6, y + 15, row.note))
    return _svg(_WIDTH, top + len(rows) * _ROW + 4, title, parts)


@dataclass(frozen=True)
class Panel:
    """A plot with two logarithmic axes: points by what they are called, and lines."""

    x:      str
    y:      str
    points: dict[str, Sequence[tuple[float, float]]]
    lines:  Sequence[Sequence[tuple[float, float]]] = field(default_factory=tuple)


def _ticks(low: float, high: float) -> list[float]:
    """Ones, twos and fives in a range; if there are many, ones alone."""
    found = [step * 10.0 ** power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
             for step in (1, 2, 5) if low <= step * 10.0 ** power <= high]
    return found if len(found) <= 7 else [tick for tick in found if math.log10(tick).is_integer()]


def plot(title: str, panels: Sequence[Panel]) -> str:
    """Panels beside each other."""
    width, height, left, bottom = _WIDTH / len(panels), 300, 62, 44
    parts = []
    names = list(dict.fromkeys(name for panel in panels for name in panel.points))
    for place, panel in enumerate(panels):
        known = [pair for group in (*panel.points.values(), *panel.lines) for pair in group if min(pair) > 0]
        if not known:
            continue
        x0, x1 = place * width + left, (place + 1) * width - 12
        y0, y1 = height - bottom, 30

        def scaled(values: Sequence[float], first: float, last: float) -> tuple[float, float, float]:
            """Lowest and highest value of an axis, and what a factor of e takes."""
            low, high = 0.8 * min(values), 1.25 * max(values)
            return low, high, (last - first) / math.log(high / low)

        low_x, high_x, per_x = scaled([pair[0] for pair in known], x0, x1)
        low_y, high_y, per_y = scaled([pair[1] for pair in known], y0, y1)

        def at(pair: tuple[float, float], x0: float = x0, low_x: float = low_x, per_x: float = per_x, y0: float = y0,
               low_y: float = low_y, per_y: float = per_y) -> tuple[float, float]:
            return x0 + per_x * math.log(pair[0] / low_x), y0 + per_y * math.log(pair[1] / low_y)

        parts.append(f'<path d="M{x0:.1f} {y1}V{y0}H{x1:.1f}" fill="none" stroke="currentColor"/>')
        for tick in _ticks(low_x, high_x):
            x, _ = at((tick, low_y))
            parts += [f'<path d="M{x:.1f} {y0}v4" stroke="currentColor"/>',
                      _text(x, y0 + 17, f"{tick:,g}", anchor="middle")]
        for tick in _ticks(low_y, high_y):
            _, y = at((low_x, tick))
            parts += [f'<path d="M{x0:.1f} {y:.1f}h-4" stroke="currentColor"/>',
                      _text(x0 - 7, y + 4, f"{tick:,g}", anchor="end")]
        parts += [_text((x0 + x1) / 2, height - 8, panel.x, anchor="middle"),
                  _text(place * width + 4, 16, panel.y)]
        for line in panel.lines:
            ends = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, line))
            parts.append(f'<polyline points="{ends}" fill="none" stroke="currentColor" stroke-opacity="0.6"/>')
        for name, group in panel.points.items():
            colour = COLOURS[names.index(name) % len(COLOURS)]
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
                      for x, y in (at(pair) for pair in group if min(pair) > 0)]
    x = 8.0
    for place, name in enumerate(names):
        colour = COLOURS[place % len(COLOURS)]
        parts += [f'<circle cx="{x + 5:.1f}" cy="{height + 12}" r="4" fill="{colour}"/>',
                  _text(x + 14, height + 16, name)]
        x += 34 + 7.5 * len(name)
    return _svg(_WIDTH, height + 26, title, parts)
