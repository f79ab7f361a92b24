"""L-Mul in a shipped model: what it costs, and that nothing grows."""

import dataclasses

import numpy as np
import pytest

from terngen.host.models import open_model
from terngen.host.text import Encoded
from terngen.hw.contract import formats
from terngen.hw.contract.config import Sites
from terngen.hw.contract.formats import LMUL
from terngen.sim.accuracy import choices, figures, measure


def drift(trace):
    """Divergence in the last part of a sequence by that in all of it."""
    return trace["by_position"][-1]["divergence"] / trace["divergence"]


def played(root, name, tokens, sites):
    """Figures of a model on a text of its own, which it goes on with whatever it is given."""
    tape = open_model(root / "models" / name)
    rng  = np.random.default_rng(0)
    # Words of the model at random: the length matters here, not the sense.
    text = [1, *rng.integers(3, tape.model["vocab_size"], tokens).tolist()]
    return figures(measure(tape, Encoded(text, list(range(len(text)))), sites), tokens)


def test_choices():
    found = choices(["lmul", "exact"], alone=True)
    assert len(found) == 2 * 10
    assert found["lmul"] == Sites.all(LMUL)
    assert found["norm=lmul"] == Sites(norm=LMUL)
    assert choices(["lmul"], alone=False) == {"lmul": Sites.all(LMUL)}


def steady(found, exact):
    """No value that is not finite, no state that is much larger than with exact products, no drift."""
    assert found["finite"]
    assert found["state"] < 1.5 * exact["state"]
    assert drift(found) < 1.5
    states = [part["state"] for part in found["by_position"]]
    assert max(states[4:]) < 1.5 * max(states[:4])


def test_no_drift(root):
    """A thousand steps of the small model; a longer test has sixteen thousand of the other."""
    found = played(root, "fairy-1m", 1024, choices(["lmul", "lmul-unbiased"], alone=False))
    for name in ("lmul", "lmul-unbiased"):
        steady(found[name], found["exact"])


def test_growth_is_seen(root):
    """The product that grows: h + z * (c - h) as f * h + z * c, with L-Mul and f near one."""
    tape = open_model(root / "models" / "fairy-1m")
    fmt  = tape.config.path
    f    = np.int64(formats.from_float(fmt, 1 - 1 / 64))
    h    = np.int64(fmt.one)
    for _ in range(512):
        h = formats.multiply(fmt, f, h, LMUL)
    assert formats.to_float(fmt, h) > 100


@pytest.mark.long
@pytest.mark.parametrize("name", ["fairy-5m", "fairy-5m-lmul"])
def test_no_drift_in_16384_steps(root, name):
    found = played(root, name, 16384, choices(["lmul"], alone=False))
    steady(found["lmul"], found["exact"])


@pytest.mark.parametrize("site", list(Sites().to_dict()))
def test_every_product_is_a_site(root, site, monkeypatch):
    """With all sites exact nothing is an L-Mul, with one of them L-Mul something is."""
    tape = open_model(root / "tests" / "data" / "reference" / "tiny")
    seen = set()
    real = formats.multiply

    def spy(fmt, a, b, multiplier):
        seen.add(str(multiplier))
        return real(fmt, a, b, multiplier)

    monkeypatch.setattr(formats, "multiply", spy)
    text = Encoded([1, 2, 3], [0, 1, 2])
    measure(tape, text, {})
    assert seen == {"exact"}
    seen.clear()
    measure(dataclasses.replace(tape), text, {site: Sites.parse(f"{site}=lmul")})
    assert seen == {"exact", "lmul"}
