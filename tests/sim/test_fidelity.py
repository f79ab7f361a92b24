"""The golden machine against the model in float32, in numbers."""

import dataclasses
import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

from terngen.host.compile import default_config
from terngen.host.convert.checkpoint import Checkpoint
from terngen.hw.contract.config import Sites
from terngen.hw.contract.formats import EXACT, LMUL, Multiplier
from terngen.sim.fidelity import Fidelity, encoded, golden_logits, main, reference_logits

#: What is promised of the trained checkpoint with exact multipliers in the default format.
AGREEMENT, DIVERGENCE = 0.99, 3e-4
#: Where the best token is another one, the reference prefers its own by less than this.
NEAR_TIE = 0.2


@pytest.fixture
def trained(root):
    return root / "tests" / "data" / "reference" / "trained"


# The promise.

def test_trained_on_a_text(root, trained):
    """Two thousand positions of a text that everybody has."""
    checkpoint = Checkpoint.open(trained)
    tokens     = encoded(checkpoint, (root / "LICENSE").read_text()).tokens[:2048]
    fidelity   = Fidelity.of(reference_logits(checkpoint, tokens),
                             golden_logits(checkpoint, default_config(checkpoint.geometry), tokens))
    assert fidelity.positions == 2048
    assert fidelity.agreement >= AGREEMENT
    assert fidelity.divergence <= DIVERGENCE
    assert fidelity.gap < NEAR_TIE


def test_trained_public_logits(trained):
    """The logits of the public implementation; its tokens are random, so near ties are frequent."""
    checkpoint = Checkpoint.open(trained)
    config     = default_config(checkpoint.geometry)
    tokens, lengths, public = (np.load(trained / f"{name}.npy") for name in ("tokens", "lengths", "logits"))
    golden = [golden_logits(checkpoint, config, row[:length].tolist()) for row, length in zip(tokens, lengths)]
    fidelity = Fidelity.of(np.concatenate([row[:length] for row, length in zip(public, lengths)]),
                           np.concatenate(golden))
    assert fidelity.positions == 82
    assert fidelity.divergence <= DIVERGENCE
    assert fidelity.gap < NEAR_TIE


def test_multipliers_are_used(root, trained):
    """L-Mul everywhere is worse than one product of it, and that is worse than none."""
    checkpoint = Checkpoint.open(trained)
    tokens     = encoded(checkpoint, (root / "LICENSE").read_text()).tokens[:256]
    reference  = reference_logits(checkpoint, tokens)
    exact, some, everywhere = (
        Fidelity.of(reference, golden_logits(checkpoint, default_config(checkpoint.geometry, sites=sites), tokens))
        for sites in (Sites(), Sites(recurrence=LMUL), Sites.all(LMUL)))
    assert exact.divergence < some.divergence < everywhere.divergence


# How it is measured.

def test_fidelity():
    """Divergence, error and gap of distributions that were worked out by hand."""
    reference = np.log([[0.5, 0.25, 0.25], [0.5, 0.4, 0.1], [0.25, 0.5, 0.25]]) + [[7], [0], [0]]
    machine   = np.log([[0.25, 0.5, 0.25], [0.5, 0.4, 0.1], [0.25, 0.5, 0.25]]) + [[7], [0], [1]]
    fidelity  = Fidelity.of(reference.astype(np.float32), machine.astype(np.float32))
    assert fidelity.positions == 3
    assert fidelity.agreement == pytest.approx(2 / 3)
    # 0.5 * log(2) - 0.25 * log(2) at the first position; what is added to all logits does not matter.
    assert fidelity.worst == pytest.approx(0.25 * math.log(2), rel=1e-5)
    assert fidelity.divergence == pytest.approx(0.25 * math.log(2) / 3, rel=1e-5)
    assert fidelity.gap == pytest.approx(math.log(2), rel=1e-5)
    assert fidelity.error == pytest.approx(math.sqrt((2 * math.log(2)**2 + 3) / 9), rel=1e-5)


def test_fidelity_of_equals():
    logits = np.random.default_rng(0).normal(0, 3, (5, 11)).astype(np.float32)
    assert Fidelity.of(logits, logits) == Fidelity(5, 1.0, 0.0, 0.0, 0.0, 0.0)


def test_sites():
    assert Sites.parse("exact") == Sites()
    assert Sites.parse("lmul") == Sites.all(LMUL)
    assert Sites.parse("recurrence=lmul,glu=lmul-7") == Sites(recurrence=LMUL, glu=Multiplier("lmul-7"))
    assert Sites.parse("lmul,norm=exact") == dataclasses.replace(Sites.all(LMUL), norm=EXACT)
    with pytest.raises(ValueError, match=r"^Product must be one of dequantise, norm, .*, not 'nrom'$"):
        Sites.parse("nrom=lmul")
    with pytest.raises(ValueError, match=r"^Multiplier must be exact, lmul, "):
        Sites.parse("fast")


def test_command(trained, tmp_path):
    (tmp_path / "text").write_text("def f(x):\n    return x  # \N{GREEK SMALL LETTER MU}\n")
    result = CliRunner().invoke(main, [str(trained), "--text", str(tmp_path / "text"), "--json", "--path", "e6m11",
                                       "--path", "e6m7", "--sites", "exact", "--sites", "silu=lmul"])
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["positions"] == 27        # without the letter that is not in the vocabulary
    assert list(report["machines"]) == ["e6m11 exact", "e6m11 silu=lmul", "e6m7 exact", "e6m7 silu=lmul"]
    checkpoint = Checkpoint.open(trained)
    tokens = encoded(checkpoint, (tmp_path / "text").read_text()).tokens
    golden = golden_logits(checkpoint, default_config(checkpoint.geometry), tokens)
    best   = report["machines"]["e6m11 exact"]
    assert best["divergence"] == Fidelity.of(reference_logits(checkpoint, tokens), golden).divergence
    wide   = golden[:-1].astype(np.float64)
    nats   = np.log(np.exp(wide).sum(axis=1)) - wide[np.arange(26), tokens[1:]]
    assert best["bits_per_byte"] == pytest.approx(nats.mean() / math.log(2))


@pytest.mark.parametrize("text, arguments, message", [
    ("x", [], "must have at least two tokens"),
    ("text", ["--sites", "norm=fast"], "Multiplier must be exact, lmul, "),
    ("text", ["--path", "fp16"], "Float format must be written like e6m11, not 'fp16'"),
    ("text", ["--config", "huge"], "There is no configuration 'huge'"),
])
def test_command_refuses(trained, tmp_path, text, arguments, message):
    (tmp_path / "text").write_text(text)
    result = CliRunner().invoke(main, [str(trained), "--text", str(tmp_path / "text"), *arguments])
    assert result.exit_code == 1
    assert message in result.stderr
