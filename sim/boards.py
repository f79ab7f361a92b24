"""The bitstreams of the boards that open tools build: ``python -m terngen.sim.boards``.

Builds each, stores what came out in ``docs/boards.json`` and rewrites the table of ``docs/boards.md``. Bitstreams stay
in ``build/``. A board that misses its clock or is too small ends it with an error.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from terngen.host.commands.console import note
from terngen.host.files import replacing

__all__ = ["BUILDS", "main", "page"]

#: Boards with a memory, and the model that each is built for.
BUILDS = {
    "ulx3s-85f:sdram":         "models/fairy-1m",
    "ulx3s-85f:onchip":        "models/fairy-1m",
    "ulx3s-85f:onchip-narrow": "models/fairy-1m",
    "colorlight-i9:sdram":     "models/fairy-5m",
    "tang-nano-20k:sdram":     "models/fairy-1m",
    "icebreaker:spram":        "models/fairy-300k",
    "ecpix-5:ddr3":            "models/fairy-5m",
}


def build(board: str, folder: Path, tries: int = 3) -> dict[str, Any]:
    """Build a bitstream, with so many seeds from the board's on until timing is met; what is stored of it."""
    model = BUILDS[board]
    place = folder / board.replace(":", "-")
    words = ["build", model, "--board", board, "-o", str(place), "--tries", str(tries), "--json"]
    run   = subprocess.run([sys.executable, "-c", "from terngen.host.cli import main; main()", *words],
                           stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        raise click.ClickException(f"terngen build {model} --board {board} failed with exit code {run.returncode}")
    report   = json.loads(run.stdout)
    manifest = json.loads((place / "manifest.json").read_text())
    [sha256] = [file["sha256"] for file in manifest["files"] if file["name"].endswith((".bit", ".bin", ".fs"))]
    return {"board": board, "model": model, "sha256": sha256,
            **{key: report[key] for key in ("device", "digest", "clocks", "cells", "available", "seed", "versions")}}


def page(text: str, stored: Sequence[Mapping[str, Any]]) -> str:
    """A page whose table, between ``<!-- builds -->`` and ``<!-- end -->``, says what is stored."""
    rows = ["| command | clock wanted | reached | LUT4 | flip-flops | block RAM | DSP |",
            "|---|---:|---:|---:|---:|---:|---:|"]
    for each in stored:
        [clock] = [clock for clock in each["clocks"] if clock["name"] == "sync"]
        cells   = (f"{each['cells'].get(kind, 0):,} of {each['available'][kind]:,}"
                   for kind in ("lut", "ff", "bram", "dsp"))
        rows.append(f"| `terngen build {each['model']} --board {each['board']}` | {clock['wanted']:.1f} MHz | "
                    f"{clock['achieved']:.1f} MHz | {' | '.join(cells)} |")
    head, _, rest = text.partition("<!-- builds -->\n")
    return f"{head}<!-- builds -->\n" + "\n".join(rows) + "\n<!-- end -->" + rest.partition("<!-- end -->")[2]


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("docs/boards.json"), show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("build"), show_default=True,
              help="Where the bitstreams stay.")
@click.option("--only", default="", help="Only the board of this name, or those whose name has this in it.")
@click.option("--tries", type=click.IntRange(min=1), default=3, show_default=True,
              help="Seeds that are tried until timing is met, from the board's on.")
def main(output: Path, folder: Path, only: str, tries: int) -> None:
    """Build the bitstreams of all boards that open tools build."""
    stored = {each["board"]: each for each in json.loads(output.read_text())} if output.exists() else {}
    chosen = [only] if only in BUILDS else [board for board in BUILDS if only in board]
    for place, board in enumerate(chosen, 1):
        note(f"{place} of {len(chosen)}: {board}")
        stored[board] = build(board, folder, tries)
        with replacing(output) as file:
            file.write((json.dumps([stored[name] for name in BUILDS if name in stored], indent=1) + "\n").encode())
    written = output.with_suffix(".md")
    with replacing(written) as file:
        file.write(page(written.read_text(), [stored[name] for name in BUILDS if name in stored]).encode())


if __name__ == "__main__":
    main(prog_name="python -m terngen.sim.boards")
