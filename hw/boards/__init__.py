"""Boards: resources, clocks and memory adapters."""

import importlib
import importlib.util
from pathlib import Path

from terngen.hw.boards.board import Board

__all__ = ["MODULES", "find"]

#: Where each board is: module, and name in it.
MODULES = {
    "ulx3s-85f":     "terngen.hw.boards.ulx3s:BOARD",
    "colorlight-i9": "terngen.hw.boards.colorlight_i9:BOARD",
    "tang-nano-20k": "terngen.hw.boards.tang_nano_20k:BOARD",
    "icebreaker":    "terngen.hw.boards.icebreaker:BOARD",
    "ecpix-5":       "terngen.hw.boards.ecpix5:BOARD",
    "arty-a7-100":   "terngen.hw.boards.arty_a7:BOARD",
    "nitefury-ii":   "terngen.hw.boards.nitefury:BOARD",
    "kv260":         "terngen.hw.boards.kv260:BOARD",
    "alveo-u250":    "terngen.hw.boards.alveo:U250",
    "alveo-u280":    "terngen.hw.boards.alveo:U280",
}


def find(spec: str) -> tuple[Board, str]:
    """A board and one of its memories.

    Parameters
    ----------
    spec
        A name of :data:`MODULES`, or the path of a Python file with a ``BOARD``; behind a colon the name of a memory,
        unless the first one is meant.

    Raises
    ------
    ValueError
        If there is no such board, or it has no such memory.
    """
    name, _, memory = spec.partition(":")
    if name in MODULES:
        place, _, constant = MODULES[name].partition(":")
        board = getattr(importlib.import_module(place), constant)
    elif Path(name).suffix == ".py":
        board = getattr(_module(Path(name)), "BOARD", None)
    else:
        raise ValueError(f"There is no board {name!r}; there are {', '.join(MODULES)}, and Python files with a BOARD")
    if not isinstance(board, Board):
        raise ValueError(f"Board file {name} must have a BOARD of type Board, not {board!r}")
    if memory and memory not in board.memories:
        raise ValueError(f"Board {board.name} has no memory {memory!r}; it has {', '.join(board.memories)}")
    return board, memory or board.memory


def _module(path: Path):
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except OSError as error:
        raise ValueError(f"Board file {path} cannot be read: {error.strerror or error}") from error
    return module
