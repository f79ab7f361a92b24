"""Machines on boards, as the commands ask for them."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from terngen.host.convert.geometry import Geometry
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Tape

__all__ = ["Choice", "board_option", "chosen", "lacking", "machine_on", "manifest_of", "tape_on", "tool_errors"]


def board_option(*, required: bool, help: str) -> Callable[[Any], Any]:
    """``--board``."""
    return click.option("--board", metavar="NAME[:MEMORY]", required=required,
                        help=f"{help} A name of `terngen boards`, or a Python file with a BOARD.")


@dataclasses.dataclass(frozen=True)
class Choice:
    """A board and one of its memories."""

    board:  Any
    memory: str

    @property
    def tape_memory(self) -> Any:
        return self.board.memories[self.memory]

    @property
    def clock_hz(self) -> int:
        return self.board.clock_of(self.memory)

    @property
    def name(self) -> str:
        """As ``--board`` has it."""
        return f"{self.board.name}:{self.memory}"


def chosen(spec: str) -> Choice:
    """The board that a command names.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    from terngen.host.errors import ConfigError
    from terngen.hw.boards import find
    try:
        return Choice(*find(spec))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def machine_on(choice: Choice, geometry: Geometry, config: str | None, slots: int | None = None,
               sites: Mapping[str, str] | None = None) -> Config:
    """The machine for a model on a board: one that is named, or one that suits the board.

    Raises
    ------
    ConfigError
        If there is none.
    """
    from terngen.host import configs
    from terngen.host.commands.machines import fitted_geometry
    from terngen.host.errors import ConfigError

    if config is not None:
        machine = configs.model_config(geometry, config, slots=slots, sites=sites)
    else:
        source  = choice.tape_memory.timing(choice.clock_hz)
        fixed   = {"beat_bits": choice.tape_memory.bits, **choice.tape_memory.config, "slots": slots, "sites": sites}
        machine = fitted_geometry(geometry, fixed, source,
                                  lambda machine: not lacking(choice, machine))
    width = choice.tape_memory.bits
    if width is not None and machine.beat_bits != width:
        raise ConfigError(f"Beats for {choice.tape_memory.title} of board {choice.board.name} must have {width} bits, "
                          f"not {machine.beat_bits}")
    return machine


def lacking(choice: Choice, machine: Config, octets: int = 0) -> dict[str, tuple[int, int]]:
    """What a machine, and a tape of so many octets, need more of than the device has: needed and there, by name."""
    from terngen.hw.area import area
    needed = {name: count for name, count in area(machine, distributed=choice.tape_memory.distributed).items()
              if count is not None}
    for name, count in choice.tape_memory.used(machine, octets).items():
        needed[name] = needed.get(name, 0) + count
    return {name: (needed[name], there) for name, there in choice.board.cells.items() if needed.get(name, 0) > there}


def tape_on(choice: Choice, model: Path, config: str | None, slots: int | None = None,
            sites: Mapping[str, str] | None = None) -> Tape:
    """The tape of a model for a board.

    Raises
    ------
    ConfigError
        If the model does not fit the machine, or its tape not the memory; or a tape was made for a machine that
        does not suit the board.
    InputError
        If there is no such model.
    """
    from terngen.host.commands.console import Progress
    from terngen.host.convert.checkpoint import Checkpoint
    from terngen.host.errors import ConfigError
    from terngen.host.layout import Layout
    from terngen.host.models import open_model

    with Progress() as progress:
        if model.is_dir():
            geometry = Checkpoint.open(model).geometry
            machine  = machine_on(choice, geometry, config, slots, sites)
            _check_room(choice, Layout(geometry, machine).beats * machine.beat_bytes)
            tape     = open_model(model, config=machine, progress=progress)
        else:
            tape = open_model(model, config=config, slots=slots, sites=sites, progress=progress)
    if tape.config.beat_bits != (choice.tape_memory.bits or tape.config.beat_bits):
        raise ConfigError(f"Tape {model} has beats of {tape.config.beat_bits} bits, but {choice.tape_memory.title} of "
                          f"board {choice.board.name} gives {choice.tape_memory.bits}; convert the checkpoint for it")
    _check_room(choice, len(tape.image))
    return tape


def manifest_of(choice: Choice, tape: Tape, files: Mapping[str, bytes]) -> dict[str, Any]:
    """What belongs together; logs, which say when they were written, have no sum."""
    import hashlib

    return {
        "board":    choice.name,
        "device":   choice.board.device,
        "digest":   tape.config.digest.hex(),
        "config":   tape.config.to_dict(),
        "model":    dict(tape.model),
        "clock_hz": choice.clock_hz,
        "link":     choice.board.link.title,
        "files":    [{"name": name, "octets": len(octets), "sha256": hashlib.sha256(octets).hexdigest()}
                     for name, octets in files.items() if not name.endswith(".log")],
    }


@contextlib.contextmanager
def tool_errors() -> Iterator[None]:
    """A tool that is missing or fails inside ends the command.

    Raises
    ------
    ToolError
        If one does.
    """
    from terngen.host.errors import ToolError
    from terngen.hw.build import BuildError
    try:
        yield
    except BuildError as error:
        raise ToolError(str(error)) from error


def _check_room(choice: Choice, octets: int) -> None:
    from terngen.host.errors import ConfigError
    if octets > choice.tape_memory.octets:
        raise ConfigError(f"Tape of {octets:,} octets does not fit {choice.tape_memory.title} of board "
                          f"{choice.board.name}, which has {choice.tape_memory.octets:,}")
