"""The models in the repository are whole, of the sizes that their cards say, and as good."""

import dataclasses
import json
import re

import numpy as np
import pytest
from safetensors import safe_open

from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.models import open_model
from terngen.host.text import Language, Surprise
from terngen.host.train.settings import Recipe
from terngen.hw.contract.config import Sites
from terngen.sim.golden.sequence import Sequence

MODELS = {"fairy-1m": (128, 4, 1024, 1_179_648), "fairy-5m": (256, 6, 2048, 5_636_096),
          "fairy-5m-lmul": (256, 6, 2048, 5_636_096), "fairy-300k": (80, 4, 256, 337_920)}

#: Bits per byte that each must reach; with L-Mul, at most 0.005 more than the model with exact products has.
GOALS = {"fairy-1m": 1.51, "fairy-5m": 1.38, "fairy-5m-lmul": 1.3556 + 0.005, "fairy-300k": 1.70}
#: The multiplier that a model was trained for, and how its card calls the device of its figure.
DEVICES = {"fairy-5m-lmul": ("lmul", "`golden`, L-Mul everywhere")}

#: How near a weight may lie to the threshold of its trit, as a share of the threshold: what rounding to
#: bfloat16 moves it by, at most.
GAP = 2**-8


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@pytest.fixture
def folder(root, name):
    return root / "models" / name


def test_sizes(folder, name):
    geometry = Checkpoint.open(folder).geometry
    assert (geometry.hidden_size, geometry.num_hidden_layers, geometry.vocab_size,
            geometry.ternary_weights) == MODELS[name]


def test_stored_in_half(folder):
    with safe_open(folder / "model.safetensors", "np") as file:
        assert {file.get_slice(key).get_dtype() for key in file.keys()} == {"BF16"}


def test_weights_keep_off_thresholds(folder):
    """No trit depends on how its weight was rounded, or in which order a mean is taken."""
    checkpoint = Checkpoint.open(folder)
    matrices   = [name for name in checkpoint.geometry.tensors if re.search(r"(_proj|lm_head)\.weight$", name)]
    weights    = {name: np.abs(checkpoint.tensor(name).astype(np.float64)) for name in matrices}
    assert sum(weight.size for weight in weights.values()) == checkpoint.geometry.ternary_weights
    for name, weight in weights.items():
        nearest = np.abs(weight / (weight.mean() / 2) - 1).min()
        assert nearest > GAP, name


def test_training_report(folder, name):
    """The run that made the model reached the goal, and the card has its command."""
    report = json.loads((folder / "training.json").read_text())
    card   = " ".join((folder / "README.md").read_text().replace("\\\n", " ").split())
    assert report["bits_per_byte"] <= GOALS[name]
    assert report["ternary_weights"] == MODELS[name][3]
    multiplier, device = DEVICES.get(name, (None, "`reference`, float32"))
    # The first two were made before there was a choice of multipliers.
    recipe  = {field.name: report[field.name] for field in dataclasses.fields(Recipe) if field.name in report}
    dropout = re.search(r"--vocab \d+ --dropout ([\d.]+)", card)
    assert Recipe(**recipe) == Recipe(steps=int(re.search(r"--steps (\d+)", card)[1]),
                                      dropout=float(dropout[1]) if dropout else 0, multiplier=multiplier)
    assert (f"--multiplier {multiplier}" in card) == (multiplier is not None)
    stated = re.search(rf"\| {re.escape(device)} \| ([\d.]+) \|", card)[1]
    assert float(stated) == pytest.approx(report["bits_per_byte"], abs=1e-4)


def test_tokenizer(folder):
    language = Language.of_checkpoint(Checkpoint.open(folder))
    text     = "Once upon a time, said the king -- \"and never again!\"\n\t" + "".join(map(chr, range(128)))
    encoded  = language.encode(text)
    assert encoded.tokens[0] == 1
    assert language.decode(encoded.tokens[1:]) == text
    assert language.tokenizer.get_vocab_size() == language.vocab


def test_card(folder, name):
    card = (folder / "README.md").read_text()
    hidden, layers, vocab, weights = MODELS[name]
    assert f"--hidden {hidden} --layers {layers} --vocab {vocab}" in card
    assert f"{weights:_}".replace("_", " ") in card


def test_lmul_speaks_the_same_tokens(root):
    """So that figures of the two can be compared token by token."""
    same = [Language.of_checkpoint(Checkpoint.open(root / "models" / name)).tokenizer.to_str()
            for name in ("fairy-5m", "fairy-5m-lmul")]
    assert same[0] == same[1]


def test_lmul_gains_by_its_training(root):
    """On a machine with L-Mul everywhere it foretells the beginning of a tale better than fairy-5m does."""
    text = "There was once upon a time a king who had three daughters, and the youngest was very beautiful.\n"
    cost = {}
    for name in ("fairy-5m", "fairy-5m-lmul"):
        tape     = open_model(root / "models" / name, sites=Sites.parse("lmul").to_dict())
        surprise = Surprise(Language.of_tape(tape).encode(text))
        sequence = Sequence(tape)
        while part := surprise.due(64):
            surprise.add(sequence.advance(part))
        cost[name] = surprise.bits_per_byte
    assert cost["fairy-5m-lmul"] < cost["fairy-5m"] < 1.5
