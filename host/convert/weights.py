"""Weight files of a checkpoint: which they are, and where each tensor lies in them.

Nothing is ever executed: pickled weights are refused, and every length is checked against the size of
the file before anything is read. Format: safetensors, https://huggingface.co/docs/safetensors. Its
headers are parsed here because its NumPy binding cannot return bfloat16.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from terngen.host.errors import CheckpointError, quote

__all__ = ["STORAGE", "Stored", "read_json", "stored_tensors"]

#: Storage types that are read, all of which float32 holds exactly; bfloat16 is the upper half of one.
STORAGE: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}

#: Limit of the safetensors format on its JSON header, in bytes; an index is held to the same.
_HEADER_LIMIT = 100_000_000

#: Foreign files by their first bytes.
_MAGICS = {
    b"GGUF":       "is a GGUF file; only safetensors is read, so take the original checkpoint",
    b"PK\x03\x04": "is a pickled PyTorch archive, which is never read because it can run code",
    b"version ":   "is a Git LFS pointer; fetch the file itself with `git lfs pull`",
}

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_PICKLE_WAY_OUT = (
    "pickled weights are never read because they can run code; convert them where PyTorch is installed: "
    "python -c \"import torch, safetensors.torch as s; "
    "s.save_file(torch.load('{name}', weights_only=True), 'model.safetensors')\""
)


@dataclass(frozen=True)
class Stored:
    """Where one tensor lies."""

    path:   Path
    offset: int     # bytes from the start of the file
    dtype:  str     # as safetensors spells it
    shape:  tuple[int, ...]


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """Find the weights of a folder and read the headers of their files."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return _read_header(single)
    if not index.is_file():
        _refuse_other_weights(folder)

    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} must have a weight_map of tensors to files, and has none")
    shards: dict[str, dict[str, Stored]] = {}
    for shard in weight_map.values():
        # A plain name; links are followed, because the public hub's cache consists of them.
        if not isinstance(shard, str) or not shard.endswith(".safetensors") or set(shard) & set("/\\:\0"):
            raise CheckpointError(f"{index} must name .safetensors files of its own folder, "
                                  f"not {quote(shard)}")
        if shard not in shards:
            if not (folder / shard).is_file():
                raise CheckpointError(f"Checkpoint {folder} lacks {shard}, which its index names")
            shards[shard] = _read_header(folder / shard)
    stored: dict[str, Stored] = {}
    for shard, tensors in shards.items():
        for name in tensors:
            if weight_map.get(name) != shard:
                raise CheckpointError(f"{folder / shard} has tensor {quote(name)}, which its index does not "
                                      "place there")
        stored |= tensors
    for name in weight_map.keys() - stored.keys():
        raise CheckpointError(f"{folder / weight_map[name]} lacks tensor {quote(name)}, which its index "
                              "places there")
    return stored


def _refuse_other_weights(folder: Path) -> NoReturn:
    """Say why a folder without safetensors weights cannot be used, and what to do."""
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        if name.endswith(".safetensors"):
            raise CheckpointError(f"Checkpoint {folder} must name its weights model.safetensors, or have a "
                                  f"model.safetensors.index.json, not {quote(name)} alone")
    for name in names:
        if name.endswith(".gguf"):
            raise CheckpointError(f"{folder / name} {_MAGICS[b'GGUF']}")
        if name.endswith(_PICKLES):
            raise CheckpointError(f"Checkpoint {folder} must have model.safetensors, not {name}: "
                                  + _PICKLE_WAY_OUT.format(name=name))
    raise CheckpointError(f"Checkpoint {folder} must have model.safetensors or model.safetensors.index.json, "
                          "and has neither")


def _read_header(path: Path) -> dict[str, Stored]:
    """Read and check the header of a safetensors file.

    Eight bytes of length, little-endian; a JSON object of that length with dtype, shape and data_offsets
    per tensor; then the data, which the tensors must cover without gap or overlap.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        for magic, verdict in _MAGICS.items():
            if prefix.startswith(magic):
                raise CheckpointError(f"{path} {verdict}")
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(size - 8, _HEADER_LIMIT):
            raise CheckpointError(f"{path} is truncated or not a safetensors file: {size} bytes, "
                                  f"of which its first eight claim {length} for the header")
        header = _parse_json(path, file.read(length))
    header.pop("__metadata__", None)

    stored, spans = {}, []
    for name, entry in header.items():
        match entry:
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [begin, end]} if (
                    len(shape) <= 8 and all(type(number) is int and 0 <= number < 1 << 48
                                            for number in (*shape, begin, end))):
                pass
            case _:
                raise CheckpointError(f"{path} is corrupt: tensor {quote(name)} is described as "
                                      f"{quote(entry)}")
        if dtype in STORAGE and end - begin != math.prod(shape) * STORAGE[dtype].itemsize:
            raise CheckpointError(f"{path} is corrupt: tensor {quote(name)} of shape {quote(shape)} in "
                                  f"{dtype} cannot take {end - begin} bytes")
        stored[name] = Stored(path, 8 + length + begin, dtype, tuple(shape))
        spans.append((begin, end))

    place = 0
    for begin, end in sorted(spans):
        if begin != place or end < begin:
            raise CheckpointError(f"{path} is corrupt: tensors must follow each other, and at byte {place} "
                                  f"of the data comes one from {begin} to {end}")
        place = end
    if 8 + length + place != size:
        raise CheckpointError(f"{path} is truncated or corrupt: it must have {8 + length + place} bytes, "
                              f"not {size}")
    return stored


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file."""
    with path.open("rb") as file:
        # A buffer is made for as many as are asked for.
        octets = file.read(min(os.fstat(file.fileno()).st_size, _HEADER_LIMIT) + 1)
    if len(octets) > _HEADER_LIMIT:
        raise CheckpointError(f"{path} must have at most {_HEADER_LIMIT} bytes")
    return _parse_json(path, octets)


def _parse_json(path: Path, octets: bytes) -> dict[str, Any]:
    """Parse a JSON object, strictly: UTF-8, no key twice, no NaN."""
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            raise ValueError("a key occurs twice")
        return mapping

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        parsed = json.loads(octets.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is corrupt: {error}") from error
    if not isinstance(parsed, dict):
        raise CheckpointError(f"{path} is corrupt: it must hold a JSON object, not {quote(parsed)}")
    return parsed
