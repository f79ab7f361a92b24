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
import contextlib
import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.convert.geometry import Geometry
from terngen.host.errors import ConfigError
from terngen.host.files import output_folder
from terngen.host.layout import Item, Layout, Piece
from terngen.hw.contract import formats, tape
from terngen.hw.contract.config import PRESETS, Config
from terngen.hw.contract.tape import Mark, Op, Section, Tape

__all__ = ["Progress", "check_fit", "compile_pieces", "compile_tape", "default_config"]

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


def check_fit(geometry: Geometry, config: Config, piece: Piece | None = None) -> None:
    """Compare a model, or a piece of one, with the buffers of a machine.

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
                         ("state", len((piece or Piece.whole(geometry)).layers) * state)):
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

    def skip(self, beats: int) -> None:
        """Beats of no section."""
        self._file.write(bytes(beats * self.config.beat_bytes))
        self.beats  = self._start = self.beats + beats

    def end_section(self, name: str) -> Mark:
        mark = Mark(self._start, self.beats - self._start)
        self.sections.append(Section(name, mark.start, mark.count, self._crc))
        self._start = self.beats
        self._crc   = 0
        return mark


class _Compiler:
    """Fills a layout with the numbers of a model; see :mod:`terngen.hw.contract.tape` for what the
    operations do."""

    def __init__(self, checkpoint: Checkpoint, progress: Progress) -> None:
        self._checkpoint = checkpoint
        self._geometry   = checkpoint.geometry
        self._progress   = progress
        self._done       = 0
        self._name       = ""           # the matrix that is in memory, and its scale
        self._trits      = np.zeros((0, 0), np.int8)
        self._scale      = 0.0
        #: Of the tensors of the current piece, what is reported.
        self.tensors: dict[str, dict[str, Any]] = {}

    def write(self, image: _Image, layout: Layout, piece: Piece) -> None:
        """A piece of the model."""
        self._image  = image
        self.tensors = {}
        if piece.first:
            self._embedding()
            image.end_section("embedding")
        else:
            image.skip(layout.rows * layout.row_beats)
        for part, items in layout.items.items():
            if part == "layers" or part.startswith("head.") or not items:   # what is written anyway
                continue
            for item in items:
                self._write(item)
            written = image.end_section(part)
            assert written == layout.marks[part]

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

    def _embedding(self) -> None:
        """All rows."""
        config, geometry = self._image.config, self._geometry
        step = max(1, _CHUNK_VALUES // geometry.hidden_size)
        for start in range(0, geometry.vocab_size, step):
            stop = min(start + step, geometry.vocab_size)
            rows = self._checkpoint.rows("model.embeddings.weight", start, stop)
            self._image.write(tape.pack_embedding(config, formats.from_float(config.embedding_format, rows)))
        self.tensors["model.embeddings.weight"] = {
            "shape": [geometry.vocab_size, geometry.hidden_size]}

    def _write(self, item: Item) -> None:
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
    [report] = compile_pieces(checkpoint, config, {Piece.whole(checkpoint.geometry): path}, name=name,
                              tokenizer=tokenizer, progress=progress)
    return report


def compile_pieces(checkpoint: Checkpoint, config: Config, paths: Mapping[Piece, str | os.PathLike[str]], *,
                   name: str = "", tokenizer: bytes = b"",
                   progress: Progress = lambda what, done, total: None) -> list[dict[str, Any]]:
    """Write the tapes of all pieces of a model, for machines like that of `config`: as :func:`compile_tape`, which
    says what else there is. The files appear when all are complete."""
    geometry = checkpoint.geometry
    machines = {piece: piece.machine(geometry, config) for piece in paths}
    for piece, machine in machines.items():
        check_fit(geometry, machine, piece)
    compiler = _Compiler(checkpoint, progress)
    reports  = []
    with contextlib.ExitStack() as stack:
        folders, images = {}, {}
        for piece, machine in machines.items():
            folders[piece] = stack.enter_context(output_folder(Path(paths[piece])))
            layout = Layout(geometry, machine, piece)
            with open(folders[piece] / "image", "wb") as beats:
                images[piece] = image = _Image(machine, beats)
                compiler.write(image, layout, piece)
            reports.append(_report(geometry, image, layout, piece) | {"tensors": compiler.tensors})
        progress("lm_head", geometry.ternary_weights, geometry.ternary_weights)
        family = _family(images.values())
        for piece, folder in folders.items():
            layout   = Layout(geometry, machines[piece], piece)
            laid_out = Tape(
                config    = machines[piece],
                model     = _facts(geometry, layout, piece, name, family),
                sections  = tuple(images[piece].sections),
                marks     = layout.marks,
                image     = np.memmap(folder / "image", np.uint8, "r"),
                tokenizer = tokenizer)
            with open(folder / "tape", "wb") as file, open(folder / "image", "rb") as beats:
                file.write(laid_out.header())
                shutil.copyfileobj(beats, file, 1 << 20)
                file.write(tokenizer)
        for piece, folder in folders.items():
            os.replace(folder / "tape", paths[piece])
    return reports


def _facts(geometry: Geometry, layout: Layout, piece: Piece, name: str, family: str) -> dict[str, Any]:
    """What a tape says of its model."""
    facts: dict[str, Any] = {
        "name":              name,
        "vocab_size":        geometry.vocab_size,
        "hidden_size":       geometry.hidden_size,
        "state_size":        geometry.state_size,
        "intermediate_size": geometry.intermediate_size,
        "num_hidden_layers": len(piece.layers),
        "bos_token_id":      geometry.bos_token_id,
        "eos_token_id":      geometry.eos_token_id,
        "ternary_weights":   piece.ternary_weights(geometry),
        "embedding_start":   0,
        "embedding_beats":   layout.row_beats,
    }
    if piece.pieces > 1:
        facts["piece"] = {"number": piece.number, "pieces": piece.pieces, "family": family}
    return facts


def _family(images: Iterable[_Image]) -> str:
    """What pieces of the same model for the same machines have in common, and others do not."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(image.config.digest)
        for section in image.sections:
            digest.update(f"{section.name} {section.count} {section.crc32}\n".encode())
    return digest.hexdigest()[:32]


def _report(geometry: Geometry, image: _Image, layout: Layout, piece: Piece) -> dict[str, Any]:
    """Sizes."""
    octets = image.config.beat_bytes
    played = (layout.marks["layers"].count + layout.marks["head"].count) * octets
    return {
        "tape_bytes":      image.beats * octets,
        "played_bytes":    played,
        "ternary_weights": piece.ternary_weights(geometry),
        "bits_per_weight": 8 * played / piece.ternary_weights(geometry),
        "sections":        {section.name: section.count * octets for section in image.sections},
    }
