"""Logits after every token of a sequence, from whatever computes them."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

import click
import numpy as np
from numpy.typing import NDArray

from terngen.host.chain import Computer
from terngen.host.commands.console import working
from terngen.host.commands.devices import check_simulation, computing, tape_of, tapes_of
from terngen.host.errors import TapeError
from terngen.host.models import open_checkpoint
from terngen.host.text import Language

__all__ = ["Scorer", "scorer"]


class Scorer(Protocol):
    """One sequence at a time.

    The model is read when it is made, so that everything else can be held against it; what computes
    is there inside a ``with`` statement.
    """

    @property
    def vocab(self) -> int:
        """Tokens of the model."""

    @property
    def chunk(self) -> int:
        """Tokens that are best given at once."""

    def language(self) -> Language:
        """Tokenizer of the model."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...

    def reset(self) -> None:
        """Begin a sequence."""

    def advance(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Take the next tokens; logits after each, ``(len(tokens), vocab)``."""


class _Golden:
    """The golden machine, with slots as consecutive tokens."""

    chunk = 64

    def __init__(self, model: Path, config: str | None, slots: int | None, sites: Mapping[str, str] | None) -> None:
        self._tape = tape_of(model, config=config, slots=slots, sites=sites)
        self.vocab = self._tape.model["vocab_size"]

    def language(self) -> Language:
        return Language.of_tape(self._tape)

    def __enter__(self) -> Self:
        from terngen.sim.golden.sequence import Sequence as GoldenSequence
        self._sequence = GoldenSequence(self._tape, chunk=self.chunk)
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing is to be let go of."""

    def reset(self) -> None:
        self._sequence.reset()

    def advance(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        from terngen.hw.contract.tape import TapeFormatError
        from terngen.sim.golden.machine import MachineFault
        try:
            return self._sequence.advance(tokens)
        except (MachineFault, TapeFormatError) as error:
            raise TapeError(f"Tape cannot be played: {error}") from error


class _Device:
    """A device, or several with a piece of the model each, token by token."""

    chunk = 1

    def __init__(self, models: Sequence[Path], devices: Sequence[str], config: str | None, slots: int | None,
                 sites: Mapping[str, str] | None, **simulation: str | None) -> None:
        self._tapes = tapes_of(models, devices, config=config, slots=slots, sites=sites)
        self.vocab  = self._tapes[0].model["vocab_size"]
        self._specs, self._simulation = devices, simulation
        self._stack = contextlib.ExitStack()
        self._fresh = True

    def language(self) -> Language:
        return Language.of_tape(self._tapes[0])

    def __enter__(self) -> Self:
        self._device: Computer = self._stack.enter_context(computing(self._tapes, self._specs, **self._simulation))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def reset(self) -> None:
        self._fresh = True

    def advance(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        rows = []
        for token in tokens:
            rows.append(self._device.logits({0: token}, reset=[0] if self._fresh else ())[0])
            self._fresh = False
        return np.stack(rows)


class _Reference:
    """The model in float32."""

    chunk = 64

    def __init__(self, model: Path) -> None:
        self._checkpoint = open_checkpoint(model, purpose="Device reference")
        self.vocab       = self._checkpoint.geometry.vocab_size

    def language(self) -> Language:
        return Language.of_checkpoint(self._checkpoint)

    def __enter__(self) -> Self:
        from terngen.sim.golden.reference import Reference
        with working("Reading the checkpoint"):
            self._reference = Reference(self._checkpoint)
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing is to be let go of."""

    def reset(self) -> None:
        self._reference.reset(1)

    def advance(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        return self._reference.advance(np.array([tokens]))[0]


def scorer(models: Sequence[Path], devices: Sequence[str], *, config: str | None, slots: int | None,
           sites: Mapping[str, str] | None, memory: str | None = None, waveform: str | None = None) -> Scorer:
    """What computes the logits of a model.

    Raises
    ------
    click.UsageError
        If an option does not go with the device.
    DeviceError
        Any of :mod:`terngen.host.errors`, if the model cannot be opened.
    """
    for device in devices:
        check_simulation(device, memory=memory, waveform=waveform)
    if len(models) + len(devices) == 2 and devices[0] == "golden":
        return _Golden(models[0], config, slots, sites)
    if "reference" in devices:
        if len(models) + len(devices) > 2:
            raise click.UsageError("Device reference has the whole model, so that it and its checkpoint must stand "
                                   "alone.")
        if config is not None or slots is not None or sites is not None:
            raise click.UsageError("Device reference computes in float32, without a machine, so "
                                   "--config, --slots and --multiplier are not for it.")
        return _Reference(models[0])
    return _Device(models, devices, config, slots, sites, memory=memory, waveform=waveform)
