"""How tokens are chosen."""

import math

import numpy as np
import pytest

from terngen.host.device import Result
from terngen.host.sampling import Sampling
from terngen.hw.contract import bits, drawing
from terngen.hw.contract.regs import Choice

CANDIDATES = Result(np.array([40, 7, 99, 3]), np.array([300, 250, 200, -100]), 0.01)


def test_greedy():
    assert {Sampling(seed=seed).choose(CANDIDATES) for seed in range(20)} == {40}


def test_seed():
    """Equal seeds choose equally, others otherwise."""
    def chosen(seed):
        sampling = Sampling(temperature=1.0, seed=seed)
        return [sampling.choose(CANDIDATES) for _ in range(50)]

    assert chosen(3) == chosen(3)
    assert chosen(3) != chosen(4)


@pytest.mark.parametrize("temperature, top_k", [(1.0, None), (0.5, None), (2.0, 3), (1.0, 2), (1.0, 99)])
def test_shares(temperature, top_k):
    """Candidates are chosen as often as the softmax over those that are left says."""
    sampling = Sampling(temperature=temperature, top_k=top_k, seed=1)
    count    = 4000
    chosen   = [sampling.choose(CANDIDATES) for _ in range(count)]
    kept     = CANDIDATES.tokens[:top_k].tolist()
    weights  = [math.exp(logit / temperature) for logit in CANDIDATES.logits[:top_k]]
    assert set(chosen) <= set(kept)
    for token, weight in zip(kept, weights):
        share = weight / sum(weights)
        # Five standard deviations.
        assert abs(chosen.count(token) / count - share) < 5 * math.sqrt(share * (1 - share) / count) + 1e-9


@pytest.mark.parametrize("temperature", [1e-300, 1e-12, 1e300])
def test_extreme_temperature(temperature):
    sampling = Sampling(temperature=temperature, seed=0)
    chosen = {sampling.choose(CANDIDATES) for _ in range(200)}
    assert chosen == ({40} if temperature < 1 else {40, 7, 99, 3})


@pytest.mark.parametrize("options, message", [
    ({"temperature": -0.1},     r"^Temperature must be zero or more, not -0\.1$"),
    ({"temperature": math.nan}, r"^Temperature must be zero or more, not nan$"),
    ({"temperature": math.inf}, r"^Temperature must be zero or more, not inf$"),
    ({"top_k": 0},              r"^Top-k must be at least 1, not 0$"),
])
def test_sampling_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**options)


@pytest.mark.parametrize("options, candidates", [({}, 4), ({"top_k": 3}, 3), ({"top_k": 9}, 4)])
def test_words(options, candidates):
    """A machine that is told them draws what would have been chosen here, and so on after it."""
    here, other = (Sampling(temperature=2.0, seed=6, **options) for _ in range(2))
    for _ in range(20):
        state, word = other.words(4)
        choice = bits.unpack(Choice, word.to_bytes(4, "little")[:bits.size(Choice)])
        assert choice == {"coldness": drawing.coldness(2.0), "candidates": candidates}
        slope  = drawing.slope(CANDIDATES.scale, choice["coldness"])
        drawn  = drawing.draw(state, slope, CANDIDATES.sums[:candidates])[0]
        assert CANDIDATES.tokens[drawn] == here.choose(CANDIDATES)
        other.skip(4)
