"""Models of published sizes: time and memory of conversion and of the golden machine."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.convert.geometry import PUBLISHED, Geometry
from terngen.sim.speed import convert, main, write_checkpoint

#: Ternary weights of the published sizes.
WEIGHTS = {"370m": 341_049_344, "1.3b": 1_298_661_376, "2.7b": 2_619_473_920}


def test_checkpoint(tmp_path):
    """What is made is a checkpoint in the public format, in several files."""
    geometry = write_checkpoint(tmp_path, {"hidden_size": 64, "num_hidden_layers": 12, "vocab_size": 100})
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    checkpoint = Checkpoint.open(tmp_path)
    assert checkpoint.geometry == geometry
    trits, scale = checkpoint.ternary("lm_head.weight")
    # Half of a normal distribution is below 0.4 standard deviations when its mean magnitude is 0.8.
    assert scale == pytest.approx(np.sqrt(2 / np.pi), rel=0.05)
    assert np.mean(trits == 0) == pytest.approx(0.31, abs=0.03)
    assert (checkpoint.tensor("model.norm.weight") > 0).all()


@pytest.mark.parametrize("size", PUBLISHED)
def test_geometries(size):
    assert Geometry.from_config({"model_type": "hgrn_bit", **PUBLISHED[size]}).ternary_weights == WEIGHTS[size]


def test_memory_of_conversion(tmp_path):
    """One tensor at a time: nine layers, 28 million weights, take hardly more memory than one."""
    peaks = []
    for layers in (1, 9):
        folder = tmp_path / str(layers)
        folder.mkdir()
        write_checkpoint(folder, {"hidden_size": 512, "num_hidden_layers": layers, "vocab_size": 2000})
        peaks.append(convert(folder, tmp_path / "tape")[1])
    assert peaks[1] < peaks[0] + 10_000_000


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
