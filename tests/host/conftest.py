"""Checkpoints and tapes that the tests of the host share; none of them may change one."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models

from terngen.host import cli
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


# Commands.

@dataclasses.dataclass(frozen=True)
class Result:
    """What a command said."""

    stdout: str
    stderr: str

    @property
    def values(self) -> dict[str, Any]:
        """The JSON object on stdout, which has nothing else."""
        [line] = self.stdout.splitlines()
        return json.loads(line)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The current folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def terngen(cache, work):
    """Runs a command in process, which must end with exit code `code`."""
    def terngen(*words, code=0):
        result = click.testing.CliRunner().invoke(cli.cli, [str(word) for word in words], prog_name="terngen")
        if result.exit_code == 1:
            raise result.exception
        assert result.exit_code == code, result.stderr
        return Result(result.stdout, result.stderr)
    return terngen


@pytest.fixture
def refused(terngen, work):
    """Runs a command that must be refused with one sentence, and leave everything as it was."""
    def refused(*words, code, message):
        before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
        result = terngen(*words, code=code)
        *usage, sentence = result.stderr.splitlines()
        assert re.search("^Error: " + message, sentence), sentence
        # Only wrong usage is told with more, by the parser.
        assert [line.split()[0] for line in usage if line] == (["Usage:", "Try"] if code == 2 else [])
        assert result.stdout == ""
        assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before
    return refused


@pytest.fixture
def tokens(work):
    """Writes tokens to a file."""
    def tokens(*values, dtype=np.int64):
        np.save(work / "tokens.npy", np.array(values, dtype))
        return "tokens.npy"
    return tokens


@pytest.fixture
def text(work):
    (work / "text").write_text("a fox and an owl\n")
    return "text"
