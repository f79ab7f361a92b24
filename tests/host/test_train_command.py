"""`terngen train` where PyTorch is missing, and what it refuses before PyTorch is asked."""

import sys

import pytest
from click.testing import CliRunner

from terngen.host.cli import cli


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("Once upon a time there was a king.\n" * 50)
    return path


@pytest.fixture(autouse=True)
def _no_torch(monkeypatch):
    # As if it were not installed, where it is.
    monkeypatch.setitem(sys.modules, "torch", None)


def train(text, output, *options):
    return CliRunner().invoke(cli, ["train", "--text", str(text), "--valid", str(text), "--hidden", "32", "--layers",
                                    "2", "--vocab", "140", "--steps", "2", "--batch", "4", "--window", "16",
                                    "-o", str(output), *map(str, options)])


def test_torch_missing(text, tmp_path):
    result = train(text, tmp_path / "model")
    assert result.exit_code == 3
    assert result.stderr == ("Error: Training needs PyTorch, which is not installed; "
                             "`pip install 'terngen[train]'` installs it\n")
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_help():
    result = CliRunner().invoke(cli, ["train", "--help"])
    assert result.exit_code == 0
    assert "Train a MatMul-free language model" in result.stdout


def test_text_missing(tmp_path):
    result = train(tmp_path / "text.txt", tmp_path / "model")
    assert result.exit_code == 8
    assert "text.txt cannot be read: No such file or directory" in result.stderr


@pytest.mark.parametrize("octets, message", [
    (b"", "must have text in it, not be empty"),
    (b"Once.\nThe f\xc3\xa9e.\n", "must be plain ASCII, but line 2 has '\xe9'; `terngen normalise` makes it so"),
    (b"Once.\xff", "must be UTF-8, but at octet 5 it is not"),
    (b"Once.\n", "must have at least 64 tokens for 4 streams of 16, but has 6 octets"),
])
def test_text_wrong(tmp_path, octets, message):
    path = tmp_path / "text.txt"
    path.write_bytes(octets)
    result = train(path, tmp_path / "model")
    assert result.exit_code == 8
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "model").exists()


def test_valid_wrong(text, tmp_path):
    result = train(text, tmp_path / "model", "--valid", tmp_path / "nothing.txt")
    assert result.exit_code == 8
    assert "nothing.txt cannot be read" in result.stderr


@pytest.mark.parametrize("options, message", [
    (["--hidden", 40], "Hidden and intermediate size must be multiples of 16, not 40 and 256"),
    (["--intermediate", 0], "Hidden and intermediate size must be multiples of 16, not 32 and 0"),
    (["--layers", 0], "num_hidden_layers must be at least 1, not 0"),
    (["--steps", 0], "Steps must be at least 1, not 0"),
    (["--batch", 0], "Batch must be at least 1, not 0"),
    (["--rate", 0], "Rate must be a positive number, not 0.0"),
    (["--rate", "nan"], "Rate must be a positive number, not nan"),
    (["--weight-decay", -1], "Weight decay must be at least 0 and below 1 / rate, not -1.0"),
    (["--dropout", 1], "Dropout must be at least 0 and below 1, not 1.0"),
    (["--multiplier", "fast"], "Multiplier must be exact, lmul, lmul-mitchell, lmul-unbiased or lmul-<offset>, not"),
    (["--vocab", 100], "Vocabulary must be at least 131, not 100"),
])
def test_options_wrong(text, tmp_path, options, message):
    result = train(text, tmp_path / "model", *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_output_exists(text, tmp_path):
    (tmp_path / "model").mkdir()
    result = train(text, tmp_path / "model")
    assert result.exit_code == 9
    assert "Output folder must not exist yet, but" in result.stderr


def test_tokenizer_wrong(text, tmp_path):
    result = train(text, tmp_path / "model", "--tokenizer", text)
    assert result.exit_code == 8
    assert f"Tokenizer {text} cannot be read: " in result.stderr
    result = train(text, tmp_path / "model", "--tokenizer", tmp_path / "tokenizer.json")
    assert result.exit_code == 8
    assert "tokenizer.json cannot be read: No such file or directory" in result.stderr
