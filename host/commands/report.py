"""``terngen report``."""

from pathlib import Path

import click

from terngen.host.commands.options import json_option

__all__ = ["report"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
              help="The page.  [default: report.html in the folder]")
@json_option
def report(folder: Path, output: Path | None, as_json: bool) -> None:
    """Make one HTML page of what commands printed with --json.

    DIR has their results in files that end in .json, like that of `terngen build`. The page has a section for each
    kind, and where everything comes from: files, machines, seeds, versions. It needs nothing but itself.
    """
    import importlib.metadata

    from terngen.host.commands.console import emit
    from terngen.host.files import replacing
    from terngen.host.report.page import read

    output = output or folder / "report.html"
    page   = read(folder)
    with replacing(output) as file:
        file.write(page.html(folder.resolve().name, importlib.metadata.version("terngen")).encode())
    emit(as_json, {"output": str(output), "shown": page.shown, "others": page.others},
         [f"{output}: {len(page.shown)} results",
          *(f"{name} is not shown: {why}" for name, why in page.others.items())])
