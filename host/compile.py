"""The tape compiler: a checkpoint becomes a tape.

What the published model computes is rearranged so that nothing but the int8 codes depends on a whole
vector. With ``K`` the length of a normalised vector, ``m`` the scale of a matrix, ``e1`` and ``e2``
the epsilons of the block norm and of the projection's own norm, two RMS norms in series give::

    codes = int8(x * w1 * 127 / peak)               w1 = w_block * w_projection
    out   = sums * (m * sqrt(K) / 127) * peak * root
    root  = 1 / sqrt(sum((x * w')**2) + K * e1 * e2)    w' = sqrt(w_block**2 + e2)

which holds exactly, because the second norm divides the first one out, but for the epsilons.
"""

import binascii
import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.convert.geometry import Geometry
from terngen.host.errors import ConfigError
from terngen.host.files import output_folder
from terngen.host.layout import Item, Layout
from terngen.hw.contract import formats, tape
from terngen.hw.contract.config import PRESETS, Config
from terngen.hw.contract.tape import Mark, Op, Section, Tape

__all__ = ["Progress", "check_fit", "compile_tape", "default_config"]

#: Values of the embedding that are converted at once: few enough for the cache.
_CHUNK_VALUES = 1 << 18

#: Called with what is being converted, and how many weights are done of how many.
Progress = Callable[[str, int, int], None]


def default_config(geometry: Geometry, preset: str = "small", **changes: Any) -> Config:
    """A named machine with buffers for a model.

    Raises
    ------
    ConfigError
        If there is no such machine, or the changes are refused.
    """
    if preset not in PRESETS:
        raise ConfigError(f"There is no configuration {preset!r}; there are {', '.join(PRESETS)}")
    try:
        return dataclasses.replace(PRESETS[preset], **changes).sized(
            hidden=geometry.hidden_size, state=geometry.state_size,
            intermediate=geometry.intermediate_size, layers=geometry.num_hidden_layers)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def check_fit(geometry: Geometry, config: Config) -> None:
    """Compare a model with the buffers of a machine.

    Raises
    ------
    ConfigError
        If the model does not fit; the message names the buffer.
    """
    hidden, state, inner = (geometry.hidden_size, geometry.state_size, geometry.intermediate_size)
    longest = max(hidden, state, inner)
    for what, size in (("Hidden size", hidden), ("State size", state),
                       ("Intermediate size", inner)):
        if size % config.lanes:
            raise ConfigError(f"{what} must be a multiple of the {config.lanes} lanes, not {size}; "
                              f"choose fewer lanes")
    for name, needed in (("hidden", hidden), ("wide", longest), ("rows", longest),
                         ("state", geometry.num_hidden_layers * state)):
        given = getattr(config, name)
        if needed > given:
            raise ConfigError(f"Model needs {name} = {needed}, the configuration has {given}; "
                              f"enlarge {name}")


class _Image:
    """Beats on their way into a file, in sections with check sums."""

    def __init__(self, config: Config, file: BinaryIO) -> None:
        self.config   = config
        self.beats    = 0
        self.sections: list[Section] = []
        self._file    = file
        self._start   = 0
        self._crc     = 0

    def write(self, octets: bytes) -> None:
        self._file.write(octets)
        self._crc    = binascii.crc32(octets, self._crc)
        self.beats  += len(octets) // self.config.beat_bytes

    def end_section(self, name: str) -> Mark:
        mark = Mark(self._start, self.beats - self._start)
        self.sections.append(Section(name, mark.start, mark.count, self._crc))
        self._start = self.beats
        self._crc   = 0
        return mark


