"""The model that is trained for a machine is the one that the machine plays."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from terngen.host import configs
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.train.machine import MachineModel
from terngen.host.train.model import HGRNBit
from terngen.host.train.settings import ModelConfig
from terngen.hw.contract.config import Sites
from terngen.hw.contract.formats import PATH, FloatFormat, Multiplier
from terngen.sim.fidelity import golden_logits

pytestmark = pytest.mark.train

#: Real weights, whose trits do not depend on the order of a sum.
MODELS = ["models/fairy-1m", "tests/data/reference/tiny", "tests/data/reference/tiny-nolb"]


def load(checkpoint, make):
    model = make(ModelConfig.from_json(json.loads((checkpoint.folder / "config.json").read_bytes())))
    model.load_state_dict({name: torch.from_numpy(checkpoint.tensor(name).copy())
                           for name in checkpoint.geometry.tensors})
    return model.eval()


@pytest.mark.parametrize("sites", ["exact", "lmul", "lmul-unbiased", "lmul-mitchell", "recurrence=lmul,norm=lmul"])
@pytest.mark.parametrize("folder", MODELS)
def test_equals_golden(root, folder, sites):
    checkpoint = Checkpoint.open(root / folder)
    chosen     = Sites.parse(sites)
    tokens     = np.random.default_rng(0).integers(0, checkpoint.geometry.vocab_size, 70)
    machine    = dataclasses.replace(configs.model_config(checkpoint.geometry), sites=chosen)
    model      = load(checkpoint, lambda config: MachineModel(config, chosen))
    state, parts = model.zero_state(1), []
    with torch.no_grad():
        for part in torch.from_numpy(tokens)[None].split(30, dim=1):
            logits, state = model(part, state)
            parts.append(logits[0])
    assert np.array_equal(torch.cat(parts).numpy(), golden_logits(checkpoint, machine, tokens.tolist()))


def test_gradient_is_that_of_the_published_model(root):
    """With a fine path format the gradients of the two are the same, but for what is rounded."""
    checkpoint = Checkpoint.open(root / "tests/data/reference/tiny")
    tokens     = torch.arange(48).reshape(2, 24) % checkpoint.geometry.vocab_size
    found      = []
    for make in (HGRNBit, lambda config: MachineModel(config, Sites(), path=FloatFormat(7, 15))):
        model = load(checkpoint, make)
        logits, _ = model(tokens, model.zero_state(2))
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
        found.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, expected in found[0].items():
        actual = found[1][name]
        assert torch.nn.functional.cosine_similarity(actual.flatten(), expected.flatten(), dim=0) > 0.98, name
        assert actual.norm().item() == pytest.approx(expected.norm().item(), rel=0.05), name


def test_path_too_wide():
    config = ModelConfig(vocab_size=16, hidden_size=16, num_hidden_layers=1)
    with pytest.raises(ValueError, match="^Path format must have at most 7 bits of exponent in training, not 8"):
        MachineModel(config, Sites.all(Multiplier("lmul")), path=FloatFormat(8, PATH.mantissa_bits))
