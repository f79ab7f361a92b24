"""Checkpoints of MatMul-free language models in the public format, read safely.

A checkpoint is a folder: `config.json` with `model_type` "hgrn_bit", the weights as `model.safetensors`
or as shards listed in `model.safetensors.index.json`, and usually `tokenizer.json`. One tensor, or a few
rows of one, is in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from terngen.host.convert.geometry import Geometry
from terngen.host.convert.weights import STORAGE, Stored, read_json, stored_tensors
from terngen.host.errors import CheckpointError, UnsupportedError, quote

__all__ = ["Checkpoint", "Geometry"]

Float32s = NDArray[np.float32]

#: Values converted at a time: small enough for the cache, large enough for NumPy.
_CHUNK_VALUES = 1 << 20


class Checkpoint:
    """A checkpoint folder, opened and checked, from which one tensor is read at a time.

    Members
    -------
    folder : :class:`~pathlib.Path`
        Where it lies.
    geometry : :class:`Geometry`
        Sizes, from `config.json`.
    tokenizer : :class:`~pathlib.Path` or ``None``
        Its `tokenizer.json`, if there is one.
    """

    def __init__(self, folder: Path, geometry: Geometry, stored: Mapping[str, Stored]):
        for name, shape in geometry.tensors.items():
            if name not in stored:
                raise CheckpointError(f"Checkpoint {folder} has no tensor {name}; config.json asks for it")
            if stored[name].shape != shape:
                raise CheckpointError(f"Tensor {name} must have shape {shape} according to config.json, "
                                      f"not {stored[name].shape}")
            if stored[name].dtype not in STORAGE:
                raise UnsupportedError(f"Tensor {name} must be stored as {', '.join(STORAGE)}, "
                                       f"not {quote(stored[name].dtype)}")
        unexpected = sorted(stored.keys() - geometry.tensors.keys())
        if unexpected:
            raise UnsupportedError(f"Checkpoint {folder} has {len(unexpected)} tensors that a model of type "
                                   f"hgrn_bit does not use, first {quote(unexpected[0])}")
        self.folder   = folder
        self.geometry = geometry
        self._stored  = dict(stored)

        tokenizer = folder / "tokenizer.json"
        self.tokenizer = tokenizer if tokenizer.is_file() else None

    @classmethod
    def open(cls, folder: str | Path) -> Checkpoint:
        """Open a folder and check everything but the values of its tensors.

        Raises
        ------
        UnsupportedError
            If the model needs something that the machine does not have.
        CheckpointError
            If files are missing, truncated, corrupted or in another format.
        """
        folder = Path(folder)
        try:
            if not folder.is_dir():
                fault = "is a file" if folder.exists() else "does not exist"
                raise CheckpointError(f"Checkpoint {folder} must be a folder with config.json and "
                                      f"model.safetensors, and {fault}")
            stored = stored_tensors(folder)
            config = folder / "config.json"
            if not config.is_file():
                raise CheckpointError(f"Checkpoint {folder} must have a config.json, and has none")
            return cls(folder, Geometry.from_config(read_json(config)), stored)
        except OSError as error:
            raise CheckpointError(f"Checkpoint {folder} cannot be read: {error}") from error

    @property
    def weight_files(self) -> list[Path]:
        """Files with the weights."""
        return sorted({stored.path for stored in self._stored.values()})

    def tensor(self, name: str) -> Float32s:
        """Return a whole tensor as float32.

        Raises
        ------
        CheckpointError
            If the file has become shorter, or a value is infinite or not a number.
        """
        return self.rows(name, 0, self._stored[name].shape[0])

    def rows(self, name: str, start: int, stop: int) -> Float32s:
        """Return rows `start` to `stop` (excluded) of a tensor as float32; raises as :meth:`tensor`."""
        stored = self._stored[name]
        if not 0 <= start <= stop <= stored.shape[0]:
            raise ValueError(f"Rows of {name} must lie within 0 to {stored.shape[0]}, not {start} to {stop}")
        dtype  = STORAGE[stored.dtype]
        width  = math.prod(stored.shape[1:])
        count  = (stop - start) * width
        offset = stored.offset + start * width * dtype.itemsize
        try:
            raw = np.fromfile(stored.path, dtype, count, offset=offset)
        except OSError as error:
            raise CheckpointError(f"Tensor {name} cannot be read: {error}") from error
        if len(raw) != count:
            raise CheckpointError(f"Tensor {name} cannot be read: {stored.path} was cut while in use")

        if stored.dtype == "BF16":
            values = (raw.astype(np.uint32) << 16).view(np.float32)
        else:
            values = raw.astype(np.float32, copy=False)
        finite = np.isfinite(values)
        if not finite.all():
            raise CheckpointError(f"Tensor {name} must be finite, and has {np.count_nonzero(~finite)} values "
                                  f"that are not, in rows {start} to {stop}")
        return values.reshape(stop - start, *stored.shape[1:])

    def ternary(self, name: str) -> tuple[NDArray[np.int8], np.float32]:
        """Quantise a weight matrix to trits, as BitLinear does, from float32 copies of its weights.

        ``m = max(mean |W|, 1e-5)`` and ``t = clamp(round(W * (1 / m)), -1, 1)``, ties to even, in float32.

        Returns
        -------
        codes : int8 (rows, columns)
            Trits -1, 0 and 1.
        scale : float32
            The mean m; a weight is about ``code * scale``. Summed in float64, so that it does not depend
            on the order of summation.
        """
        shape = self._stored[name].shape
        total = sum(float(np.abs(rows).sum(dtype=np.float64)) for _, rows in self._chunks(name))
        scale = np.maximum(np.float32(total / math.prod(shape)), np.float32(1e-5))
        inverse = np.float32(1) / scale
        codes = np.empty(shape, np.int8)
        for start, rows in self._chunks(name):
            rows *= inverse
            codes[start:start + len(rows)] = np.clip(np.rint(rows, out=rows), -1, 1, out=rows)
        return codes, scale

    def lower_bounds(self) -> NDArray[np.float64]:
        """Return the lower bound of every forget gate, float64 (layers, state).

        With P the softmax over layers, layer l has ``P_0 + ... + P_l - P_0``; all zero if the model has
        no lower bounds.
        """
        if not self.geometry.use_lower_bound:
            return np.zeros((self.geometry.num_hidden_layers, self.geometry.state_size))
        logits = self.tensor("model.lower_bounds").astype(np.float64)
        powers = np.exp(logits - logits.max(axis=0))
        shares = powers / powers.sum(axis=0)
        # The sum over layers 1..l, which is the same without the cancellation.
        shares[0] = 0
        return np.cumsum(shares, axis=0)

    def _chunks(self, name: str) -> Iterator[tuple[int, Float32s]]:
        """Yield (first row, rows) over a tensor, about a million values at a time."""
        rows, cols = self._stored[name].shape
        step = max(1, _CHUNK_VALUES // cols)
        for start in range(0, rows, step):
            yield start, self.rows(name, start, min(start + step, rows))