class _Compiler:
    """Fills a layout with the numbers of a model; see :mod:`terngen.hw.contract.tape` for what the
    operations do."""

    def __init__(self, checkpoint: Checkpoint, image: _Image, progress: Progress) -> None:
        self._checkpoint = checkpoint
        self._geometry   = checkpoint.geometry
        self._image      = image
        self._progress   = progress
        self._done       = 0
        self._name       = ""           # the matrix that is in memory, and its scale
        self._trits      = np.zeros((0, 0), np.int8)
        self._scale      = 0.0
        self.tensors: dict[str, dict[str, Any]] = {}

    def _vector(self, name: str) -> NDArray[np.float64]:
        values = self._checkpoint.tensor(f"{name}.weight").astype(np.float64)
        self.tensors[f"{name}.weight"] = {"shape": list(values.shape)}
        return values

    def _matrix(self, name: str) -> None:
        """Read the trits and the scale of a projection, unless they are there."""
        if name == self._name:
            return
        self._progress(name, self._done, self._geometry.ternary_weights)
        self._trits, scale = self._checkpoint.ternary(f"{name}.weight")
        self._name, self._scale = name, float(scale)
        self._done += self._trits.size
        self.tensors[f"{name}.weight"] = {
            "shape": list(self._trits.shape), "zero_fraction": float(np.mean(self._trits == 0)),
            "scale": self._scale}

    def embedding(self) -> None:
        """All rows."""
        config, geometry = self._image.config, self._geometry
        step = max(1, _CHUNK_VALUES // geometry.hidden_size)
        for start in range(0, geometry.vocab_size, step):
            stop = min(start + step, geometry.vocab_size)
            rows = self._checkpoint.rows("model.embeddings.weight", start, stop)
            self._image.write(tape.pack_embedding(config, formats.from_float(config.embedding_format, rows)))
        self.tensors["model.embeddings.weight"] = {
            "shape": [geometry.vocab_size, geometry.hidden_size]}

    def write(self, item: Item) -> None:
        """A descriptor and what belongs to it."""
        config, fmt = self._image.config, self._image.config.path
        if item.matrix:
            self._matrix(item.matrix)
        numbers = {}
        octets  = b""
        if item.op is Op.MATVEC:
            octets = tape.pack_matrix(config, self._trits[item.row:item.row + item.length])
        else:
            if item.weighted:
                octets = tape.pack_parameters(config, formats.from_float(fmt.parameter, self._weights(item)))
            numbers["weight"] = int(formats.from_float(fmt, item.weight))
            if item.term is None:
                numbers["scale"] = int(formats.from_float(fmt, self._scale * item.factor))
            else:
                numbers["scale"] = int(formats.from_float(fmt.wide, item.term))
        assert len(octets) == item.beats * config.beat_bytes
        self._image.write(tape.pack_descriptor(config, **item.fields, **numbers) + octets)

    def _weights(self, item: Item) -> NDArray[np.float64]:
        """What weighs the elements."""
        if item.bounds is not None:
            bounds: NDArray[np.float64] = self._checkpoint.lower_bounds()[item.bounds]
            return 1 - bounds
        first, *others = item.norms
        weights = self._vector(first)
        for name in others:
            weights = weights * self._vector(name)
        return np.sqrt(weights**2 + item.added) if item.added else weights


def compile_tape(checkpoint: Checkpoint, config: Config, path: str | os.PathLike[str], *,
                 name: str = "", tokenizer: bytes = b"",
                 progress: Progress = lambda what, done, total: None) -> dict[str, Any]:
    """Write the tape of a model.

    One tensor is in memory at a time. The file appears when it is complete; nothing is left behind
    if anything fails.

    Parameters
    ----------
    checkpoint : :class:`Checkpoint`
        The model.
    config : :class:`Config`
        The machine.
    path
        Tape file to write.
    name
        Name of the model, for people.
    tokenizer
        Contents of ``tokenizer.json``.

    Returns
    -------
    dict
        Report: ``tensors`` (shape, zero fraction, scale), ``bits_per_weight``, ``tape_bytes``,
        ``sections``.

    Raises
    ------
    ConfigError
        If the model does not fit the machine.
    CheckpointError
        If a tensor cannot be read.
    OutputError
        If the file cannot be written.
    """
    geometry = checkpoint.geometry
    check_fit(geometry, config)
    path = Path(path)
    with output_folder(path) as folder, open(folder / "image", "w+b") as beats:
        image    = _Image(config, beats)
        compiler = _Compiler(checkpoint, image, progress)
        layout   = Layout(geometry, config)

        compiler.embedding()
        embedding = image.end_section("embedding")
        for part, items in layout.items.items():
            if part == "layers" or part.startswith("head."):    # what is written anyway
                continue
            for item in items:
                compiler.write(item)
            written = image.end_section(part)
            assert written == layout.marks[part]
        progress("lm_head", geometry.ternary_weights, geometry.ternary_weights)

        beats.flush()
        laid_out = Tape(
            config    = config,
            model     = {
                "name":              name,
                "vocab_size":        geometry.vocab_size,
                "hidden_size":       geometry.hidden_size,
                "state_size":        geometry.state_size,
                "intermediate_size": geometry.intermediate_size,
                "num_hidden_layers": geometry.num_hidden_layers,
                "bos_token_id":      geometry.bos_token_id,
                "eos_token_id":      geometry.eos_token_id,
                "ternary_weights":   geometry.ternary_weights,
                "embedding_start":   embedding.start,
                "embedding_beats":   layout.row_beats,
            },
            sections  = tuple(image.sections),
            marks     = layout.marks,
            image     = np.memmap(beats.name, np.uint8, "r"),
            tokenizer = tokenizer)
        complete = folder / "tape"
        with open(complete, "wb") as file:
            file.write(laid_out.header())
            beats.seek(0)
            shutil.copyfileobj(beats, file, 1 << 20)
            file.write(tokenizer)
        os.replace(complete, path)

    played = (layout.marks["layers"].count + layout.marks["head"].count) * config.beat_bytes
    return {
        "tape_bytes":      image.beats * config.beat_bytes,
        "played_bytes":    played,
        "ternary_weights": geometry.ternary_weights,
        "bits_per_weight": 8 * played / geometry.ternary_weights,
        "sections":        {section.name: section.count * config.beat_bytes
                            for section in image.sections},
        "tensors":         compiler.tensors,
    }
