import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from terngen.host.cli import cli
from terngen.host.compile import compile_tape, default_config
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.errors import InputError
from terngen.host.models import open_model
from terngen.host.text import Language, Surprise
from terngen.host.train import data, recipe
from terngen.host.train.model import ternary
from terngen.host.train.settings import ModelConfig, Recipe
from terngen.hw.contract.config import Sites
from terngen.sim.golden.reference import Reference
from terngen.sim.golden.sequence import Sequence

pytestmark = pytest.mark.train

CONFIG = ModelConfig(vocab_size=144, hidden_size=32, num_hidden_layers=2, intermediate_size=32)
SHORT  = Recipe(steps=8, batch=4, window=16, dropout=0.2)


class Stopped(Exception):
    pass


def train(text, schedule=SHORT, config=CONFIG, **options):
    options.setdefault("say", lambda line: None)
    return recipe.train(text, text[:500], config, schedule, **options)


def same(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.fixture(scope="module")
def trained(text_file, tmp_path_factory):
    """Folder and report of a short run of the command."""
    folder = tmp_path_factory.mktemp("train") / "model"
    result = command(text_file, folder, "--steps", 60, "--every", 30, "--json")
    assert result.exit_code == 0, result.output
    return folder, result


def command(text_file, folder, *options):
    return CliRunner().invoke(cli, [
        "train", "--text", str(text_file), "--valid", str(text_file), "--hidden", "32", "--layers", "2",
        "--intermediate", "32", "--vocab", "144", "--batch", "8", "--window", "32", "--device", "cpu",
        "-o", str(folder), *map(str, options)])


def test_loss_falls(trained):
    report = json.loads(trained[1].stdout)
    # Letters alone cost more than two bits here, the text itself less than a third of one.
    assert report["first_bits_per_byte"] > 2
    assert report["training_bits_per_byte"] < 0.6 * report["first_bits_per_byte"]
    assert report["bits_per_byte"] < 0.6 * report["first_bits_per_byte"]
    assert report["ternary_weights"] == CONFIG.ternary_weights


def test_progress_on_stderr(trained):
    lines = trained[1].stderr.splitlines()
    assert [line.partition(":")[0] for line in lines[1:]] == ["step 30", "step 60"]
    assert len(trained[1].stdout.splitlines()) == 1


def test_files(trained):
    folder, result = trained
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json",
                                                              "training.json"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert json.loads((folder / "training.json").read_text()) == json.loads(result.stdout)


def test_checkpoint_is_accepted(trained, tmp_path):
    checkpoint = Checkpoint.open(trained[0])
    assert checkpoint.geometry.ternary_weights == CONFIG.ternary_weights
    report = compile_tape(checkpoint, default_config(checkpoint.geometry), tmp_path / "model.tape",
                          tokenizer=checkpoint.tokenizer.read_bytes())
    assert report["ternary_weights"] == CONFIG.ternary_weights


def test_bits_per_byte_is_what_perplexity_says(trained, text):
    """The measure of the training, of weights as they are shipped, is that of the command."""
    folder, result = trained
    checkpoint = Checkpoint.open(folder)
    surprise   = Surprise(Language.of_checkpoint(checkpoint).encode(text))
    reference  = Reference(checkpoint)
    reference.reset(1)
    while part := surprise.due(64):
        surprise.add(reference.advance(np.array([part]))[0])
    assert surprise.octets == len(text)
    assert surprise.bits_per_byte == pytest.approx(json.loads(result.stdout)["bits_per_byte"], rel=1e-3)


@pytest.mark.parametrize("multiplier", ["exact", "lmul"])
def test_multiplier(text, text_file, tmp_path, multiplier):
    """The model learns, and its measure is that of a machine with this multiplier, to the last digit."""
    result = command(text_file, tmp_path / "model", "--steps", 60, "--every", 30, "--multiplier", multiplier, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["multiplier"] == multiplier
    assert report["bits_per_byte"] < 0.6 * report["first_bits_per_byte"]
    checkpoint = Checkpoint.open(tmp_path / "model")
    tape       = open_model(tmp_path / "model", sites=Sites.parse(multiplier).to_dict())
    surprise   = Surprise(Language.of_checkpoint(checkpoint).encode(text))
    sequence   = Sequence(tape)
    while part := surprise.due(64):
        surprise.add(sequence.advance(part))
    assert surprise.bits_per_byte == pytest.approx(report["bits_per_byte"], rel=1e-6)


def test_start(trained, text_file, tmp_path):
    """A run begins with the weights and the tokenizer of a checkpoint."""
    again = ["--steps", 1, "--start", trained[0], "--rate", 1e-9, "--weight-decay", 0, "--json"]
    result = command(text_file, tmp_path / "model", *again)
    assert result.exit_code == 0, result.output
    before, after = json.loads(trained[1].stdout), json.loads(result.stdout)
    assert after["bits_per_byte"] == pytest.approx(before["bits_per_byte"], rel=1e-3)
    assert after["start"] == "model"
    assert (tmp_path / "model" / "tokenizer.json").read_text() == (trained[0] / "tokenizer.json").read_text()


def test_start_of_other_sizes(trained, text_file, tmp_path):
    result = command(text_file, tmp_path / "model", "--steps", 1, "--start", trained[0], "--layers", 3)
    assert result.exit_code == 8
    assert f"Checkpoint {trained[0]} must have the sizes of the model that is trained" in result.stderr


def test_seed(text):
    first, _, _  = train(text)
    second, _, _ = train(text)
    other, _, _  = train(text, Recipe(steps=8, batch=4, window=16, dropout=0.2, seed=1))
    assert same(first, second)
    assert not same(first, other)


def near_threshold(share):
    """A matrix with this share of its weights within about a thousandth of the threshold, on either side."""
    rng  = np.random.default_rng(0)
    size = rng.uniform(0, 1, 256 * 128)
    near = rng.permutation(len(size)) < share * len(size)
    # With the threshold at one, magnitudes have a mean of two.
    size[near]   = rng.normal(1, 1e-3, near.sum())
    size[~near] *= (2 * len(size) - size[near].sum()) / size[~near].sum()
    return torch.from_numpy((0.01 * size * rng.choice([-1, 1], len(size))).reshape(256, 128).astype(np.float32))


@pytest.mark.parametrize("share", [0, 0.1, 0.4])
def test_settled_keeps_trits(share):
    weight  = near_threshold(share)
    settled = recipe.settled(weight)
    assert settled.dtype == torch.bfloat16
    assert torch.equal(ternary(settled.float())[0], ternary(weight)[0])
    # And no weight moves by more than to its side of the threshold, and what bfloat16 takes.
    assert ((settled.float() - weight).abs() <= (recipe.SETTLED_GAP + 6e-3 + 2**-8) * weight.abs()).all()


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_rounding_alone_loses_trits(share):
    """Why weights are settled."""
    weight = near_threshold(share)
    lost   = ternary(weight.to(torch.bfloat16).float())[0] != ternary(weight)[0]
    assert lost.float().mean() > share / 4


def test_settled_zeros():
    assert torch.equal(recipe.settled(torch.zeros(16, 16)), torch.zeros(16, 16, dtype=torch.bfloat16))


def test_progress_changes_nothing(text):
    assert same(train(text, every=1)[0], train(text)[0])


@pytest.mark.parametrize("stop", [2, 6])
def test_goes_on(text, tmp_path, stop):
    """A run that was stopped gives the model of one that was not, and the same report."""
    state = tmp_path / "state"
    expected, _, report = train(text, every=2)

    def say(line):
        if line.startswith(f"step {stop}:"):
            raise Stopped

    with pytest.raises(Stopped):
        train(text, every=2, state=state, say=say)
    said = []
    actual, _, again = train(text, every=2, state=state, say=said.append)
    assert said[1] == f"Going on from {state} after {stop} steps"
    assert len([line for line in said if line.startswith("step ")]) == (8 - stop) // 2
    assert same(actual, expected)
    assert {**again, "seconds": 0} == {**report, "seconds": 0}


@pytest.fixture
def state(text, tmp_path):
    train(text, every=4, state=tmp_path / "state")
    return tmp_path / "state"


def test_state_of_another_run(text, state):
    with pytest.raises(InputError, match=rf"^State {state} must be of the same text, sizes and recipe"):
        train(text, Recipe(steps=9, batch=4, window=16, dropout=0.2), state=state)
    with pytest.raises(InputError, match=rf"^State {state} must be of the same text, sizes and recipe"):
        train(text + "The end.\n", state=state)


@pytest.mark.parametrize("damage", [lambda octets: octets[:-1], lambda octets: b"", lambda octets: b"{}" * 50])
def test_state_wrong(text, state, damage):
    state.write_bytes(damage(state.read_bytes()))
    with pytest.raises(InputError, match=rf"^State {state} cannot be read: "):
        train(text, state=state)


def test_state_is_removed(text_file, tmp_path):
    result = command(text_file, tmp_path / "model", "--steps", 4, "--every", 2, "--state", tmp_path / "state")
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_tokenizer_is_used(text, text_file, tmp_path):
    given = data.train_tokenizer(text.replace("queen", "wizard"), 144).to_str(pretty=True) + "\n"
    (tmp_path / "tokenizer.json").write_text(given)
    result = command(text_file, tmp_path / "model", "--steps", 2, "--tokenizer", tmp_path / "tokenizer.json")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "model" / "tokenizer.json").read_text() == given
    assert given != data.train_tokenizer(text, 144).to_str(pretty=True) + "\n"


def test_tokenizer_of_other_size(trained, text_file, tmp_path):
    result = command(text_file, tmp_path / "model", "--steps", 2, "--tokenizer", trained[0] / "tokenizer.json",
                     "--vocab", 150)
    assert result.exit_code == 8
    assert "Tokenizer must have 150 tokens as the model does, not 144" in result.stderr


def test_vocabulary_too_large(text_file, tmp_path):
    result = command(text_file, tmp_path / "model", "--steps", 2, "--vocab", 4000)
    assert result.exit_code == 8
    assert "for this text, not 4000: there is nothing left to merge" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_text_too_short_in_tokens(text_file, tmp_path):
    # Fewer tokens than octets: known only after the tokenizer.
    octets = len(text_file.read_text())
    result = command(text_file, tmp_path / "model", "--steps", 2, "--batch", 8, "--window", octets // 8)
    assert result.exit_code == 8
    assert "Training text must have at least" in result.stderr
    assert "tokens; train with a smaller batch or window" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_device_wrong(text_file, tmp_path):
    result = command(text_file, tmp_path / "model", "--steps", 2, "--device", "abacus")
    assert result.exit_code == 3
    assert "PyTorch cannot compute on device 'abacus'" in result.stderr


def test_interrupted(text_file, tmp_path):
    """Nothing half-written is left behind, not even where a run was killed politely."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from terngen.host.cli import main; main()", "train", "--text", text_file, "--valid",
         text_file, "--hidden", "32", "--layers", "2", "--intermediate", "32", "--vocab", "144", "--batch", "8",
         "--window", "32", "--device", "cpu", "--steps", "100000", "--every", "1", "-o", tmp_path / "model"],
        stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("step 2:"):
            break
    process.terminate()
    process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 128 + 15
    assert list(tmp_path.iterdir()) == []
