"""Stored figures: complete, and what the machine of today gives."""

import importlib.metadata
import json

import pytest
from click.testing import CliRunner

from terngen.host.cli import cli
from terngen.sim import performance, plots

#: A change of cycles by more than this must be meant, and then the figures are stored again.
DRIFT = 0.02
#: The same of look-up tables, flip-flops, block RAM and multipliers.
DRIFT_OF_AREA = 0.05


@pytest.fixture(scope="module")
def stored(root):
    return {figure["name"]: figure for figure in
            json.loads((root / "docs/performance.json").read_text())["figures"]}


def test_complete(stored):
    """Each figure is there, with the command that gives it, and there are no others."""
    expected = {f"{each.name}.{key}": (unit, f"terngen {each.command} --json")
                for each in performance.MEASUREMENTS for key, unit in each.units.items()}
    assert {name: (figure["unit"], figure["command"]) for name, figure in stored.items()} == expected


def test_gates(stored):
    """Whatever was played was right."""
    gates = [figure["value"] for name, figure in stored.items() if name.endswith(".mismatches")]
    assert gates
    assert not any(gates)


@pytest.mark.parametrize("measurement", [each for each in performance.MEASUREMENTS
                                         if each.name.startswith("estimate.")], ids=lambda each: each.name)
def test_cycles(stored, measurement):
    result = CliRunner().invoke(cli, [*measurement.command.split(), "--json"])
    assert result.exit_code == 0, result.output
    for figure in performance.figures_of(measurement, json.loads(result.stdout)):
        assert figure["value"] == pytest.approx(stored[figure["name"]]["value"], rel=DRIFT)


#: Arrays whose synthesis takes a few seconds, and which the page speaks of.
SHORT = ("array.ecp5.table-core.geometry-370m.beat-bits-64.row-lanes-1.slots-1",
         "array.xc7.table-core.geometry-370m.beat-bits-64.row-lanes-1.slots-1",
         "array.ecp5.table-core.config-compact.geometry-370m.beat-bits-64.slots-1")


@pytest.mark.parametrize("measurement", [pytest.param(each, id=each.name, marks=[] if each.name in SHORT
                                                      else pytest.mark.long)
                                         for each in performance.MEASUREMENTS if each.name.startswith("array.")])
def test_areas(stored, measurement):
    result = CliRunner().invoke(cli, [*measurement.command.split(), "--json"])
    assert result.exit_code == 0, result.output
    for figure in performance.figures_of(measurement, json.loads(result.stdout)):
        assert figure["value"] == pytest.approx(stored[figure["name"]]["value"], rel=DRIFT_OF_AREA)


def test_estimates_are_exact(stored):
    """The estimator says of the machine that was played what its registers counted."""
    pairs = [(name, name.replace("rtl.", "estimate.", 1)) for name in stored
             if name.startswith("rtl.") and name.endswith(".cycles_per_token")]
    compared = [(stored[played]["value"], stored[estimated]["value"],
                 stored[played.replace("cycles_per_token", "slots")]["value"]) for played, estimated in pairs
                if estimated in stored]
    assert len(compared) == 8
    # Two things are not known beforehand: the token of each slot, whose bits the search for its row takes, and
    # where a slower memory is in its period when the step begins.
    for played, estimated, slots in compared:
        assert abs(played - estimated) <= 16 * slots


def test_page(root, stored):
    """The tables of the page are those of the figures."""
    text = (root / "docs/performance.md").read_text()
    assert performance.page(text, stored) == text
    changed = {**stored, "fairy-1m.slots1.cycles_per_token": {"value": 123456}}
    assert "| 123,456 |" in performance.page(text, changed)


def test_front_page(root, stored):
    """README.md tells the same figures, in the row of the command that gives them."""
    def value(name, key):
        return stored[f"{name}.{key}"]["value"]

    def attainment(*names):
        return [f"{100 * value(name, 'attainment'):.1f} %" for name in names]

    def cycles(name):
        return value(name, "cycles_per_token")

    eight = "rtl.370m.64.slots8"
    table = "array.{}.table-core.geometry-370m.beat-bits-64.row-lanes-1.slots-1"
    luts  = {target: value(table.format(target), "luts_per_weight") for target in ("ecp5", "xc7")}
    told  = {
        "rtl.370m.64":        attainment("rtl.370m.64"),
        "rtl.370m.64.slower": attainment("rtl.370m.64.slower"),
        "rtl.370m.512":       attainment("rtl.370m.512", "rtl.370m.512.striped", "rtl.370m.512.slower"),
        "rtl.370m.16.sdr":    attainment("rtl.370m.16.sdr"),
        "fairy-1m.slots1":    [f"{cycles('fairy-1m.slots1'):,.0f}", *attainment("fairy-1m.slots1")],
        "fairy-1m.slots3":    [f"{cycles('fairy-1m.slots3'):,.0f}", *attainment("fairy-1m.slots3")],
        eight:                [f"{8 * cycles('rtl.370m.64') / cycles(eight):.1f}, "
                               f"{value(eight, 'prompt_speedup'):.1f} times"],
        "speed.fairy-1m":     [f"{value('speed.fairy-1m', 'sim_tokens_per_second'):.0f} tokens per second"],
        "speed.370m":         [f"{1 / value('speed.370m', 'sim_tokens_per_second'):.1f} s for a token"],
        table.format("ecp5"): [f"{luts['ecp5']:.1f} LUT4, {luts['xc7']:.1f} LUT6"],
    }
    lines = (root / "README.md").read_text().splitlines()
    for each in performance.MEASUREMENTS:
        if each.name in told:
            [line] = [line for line in lines if line.startswith("|") and f"`terngen {each.command}`" in line]
            for figure in told.pop(each.name):
                assert figure in line, each.name
    assert not told


def test_plots(root, tmp_path):
    """Plots of the page are those of the figures of today; another matplotlib writes other files."""
    drawn = plots.draw(root / "docs/performance.json", tmp_path)
    assert [path.name for path in drawn] == ["attainment.svg", "slots.svg", "luts.svg", "descriptors.svg"]
    assert all("<svg" in path.read_text() for path in drawn)
    for path in drawn:
        stored = (root / "docs/images" / path.name).read_text()
        if f"Matplotlib v{importlib.metadata.version('matplotlib')}," in stored:
            assert path.read_text() == stored, path.name
