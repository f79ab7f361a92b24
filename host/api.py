"""The same as the command line, for programs and notebooks.

::

    from terngen.host.api import Design, Device, Model

    model  = Model.from_pretrained("models/fairy-1m")
    design = Design(model, board="ulx3s-85f:sdram")
    design.estimate()["tokens_per_second"]
    design.build("bitstream")

    with Device.open("sim", design.tape()) as device:
        device.complete()
        for piece in device.generate("Once upon a time", stream=True):
            print(piece, end="")

Errors are those of :mod:`terngen.host.errors`, whose messages say what to do.
"""

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self, overload

from terngen.host import configs, device
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.convert.geometry import Geometry
from terngen.host.models import open_model
from terngen.host.sampling import Sampling
from terngen.host.text import Story
from terngen.hw.contract.config import Config, Sites
from terngen.hw.contract.tape import Tape

__all__ = ["Design", "Device", "Model"]


@dataclasses.dataclass(frozen=True)
class Model:
    """A checkpoint in the public format.

    Parameters
    ----------
    path
        Its folder.
    geometry
        Its sizes.
    """

    path:     Path
    geometry: Geometry

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str]) -> Self:
        """A checkpoint folder, opened and checked, whose weights are not read yet.

        Raises
        ------
        CheckpointError
            If files are missing, damaged, or of another kind of model.
        """
        return cls(Path(path), Checkpoint.open(Path(path)).geometry)

    @property
    def ternary_weights(self) -> int:
        """Weights on the tape."""
        return self.geometry.ternary_weights


class Design:
    """A machine for a model, with or without a board.

    Parameters
    ----------
    model : :class:`Model`
    board : :class:`str`
        A name of ``terngen boards``, with or without a memory (``ulx3s-85f:sdram``), or a Python file with a BOARD.
    config : :class:`str`
        A preset or a file; without it the machine suits the board, or is the default one.
    multiplier : mapping or :class:`str`
        ``exact``, ``lmul`` or another policy for all products, or the policy of each site by name.
    knobs
        Fields of :class:`Config` that are chosen, like ``slots`` or ``beat_bits``.

    Raises
    ------
    ConfigError
        If there is no such board, machine or field, or the model does not fit.
    """

    def __init__(self, model: Model, board: str | None = None, *, config: str | None = None,
                 multiplier: str | Mapping[str, str] | None = None, **knobs: Any) -> None:
        from terngen.host.commands.building import chosen, machine_on
        from terngen.host.errors import ConfigError

        self.model  = model
        sites       = {"sites": _sites(multiplier)} if multiplier is not None else {}
        unknown     = sorted(set(knobs) - {field.name for field in dataclasses.fields(Config)})
        if unknown:
            raise ConfigError(f"A machine has no field {unknown[0]!r}; it has "
                              f"{', '.join(field.name for field in dataclasses.fields(Config))}")
        self._choice = None if board is None else chosen(board)
        #: The machine.
        self.config: Config
        if self._choice is None:
            self.config = configs.model_config(model.geometry, config or configs.DEFAULT, **knobs, **sites)
        else:
            machine     = machine_on(self._choice, model.geometry, config, knobs.pop("slots", None), sites.get("sites"))
            self.config = configs.model_config(model.geometry, machine, **knobs)

    def estimate(self, clock_mhz: float | None = None) -> dict[str, Any]:
        """What a token takes, and the area: the keys of ``terngen estimate --json``.

        Cycles are exact, for the memory of the board, or one that never waits.

        Parameters
        ----------
        clock_mhz
            By default the clock of the board, or 100.
        """
        from terngen.host.commands.estimate import of_layout
        from terngen.host.commands.machines import source_of

        choice = self._choice
        source = source_of("") if choice is None else choice.tape_memory.timing(choice.clock_hz)
        clock  = clock_mhz or (100.0 if choice is None else choice.clock_hz / 1e6)
        return of_layout(self.model.geometry, self.config, source, clock)

    @functools.cache                                        # noqa: B019 - a design lives as long as its tape
    def tape(self) -> Tape:
        """The model, converted for this machine; from the cache where it was converted before."""
        return open_model(self.model.path, config=self.config)

    def build(self, folder: str | os.PathLike[str], *, seed: int | None = None, tries: int = 3) -> dict[str, Any]:
        """Make the bitstream, as ``terngen build``; what ``--json`` prints.

        Raises
        ------
        TimingError
            If timing is missed with every seed.
        ConfigError
            If the device is too small, there is no board, or it needs its maker's tools.
        ToolError
            If a tool is missing or fails.
        """
        from terngen.host.commands.build import built
        from terngen.host.errors import ConfigError

        if self._choice is None:
            raise ConfigError("A bitstream is made for a board; name one, Design(model, board=...)")
        return built(self._choice, self.tape(), Path(folder), seed, tries)


def _sites(multiplier: str | Mapping[str, str]) -> dict[str, str]:
    from terngen.host.errors import ConfigError
    if not isinstance(multiplier, str):
        multiplier = ",".join(f"{site}={name}" for site, name in multiplier.items())
    try:
        return Sites.parse(multiplier).to_dict()
    except ValueError as error:
        raise ConfigError(str(error)) from error


class Device(device.Device):
    """A machine with a tape, which also writes text."""

    @overload
    def generate(self, prompt: str, *, tokens: int = ..., temperature: float = ..., top_k: int | None = ...,
                 seed: int = ..., slot: int = ..., stream: Literal[True]) -> Iterator[str]: ...

    @overload
    def generate(self, prompt: str, *, tokens: int = ..., temperature: float = ..., top_k: int | None = ...,
                 seed: int = ..., slot: int = ..., stream: Literal[False] = ...) -> str: ...

    def generate(self, prompt: str, *, tokens: int = 100, temperature: float = 0.0, top_k: int | None = None,
                 seed: int = 0, slot: int = 0, stream: bool = False) -> Iterator[str] | str:
        """The text that follows a prompt: at once, or with `stream` in pieces as they are certain.

        Parameters
        ----------
        tokens
            At most so many.
        temperature, top_k, seed
            As of :class:`~terngen.host.sampling.Sampling`; by default the best token each time.

        Raises
        ------
        InputError
            If the prompt has no token, or one that the model does not know.
        TapeError
            If there is no tokenizer on the tape.
        """
        story  = Story(self, prompt, Sampling(temperature=temperature, top_k=top_k, seed=seed), slot=slot)
        pieces = story.pieces(tokens)
        return pieces if stream else "".join(pieces)
