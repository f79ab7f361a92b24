"""Checkpoints of random numbers in the public format, of published sizes or others.

``python -m terngen.sim.checkpoint --geometry 370m -o FOLDER`` makes what a published checkpoint is made of:
`config.json`, the weights in several files with their index, and `tokenizer.json`. Equal seeds give equal files.
"""

import itertools
import json
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from terngen.host.commands.console import emit, working
from terngen.host.commands.options import json_option, seed_option
from terngen.host.convert.geometry import PUBLISHED, Geometry
from terngen.host.files import check_folder

__all__ = ["STORED_AS", "tokenizer", "write_checkpoint"]

#: Storage types, and octets of a value.
STORED_AS = {"BF16": 2, "F16": 2, "F32": 4}

#: Tensors in one file of a checkpoint.
_SHARD = 100
#: Values made at a time.
_CHUNK = 1 << 22
#: Tokens that mean something, and those of single octets.
_SPECIAL = ("<unk>", "<s>", "</s>")
_OCTETS  = tuple(f"<0x{octet:02X}>" for octet in range(256))
#: What a space becomes, in front of a word.
_SPACE   = "\N{LOWER ONE EIGHTH BLOCK}"


def write_checkpoint(folder: Path, config: dict[str, Any], *, seed: int = 0, dtype: str = "BF16") -> Geometry:
    """A checkpoint of random numbers, in several files with their index; with a tokenizer, if the vocabulary is large
    enough for one."""
    config   = {"model_type": "hgrn_bit", **config}
    geometry = Geometry.from_config(config)
    rng      = np.random.default_rng(seed)
    names    = list(geometry.tensors)
    count    = -(-len(names) // _SHARD)
    files: dict[str, str] = {}
    total    = 0
    for shard in range(count):
        shapes = {name: geometry.tensors[name] for name in names[shard * _SHARD:(shard + 1) * _SHARD]}
        file   = f"model-{shard + 1:05}-of-{count:05}.safetensors"
        files |= dict.fromkeys(shapes, file)
        header, place = {}, 0
        for name, shape in shapes.items():
            size = STORED_AS[dtype] * int(np.prod(shape))
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + size]}
            place += size
        total += place
        octets = json.dumps(header).encode()
        with open(folder / file, "wb") as output:
            output.write(len(octets).to_bytes(8, "little") + octets)
            for shape in shapes.values():
                for part in _random(rng, shape):
                    output.write(_stored(part, dtype))
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": files}))
    (folder / "config.json").write_text(json.dumps(config))
    if geometry.vocab_size > len(_SPECIAL) + len(_OCTETS):
        (folder / "tokenizer.json").write_text(tokenizer(geometry.vocab_size))
    return geometry


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Float32 of a tensor in pieces: norm weights about one, matrices about zero."""
    count = int(np.prod(shape))
    for start in range(0, count, _CHUNK):
        part = rng.standard_normal(min(_CHUNK, count - start), np.float32)
        yield np.exp(part / 4) if len(shape) == 1 else part


def _stored(values: np.ndarray, dtype: str) -> bytes:
    if dtype == "BF16":
        return (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    return values.astype("<f2" if dtype == "F16" else "<f4").tobytes()


def tokenizer(vocab: int) -> str:
    """``tokenizer.json`` of so many pieces, of the kind that the public checkpoints have: pairs of pieces are joined, a
    space is part of the word behind it, and what has no piece is spelled in octets.

    Its pieces are the first words of one, two and three letters there are.
    """
    letters = string.ascii_lowercase
    single  = [_SPACE, *(letter for letter in string.printable if not letter.isspace())]
    joined  = itertools.chain(
        ((_SPACE, letter) for letter in letters), itertools.product(letters, letters),
        ((first + second, third) for first, second, third in itertools.product(letters, repeat=3)),
        ((_SPACE + first, second) for first, second in itertools.product(letters, repeat=2)),
        ((_SPACE + first + second, third) for first, second, third in itertools.product(letters, repeat=3)))
    pieces  = [*_SPECIAL, *_OCTETS, *single][:vocab]
    merges  = list(itertools.islice(joined, vocab - len(pieces)))
    pieces += ["".join(merge) for merge in merges]
    pieces += [f"<extra_{number}>" for number in range(vocab - len(pieces))]
    made    = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, merges, unk_token=_SPECIAL[0],
                                   fuse_unk=True, byte_fallback=True))
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in _SPECIAL])
    made.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)])
    made.decoder    = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(),
                                         decoders.Strip(" ", 1, 0)])
    return made.to_str()


@click.command()
@click.option("--geometry", type=click.Choice(list(PUBLISHED)), default="370m", show_default=True,
              help="Published size.")
@click.option("--layers", type=click.IntRange(min=1), help="Fewer layers than published.")
@click.option("--dtype", type=click.Choice(list(STORED_AS)), default="BF16", show_default=True,
              help="Storage type of the weights.")
@seed_option(0)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@json_option
def main(geometry: str, layers: int | None, dtype: str, seed: int, output: Path, as_json: bool) -> None:
    """Make a checkpoint of a published size with random weights."""
    check_folder(output)
    if output.exists() and any(output.iterdir()):
        raise click.UsageError(f"Folder {output} must be empty or not exist.")
    output.mkdir(parents=True, exist_ok=True)
    sizes = PUBLISHED[geometry] | ({} if layers is None else {"num_hidden_layers": layers})
    with working("Making random weights"):
        model = write_checkpoint(output, sizes, seed=seed, dtype=dtype)
    octets = sum(path.stat().st_size for path in output.iterdir())
    emit(as_json, {"output": str(output), "ternary_weights": model.ternary_weights, "octets": octets},
         [f"{output}: {model.ternary_weights:,} ternary weights, {octets:,} octets"])


if __name__ == "__main__":
    main(prog_name="python -m terngen.sim.checkpoint")
