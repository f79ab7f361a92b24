"""Stored bitstreams: complete, within their clocks, and made again where there is time."""

import json

import pytest

from terngen.hw.boards import MODULES, find
from terngen.sim import boards


@pytest.fixture(scope="module")
def stored(root):
    return {each["board"]: each for each in json.loads((root / "docs/boards.json").read_text())}


def test_complete(stored):
    """Every board is there, with a bitstream if open tools make it."""
    assert stored.keys() == boards.BUILDS.keys() | boards.AREAS.keys()
    for names, tiers in ((boards.BUILDS, {1}), (boards.AREAS, {2, 3})):
        assert {name.partition(":")[0] for name in names} == {name for name in MODULES if find(name)[0].tier in tiers}


def test_clocks(stored):
    """A clock that is stored is one that was met, and the board's."""
    for name in boards.BUILDS:
        each          = stored[name]
        board, memory = find(name)
        [clock] = [clock for clock in each["clocks"] if clock["name"] == "sync"]
        assert clock["met"]
        assert each["seed"] == board.memories[memory].seed
        assert clock["achieved"] >= clock["wanted"] == pytest.approx(board.clock_of(memory) / 1e6, rel=1e-3)


def test_room(stored):
    for name, each in stored.items():
        cells = find(name)[0].cells
        assert all(0 <= each["cells"].get(kind, 0) <= count for kind, count in cells.items())
        assert each["cells"]["lut"] > 2000


def test_page(root, stored):
    text = (root / "docs/boards.md").read_text()
    assert boards.page(text, list(stored.values())) == text
    for name in (next(iter(boards.BUILDS)), next(iter(boards.AREAS))):
        each = stored[name]
        assert "| 9 of " in boards.page(text, [{**each, "cells": {**each["cells"], "lut": 9}}])


@pytest.mark.long
@pytest.mark.parametrize("name", boards.AREAS)
def test_area(root, stored, name, monkeypatch):
    """Yosys makes of a machine for a vendor's tool what it made of it, within five percent."""
    monkeypatch.chdir(root)
    for kind, count in boards.area(name)["cells"].items():
        assert count == pytest.approx(stored[name]["cells"][kind], rel=0.05)


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
