"""Models of published sizes: time and memory of conversion and of the golden machine."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer

from terngen.host.cli import cli
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.convert.geometry import PUBLISHED, Geometry
from terngen.sim import checkpoint
from terngen.sim.checkpoint import write_checkpoint
from terngen.sim.speed import convert, main

#: Ternary weights of the published sizes.
WEIGHTS = {"370m": 341_049_344, "1.3b": 1_298_661_376, "2.7b": 2_619_473_920}


def test_checkpoint(tmp_path):
    """What is made is a checkpoint in the public format, in several files."""
    geometry = write_checkpoint(tmp_path, {"hidden_size": 64, "num_hidden_layers": 12, "vocab_size": 100})
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    made = Checkpoint.open(tmp_path)
    assert made.geometry == geometry
    trits, scale = made.ternary("lm_head.weight")
    # Half of a normal distribution is below 0.4 standard deviations when its mean magnitude is 0.8.
    assert scale == pytest.approx(np.sqrt(2 / np.pi), rel=0.05)
    assert np.mean(trits == 0) == pytest.approx(0.31, abs=0.03)
    assert (made.tensor("model.norm.weight") > 0).all()


@pytest.mark.parametrize("dtype", checkpoint.STORED_AS)
def test_storage_types(tmp_path, dtype):
    """Equal seeds give equal weights, but for the rounding."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "vocab_size": 100}
    for name in ("F32", dtype):
        (tmp_path / name).mkdir(exist_ok=True)
        write_checkpoint(tmp_path / name, sizes, dtype=name)
    exact, stored = (Checkpoint.open(tmp_path / name).tensor("lm_head.weight") for name in ("F32", dtype))
    np.testing.assert_allclose(stored, exact, rtol=2**-7, atol=1e-4)


@pytest.mark.parametrize("vocab", [300, 32000])
def test_tokenizer(vocab):
    """It has as many tokens as the model, and loses no octet of a text."""
    made = Tokenizer.from_str(checkpoint.tokenizer(vocab))
    assert made.get_vocab_size() == vocab
    text = "The old king's road, 1843 \N{LATIN SMALL LETTER E WITH ACUTE}\n"
    assert made.decode(made.encode(text, add_special_tokens=False).ids) == text


def test_command_of_checkpoint(tmp_path):
    """A folder that has something in it is left alone."""
    (tmp_path / "mine").write_text("")
    result = CliRunner().invoke(checkpoint.main, ["-o", str(tmp_path)])
    assert result.exit_code == 2 and "must be empty or not exist" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("size", PUBLISHED)
def test_geometries(size):
    assert Geometry.from_config({"model_type": "hgrn_bit", **PUBLISHED[size]}).ternary_weights == WEIGHTS[size]


def converted(folder, *options, **sizes):
    """What the conversion of a new checkpoint took."""
    folder.mkdir()
    write_checkpoint(folder, {"hidden_size": 512, **sizes})
    return convert(folder, folder / "model.tape", *options)


def test_memory_of_conversion(tmp_path):
    """One tensor at a time: nine layers, 28 million weights, take hardly more memory than one, and a larger tensor no
    more than it has in float32."""
    without = ("--calibration-tokens", "0")
    plain   = converted(tmp_path / "plain", *without, num_hidden_layers=1, vocab_size=2000)
    deep    = converted(tmp_path / "deep",  *without, num_hidden_layers=9, vocab_size=2000)
    broad   = converted(tmp_path / "broad", *without, num_hidden_layers=1, vocab_size=32000)
    assert deep.peak_bytes < plain.peak_bytes + 10_000_000
    assert broad.peak_bytes < plain.peak_bytes + 10_000_000 + 4 * 512 * 32000


def test_command():
    result = CliRunner().invoke(main, ["--layers", "1", "--tokens", "2", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["ternary_weights"] == 1024 * (4 * 1024 + 3 * 2816 + 32000)
    assert 1.6 < report["bits_per_weight"] < 1.65
    assert report["tokens_per_second"] > 0


@pytest.mark.long
def test_370m():
    """The figures that are promised, on two cores that may be busy with something else."""
    result = CliRunner().invoke(main, ["--geometry", "370m", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["ternary_weights"] == WEIGHTS["370m"]
    assert report["tokens_per_second"] >= 0.2 and report["first_token_seconds"] <= 20
    assert report["play_peak_bytes"] <= 6e9
    assert report["convert_seconds"] <= 60
    assert report["convert_peak_bytes"] <= 4 * 32000 * 1024 + 1e9


@pytest.mark.long
def test_370m_for_real(tmp_path):
    """A checkpoint in the public format becomes a tape within the promised time and memory, with the report that it
    gives by default, and the generated machine plays a token of it as the golden machine does."""
    folder, tape = tmp_path / "checkpoint", tmp_path / "model.tape"
    made = CliRunner().invoke(checkpoint.main, ["--geometry", "370m", "-o", str(folder), "--json"])
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["ternary_weights"] == WEIGHTS["370m"]
    taken = convert(folder, tape)
    assert taken.processor_seconds <= 60
    assert taken.peak_bytes <= 4 * 32000 * 1024 + 1e9
    played = CliRunner().invoke(cli, ["bench", str(tape), "--tokens", "1", "--json"])
    assert played.exit_code == 0, played.output
    report = json.loads(played.stdout)
    assert report["gate"] == "pass" and report["mismatches"] == 0
    assert report["values_compared"] > 1_000_000
