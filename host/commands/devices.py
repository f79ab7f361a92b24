"""Devices with a model, ready to run."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from terngen.host.commands.console import Progress, working
from terngen.host.device import Device
from terngen.host.models import open_model
from terngen.hw.contract.tape import Tape

__all__ = ["benched", "load", "opened"]

#: Octets of a tape that are worth loading through a simulated link, which takes a cycle for each.
_LINK_OCTETS = 1 << 20


def _options(device: str, tape: Tape, memory: str | None) -> dict[str, Any]:
    """Options of :meth:`Device.open` for a kind of device.

    Raises
    ------
    ConfigError
        Only the simulation has a memory that can be chosen; another device refuses it.
    """
    options: dict[str, Any] = {}
    if memory is not None:
        options["memory"] = memory
    if device.partition(":")[0] == "sim":
        options["direct"] = len(tape.image) > _LINK_OCTETS
    return options


def _opening(device: str) -> contextlib.AbstractContextManager[None]:
    return working("Generating and compiling the machine" if device.startswith("sim")
                   else "Opening the device")


def load(device: Device) -> None:
    """Write the tape into the memory of a device."""
    with Progress() as progress:
        device.load(lambda done, total: progress("Loading the tape", done, total))


@contextlib.contextmanager
def opened(model: Path, device: str, *, config: str | None, slots: int | None,
           memory: str | None = None) -> Iterator[tuple[Tape, Device]]:
    """A device that has the tape of a model.

    Raises
    ------
    DeviceError
        Any of :mod:`terngen.host.errors`.
    """
    with Progress() as progress:
        tape = open_model(model, config=config, slots=slots, progress=progress)
    with _opening(device):
        machine = Device.open(device, tape, **_options(device, tape, memory))
    with machine:
        load(machine)
        yield tape, machine


@contextlib.contextmanager
def benched(model: Path, device: str, *, config: str | None, slots: int | None,
            memory: str | None = None) -> Iterator[Any]:
    """A :class:`~terngen.sim.bench.Bench`, without its tape.

    Raises
    ------
    DeviceError
        Any of :mod:`terngen.host.errors`.
    """
    from terngen.sim.bench import Bench
    with Progress() as progress:
        tape = open_model(model, config=config, slots=slots, progress=progress)
    options = _options(device, tape, memory)
    if place := device.partition(":")[2]:
        options["place"] = place
    with _opening(device):
        machine = Bench(tape, **options)
    with machine:
        yield machine
