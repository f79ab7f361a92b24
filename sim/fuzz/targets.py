"""Parsers under test: each takes octets, and raises only what it says.

A target returns nothing and raises nothing, whatever it is given; what it finds out beside that is asserted. Files go
through a folder in memory where there is one. What is the same for all inputs is made once.
"""

import atexit
import binascii
import contextlib
import dataclasses
import functools
import itertools
import json
import math
import os
import shutil
import tempfile
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from starlette.exceptions import HTTPException

from terngen.host import configs, disasm
from terngen.host.convert.checkpoint import Checkpoint, Geometry
from terngen.host.convert.weights import STORAGE
from terngen.host.errors import CheckpointError, ConfigError, InputError, TapeError
from terngen.host.models import open_tape
from terngen.host.serve import bodies as requests
from terngen.host.serve import writing
from terngen.host.serve.api import Api
from terngen.host.serve.chat import Template
from terngen.host.serve.scheduler import Scheduler
from terngen.host.text import Language
from terngen.hw.contract import wire
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Mark, Section, Tape

__all__ = ["LONGEST", "LONGEST_INPUT", "LOOPS", "TARGETS", "seeds"]

_FAST = Path("/dev/shm")
_FOLDER = Path(tempfile.mkdtemp(prefix="terngen-fuzz-", dir=_FAST if _FAST.is_dir() else None))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)

#: Octets of a prefix of a tape.
_PREFIX = 24
#: Lines of a disassembly that are looked at.
_LINES = 200

_CONFIG_JSON = {
    "model_type": "hgrn_bit", "hidden_size": 8, "num_hidden_layers": 1, "num_heads": 1, "vocab_size": 4,
    "expand_ratio": 1, "hidden_ratio": 4, "intermediate_size": 8, "attn_mode": "fused_recurrent", "hidden_act": "swish",
    "rms_norm_eps": 1e-6, "bos_token_id": 1, "eos_token_id": 2, "use_lower_bound": True, "use_short_conv": False,
    "share_conv_kernel": True, "tie_word_embeddings": False, "fuse_cross_entropy": False,
}

_CONFIG_OCTETS = json.dumps(_CONFIG_JSON).encode()
#: A model whose tensors are small, so that an input may have all of them.
_SMALL = json.dumps(_CONFIG_JSON | {"hidden_size": 2, "intermediate_size": 1}).encode()

_TEMPLATE = Template("{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content }}\n"
                     "{% if message.role == 'system' and not loop.first %}{{ raise_exception('late') }}{% endif %}"
                     "{% endfor %}", bos_token="<s>", eos_token="</s>")


#: Octets of the longest input, where fewer than :data:`LONGEST_INPUT` lead everywhere: a frame that is too long, and
#: blocks that are full.
LONGEST = {"frames": wire.MAX_ENCODED + 55, "cobs": 4 * wire.BLOCK + 55}
#: The same for all others.
LONGEST_INPUT = 4096
#: Parsers that go through their input octet by octet. To go round once more is nothing new there: inputs of many pieces
#: would be all that is tried, at a tenth of the speed.
LOOPS = {"frames", "cobs"}


@functools.cache
def _file(path: str) -> tuple[Path, int]:
    """A file in the folder, open for writing."""
    place = _FOLDER / path
    place.parent.mkdir(exist_ok=True)
    return place, os.open(place, os.O_RDWR | os.O_CREAT)


def _put(path: str, octets: bytes) -> Path:
    """A file in the folder that holds these octets."""
    place, file = _file(path)
    os.ftruncate(file, len(octets))
    os.pwrite(file, octets, 0)
    return place


@functools.cache
def _with(path: str, octets: bytes) -> None:
    """A file in the folder is there, and stays."""
    _put(path, octets)


