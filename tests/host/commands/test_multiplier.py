"""``--multiplier`` chooses the products of a machine, wherever one is made or named."""

import json
from dataclasses import replace

import numpy as np
import pytest

from terngen.host.configs import model_config
from terngen.host.convert.checkpoint import Checkpoint
from terngen.hw.contract.config import Sites
from terngen.hw.contract.formats import LMUL
from terngen.hw.contract.tape import Tape
from terngen.sim.fidelity import golden_logits


@pytest.mark.parametrize("name, sites", [("lmul", Sites.all(LMUL)), ("recurrence=lmul,gate=lmul",
                                                                     Sites(recurrence=LMUL, gate=LMUL))])
def test_logits(terngen, tiny, tokens, work, name, sites):
    """As a machine with these sites computes them."""
    terngen("logits", tiny, "--tokens", tokens(1, 20, 30, 4), "--out", "out.npy", "--multiplier", name)
    checkpoint = Checkpoint.open(tiny)
    machine    = replace(model_config(checkpoint.geometry), sites=sites)
    assert np.array_equal(np.load(work / "out.npy"), golden_logits(checkpoint, machine, [1, 20, 30, 4]))


def test_convert(terngen, tiny, work):
    """The tape carries them, and only they are accepted with it."""
    terngen("convert", tiny, "-o", "model.tape", "--calibration-tokens", 1, "--multiplier", "lmul")
    assert Tape.open(work / "model.tape").config.sites == Sites.all(LMUL)
    terngen("disasm", "model.tape", "--multiplier", "lmul")
    assert "was made for another machine" in terngen("disasm", "model.tape", "--multiplier", "exact", code=4).stderr


def test_instead_of_the_configuration(terngen, tiny, work):
    (work / "machine.json").write_text('{"lanes": 1, "sites": {"norm": "lmul"}}')
    terngen("convert", tiny, "-o", "model.tape", "--calibration-tokens", 1, "--config", "machine.json",
            "--multiplier", "glu=lmul")
    config = Tape.open(work / "model.tape").config
    assert (config.lanes, config.sites) == (1, Sites(glu=LMUL))


@pytest.mark.parametrize("model", [True, False])
def test_generate(terngen, tiny, work, model):
    terngen("generate", *([tiny] if model else []), "-o", "out", "--multiplier", "lmul")
    manifest = json.loads((work / "out" / "manifest.json").read_text())
    assert set(manifest["config"]["sites"].values()) == {"lmul"}


def test_estimate(terngen):
    """Without a multiplier there are none; cycles change because L-Mul has fewer registers."""
    exact, lmul = (terngen("estimate", "--geometry", "370m", "--multiplier", name, "--json").values
                   for name in ("exact", "lmul"))
    assert exact["dsp"] > lmul["dsp"] == 0
    assert lmul["cycles_per_token"] < exact["cycles_per_token"]


def test_bench(terngen, tiny):
    found = terngen("bench", tiny, "--tokens", 1, "--multiplier", "lmul", "--json").values
    assert (found["gate"], found["mismatches"]) == ("pass", 0)


@pytest.mark.parametrize("name, message", [
    ("fast", "Invalid value for '--multiplier': Multiplier must be exact, lmul, "),
    ("up=lmul", "Invalid value for '--multiplier': Product must be one of dequantise, "),
])
def test_wrong(refused, tiny, tokens, name, message):
    refused("logits", tiny, "--tokens", tokens(1), "--out", "out.npy", "--multiplier", name, code=2, message=message)


def test_reference_has_none(refused, tiny, tokens):
    refused("logits", tiny, "--tokens", tokens(1), "--out", "out.npy", "--multiplier", "lmul", "--device", "reference",
            code=2, message="Device reference computes in float32, without a machine")
