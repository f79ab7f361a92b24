"""The contract of `terngen logits`."""

import numpy as np
import pytest


@pytest.mark.parametrize("device", ["golden", "reference"])
def test_logits(terngen, reference, tokens, work, device):
    """One full pass from a zero state, near the public logits; two sequences are two passes."""
    stored, public = (np.load(reference / "tiny" / f"{name}.npy")[-1] for name in ("tokens", "logits"))
    words  = ["logits", reference / "tiny", "--tokens", tokens(*stored), "--device", device]
    result = terngen(*words, "--out", "one.npy", "--json").values
    assert {name: result[name] for name in ("out", "shape", "dtype", "device", "tokens")} == {
        "out": "one.npy", "shape": [64, 128], "dtype": "float32", "device": device, "tokens": 64}
    one = np.load(work / "one.npy")
    assert one.dtype == np.float32
    assert one.shape == (64, 128)
    error = np.abs(one - public).max() / np.abs(public).max()
    assert error < (1e-4 if device == "reference" else 0.1)
    tokens(stored[:20], stored[20:40], stored[:20])
    assert terngen(*words, "--out", "two.npy").stdout == "two.npy: float32 (3, 20, 128)\n"
    two = np.load(work / "two.npy")
    np.testing.assert_allclose(two[0], one[:20], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(two[0], two[2])
    assert not np.array_equal(two[0], two[1])


def test_logits_of_a_tape(terngen, tiny, tiny_tape, tokens, work):
    for model, out in ((tiny, "a.npy"), (tiny_tape, "b.npy")):
        terngen("logits", model, "--tokens", tokens(3, 1, 4), "--out", out)
    assert (work / "a.npy").read_bytes() == (work / "b.npy").read_bytes()


@pytest.mark.parametrize("device", ["golden", "reference"])
def test_logits_are_causal(terngen, tiny, tokens, work, device):
    """More than one piece at a time, and what comes later changes nothing before it."""
    sequence = np.random.default_rng(0).integers(0, 128, 150)
    for count, out in ((150, "long.npy"), (70, "short.npy")):
        terngen("logits", tiny, "--tokens", tokens(*sequence[:count]), "--out", out, "--device", device)
    long, short = np.load(work / "long.npy"), np.load(work / "short.npy")
    np.testing.assert_allclose(long[:70], short, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("given, message", [
    ([128],                 r"Token must be from 0 to 127, not 128 at place 0$"),
    ([1, -1],               r"Token must be from 0 to 127, not -1 at place 1$"),
    ([[1, 2], [3, 1 << 62]], rf"Token must be from 0 to 127, not {1 << 62} at place 1, 1$"),
    ([],                    r"Tokens tokens\.npy must have shape \(T,\) or \(B, T\) with at least one token, not \(0,"),
])
@pytest.mark.parametrize("device", ["golden", "reference"])
def test_logits_tokens_wrong(refused, tiny, tokens, given, message, device):
    refused("logits", tiny, "--tokens", tokens(*given), "--out", "out.npy", "--device", device, code=8,
            message=message)


@pytest.mark.parametrize("words, code, message", [
    (["{tape}", "--out", "o", "--device", "reference"], 8,
     r"Device reference needs the checkpoint folder, because a tape has lost the weights in float; .* is a file$"),
    (["{tiny}", "--out", "o", "--device", "reference", "--slots", "3"], 2, r"Device reference computes in float32, "),
    (["{tiny}", "--out", "o", "--device", "reference", "--config", "wide"], 2, r"Device reference computes in float32"),
    (["{tiny}", "--out", "o", "--memory", "latency=3"], 2, r"Option --memory is for device sim, not golden\.$"),
    (["{tiny}", "--out", "o", "--device", "gold"], 2, r"Invalid value for '--device': Device must be one of golden, "),
    (["{tiny}", "--out", "o", "--device", "golden:1"], 2, r"Invalid value for '--device': Device golden has nothing "),
    (["{tiny}", "--out", "none/o"], 9, r"none/o cannot be written: No such file or directory$"),
    (["{tiny}", "--out", "."],      9, r"\. cannot be written: "),
    (["{tiny}"],                    2, r"Missing option '--out'"),
    (["none", "--out", "o"],        8, r"There is no tape and no checkpoint folder at none$"),
    (["tokens.npy", "--out", "o"],  8, r"tokens\.npy is not a tape: it begins with "),
    (["{tape}", "--out", "o", "--config", "wide"], 4, r"Tape .* was made for another machine \("),
])
def test_logits_refused(refused, tiny, tiny_tape, tokens, words, code, message):
    refused("logits", *(word.format(tiny=tiny, tape=tiny_tape) for word in words), "--tokens", tokens(1, 2),
            code=code, message=message)


def test_logits_tokens_dtype(refused, tiny, tokens):
    refused("logits", tiny, "--tokens", tokens(1, 2, dtype=np.int32), "--out", "o", code=8,
            message=r"Tokens tokens\.npy must be int64, not int32; convert them with astype\(\"int64\"\)$")
    refused("logits", tiny, "--tokens", "none.npy", "--out", "o", code=8,
            message=r"Tokens none\.npy cannot be read: No such file or directory$")
