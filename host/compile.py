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
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.convert.geometry import Geometry
from terngen.host.errors import ConfigError
from terngen.host.files import output_folder
from terngen.hw.contract import formats, tape
from terngen.hw.contract.config import PRESETS, Config
from terngen.hw.contract.tape import Mark, Op, Section, Tape

__all__ = ["Progress", "check_fit", "compile_tape", "default_config"]

#: Epsilon of the norm inside every projection, whatever the configuration says.
PROJECTION_EPS = 1e-6
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

    # Descriptors.

    def vector(self, op: Op, length: int, *, weights: NDArray[np.float64] | None = None,
               weight: float = 0.0, scale: float = 0.0, term: float | None = None,
               **fields: int) -> None:
        """An operation of the vector unit, with its parameters or its constant weight."""
        config, fmt = self.config, self.config.path
        octets = b""
        if weights is not None:
            octets = tape.pack_parameters(config, formats.from_float(fmt.parameter, weights))
        if term is None:
            constant = int(formats.from_float(fmt, scale))
        else:
            constant = int(formats.from_float(fmt.wide, term))
        self.write(tape.pack_descriptor(
            config, opcode=op, length=length, weighted=int(weights is not None),
            beats=len(octets) // config.beat_bytes, scale=constant,
            weight=int(formats.from_float(fmt, weight)), **fields) + octets)

    def matrix(self, trits: NDArray[np.int8], *, release: bool) -> None:
        """A row tile."""
        rows, cols = trits.shape
        octets = tape.pack_matrix(self.config, trits)
        self.write(tape.pack_descriptor(
            self.config, opcode=Op.MATVEC, length=rows, place=cols, release=int(release),
            beats=len(octets) // self.config.beat_bytes))
        self.write(octets)


class _Compiler:
    """Lays a model out; see :mod:`terngen.hw.contract.tape` for what the operations do."""

    def __init__(self, checkpoint: Checkpoint, image: _Image, progress: Progress) -> None:
        self._checkpoint = checkpoint
        self._geometry   = checkpoint.geometry
        self._image      = image
        self._progress   = progress
        self._done       = 0
        self.tensors: dict[str, dict[str, Any]] = {}

    def _vector(self, name: str) -> NDArray[np.float64]:
        values = self._checkpoint.tensor(f"{name}.weight").astype(np.float64)
        self.tensors[f"{name}.weight"] = {"shape": list(values.shape)}
        return values

    def _matrix(self, name: str) -> tuple[NDArray[np.int8], float]:
        """Trits of a projection, and its scale."""
        self._progress(name, self._done, self._geometry.ternary_weights)
        trits, scale = self._checkpoint.ternary(f"{name}.weight")
        self._done  += trits.size
        self.tensors[f"{name}.weight"] = {
            "shape": list(trits.shape), "zero_fraction": float(np.mean(trits == 0)),
            "scale": float(scale)}
        return trits, float(scale)

    def _squares(self, norm: NDArray[np.float64]) -> None:
        """The root of a block norm in front of a projection's norm."""
        length = len(norm)
        self._image.vector(Op.SQUARE, length, weights=np.sqrt(norm**2 + PROJECTION_EPS), first=1,
                           last=1, term=length * self._geometry.rms_norm_eps * PROJECTION_EPS)

    def embedding(self) -> int:
        """All rows; returns the beats of one."""
        config, geometry = self._image.config, self._geometry
        words = tape.embedding_words(config, geometry.hidden_size)
        step = max(1, _CHUNK_VALUES // geometry.hidden_size)
        for start in range(0, geometry.vocab_size, step):
            stop = min(start + step, geometry.vocab_size)
            rows = self._checkpoint.rows("model.embeddings.weight", start, stop)
            padded = np.zeros((stop - start, words), "<u2")
            padded[:, :geometry.hidden_size] = formats.from_float(config.path.parameter, rows)
            self._image.write(padded.tobytes())
        self.tensors["model.embeddings.weight"] = {
            "shape": [geometry.vocab_size, geometry.hidden_size]}
        return config.parameter_beats(geometry.hidden_size)

    def entry(self, index: int) -> NDArray[np.float64]:
        """Weights of the scan that must come before a layer, or before the head."""
        if index == self._geometry.num_hidden_layers:
            return self._vector("model.norm") * self._vector("lm_head.norm")
        layer = f"model.layers.{index}"
        return self._vector(f"{layer}.attn_norm") * self._vector(f"{layer}.attn.f_proj.norm")

    def layer(self, index: int) -> None:
        """One layer. Each matrix is preceded by what prepares the codes of the next one, so that
        the array does not wait where the model does not force it to."""
        image, geometry = self._image, self._geometry
        layer  = f"model.layers.{index}"
        hidden, state, inner = (geometry.hidden_size, geometry.state_size,
                                geometry.intermediate_size)
        root   = math.sqrt(hidden) / 127

        # Token mixer.
        norm = self._vector(f"{layer}.attn_norm")
        if index == 0:
            image.vector(Op.SCAN, hidden, weights=self.entry(0))
        image.vector(Op.QUANTISE, hidden)
        image.vector(Op.SCAN, hidden, weights=norm * self._vector(f"{layer}.attn.g_proj.norm"))
        image.vector(Op.QUANTISE, hidden)
        self._squares(norm)
        trits, scale = self._matrix(f"{layer}.attn.f_proj")
        image.matrix(trits, release=True)
        image.vector(Op.SCAN, hidden, weights=norm * self._vector(f"{layer}.attn.i_proj.norm"))
        image.vector(Op.QUANTISE, hidden)
        bounds = self._checkpoint.lower_bounds()[index] if geometry.use_lower_bound else np.zeros(1)
        if np.any(bounds):
            image.vector(Op.GATE, state, scale=scale * root, weights=1 - bounds)
        else:
            image.vector(Op.GATE, state, scale=scale * root, weight=1.0)
        trits, scale = self._matrix(f"{layer}.attn.g_proj")
        image.matrix(trits, release=True)
        image.vector(Op.STORE, state, scale=scale * root, weight=math.sqrt(PROJECTION_EPS), first=1)
        trits, scale = self._matrix(f"{layer}.attn.i_proj")
        image.matrix(trits, release=True)
        gate_norm = self._vector(f"{layer}.attn.g_norm")
        image.vector(Op.MLGRU, state, scale=scale * root,
                     place=index * image.config.groups(state),
                     weights=gate_norm * self._vector(f"{layer}.attn.o_proj.norm"))
        image.vector(Op.QUANTISE, state)
        image.vector(Op.SQUARE, state, source=1, last=1, weights=gate_norm,
                     term=state * geometry.rms_norm_eps * PROJECTION_EPS)
        trits, scale = self._matrix(f"{layer}.attn.o_proj")
        image.matrix(trits, release=True)

        # Channel mixer.
        norm = self._vector(f"{layer}.mlp_norm")
        image.vector(Op.RESIDUAL, hidden, scale=scale * math.sqrt(state) / 127,
                     weights=norm * self._vector(f"{layer}.mlp.gate_proj.norm"))
        image.vector(Op.QUANTISE, hidden)
        self._squares(norm)
        trits, scale = self._matrix(f"{layer}.mlp.gate_proj")
        image.matrix(trits[:inner], release=False)
        image.vector(Op.SILU, inner, scale=scale * root)
        image.matrix(trits[inner:], release=True)
        image.vector(Op.GLU, inner, scale=scale * root,
                     weights=self._vector(f"{layer}.mlp.down_proj.norm"))
        image.vector(Op.QUANTISE, inner)
        image.vector(Op.SQUARE, inner, source=1, first=1, last=1, weight=1.0,
                     term=inner * PROJECTION_EPS)
        trits, scale = self._matrix(f"{layer}.mlp.down_proj")
        image.matrix(trits, release=True)
        image.vector(Op.RESIDUAL, hidden, scale=scale * math.sqrt(inner) / 127,
                     weights=self.entry(index + 1))

    def head(self) -> Iterator[Mark]:
        """The head, one row tile after the other; yields where each lies."""
        image, geometry = self._image, self._geometry
        hidden, start   = geometry.hidden_size, image.beats
        image.vector(Op.QUANTISE, hidden)
        self._squares(self._vector("model.norm"))
        trits, scale = self._matrix("lm_head")
        for first in range(0, geometry.vocab_size, image.config.rows):
            tile = trits[first:first + image.config.rows]
            image.matrix(tile, release=first + len(tile) == geometry.vocab_size)
            image.vector(Op.LOGITS, len(tile), scale=scale * math.sqrt(hidden) / 127,
                         first=int(first == 0))
            yield Mark(start, image.beats - start)
            start = image.beats
        self._progress("lm_head", self._done, geometry.ternary_weights)


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
        marks: dict[str, Mark] = {}

        row_beats = compiler.embedding()
        embedding = image.end_section("embedding")
        layers    = image.beats
        for index in range(geometry.num_hidden_layers):
            compiler.layer(index)
            marks[f"layer.{index}"] = image.end_section(f"layer.{index}")
        marks["layers"] = Mark(layers, image.beats - layers)
        for index, tile in enumerate(compiler.head()):
            marks[f"head.{index}"] = tile
        marks["head"] = image.end_section("head")

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
                "embedding_beats":   row_beats,
            },
            sections  = tuple(image.sections),
            marks     = marks,
            image     = np.memmap(beats.name, np.uint8, "r"),
            tokenizer = tokenizer)
        complete = folder / "tape"
        with open(complete, "wb") as file:
            file.write(laid_out.header())
            beats.seek(0)
            shutil.copyfileobj(beats, file, 1 << 20)
            file.write(tokenizer)
        os.replace(complete, path)

    played = (marks["layers"].count + marks["head"].count) * config.beat_bytes
    return {
        "tape_bytes":      image.beats * config.beat_bytes,
        "played_bytes":    played,
        "ternary_weights": geometry.ternary_weights,
        "bits_per_weight": 8 * played / geometry.ternary_weights,
        "sections":        {section.name: section.count * config.beat_bytes
                            for section in image.sections},
        "tensors":         compiler.tensors,
    }
