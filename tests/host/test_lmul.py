"""``terngen lmul``."""

import json

import pytest

from terngen.hw import build


def test_errors(terngen, tmp_path):
    found = json.loads(terngen("lmul", "errors", "--policy", "lmul-1", "--policy", "lmul", "--plot",
                               str(tmp_path / "plot.svg"), "--json").stdout)
    assert {row["policy"] for row in found["errors"]} == {"exact", "lmul", "lmul-1"}
    assert {row["operands"] for row in found["comparison"]} == {"even", "normal"}
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_attention(terngen):
    found = json.loads(terngen("lmul", "attention", "--heads", "1", "--length", "3", "--width", "2", "--json").stdout)
    assert (found["length"], found["width"]) == (3, 2)
    assert len(found["rows"]) == 2 * 3 * 4
    other = json.loads(terngen("lmul", "attention", "--heads", "1", "--length", "3", "--width", "2", "--seed", "5",
                               "--json").stdout)
    assert other["rows"][0]["error"] != found["rows"][0]["error"]


@pytest.mark.parametrize("words, message", [
    (["errors", "--policy", "fast"], r"Invalid value for --policy: Multiplier must be exact, lmul, .*, not 'fast'\."),
    (["errors", "--policy", "exact"], r"Invalid value for --policy: Policies must be offsets of L-Mul; "),
    (["errors", "--policy", "lmul-4"], r"Invalid value for --policy: Offset of lmul-4 must be less than one "),
    (["area", "--format", "fp8"], r"Invalid value for --format: Float format must be written like e6m11, not 'fp8'\."),
])
def test_refused(refused, words, message):
    refused("lmul", *words, code=2, message=message)


def test_no_tools(refused, monkeypatch):
    monkeypatch.setattr(build, "YOSYS", {})
    refused("lmul", "area", "--format", "e2m1", "--no-pnr", code=3, message=r"Package .* is missing; install it with")
