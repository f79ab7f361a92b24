"""The models in the repository are whole, and of the sizes that their cards say."""

import pytest
from safetensors import safe_open

from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.text import Language

MODELS = {"fairy-1m": (128, 4, 1024, 1_179_648), "fairy-5m": (256, 6, 2048, 5_636_096)}


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
    assert "bits per byte" in card
