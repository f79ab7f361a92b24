"""Parsers under test: each takes octets, and raises only what it says.

A target returns nothing and raises nothing, whatever it is given; what it finds out beside that is asserted. Files go
through a folder in memory where there is one.
"""

import binascii
import contextlib
import functools
import itertools
import json
import tempfile
import types
import typing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tokenizers
from starlette.exceptions import HTTPException

from terngen.host import configs, disasm
from terngen.host.convert.checkpoint import Checkpoint
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

__all__ = ["TARGETS", "seeds"]

_FAST = Path("/dev/shm")
_FOLDER = Path(tempfile.mkdtemp(prefix="terngen-fuzz-", dir=_FAST if _FAST.is_dir() else None))

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

_TEMPLATE = Template("{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content }}\n"
                     "{% if message.role == 'system' and not loop.first %}{{ raise_exception('late') }}{% endif %}"
                     "{% endfor %}", bos_token="<s>", eos_token="</s>")


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
    path = _FOLDER / "model.tape"
    path.write_bytes(octets)
    with contextlib.suppress(TapeError):
        opened = open_tape(path)
        for line in itertools.islice(disasm.lines(opened), _LINES):
            assert isinstance(line, str)


def _mended(octets: bytes) -> bytes:
    size = int.from_bytes(octets[12:16], "little")
    meta = octets[_PREFIX:_PREFIX + size]
    return octets[:16] + binascii.crc32(meta).to_bytes(4, "little") + octets[20:]


def tensors(octets: bytes) -> None:
    """The safetensors file of a checkpoint."""
    folder = _FOLDER / "tensors"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_CONFIG_JSON))
    (folder / "model.safetensors").write_bytes(octets)
    with contextlib.suppress(CheckpointError):
        _read_all(Checkpoint.open(folder))


def _read_all(checkpoint: Checkpoint) -> None:
    for name in checkpoint.geometry.tensors:
        checkpoint.tensor(name)


def checkpoint(octets: bytes) -> None:
    """The ``config.json`` of a checkpoint."""
    folder = _FOLDER / "checkpoint"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(octets)
    (folder / "model.safetensors").write_bytes(_tensors(b""))
    with contextlib.suppress(CheckpointError):
        Checkpoint.open(folder)


def config(octets: bytes) -> None:
    """A machine in JSON, or in TOML if the first octet is odd."""
    name = "machine.toml" if octets[:1] and octets[0] % 2 else "machine.json"
    path = _FOLDER / name
    path.write_bytes(octets[1:])
    with contextlib.suppress(ConfigError):
        machine = configs.from_values(configs.read_config(path))
        assert Config.from_dict(machine.to_dict()) == machine


def tokenizer(octets: bytes) -> None:
    """The tokenizer of a tape, and a text through it."""
    image = Tape(config=Config(), model={"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2}, sections=(), marks={},
                 image=_image(0), tokenizer=octets)
    with contextlib.suppress(TapeError, InputError):
        language = Language.of_tape(image)
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


def _tensors(body: bytes) -> bytes:
    header = json.dumps({"x": {"dtype": "F32", "shape": [len(body) // 4], "data_offsets": [0, len(body)]}}).encode()
    return len(header).to_bytes(8, "little") + header + body


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
            return [_tensors(bytes(16))]
        case "checkpoint":
            return [json.dumps(_CONFIG_JSON).encode()]
        case "config":
            return [b" " + json.dumps(Config().to_dict()).encode(), b'!beat_bits = 64\n[sites]\ngate = "lmul"\n']
        case "tokenizer":
            return [json.dumps({"version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
                                "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None,
                                "decoder": None, "model": {"type": "WordLevel", "vocab": {"A": 0, "story": 1},
                                                           "unk_token": "A"}}).encode()]
        case "bodies":
            return [b'\0{"model": "m", "prompt": "A", "max_tokens": 3, "temperature": 0.5, "stop": ["b"], "seed": 1}',
                    b'\1{"messages": [{"role": "user", "content": "Hello"}], "logprobs": true}',
                    b'\1{"messages": [{"role": "system", "content": [{"type": "text", "text": "a"}]}], "stop": "ab"}',
                    b'\0{"prompt": [3, 4], "stop": ["b", "bc"], "logprobs": 2, "max_tokens": 9}',
                    b'\2{"content": "A story"}', b'\3{"tokens": [1, 2, 3]}']
    raise ValueError(f"There is no target {name!r}; there are {', '.join(TARGETS)}")
