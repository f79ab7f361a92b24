"""The page, from what the commands really print."""

import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def results(terngen, speaking, cache, work, text):
    """A folder with a result of each command that is quick."""
    kept, folder = cache / "results", work / "results"
    if kept.exists():
        return Path(shutil.copytree(kept, folder))
    folder.mkdir()
    for name, words in {
        "estimate":   ["estimate", speaking],
        "bench":      ["bench", speaking, "--tokens", 2, "--prompt", 2],
        "convert":    ["convert", speaking, "-o", "a.tape"],
        "perplexity": ["perplexity", speaking, "--text", text],
        "accuracy":   ["accuracy", speaking, "--text", text, "--tokens", 8, "--together"],
        "energy":     ["energy", speaking],
        "synth":      ["synth", "to-int8"],
        "errors":     ["lmul", "errors", "--policy", "lmul"],
        "selftest":   ["selftest", speaking, "--device", "golden"],
        "generate":   ["generate", speaking, "-o", "verilog"],
        "explore":    ["explore", speaking, "--board", "ulx3s-85f:sdram", "--lanes", "1,2", "--slots", "1,2",
                       "--row-lanes", 1, "--format", "e6m11", "--prefetch", 64, "--workers", 1, "--stage", "synth",
                       "--component", "to-int8", "--top", 2],
    }.items():
        (folder / f"{name}.json").write_text(terngen(*words, "--json").stdout)
    shutil.copytree(folder, kept)
    return folder


def test_every_command(terngen, results, speaking):
    """Each has a section; the figures are those of the commands."""
    others = {"doctor": ["doctor"], "boards": ["boards", "--fits", speaking], "disasm": ["disasm", speaking],
              "run": ["run", speaking, "--tokens", 2]}
    pieces = {"splitting": ["estimate", speaking, "--split", 2],
              "pieces": ["convert", speaking, "-o", "b.tape", "--split", 2]}
    for name, words in (others | pieces).items():
        (results / f"{name}.json").write_text(terngen(*words, "--json").stdout)
    values = terngen("report", results, "--json").values
    assert values["output"] == str(results / "report.html")
    assert values["shown"] == {"estimate.json": "estimate", "bench.json": "bench", "convert.json": "convert",
                               "perplexity.json": "perplexity", "accuracy.json": "accuracy", "energy.json": "energy",
                               "synth.json": "synth", "errors.json": "lmul errors",
                               "selftest.json": "selftest", "generate.json": "generate", "explore.json": "explore",
                               "splitting.json": "estimate --split", "pieces.json": "convert --split",
                               **dict.fromkeys((f"{name}.json" for name in others), "other")}
    assert values["others"] == {}
    page   = (results / "report.html").read_text()
    speed  = json.loads((results / "bench.json").read_text())
    model  = json.loads((results / "estimate.json").read_text())
    assert f"{speed['cycles_per_token']:,.0f}" in page and f"{100 * speed['attainment']:.2f} %" in page
    assert sum(sum(row.values()) for row in model["descriptors"].values()) <= model["cycles_per_token"]
    assert sum(row["beats"] for row in model["descriptors"].values()) < model["beats"]
    for op, row in model["descriptors"].items():
        assert f"{op}</text>" in page and f"{sum(row.values()):,}, " in page
    # A product for each weight in the cycles of a token, under both roofs.
    done = speed["ternary_weights"] * speed["slots"] / speed["cycles_per_token"]
    assert done < speed["products_per_cycle"]
    assert f"{done:,.1f} were measured" in page
    assert (speed["digest"], speed["ternary_weights"]) == (model["digest"], model["ternary_weights"])
    # Made again, it is the same.
    terngen("report", results, "-o", "again.html")
    with open("again.html") as file:
        assert file.read() == page


def test_lines(terngen, results):
    lines = terngen("report", results, "-o", "page.html").stdout.splitlines()
    assert lines == ["page.html: 11 results"]


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here (Debian: apt-get install chromium)")
def test_rendered(terngen, results, work, tmp_path):
    """A browser draws it, and has nothing to complain about."""
    terngen("report", results)
    run = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,1600",
         "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'browser'}", f"--screenshot={tmp_path / 'page.png'}",
         (results / "report.html").as_uri()], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "CONSOLE" not in run.stderr
    octets = (tmp_path / "page.png").read_bytes()
    assert struct.unpack(">II", octets[16:24]) == (1000, 1600)
    assert len(octets) > 40_000         # a page that is white has less


@pytest.mark.parametrize("words, code, message", [
    (["none"],                     8, "There is no folder none"),
    (["."],                        8, r"Folder \. has no result of a command"),
])
def test_refused(refused, words, code, message):
    refused("report", *words, code=code, message=message)


def test_no_permission(refused, terngen, speaking, work, text):
    (work / "a.json").write_text(terngen("perplexity", speaking, "--text", text, "--json").stdout)
    refused("report", work, "-o", "no/such/folder.html", code=9, message=r"no/such/folder\.html cannot be written")
