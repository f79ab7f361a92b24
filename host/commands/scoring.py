"""Logits after every token of a sequence, from whatever computes them."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from terngen.host.commands.console import Progress, working
from terngen.host.commands.devices import opened
from terngen.host.device import Device
from terngen.host.errors import InputError, TapeError
from terngen.host.models import open_checkpoint, open_model
from terngen.host.text import Language

__all__ = ["Scorer", "scorer"]


class Scorer(Protocol):
    """One sequence at a time."""

    vocab: int
    #: Tokens that are best given at once.
    chunk: int

    def language(self) -> Language:
        """Tokenizer of the model."""

    def reset(self) -> None:
        """Begin a sequence."""

    def advance(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Take the next tokens; logits after each, ``(len(tokens), vocab)``."""


class _Golden:
    """The golden machine, with slots as consecutive tokens."""

    chunk = 64

    def __init__(self, model: Path, config: str | None, slots: int | None) -> None:
        from terngen.sim.golden.sequence import Sequence as GoldenSequence
        with Progress() as progress:
            self._tape = open_model(model, config=config, slots=slots, progress=progress)
        self._sequence = GoldenSequence(self._tape, chunk=self.chunk)
        self.vocab     = self._tape.model["vocab_size"]

    def language(self) -> Language:
        return Language.of_tape(self._tape)

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
    """A device, token by token."""

    chunk = 1

    def __init__(self, device: Device) -> None:
        self._device = device
        self._fresh  = True
        self.vocab   = device.tape.model["vocab_size"]

    def language(self) -> Language:
        return Language.of_tape(self._device.tape)

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

    def __init__(self, model: Path, config: str | None, slots: int | None) -> None:
        from terngen.sim.golden.reference import Reference
        if config is not None or slots is not None:
            raise InputError("Device reference computes in float32 and takes no configuration and "
                             "no slots")
        self._checkpoint = open_checkpoint(model, purpose="Device reference")
        with working("Reading the checkpoint"):
            self._reference = Reference(self._checkpoint)
        self.vocab = self._reference.vocab_size

    def language(self) -> Language:
        return Language.of_checkpoint(self._checkpoint)

    def reset(self) -> None:
        self._reference.reset(1)

    def advance(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        return self._reference.advance(np.array([tokens]))[0]


@contextlib.contextmanager
def scorer(model: Path, device: str, *, config: str | None, slots: int | None,
           memory: str | None = None) -> Iterator[Scorer]:
    """What computes the logits of a model.

    Raises
    ------
    DeviceError
        Any of :mod:`terngen.host.errors`, if the model or the device cannot be opened.
    """
    if device == "golden":
        yield _Golden(model, config, slots)
    elif device == "reference":
        yield _Reference(model, config, slots)
    else:
        with opened(model, device, config=config, slots=slots, memory=memory) as (_, machine):
            yield _Device(machine)
