"""``terngen sim``."""

import sys
from pathlib import Path

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

__all__ = ["sim"]

#: Seconds between two looks at signals while the board has nothing to do.
_PATIENCE = 0.25


@click.command()
@model_argument
@board_option(required=True, help="Board to simulate.")
@click.option("--pty", is_flag=True, required=True,
              help="Behind a pseudo-terminal, which is opened like a serial port.")
@click.option("--real-time", is_flag=True,
              help="Let bits on the wires of the serial port take as many cycles as on the board, not four.")
@config_option
@slots_option
@multiplier_option
@json_option
def sim(model: Path, board: str, pty: bool, real_time: bool, config: str | None, slots: int | None,
        sites: Multipliers | None,
        as_json: bool) -> None:
    """Simulate a complete board for a model until interrupted.

    Everything behind the pins is what the bitstream has: serial port, link, machine, memory controller; the
    memory chip is a model that stops at any command against its data sheet. The first line of the output names
    the device file.
    """
    from terngen.host.commands.building import chosen, tape_on
    from terngen.host.commands.console import emit, note, working
    from terngen.host.errors import ConfigError
    from terngen.sim.board import compile_board
    from terngen.sim.compiled import CompiledModel
    from terngen.sim.device import SimTransport
    from terngen.sim.pty import PtyBoard

    choice = chosen(board)
    tape   = tape_on(choice, model, config, slots, sites)
    try:
        with working("Generating and compiling the board"):
            library = compile_board(tape.config, board, image=tape.image.tobytes(), real_time=real_time)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    machine  = CompiledModel(library)
    terminal = PtyBoard(machine, quiet=SimTransport.QUIET_CYCLES + SimTransport.QUIET_CYCLES_PER_BEAT * tape.beats)
    try:
        device = f"serial:{terminal.path}"
        emit(as_json, {"board": choice.name, "device": device, "digest": tape.config.digest.hex(),
                       "config": tape.config.to_dict()}, [device])
        sys.stdout.flush()
        note(f"{choice.board.title} is simulated at {terminal.path}; Ctrl-C ends it")
        while True:
            terminal.turn(_PATIENCE)
    finally:
        terminal.close()
        machine.close()
