"""Checkpoints and tapes that the tests of the host share; none of them may change one."""

import os
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models

from terngen.host.compile import compile_tape, default_config
from terngen.host.convert.checkpoint import Checkpoint
from terngen.hw.contract.tape import Tape

#: The tokens of a model with 128: three that mean something, then characters of one and two octets.
CHARACTERS = "".join(map(chr, range(32, 127))) + "\n" + "".join(map(chr, range(0xC0, 0xC0 + 29)))


@pytest.fixture(scope="session")
def reference(root) -> Path:
    """Folder of checkpoints with logits of the public implementation."""
    return root / "tests" / "data" / "reference"


@pytest.fixture(scope="session")
def tiny(reference) -> Path:
    """Two layers, 64 wide, 128 tokens, no tokenizer."""
    return reference / "tiny"


@pytest.fixture(scope="session")
def speaking(tiny, tmp_path_factory) -> Path:
    """The same with a tokenizer: each token is a character."""
    folder = tmp_path_factory.mktemp("checkpoint") / "speaking"
    shutil.copytree(tiny, folder)
    vocab = {token: index for index, token in enumerate(["<unk>", "<s>", "</s>", *CHARACTERS])}
    assert len(vocab) == 128
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _compiled(checkpoint: Path, path: Path, **changes) -> Path:
    source    = Checkpoint.open(checkpoint)
    tokenizer = source.tokenizer.read_bytes() if source.tokenizer else b""
    compile_tape(source, default_config(source.geometry, **changes), path, name=checkpoint.name,
                 tokenizer=tokenizer)
    return path


@pytest.fixture(scope="session")
def tiny_tape(tiny, tmp_path_factory) -> Path:
    return _compiled(tiny, tmp_path_factory.mktemp("tape") / "tiny.tape")


@pytest.fixture(scope="session")
def speaking_tape(speaking, tmp_path_factory) -> Path:
    return _compiled(speaking, tmp_path_factory.mktemp("tape") / "speaking.tape")


@pytest.fixture(scope="session")
def slotted(speaking, tmp_path_factory) -> Tape:
    """The speaking model for a machine of three slots."""
    return Tape.open(_compiled(speaking, tmp_path_factory.mktemp("tape") / "three.tape", slots=3))


@pytest.fixture(scope="session")
def _tapes(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cache(_tapes, monkeypatch) -> Path:
    """A cache of tapes that lasts as long as the tests run; compiled machines are those of everybody."""
    machines = Path(os.environ.get("TERNGEN_CACHE_DIR") or Path.home() / ".cache" / "terngen", "machines")
    machines.mkdir(parents=True, exist_ok=True)
    if not (_tapes / "machines").exists():
        (_tapes / "machines").symlink_to(machines.resolve())
    monkeypatch.setenv("TERNGEN_CACHE_DIR", str(_tapes))
    return _tapes
