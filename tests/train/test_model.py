"""The model that is trained is the model that is shipped."""

import json

import numpy as np
import pytest
import torch

from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.convert.geometry import Geometry
from terngen.host.train.model import HGRNBit, _TernaryProduct
from terngen.host.train.settings import ModelConfig
from terngen.sim.golden.reference import Reference

pytestmark = pytest.mark.train

#: Promised agreement, relative to the largest magnitude.
TOLERANCE = 1e-4

SMALL = ModelConfig(vocab_size=48, hidden_size=32, num_hidden_layers=3, intermediate_size=48)


def assert_close(actual, expected, tolerance=TOLERANCE):
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


@pytest.fixture(params=["tiny", "tiny-nolb", "trained"])
def folder(request, root):
    return root / "tests" / "data" / "reference" / request.param


def load(checkpoint):
    """The model of a checkpoint, in float32."""
    model = HGRNBit(ModelConfig.from_json(json.loads((checkpoint.folder / "config.json").read_bytes())))
    model.load_state_dict({name: torch.from_numpy(checkpoint.tensor(name)) for name in checkpoint.geometry.tensors})
    return model


def logits_of(model, tokens):
    with torch.no_grad():
        logits, state = model.eval()(torch.from_numpy(tokens)[None], model.zero_state(1))
    return logits[0].numpy(), state[:, 0].numpy()


@pytest.mark.parametrize("row", [0, 1, 2])
def test_matches_reference(folder, row):
    checkpoint = Checkpoint.open(folder)
    tokens     = np.load(folder / "tokens.npy")[row, :np.load(folder / "lengths.npy")[row]]
    logits, state = logits_of(load(checkpoint), tokens)
    reference  = Reference(checkpoint)
    assert_close(logits, reference.forward(tokens))
    assert_close(state, reference.state[0])
    # And both are the public implementation.
    assert_close(logits, np.load(folder / "logits.npy")[row, :len(tokens)])


def test_state_is_carried(folder):
    model  = load(Checkpoint.open(folder)).eval()
    tokens = torch.from_numpy(np.load(folder / "tokens.npy")[2:3])
    whole, end = model(tokens, model.zero_state(1))
    first, state = model(tokens[:, :20], model.zero_state(1))
    second, last = model(tokens[:, 20:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(last, end, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("config", [
    SMALL,
    ModelConfig(vocab_size=16, hidden_size=16, num_hidden_layers=1),
    ModelConfig(vocab_size=16, hidden_size=16, num_hidden_layers=2, expand_ratio=2, use_lower_bound=False),
])
def test_parameters_have_public_names(config):
    geometry = Geometry.from_config(json.loads(json.dumps(config.to_json())))
    assert {name: tuple(value.shape) for name, value in HGRNBit(config).state_dict().items()} == geometry.tensors
    assert geometry.ternary_weights == config.ternary_weights
    assert ModelConfig.from_json(config.to_json()) == config


def test_gradient_is_straight_through():
    rng = torch.Generator().manual_seed(0)
    y      = torch.randn(3, 5, 32, generator=rng, dtype=torch.float64).requires_grad_()
    weight = torch.randn(16, 32, generator=rng, dtype=torch.float64).requires_grad_()
    grad   = torch.randn(3, 5, 16, generator=rng, dtype=torch.float64)

    # The published expression: x + (quantised(x) - x).detach(), of both factors.
    scale = 127 / y.abs().amax(-1, keepdim=True)
    mean  = weight.abs().mean()
    acts  = y + ((y * scale).round() / scale - y).detach()
    trits = weight + ((weight / mean).round().clamp(-1, 1) * mean - weight).detach()
    expected = torch.autograd.grad(acts @ trits.t(), (y, weight), grad)

    actual = _TernaryProduct.apply(y, weight)
    torch.testing.assert_close(actual, acts @ trits.t())
    for one, other in zip(torch.autograd.grad(actual, (y, weight), grad), expected):
        torch.testing.assert_close(one, other)


def test_dropout_in_training_only():
    torch.manual_seed(0)
    model  = HGRNBit(SMALL, dropout=0.5)
    tokens = torch.arange(10)[None]
    runs   = [model(tokens, model.zero_state(1))[0] for _ in range(2)]
    assert not torch.equal(*runs)
    model.eval()
    runs = [model(tokens, model.zero_state(1))[0] for _ in range(2)]
    assert torch.equal(*runs)