def frames(octets: bytes) -> None:
    """What comes from a link, in two pieces."""
    decoder = wire.Decoder()
    half    = len(octets) // 2
    found   = decoder.feed(octets[:half]) + decoder.feed(octets[half:])
    whole   = wire.Decoder().feed(octets)
    assert found == whole
    for frame in found:
        again = wire.encode_frame(frame) if frame.version == wire.VERSION else b""
        assert not again or wire.decode_frame(again[:-1]) == frame


def cobs(octets: bytes) -> None:
    """Encoding loses nothing, and what can be decoded is one of few encodings."""
    assert wire.cobs_decode(wire.cobs_encode(octets)) == octets
    with contextlib.suppress(wire.WireError):
        decoded = wire.cobs_decode(octets)
        assert len(decoded) <= len(octets)


def tape(octets: bytes) -> None:
    """A tape file. If the first octet is odd its check sums are made right, so that what is behind them is reached."""
    if octets[:1] and octets[0] % 2:
        octets = _mended(octets[1:])
    with contextlib.suppress(TapeError):
        opened = open_tape(_put("model.tape", octets))
        for line in itertools.islice(disasm.lines(opened), _LINES):
            assert isinstance(line, str)


def _mended(octets: bytes) -> bytes:
    size = int.from_bytes(octets[12:16], "little")
    meta = octets[_PREFIX:_PREFIX + size]
    return octets[:16] + binascii.crc32(meta).to_bytes(4, "little") + octets[20:]


def tensors(octets: bytes) -> None:
    """The safetensors file of a checkpoint."""
    _with("tensors/config.json", _SMALL)
    path = _put("tensors/model.safetensors", octets)
    with contextlib.suppress(CheckpointError):
        _read_all(Checkpoint.open(path.parent))


def _read_all(checkpoint: Checkpoint) -> None:
    for name in checkpoint.geometry.tensors:
        checkpoint.tensor(name)


def checkpoint(octets: bytes) -> None:
    """The ``config.json`` of a checkpoint."""
    _with("checkpoint/model.safetensors", _NO_TENSORS)
    path = _put("checkpoint/config.json", octets)
    with contextlib.suppress(CheckpointError):
        Checkpoint.open(path.parent)


def config(octets: bytes) -> None:
    """A machine in JSON, or in TOML if the first octet is odd."""
    name = "machine.toml" if octets[:1] and octets[0] % 2 else "machine.json"
    path = _put(name, octets[1:])
    with contextlib.suppress(ConfigError):
        machine = configs.from_values(configs.read_config(path))
        assert Config.from_dict(machine.to_dict()) == machine


def tokenizer(octets: bytes) -> None:
    """The tokenizer of a tape, and a text through it."""
    with contextlib.suppress(TapeError, InputError):
        language = Language.of_tape(dataclasses.replace(_TAPE, tokenizer=octets))
        language.decode(language.encode("A story.").tokens)


def bodies(octets: bytes) -> None:
    """A request to the server, and all that is done with it but for the device: the first octet says of which kind."""
    kinds = (requests.Completion, requests.Chat, requests.Tokenize, requests.Detokenize)
    with contextlib.suppress(requests.BodyError, InputError, HTTPException):
        body = requests.decode(octets[1:], kinds[(octets or b"\0")[0] % len(kinds)])
        api, language = _server(), _server()._language
        match body:
            case requests.Tokenize():
                api._check_text(body.content)
                assert all(0 <= token < language.vocab for token in language.encode(body.content).tokens)
            case requests.Detokenize():
                api._check_tokens(body.tokens)
                language.decode(body.tokens)
            case requests.Completion() | requests.Chat():
                api._check(body)
                if isinstance(body, requests.Chat):
                    prompt = api._prompt(_TEMPLATE.render(body.messages), whole=True)
                else:
                    prompt = api._prompt(body.text_or_tokens)
                _write(body, prompt, language, octets)


