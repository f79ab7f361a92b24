"""The contract of `terngen perplexity`."""

import re

import numpy as np
import pytest


@pytest.mark.parametrize("device", ["golden", "reference"])
def test_perplexity(terngen, speaking, text, tokens, work, device):
    """As the logits say: the token that begins comes first, each token of the text is foretold."""
    result = terngen("perplexity", speaking, "--text", text, "--device", device, "--json").values
    # The tokenizer of the test has one token for each character.
    spoken = [1, *((work / text).read_bytes().replace(b"\n", b"\x7f"))]
    spoken = [1, *(octet - 32 + 3 for octet in spoken[1:])]
    terngen("logits", speaking, "--tokens", tokens(*spoken[:-1]), "--out", "out.npy", "--device", device)
    logits = np.load(work / "out.npy").astype(np.float64)
    nats   = -(logits[np.arange(17), spoken[1:]] - np.log(np.exp(logits).sum(axis=1)))
    assert result.keys() >= {"bits_per_byte", "nats_per_token", "tokens"}
    assert result["tokens"] == result["bytes"] == 17
    assert result["nats_per_token"] == pytest.approx(nats.mean(), rel=1e-6)
    assert result["bits_per_byte"] == pytest.approx(nats.sum() / np.log(2) / 17, rel=1e-6)


def test_perplexity_limit(terngen, speaking, speaking_tape, text):
    result = terngen("perplexity", speaking_tape, "--text", text, "--limit-tokens", 5, "--json").values
    assert (result["tokens"], result["bytes"]) == (5, 5)
    assert re.fullmatch(r"\d+\.\d{4} bits per byte, \d+\.\d{4} nats per token, 5 tokens, 5 bytes\n",
                        terngen("perplexity", speaking, "--text", text, "--limit-tokens", 5).stdout)


def test_shipped_model(terngen, root, work):
    """The model in the repository, with its tokenizer; the golden machine loses next to nothing of it."""
    (work / "text").write_text("Once upon a time there was a king who had three daughters, and the youngest was so "
                               "fair that the sun himself, who has seen so much, wondered each time he shone on her.\n")
    found = [terngen("perplexity", root / "models" / "fairy-1m", "--text", "text", "--device", device, "--json").values
             ["bits_per_byte"] for device in ("golden", "reference")]
    assert abs(found[0] - found[1]) < 0.01      # of a short text; 0.003 is the limit for long ones
    assert found[1] < 2.0


@pytest.mark.parametrize("device", ["golden", "reference"])
def test_perplexity_refused(refused, tiny, speaking, speaking_tape, text, work, device):
    words = ["--device", device]
    refused("perplexity", tiny, "--text", text, *words, code=8, message=r".* no tokenizer")
    refused("perplexity", speaking, "--text", "none", *words, code=8, message=r"Text none cannot be read: No such ")
    (work / "text").write_bytes(b"")
    refused("perplexity", speaking, "--text", "text", *words, code=8,
            message=r"Text must have at least one token that another one comes before$")
    (work / "text").write_bytes(b"a\xff")
    refused("perplexity", speaking, "--text", "text", *words, code=8,
            message=r"Text text must be UTF-8, but at octet 1 it is not: ")
