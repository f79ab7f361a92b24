"""Stored bitstreams: complete, within their clocks, and made again where there is time."""

import json

import pytest

from terngen.hw.boards import MODULES, find
from terngen.sim import boards


@pytest.fixture(scope="module")
def stored(root):
    return {each["board"]: each for each in json.loads((root / "docs/boards.json").read_text())}


def test_complete(stored):
    """Every board of the first tier is there, with at least one of its memories; others may be."""
    first = {name for name in boards.BUILDS if find(name)[0].tier == 1}
    assert first <= stored.keys() <= boards.BUILDS.keys()
    assert {name.partition(":")[0] for name in first} == {name for name in MODULES if find(name)[0].tier == 1}


def test_clocks(stored):
    """A clock that is stored is one that was met, and the board's."""
    for name, each in stored.items():
        board, memory = find(name)
        [clock] = [clock for clock in each["clocks"] if clock["name"] == "sync"]
        assert clock["met"]
        assert each["seed"] == board.memories[memory].seed
        assert clock["achieved"] >= clock["wanted"] == pytest.approx(board.clock_of(memory) / 1e6, rel=1e-3)
        assert all(each["cells"][kind] <= count for kind, count in board.cells.items() if kind in each["cells"])


def test_page(root, stored):
    text = (root / "docs/boards.md").read_text()
    assert boards.page(text, list(stored.values())) == text
    [first, *_] = stored.values()
    assert "| 9 of " in boards.page(text, [{**first, "cells": {**first["cells"], "lut": 9}}])


@pytest.mark.long
@pytest.mark.parametrize("board", boards.BUILDS)
def test_again(root, stored, board, tmp_path, monkeypatch):
    """The same bitstream by the same tools; within five percent of the area by others."""
    if board not in stored:
        pytest.skip(f"There is no bitstream of {board} yet")
    monkeypatch.chdir(root)
    found = boards.build(board, tmp_path)
    for kind, count in stored[board]["cells"].items():
        assert found["cells"][kind] == pytest.approx(count, rel=0.05)
    if found["versions"] == stored[board]["versions"]:
        assert found["sha256"] == stored[board]["sha256"]
