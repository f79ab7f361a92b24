from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from terngen.host.convert.checkpoint import Checkpoint
from terngen.sim.golden.reference import Reference

#: Made with the public implementation; float32 implementations agree on it to a few parts in a million.
DATA = Path(__file__).parents[2] / "data" / "reference"
MODELS = ["tiny", "tiny-nolb", "trained"]
#: Promised agreement, relative to the largest magnitude.
TOLERANCE = 1e-4


def load(model, name):
    return np.load(DATA / model / f"{name}.npy")


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return request.param


@pytest.fixture(scope="module")
def reference(model):
    return Reference(Checkpoint.open(DATA / model))


def assert_close(actual, expected, tolerance=TOLERANCE):
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("row", [0, 1, 2])
def test_matches_public_implementation(model, reference, row):
    length = load(model, "lengths")[row]
    logits = reference.forward(load(model, "tokens")[row, :length])
    expected = load(model, "logits")[row, :length]
    assert logits.dtype == np.float32
    assert_close(logits, expected)
    assert_close(reference.state[0], load(model, "final_state")[row])
    assert (logits.argmax(axis=-1) == expected.argmax(axis=-1)).all()


def test_padding(model, reference):
    logits, expected = reference.forward(load(model, "tokens")), load(model, "logits")
    padding = np.isnan(expected)
    assert padding.any()
    assert (np.isnan(logits) == padding).all()
    assert_close(logits[~padding], expected[~padding])
    assert_close(reference.state, load(model, "final_state"))


def test_step_by_step(model, reference):
    tokens, expected = load(model, "tokens")[1:], load(model, "logits")[1:]
    reference.reset(2)
    for t in range(tokens.shape[1]):
        logits = reference.step(tokens[:, t])
        real = tokens[:, t] >= 0
        assert np.isnan(logits[~real]).all()
        assert_close(logits[real], expected[real, t], 2 * TOLERANCE)
    assert_close(reference.state, load(model, "final_state")[1:])


def test_intermediates():
    seen = {}
    reference = Reference(Checkpoint.open(DATA / "tiny"))
    reference.forward(load("tiny", "tokens")[1, :17], lambda name, value: seen.update({name: value[0]}))
    with np.load(DATA / "tiny" / "intermediates_len17.npz") as archive:
        expected = dict(archive)
    assert seen.keys() == expected.keys()
    codes = [name for name in expected if name.endswith(".codes")]
    assert sum(expected[name].size for name in codes) == 20672
    for name, value in expected.items():
        assert seen[name].dtype == value.dtype, name
        if name in codes:
            assert (seen[name] == value).all(), name
        else:
            assert_close(seen[name], value, 1e-5)


def test_resumes_where_it_stopped(reference):
    tokens = np.random.default_rng(1).integers(0, reference.vocab_size, (2, 300))
    whole = reference.forward(tokens)
    state = reference.state
    reference.reset(2)
    parts = [reference.advance(tokens[:, :1]), reference.advance(tokens[:, 1:1]),
             reference.advance(tokens[:, 1:])]
    assert (np.concatenate(parts, axis=1) == whole).all()
    assert (reference.state == state).all()


def test_sequences_are_independent(reference):
    tokens = np.random.default_rng(2).integers(0, reference.vocab_size, (3, 40))
    together = reference.forward(tokens)
    for row in range(3):
        assert (reference.forward(tokens[row]) == together[row]).all()


class Changed:
    """A checkpoint with some of its tensors replaced."""

    def __init__(self, model, tensors):
        self.checkpoint = Checkpoint.open(DATA / model)
        self.geometry, self.lower_bounds = self.checkpoint.geometry, self.checkpoint.lower_bounds
        self.ternary = self.checkpoint.ternary
        self.tensors = tensors

    def tensor(self, name):
        return np.asarray(self.tensors.get(name, self.checkpoint.tensor(name)), np.float32)


def test_activations_round_half_to_even():
    # With x this large epsilon vanishes, both norms are exact, and the codes are the weights, rounded.
    weights = np.tile([127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5], 8)
    seen = {}
    Reference(Changed("tiny", {
        "model.embeddings.weight": np.full((128, 64), 2**20),
        "model.layers.0.attn_norm.weight": np.full(64, 2**20),
        "model.layers.0.attn.i_proj.norm.weight": weights,
    })).forward(np.array([0]), lambda name, value: seen.update({name: value[0]}))
    assert (seen["model.layers.0.attn.i_proj.codes"][0, :8] == [127, 0, 2, 2, 0, -2, -2, 126]).all()


def test_saturated_gates_do_not_warn():
    reference = Reference(Changed("tiny", {"model.layers.0.attn.f_proj.norm.weight": np.full(64, 1e5),
                                           "model.layers.0.mlp.gate_proj.norm.weight": np.full(64, 1e5)}))
    assert np.isfinite(reference.forward(np.arange(20))).all()


class Doubled:
    """A model with every state twice, of which the output projection reads one: the same function."""

    def __init__(self, checkpoint):
        self.checkpoint = checkpoint
        self.geometry = replace(checkpoint.geometry, expand_ratio=2)

    def tensor(self, name):
        tensor = self.checkpoint.tensor(name)
        return np.tile(tensor, 2) if "g_norm" in name or "o_proj.norm" in name else tensor

    def ternary(self, name):
        codes, scale = self.checkpoint.ternary(name)
        if "o_proj" in name:
            return np.hstack([codes, np.zeros_like(codes)]), scale
        return (np.tile(codes, (2, 1)) if "attn" in name else codes), scale

    def lower_bounds(self):
        return np.tile(self.checkpoint.lower_bounds(), 2)


def test_expand_ratio():
    reference = Reference(Doubled(Checkpoint.open(DATA / "tiny-nolb")))
    assert_close(reference.forward(load("tiny-nolb", "tokens")[2]), load("tiny-nolb", "logits")[2])
    assert_close(reference.state[0], np.tile(load("tiny-nolb", "final_state")[2], 2))


@pytest.mark.parametrize("tokens, message", [
    ([[1, 128]],      r"^Tokens must be below 128, or -1 for padding, not 128$"),
    ([[-2, 1]],       r"^Tokens must be below 128, or -1 for padding, not -2$"),
    ([[1, -1, 2]],    r"^Padding \(-1\) must follow the tokens of a sequence"),
    ([[1.0, 2.0]],    r"^Tokens must be integers, not float64$"),
    ([[[1, 2]]],      r"^Tokens must have shape \(1, T\), not \(1, 1, 2\)$"),
])
def test_tokens_wrong(tokens, message):
    reference = Reference(Checkpoint.open(DATA / "tiny"))
    with pytest.raises(ValueError, match=message):
        reference.forward(np.array(tokens))
    assert not reference.state.any()


def test_batch_wrong():
    reference = Reference(Checkpoint.open(DATA / "tiny"))
    with pytest.raises(ValueError, match=r"^Batch must be at least 1, not 0$"):
        reference.reset(0)
    with pytest.raises(ValueError, match=r"^Tokens must have shape \(1, T\), not \(2, 1\)$"):
        reference.step(np.array([1, 2]))