def _write(body: requests.Options, prompt: list[int], language: Language, octets: bytes) -> None:
    """Tokens that a device might make, and how a client gets them."""
    assert all(0 <= token < language.vocab for token in prompt)
    count  = min(body.count or 16, 64)
    writer = writing.Writer(language, writing.Request(prompt, count, lambda piece: None, stop=body.stops,
                                                      scored=body.scored))
    logits = None if body.scored is None else np.arange(language.vocab, dtype=np.float32)
    pieces = []
    for octet in itertools.islice(itertools.cycle(octets), count):
        pieces.append(writer.push(octet % language.vocab, logits))
        if pieces[-1].reason is not None:
            break
    text = "".join(piece.text for piece in pieces)
    assert pieces[-1].reason is not None
    assert not any(stop in text for stop in body.stops)


@functools.cache
def _server() -> Api:
    """The interface of a model whose tokens are characters, without a device."""
    vocab = {token: index for index, token in enumerate(["<unk>", "<s>", "</s>", *map(chr, range(32, 127)), "é", "中"])}
    model = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, [], unk_token="<unk>"))
    model.add_special_tokens(["<s>", "</s>"])
    model.decoder = tokenizers.decoders.Fuse()
    image = Tape(config=Config(), model={"vocab_size": len(vocab), "bos_token_id": 1, "eos_token_id": 2}, sections=(),
                 marks={}, image=_image(0), tokenizer=model.to_str().encode())
    scheduler = types.SimpleNamespace(tape=image, language=Language.of_tape(image))
    return Api(typing.cast(Scheduler, scheduler), name="m")


def _image(beats: int) -> np.ndarray:
    return np.zeros(beats * Config().beat_bytes, np.uint8)


