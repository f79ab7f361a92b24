"""``terngen build``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from terngen.host.commands.building import board_option
from terngen.host.commands.options import (
    Multipliers,
    config_option,
    json_option,
    model_argument,
    multiplier_option,
    slots_option,
)

__all__ = ["build", "built"]


@click.command()
@model_argument
@board_option(required=True, help="What it is built for.")
@config_option
@slots_option
@multiplier_option
@click.option("--seed", type=click.IntRange(min=0),
              help="Of placement: the first that is tried.  [default: one that has served for the board]")
@click.option("--tries", type=click.IntRange(min=1), default=3, show_default=True,
              help="Seeds that are tried until timing is met.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Folder for the bitstream, the tape, the manifest and the report.  [default: build/BOARD]")
@json_option
def build(model: Path, board: str, config: str | None, slots: int | None, sites: Multipliers | None,
          seed: int | None, tries: int, output: Path | None, as_json: bool) -> None:
    """Make the bitstream of a machine for a model on a board.

    The tools are those that pip installs. There is no bitstream if timing is missed or the device is too small.
    """
    from terngen.host.commands.building import chosen, tape_on
    from terngen.host.commands.console import emit
    from terngen.host.files import check_folder

    choice = chosen(board)
    output = output or Path("build", choice.board.name)
    _check_open(choice)
    check_folder(output)
    report = built(choice, tape_on(choice, model, config, slots, sites), output, seed, tries)
    emit(as_json, report, _lines(report))


def _check_open(choice: Any) -> None:
    from terngen.host.errors import ConfigError
    if choice.board.scripts is not None:
        raise ConfigError(f"Board {choice.board.name} needs its maker's tools; `terngen generate --board "
                          f"{choice.name}` writes what they need")


def built(choice: Any, tape: Any, output: Path, seed: int | None, tries: int) -> dict[str, Any]:
    """Make a bitstream, with everything that belongs to it, in a folder; what ``--json`` prints. Without a seed it
    begins with that of the board.

    Raises
    ------
    ConfigError
        If the device is too small, or the board needs its maker's tools.
    TimingError
        If timing is missed with every seed.
    ToolError
        If a tool is missing or fails.
    OutputError
        If the folder cannot be written.
    """
    import json

    from terngen.host.commands.building import manifest_of, tool_errors
    from terngen.host.commands.console import note, working
    from terngen.host.errors import ConfigError, TimingError
    from terngen.host.files import check_folder, output_folder, write_folder
    from terngen.hw import bitstream

    _check_open(choice)
    check_folder(output)
    if seed is None:
        seed = choice.tape_memory.seed
    with working("Generating the machine"), tool_errors():
        system = choice.board.system(tape.config, choice.memory, tape.image.tobytes())
        design = bitstream.design(choice.board, system, distributed=choice.tape_memory.distributed)
    output.parent.mkdir(parents=True, exist_ok=True)
    with output_folder(output.parent / f".{output.name}.building") as folder, tool_errors():
        try:
            for number in range(seed, seed + tries):
                made = bitstream.build_bitstream(choice.board, design, folder, seed=number, digest=tape.config.digest,
                                                 stage=working)
                if made.met:
                    break
                note(f"Seed {number} misses timing: {_worst(made)}")
        except bitstream.FitError as error:
            raise ConfigError(str(error)) from error
        log = (folder / "nextpnr.log").read_bytes()
    report = _report(choice, tape, made)
    files  = {"nextpnr.log": log, "report.json": json.dumps(report, indent=2).encode() + b"\n"}
    if made.bitstream is None:
        write_folder(output, files)
        raise TimingError(f"Timing is missed with {tries} seeds from {seed} on: {_worst(made)}; "
                          f"{output / 'report.json'} has the worst path")
    name = bitstream.BITSTREAM[choice.board.family]
    files |= {name: made.bitstream, "terngen.tape": b"".join((tape.header(), tape.image.tobytes(), tape.tokenizer))}
    manifest = {**manifest_of(choice, tape, files), "seed": made.seed}
    files["manifest.json"] = json.dumps(manifest, indent=2).encode() + b"\n"
    write_folder(output, files)
    return {"output": str(output), "bitstream": name, **report}


def _worst(built: Any) -> str:
    return ", ".join(f"clock {clock.name} reaches {clock.achieved:.1f} of {clock.wanted:.1f} MHz"
                     for clock in built.clocks if not clock.met)


def _report(choice: Any, tape: Any, built: Any) -> dict[str, Any]:
    """What came out, beside what was expected."""
    import dataclasses

    from terngen.hw.area import area
    from terngen.hw.bitstream import versions

    machine  = tape.config
    expected = {name: count for name, count in area(machine, distributed=choice.tape_memory.distributed).items()
                if count is not None}
    for name, count in choice.tape_memory.used(machine, len(tape.image)).items():
        expected[name] = expected.get(name, 0) + count
    return {
        "board":     choice.name,
        "device":    choice.board.device,
        "digest":    machine.digest.hex(),
        "model":     tape.model.get("name", ""),
        "met":       built.met,
        "clocks":    [{**dataclasses.asdict(clock), "met": clock.met} for clock in built.clocks],
        "path":      built.path,
        "cells":     built.cells,
        "estimated": expected,
        "available": dict(choice.board.cells),
        "used":      built.used,
        "modules":   built.modules,
        "seed":      built.seed,
        "versions":  versions(choice.board.family),
    }


def _lines(report: dict[str, Any]) -> Iterator[str]:
    """A report for people."""
    from terngen.host.commands.console import table

    name = Path(report["output"], report["bitstream"])
    yield f"{name}: machine {report['digest']} for {report['board']}, {report['device']}"
    for clock in report["clocks"]:
        yield (f"clock {clock['name']}: {clock['achieved']:.1f} MHz, {clock['wanted']:.1f} MHz wanted, "
               f"seed {report['seed']}")
    names = {"lut": "LUT4", "ff": "flip-flops", "bram": "block RAM", "dsp": "DSP"}
    yield from table([("cells", "used", "estimated", "available"), *(
        (names[kind], f"{report['cells'].get(kind, 0):,}", f"{report['estimated'].get(kind, 0):,}",
         f"{report['available'][kind]:,}") for kind in names)])
    yield from table([("part", *names.values()), *(
        (part, *(f"{cells.get(kind, 0):,}" for kind in names)) for part, cells in report["modules"].items())])
    yield "worst path, nanoseconds"
    yield from (f"{ns:8.2f}  {name}" for ns, name in report["path"])
