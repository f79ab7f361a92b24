"""Models by path: tapes, and checkpoints through the cache."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from terngen.host import models
from terngen.host.errors import CheckpointError, ConfigError, InputError, OutputError, TapeError
from terngen.hw.contract.tape import Tape


@pytest.fixture
def folder(speaking, tmp_path):
    """A checkpoint that may be changed."""
    return shutil.copytree(speaking, tmp_path / "model")


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """An empty cache; tells which tapes are in it."""
    monkeypatch.setenv("TERNGEN_CACHE_DIR", str(tmp_path / "cache"))
    return lambda: sorted((tmp_path / "cache" / "tapes").iterdir())


@pytest.fixture
def compilations(monkeypatch):
    """Conversions that were made."""
    made, compile_pieces = [], models.compile_pieces

    def counted(checkpoint, config, paths, **options):
        made.append(config)
        return compile_pieces(checkpoint, config, paths, **options)

    monkeypatch.setattr(models, "compile_pieces", counted)
    return made


def test_converted_once(folder, cached, compilations):
    first  = models.open_model(folder)
    second = models.open_model(folder)
    assert len(compilations) == len(cached()) == 1
    assert cached()[0].name.startswith("model-")
    assert bytes(first.image) == bytes(second.image)
    assert first.tokenizer == (folder / "tokenizer.json").read_bytes()
    assert first.model["name"] == "model"


def test_pieces_apart(folder, cached, compilations):
    """Pieces are kept together, beside the whole model."""
    models.open_model(folder)
    for _ in range(2):
        tapes = models.open_pieces([folder], 2)
        assert [tape.model["piece"]["number"] for tape in tapes] == [0, 1]
    assert len(compilations) == 2
    assert len(cached()) == 3
    # Of another conversion, say: then both are made again.
    [first] = [path for path in cached() if path.name.endswith(".1of2.tape")]
    first.unlink()
    models.open_pieces([folder], 2)
    assert len(compilations) == len(cached()) == 3


def test_machines_apart(folder, cached, compilations):
    """Each machine has its tape."""
    for options, slots, beat_bits in [({}, 1, 64), ({"slots": 3}, 3, 64), ({"config": "wide"}, 1, 256),
                                      ({"config": "wide", "beat_bits": 128}, 1, 128)]:
        tape = models.open_model(folder, **options)
        assert (tape.config.slots, tape.config.beat_bits) == (slots, beat_bits)
    assert len(cached()) == 4
    models.open_model(folder, slots=3)
    assert len(compilations) == 4


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_contents_count(folder, cached, compilations, name):
    """What is converted is what lies there now, whatever its size and time say."""
    before = models.open_model(folder)
    path   = folder / name
    status = path.stat()
    if name == "model.safetensors":
        octets = path.read_bytes()[:-4096] + bytes(4096)
    elif name == "config.json":
        octets = path.read_bytes().replace(b'"bos_token_id": 1', b'"bos_token_id": 3')
    else:
        octets = path.read_bytes().replace(b'"~"', b'"\xc2\xb6"', 1)
    assert octets != path.read_bytes()
    path.write_bytes(octets)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = models.open_model(folder)
    assert len(compilations) == len(cached()) == 2
    assert (bytes(before.image), dict(before.model), before.tokenizer) != (
        bytes(after.image), dict(after.model), after.tokenizer)


def test_harmless_changes_do_not_count(folder, cached, compilations):
    models.open_model(folder)
    (folder / "README.md").write_text("A model.")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_version": "9"}))
    models.open_model(folder)
    assert len(compilations) == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign"])
def test_damaged_cache(folder, cached, compilations, damage):
    """A tape that went bad on the disk is made again, and nobody has to know."""
    good   = bytes(models.open_model(folder).image)
    [path] = cached()
    octets = bytearray(path.read_bytes())
    if damage == "flip":
        octets[len(octets) // 2] ^= 1
    path.write_bytes({"flip": octets, "cut": octets[:5000], "empty": b"", "foreign": b"GGUF" * 100}[damage])
    assert bytes(models.open_model(folder).image) == good
    assert len(compilations) == 2
    assert bytes(models.open_tape(path).image) == good


def test_at_the_same_time(folder, cached):
    """Processes that convert the same model do not disturb each other, and leave one tape."""
    program = ("import hashlib, sys; from terngen.host import models; input(); "
               "print(hashlib.sha256(models.open_model(sys.argv[1]).image).hexdigest())")
    others  = [subprocess.Popen([sys.executable, "-c", program, str(folder)], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for other in others:
        other.stdin.write("\n")         # all of them together
        other.stdin.flush()
    digests = {other.communicate(timeout=60)[0].strip() for other in others}
    assert [other.returncode for other in others] == [0, 0, 0]
    assert digests == {hashlib.sha256(models.open_model(folder).image).hexdigest()}
    assert len(cached()) == 1


def test_failure_leaves_nothing(folder, cached, monkeypatch):
    octets = (folder / "model.safetensors").read_bytes()
    # Infinities are found only when the tensor is read, in the middle of the tape.
    (folder / "model.safetensors").write_bytes(octets[:-4096] + b"\x00\x00\x80\x7f" * 1024)
    with pytest.raises(CheckpointError, match=r"^Tensor .* must be finite, and has \d+ values that are not, "):
        models.open_model(folder)
    assert cached() == []


def test_unwritable_cache(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TERNGEN_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError, match=r"^Converted tapes are kept in .*/file/cache/tapes, which fails: Not a "
                                          r"directory; set TERNGEN_CACHE_DIR to a folder with space$"):
        models.open_model(folder)


# Tapes.

def test_tape(tiny_tape):
    """A tape is opened as it is; naming its own machine is no error."""
    tape = models.open_model(tiny_tape)
    assert bytes(tape.image) == bytes(Tape.open(tiny_tape).image)
    models.open_model(tiny_tape, config="small", slots=1)


@pytest.mark.parametrize("options, difference", [
    ({"config": "wide"}, "beat_bits = 64 instead of 256, row_lanes = 2 instead of 8, lanes = 2 instead of 8"),
    ({"slots": 3},       "slots = 1 instead of 3"),
])
def test_tape_of_another_machine(tiny_tape, options, difference):
    with pytest.raises(ConfigError, match=rf"^Tape {tiny_tape} was made for another machine \([0-9a-f]{{32}}: "
                                          rf"{difference}\); convert the checkpoint for [0-9a-f]{{32}}$"):
        models.open_model(tiny_tape, **options)


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match=rf"^There is no tape and no checkpoint folder at {tmp_path}/none$"):
        models.open_model(tmp_path / "none")


@pytest.mark.parametrize("change, message", [
    (lambda octets: b"",                       r" is empty, not a tape$"),
    (lambda octets: b"GGUF" + octets[4:],      r" is not a tape: it begins with b'GGUFTAPE', not b'TERNTAPE'$"),
    (lambda octets: octets[:4],                r" is not a tape: "),
    (lambda octets: octets[:20],               r" is cut short in its header$"),
    (lambda octets: octets[:100],              r" is cut short in its header$"),
    (lambda octets: octets[:-1],               r" must have \d+ octets, not \d+$"),
    (lambda octets: octets + b"\0",            r" must have \d+ octets, not \d+$"),
    (lambda octets: octets[:8] + b"\2" + octets[9:], r" is a tape of version 2, this program reads version 1; "
                                                     r"convert the model again$"),
    (lambda octets: octets[:60] + b"!" + octets[61:], r" is damaged: the check sum of its header is wrong$"),
    (lambda octets: octets[:-9] + bytes([octets[-9] ^ 1]) + octets[-8:],
     r" is damaged: the check sum of section 'head' is wrong$"),
])
def test_tape_wrong(tiny_tape, tmp_path, change, message):
    path = tmp_path / "bad.tape"
    path.write_bytes(change(tiny_tape.read_bytes()))
    with pytest.raises(TapeError, match=message):
        models.open_model(path)


@pytest.mark.parametrize("change, message", [
    ({"vocab_size": None},       r" must give vocab_size of its model as a number, not None$"),
    ({"vocab_size": 1 << 40},    r" has an embedding up to beat \d+, but \d+ beats$"),
    ({"hidden_size": 0},         r" has residual vectors of 0, its machine 64$"),
    ({"hidden_size": 128},       r" has residual vectors of 128, its machine 64$"),
    ({"embedding_beats": 1},     r" has embedding rows of 1 beats, the model needs 16$"),
    ({"embedding_start": -1},    r" must give embedding_start of its model as a number, not -1$"),
    ({"eos_token_id": 128},      r" must give eos_token_id of its model as null or a token below 128, not 128$"),
    ({"piece": "first"},         r" must give number, pieces and family of its piece, not 'first'$"),
    ({"piece": {"number": 2, "pieces": 2, "family": ""}}, r" must give number, pieces and family of its piece, not "),
    ({"piece": {"number": 1, "pieces": 2, "family": ""}},
     r" must take residual vectors in the format of the path \(e6m11\), not e6m9$"),
    ({"piece": {"number": 0, "pieces": 2, "family": ""}},
     r" must be for a machine whose residual vectors can be read, because another piece needs them$"),
    ({"bos_token_id": True},     r" must give bos_token_id of its model as null or a token below 128, not True$"),
])
def test_tape_of_nonsense(tiny_tape, tmp_path, change, message):
    """A tape whose check sums are right, but which no driver could play."""
    tape = Tape.open(tiny_tape)
    path = tmp_path / "bad.tape"
    fake = Tape(tape.config, {**tape.model, **change}, tape.sections, tape.marks, tape.image)
    path.write_bytes(fake.header() + bytes(fake.image))
    with pytest.raises(TapeError, match=message):
        models.open_model(path)


def test_tape_without_tiles(tiny_tape, tmp_path):
    tape  = Tape.open(tiny_tape)
    marks = {name: mark for name, mark in tape.marks.items() if name != "head.0"}
    fake  = Tape(tape.config, tape.model, tape.sections, marks, tape.image)
    path  = tmp_path / "bad.tape"
    path.write_bytes(fake.header() + bytes(fake.image))
    with pytest.raises(TapeError, match=r" has no mark 'head\.0'; 128 tokens need 1 of them$"):
        models.open_model(path)


def test_open_checkpoint(tiny, tiny_tape):
    assert models.open_checkpoint(tiny).geometry.hidden_size == 64
    with pytest.raises(InputError, match=rf"^Training needs the checkpoint folder, because a tape has lost the "
                                         rf"weights in float; {tiny_tape} is a file$"):
        models.open_checkpoint(tiny_tape, purpose="Training")