def _tensors(shapes: Mapping[str, Sequence[int]], dtype: str = "F32") -> bytes:
    """A file of tensors, all of them zero."""
    entries, place = {}, 0
    for name, shape in shapes.items():
        size  = STORAGE[dtype].itemsize * math.prod(shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    header = json.dumps(entries, separators=(",", ":")).encode()
    return len(header).to_bytes(8, "little") + header + bytes(place)


#: A tape of which only the tokenizer matters.
_TAPE = Tape(config=Config(), model={"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2}, sections=(), marks={},
             image=_image(0))
_NO_TENSORS = _tensors({"x": [0]})

def _tokenizer(model: Mapping[str, Any], **parts: Any) -> bytes:
    """A file of a tokenizer."""
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
    return json.dumps({"version": "1.0", **empty, "added_tokens": [], "model": model, **parts}).encode()


def _tokenizers() -> list[bytes]:
    """One of each kind that there is, as its library writes them: what the library does, nobody sees from outside."""
    pre, post, decoders = tokenizers.pre_tokenizers, tokenizers.processors, tokenizers.decoders
    norm, models = tokenizers.normalizers, tokenizers.models
    letters = {letter: index for index, letter in enumerate("<A.storyĠ▁")}
    made = []
    for model, parts in (
            (models.BPE({**letters, "st": 10}, [("s", "t")], unk_token="<"), {
                "normalizer": norm.Sequence([norm.NFKC(), norm.Lowercase(), norm.Replace("a", "A")]),
                "decoder": decoders.BPEDecoder()}),
            (models.BPE(letters, [], byte_fallback=True, fuse_unk=True), {
                "pre_tokenizer": pre.ByteLevel(), "decoder": decoders.ByteLevel(), "post_processor": post.ByteLevel()}),
            (models.Unigram([("<", 0.0), ("▁A", -1.0), ("▁story", -2.5), (".", -3.0)], unk_id=0), {
                "normalizer": norm.Prepend("▁"), "pre_tokenizer": pre.Metaspace(), "decoder": decoders.Metaspace()}),
            (models.WordPiece({"<": 0, "a": 1, "st": 2, "##ory": 3, ".": 4}, unk_token="<"), {
                "normalizer": norm.BertNormalizer(), "pre_tokenizer": pre.BertPreTokenizer(),
                "decoder": decoders.WordPiece(), "post_processor": post.BertProcessing(("<", 0), (".", 4))}),
            (models.WordLevel({"<": 0, "A": 1, "story.": 2}, unk_token="<"), {
                "pre_tokenizer": pre.Sequence([pre.Split(tokenizers.Regex(r"\s+"), "removed"), pre.Digits(True)]),
                "decoder": decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
                "post_processor": post.TemplateProcessing("< $A", None, [("<", 0)])})):
        whole = tokenizers.Tokenizer(model)
        for name, part in parts.items():
            setattr(whole, name, part)
        whole.add_special_tokens(["<"])
        whole.enable_truncation(8)
        whole.enable_padding(length=4)
        made.append(whole.to_str().encode())
    return made


TARGETS: dict[str, Callable[[bytes], None]] = {
    "frames": frames, "cobs": cobs, "tape": tape, "tensors": tensors, "checkpoint": checkpoint, "config": config,
    "tokenizer": tokenizer, "bodies": bodies,
}


def seeds(name: str) -> list[bytes]:
    """Inputs that are sound, from which others are made."""
    match name:
        case "frames":
            read  = wire.encode_frame(wire.Frame(type=wire.Type.READ, sequence=7, address=0x24, length=8))
            write = wire.encode_frame(wire.Frame(type=wire.Type.WRITE, address=0x80, length=8, payload=bytes(range(8))))
            error = wire.encode_frame(wire.Frame(type=wire.Type.ERROR, fault=wire.Fault.SEQUENCE, version=2))
            return [read, read + write, b"\0" + error + read]
        case "cobs":
            return [b"", b"\0", bytes(range(256)) * 2]
        case "tape":
            beat = Config().beat_bytes
            file = Tape(config=Config(), model={
                "name": "m", "vocab_size": 4, "hidden_size": 8, "state_size": 8, "intermediate_size": 8,
                "num_hidden_layers": 1, "embedding_start": 0, "embedding_beats": 2, "ternary_weights": 64,
                "bos_token_id": 1, "eos_token_id": None,
            }, sections=(Section("embedding", 0, 8, binascii.crc32(bytes(8 * beat))),
                         Section("head", 8, 4, binascii.crc32(bytes(4 * beat)))),
                marks={"layers": Mark(8, 0), "head": Mark(8, 4), "head.0": Mark(8, 4)}, image=_image(12))
            octets = file.header() + file.image.tobytes()
            return [b"\0" + octets[1:], b"\1" + octets]
        case "tensors":
            whole = Geometry.from_config(json.loads(_SMALL)).tensors
            return [_tensors({"x": [4]}), *(_tensors(whole, dtype) for dtype in ("F32", "F16", "BF16"))]
        case "checkpoint":
            return [_CONFIG_OCTETS]
        case "config":
            return [b" " + json.dumps(Config().to_dict()).encode(), b'!beat_bits = 64\n[sites]\ngate = "lmul"\n']
        case "tokenizer":
            return [_tokenizer({"type": "WordLevel", "vocab": {"A": 0, "story": 1}, "unk_token": "A"},
                               pre_tokenizer={"type": "Whitespace"}), *_tokenizers()]
        case "bodies":
            return [b'\0{"model": "m", "prompt": "A", "max_tokens": 3, "temperature": 0.5, "stop": ["b"], "seed": 1}',
                    b'\1{"messages": [{"role": "user", "content": "Hello"}], "logprobs": true}',
                    b'\1{"messages": [{"role": "system", "content": [{"type": "text", "text": "a"}]}], "stop": "ab"}',
                    b'\0{"prompt": [3, 4], "stop": ["b", "bc"], "logprobs": 2, "max_tokens": 9}',
                    b'\2{"content": "A story"}', b'\3{"tokens": [1, 2, 3]}']
    raise ValueError(f"There is no target {name!r}; there are {', '.join(TARGETS)}")
