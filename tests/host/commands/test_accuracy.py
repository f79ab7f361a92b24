"""The contract of `terngen accuracy`."""

import re

import pytest

from terngen.hw.contract.config import Sites

SITES = list(Sites().to_dict())


@pytest.fixture
def long_text(work):
    (work / "long.txt").write_text("a fox said no. a king went home, and saw a wolf.\n" * 3)
    return "long.txt"


def test_accuracy(terngen, speaking, long_text, work):
    found = terngen("accuracy", speaking, "--text", long_text, "--tokens", 64, "--multiplier", "lmul",
                    "--multiplier", "lmul-mitchell", "--plot", "plot.svg", "--json").values
    assert (found["tokens"], found["bytes"]) == (64, 64)
    machines = found["machines"]
    assert list(machines) == ["exact", *(name for policy in ("lmul", "lmul-mitchell")
                                         for name in [policy, *(f"{site}={policy}" for site in SITES)])]
    exact = machines["exact"]
    assert (exact["divergence"], exact["agreement"], exact["more"], exact["finite"]) == (0, 1, 0, True)
    # As the other command says.
    for name in ("exact", "lmul", "norm=lmul"):
        said = terngen("perplexity", speaking, "--text", long_text, "--limit-tokens", 64, "--multiplier", name,
                       "--json").values["bits_per_byte"]
        assert machines[name]["bits_per_byte"] == pytest.approx(said, rel=1e-9)
        assert machines[name]["more"] == pytest.approx(said - exact["bits_per_byte"], abs=1e-9)
    for name in SITES:
        assert 0 < machines[f"{name}=lmul"]["divergence"] < machines["lmul"]["divergence"]
    assert [part["first"] for part in exact["by_position"]] == list(range(0, 64, 8))
    assert "<svg" in (work / "plot.svg").read_text()


def test_together(terngen, speaking, long_text):
    lines = terngen("accuracy", speaking, "--text", long_text, "--tokens", 16, "--together").stdout
    assert lines.startswith("16 tokens, 16 bytes\n")
    assert re.findall(r"^(\S+) .*%", lines, re.MULTILINE) == ["exact", "lmul"]
    assert len(lines.splitlines()) == 2 + 3 + 1 + 9


@pytest.mark.parametrize("options, code, message", [
    (["--multiplier", "fast"], 2, "Invalid value for --multiplier: Multiplier must be exact, lmul, "),
    (["--plot", "plot.foo"], 2,
     "Invalid value for '--plot': Plot must be a file that ends in .svg, .png, .pdf, not 'plot.foo'."),
    (["--together", "--tokens", 8, "--plot", "nowhere/plot.svg"], 9, "nowhere/plot.svg cannot be written: "),
    (["--tokens", 7], 2, "Invalid value for '--tokens': 7 is not in the range x>=8."),
])
def test_wrong(refused, speaking, long_text, options, code, message):
    refused("accuracy", speaking, "--text", long_text, *options, code=code, message=message)


def test_short_text(terngen, speaking, work):
    """A text of fewer tokens than there are parts has fewer parts."""
    (work / "short.txt").write_text("a fox")
    found = terngen("accuracy", speaking, "--text", "short.txt", "--together", "--plot", "short.png", "--json").values
    assert 0 < found["tokens"] < 8
    assert [part["first"] for part in found["machines"]["lmul"]["by_position"]] == list(range(found["tokens"]))
    assert (work / "short.png").read_bytes().startswith(b"\x89PNG")
