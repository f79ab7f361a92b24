"""Devices with a model, ready to run."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from terngen.host.chain import Chain, Computer, check_pieces
from terngen.host.commands.console import Progress, working
from terngen.host.device import Device
from terngen.host.models import open_model, open_pieces
from terngen.hw.contract.tape import Tape

__all__ = ["benched", "check_simulation", "computing", "connected", "load", "named", "one_each", "opened",
           "random_tape", "tape_of", "tapes_of"]

#: Devices that keep their memory from one program to the next.
_BOARDS = ("serial", "mmap")
#: Octets of a tape that are worth loading through a simulated link, which takes a cycle for each.
_LINK_OCTETS = 1 << 20


def tape_of(model: Path, *, config: str | None, piece: bool = False, **changes: Any) -> Tape:
    """The tape of a model, see :func:`~terngen.host.models.open_model`; that of a `piece` only where it will do."""
    with Progress() as progress:
        tape = open_model(model, config=config, progress=progress, **changes)
    if not piece:
        check_pieces([tape])
    return tape


def tapes_of(models: Sequence[Path], devices: Sequence[str], *, config: str | None, **changes: Any) -> list[Tape]:
    """The tapes of a model for some devices, see :func:`~terngen.host.models.open_pieces`."""
    with Progress() as progress:
        return open_pieces(models, len(devices), config=config, progress=progress, **changes)


def one_each(devices: Sequence[str], tapes: Sequence[Tape]) -> Sequence[str]:
    """A device for each tape: one kind is for all of them."""
    return devices if len(devices) > 1 else [*devices] * len(tapes)


def named(devices: Sequence[str]) -> str:
    """What computes, in a report."""
    return ", ".join(devices)


def random_tape(geometry: str, config: str | None, changes: Mapping[str, Any], memory: str) -> Tape:
    """The tape of a published size with random weights, for the machine that fits it or a named one.

    Raises
    ------
    ConfigError
        If the machine or the memory is refused.
    """
    from terngen.host import configs
    from terngen.host.commands.machines import fitted, source_of
    from terngen.host.compile import compile_tape
    from terngen.host.convert.checkpoint import Checkpoint
    from terngen.host.convert.geometry import PUBLISHED, Geometry
    from terngen.sim.checkpoint import write_checkpoint

    values  = {"model_type": "hgrn_bit", **PUBLISHED[geometry]}
    machine = (fitted(values, changes, source_of(memory, exact=False)) if config is None
               else configs.model_config(Geometry.from_config(values), config, **changes))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with working("Making random weights"):
            write_checkpoint(place, values)
        with Progress() as progress:
            compile_tape(Checkpoint.open(place), machine, place / "model.tape", name=geometry, progress=progress)
        tape = Tape.open(place / "model.tape")
        # The file goes; what has been mapped stays.
        return dataclasses.replace(tape, image=np.array(tape.image))


def check_simulation(device: str, **simulation: str | None) -> None:
    """Hold the options that only the simulation has against the device.

    Raises
    ------
    click.UsageError
        If another device is asked for one.
    """
    for name, value in simulation.items():
        if value is not None and device.partition(":")[0] != "sim":
            raise click.UsageError(f"Option --{name} is for device sim, not {device}.")


def _options(device: str, tape: Tape, simulation: Mapping[str, str | None]) -> dict[str, Any]:
    """Options of :meth:`Device.open` for a kind of device."""
    check_simulation(device, **simulation)
    options: dict[str, Any] = {name: value for name, value in simulation.items() if value is not None}
    if device.partition(":")[0] == "sim":
        options["direct"] = len(tape.image) > _LINK_OCTETS
    return options


def _opening(device: str) -> contextlib.AbstractContextManager[None]:
    return working("Generating and compiling the machine" if device.startswith("sim")
                   else "Opening the device")


def load(device: Device, *, keep: bool = False) -> None:
    """Write the tape into the memory of a device; with `keep` only what it does not have."""
    with Progress() as progress:
        (device.complete if keep else device.load)(lambda done, total: progress("Loading the tape", done, total))


@contextlib.contextmanager
def connected(tape: Tape, device: str, **simulation: str | None) -> Iterator[Device]:
    """A device for a tape that it may not have; `simulation` is what was given with
    :func:`~terngen.host.commands.options.simulation_options`.

    Raises
    ------
    DeviceError
        Any of :mod:`terngen.host.errors`.
    """
    options = _options(device, tape, simulation)
    with _opening(device):
        machine = Device.open(device, tape, **options)
    with machine:
        yield machine


@contextlib.contextmanager
def opened(tape: Tape, device: str, **simulation: str | None) -> Iterator[Device]:
    """The same with the tape. Boards keep what they have; the others begin with nothing."""
    with connected(tape, device, **simulation) as machine:
        load(machine, keep=device.partition(":")[0] in _BOARDS)
        yield machine


@contextlib.contextmanager
def computing(tapes: Sequence[Tape], devices: Sequence[str], **simulation: str | None) -> Iterator[Computer]:
    """Devices with a model, or with its pieces, as :func:`opened`."""
    if len(tapes) == 1:
        with opened(tapes[0], devices[0], **simulation) as machine:
            yield machine
        return
    if simulation.get("waveform") is not None:
        raise click.UsageError("Option --waveform is for one device, not for several.")
    with contextlib.ExitStack() as stack:
        yield Chain([stack.enter_context(opened(tape, device, **simulation))
                     for tape, device in zip(tapes, one_each(devices, tapes), strict=True)])


@contextlib.contextmanager
def benched(tape: Tape, device: str, **simulation: str | None) -> Iterator[Any]:
    """A :class:`~terngen.sim.bench.Bench`, without its tape; as :func:`opened`.

    Raises
    ------
    DeviceError
        Any of :mod:`terngen.host.errors`.
    """
    from terngen.sim.bench import Bench
    options = _options(device, tape, simulation)
    if place := device.partition(":")[2]:
        options["place"] = place
    with _opening(device):
        machine = Bench(tape, **options)
    with machine:
        yield machine
