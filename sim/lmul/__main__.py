"""Every figure of ``docs/lmul.md``, by the command that gives it.

``python -m terngen.sim.lmul`` runs the commands, keeps what they say in ``docs/lmul.json``, writes it into the tables
of the page and draws its plot. ``--only errors`` does one of them.
"""

import json
from pathlib import Path

import click

from terngen.host.commands.console import note
from terngen.host.files import replacing
from terngen.sim.lmul import errors
from terngen.sim.lmul.page import COMMANDS, page
from terngen.sim.performance import run_json, tool_versions


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("docs/lmul.json"), show_default=True)
@click.option("--only", type=click.Choice(list(COMMANDS)), help="Only this one.")
def main(output: Path, only: str | None) -> None:
    """Measure everything that docs/lmul.md tells of products."""
    stored = json.loads(output.read_text()) if output.exists() else {}
    for name, command in COMMANDS.items():
        if only in (None, name):
            note(f"terngen {command}")
            stored[name] = {**run_json(command), "command": f"terngen {command} --json", "versions": tool_versions()}
            with replacing(output) as file:
                file.write((json.dumps(stored, indent=1) + "\n").encode())
    errors.draw(stored["errors"]["errors"], output.parent / "images" / "lmul-errors.svg")
    written = output.with_suffix(".md")
    with replacing(written) as file:
        file.write(page(written.read_text(), stored).encode())


if __name__ == "__main__":
    main(prog_name="python -m terngen.sim.lmul")
