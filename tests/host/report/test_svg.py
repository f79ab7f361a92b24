"""Plots of the page."""

import re
import xml.etree.ElementTree as ET

import pytest

from terngen.host.report.svg import Bar, Panel, bars, plot


def shapes(text, tag):
    return [element.attrib for element in ET.fromstring(text).iter(tag)]


def test_bars():
    """Lengths are in proportion, one behind the other; what is said is text."""
    text = bars("Cells & more", ["used", "<free>"], [Bar("a<b", [30, 10], "40 & up"), Bar("c", [0, 20])])
    keys, rest = shapes(text, "rect")[:2], shapes(text, "rect")[2:]
    assert len(keys) == 2
    widths = [float(rect["width"]) for rect in rest]
    assert widths[0] == pytest.approx(3 * widths[1], abs=0.2)
    assert (widths[2], widths[3]) == (0, pytest.approx(2 * widths[1], abs=0.2))
    assert float(rest[1]["x"]) == pytest.approx(float(rest[0]["x"]) + widths[0], abs=0.2)
    said = [element.text for element in ET.fromstring(text).iter("text")]
    assert said == ["used", "<free>", "a<b", "40 & up", "c", None]


@pytest.mark.parametrize("lengths", [[], [0.0], [5.0]])
def test_bars_limit(lengths):
    """Nothing is wider than the picture."""
    text = bars("", ["x"], [Bar("a", lengths)], limit=1.0)
    assert all(float(rect["x"]) + float(rect["width"]) <= 720 for rect in shapes(text, "rect"))


def test_plot():
    """Equal factors are equal distances, on both axes; higher is up."""
    text = plot("Title", [Panel("x", "y", {"one": [(1, 10), (10, 100), (100, 1000)]}, [[(1, 10), (100, 1000)]])])
    points = [(float(mark["cx"]), float(mark["cy"])) for mark in shapes(text, "circle")[:3]]
    for axis, sign in ((0, 1), (1, -1)):
        steps = [sign * (after[axis] - before[axis]) for before, after in zip(points, points[1:])]
        assert steps[0] == pytest.approx(steps[1], abs=0.2) and steps[0] > 0
    [line] = shapes(text, "polyline")
    ends = [tuple(map(float, pair.split(","))) for pair in line["points"].split()]
    assert ends == [points[0], points[2]]


def test_panels():
    """Those beside each other have the same colour for the same name; what has no logarithm is left out."""
    text = plot("", [Panel("x", "y", {"one": [(1, 1)], "two": [(2, 2)]}), Panel("z", "", {"two": [(3, 3), (0, 1)]}),
                     Panel("empty", "", {})])
    colours = re.findall(r'<circle[^>]*r="3" fill="(#\w+)"', text)
    assert colours == [colours[0], colours[1], colours[1]] and colours[0] != colours[1]
    ET.fromstring(text)
