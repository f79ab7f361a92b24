"""A model cut for several devices, from the command line."""

import numpy as np
import pytest

from terngen.hw.contract.tape import Tape


@pytest.fixture
def pieces(terngen, speaking, work):
    """Tapes of both layers of the speaking model, in the current folder."""
    terngen("convert", speaking, "-o", "model.tape", "--split", 2)
    return ["model.1of2.tape", "model.2of2.tape"]


def test_convert(terngen, speaking, work):
    """Tapes that know which piece of what they are."""
    reports = terngen("convert", speaking, "-o", "model.tape", "--split", 2, "--json").values["pieces"]
    tapes   = [Tape.open(work / report["tape"]) for report in reports]
    assert [path.name for path in sorted(work.iterdir())] == ["model.1of2.tape", "model.2of2.tape"]
    assert [report["digest"] for report in reports] == [tape.config.digest.hex() for tape in tapes]
    assert [report["tape_bytes"] for report in reports] == [len(tape.image) for tape in tapes]
    numbers = [tape.model["piece"] | {"family": ""} for tape in tapes]
    assert numbers == [{"number": number, "pieces": 2, "family": ""} for number in range(2)]
    assert len({tape.model["piece"]["family"] for tape in tapes}) == 1
    again = terngen("convert", speaking, "-o", "again.tape", "--split", "1,1", "--json").values["pieces"]
    assert [report["sections"] for report in again] == [report["sections"] for report in reports]


def test_run(terngen, speaking, pieces):
    """The tapes, or the checkpoint, on two devices make the text that one makes."""
    words = ["--prompt", "a fox", "--tokens", 9, "--json"]
    alone = terngen("run", speaking, *words).values
    two   = terngen("run", *pieces, *words).values
    cut   = terngen("run", speaking, "--device", "golden", "--device", "golden", *words).values
    assert two["tokens"] == cut["tokens"] == alone["tokens"]
    assert (two["device"], cut["device"]) == ("golden", "golden, golden")
    chosen = [terngen("run", *model, *words, "--temperature", 0.9, "--seed", 3).values["text"]
              for model in (pieces, [speaking])]
    assert chosen[0] == chosen[1]


def test_logits(terngen, speaking, pieces, tokens, work):
    given = tokens([5, 6, 7], [9, 8, 1])
    terngen("logits", *pieces, "--tokens", given, "--out", "two.npy")
    terngen("logits", speaking, "--tokens", given, "--out", "one.npy")
    assert (np.load(work / "two.npy") == np.load(work / "one.npy")).all()


def test_bench(terngen, pieces):
    """Every value of both machines, and their cycles; the estimate says the same."""
    figures = terngen("bench", *pieces, "--tokens", 2, "--json").values
    assert (figures["gate"], figures["mismatches"], figures["tokens"]) == ("pass", 0, 2)
    assert figures["values_compared"] > 5000
    first, second = figures["pieces"]
    assert figures["cycles_per_token"] == first["cycles_per_token"] + second["cycles_per_token"]
    estimates = [terngen("estimate", piece, "--json").values for piece in pieces]
    assert second["cycles_per_token"] == estimates[1]["cycles_per_token"]
    # The search for the row of a token takes a cycle for each of its bits.
    assert 0 <= estimates[0]["cycles_per_token"] - first["cycles_per_token"] <= 7
    lines = terngen("bench", *pieces, "--tokens", 1).stdout.splitlines()
    assert [line.split()[0] for line in lines if line] == ["gate", "tokens", "cycles", "piece", "1", "2"]


def test_estimate(terngen, speaking, pieces):
    """Latency is the sum of the devices and the way between them; all devices together are as fast as the slowest."""
    options = ["--link-rate", 1e5, "--clock", 50, "--json"]
    figures = terngen("estimate", speaking, "--split", 2, "--slots", 2, *options).values
    cycles  = [piece["cycles_alone"] for piece in figures["pieces"]]
    assert [piece["layers"] for piece in figures["pieces"]] == [[0, 1], [1, 2]]
    # A vector of 64 is one frame: header, payload, check sum, two of COBS and a zero, over both links.
    assert figures["hop_seconds"] == pytest.approx(2 * (12 + 256 + 4 + 2 + 1) / 1e5)
    assert figures["cycles_per_token"] == sum(cycles)
    assert figures["latency_seconds"] == pytest.approx(sum(cycles) / 50e6 + figures["hop_seconds"])
    assert figures["tokens_per_second_alone"] == pytest.approx(1 / figures["latency_seconds"])
    turns = max(piece["cycles_in_turns"] for piece in figures["pieces"]) / 50e6 + figures["hop_seconds"]
    assert figures["tokens_per_second"] == pytest.approx(1 / turns)
    # A machine of one slot is what the tape of a piece is for.
    one = terngen("estimate", speaking, "--split", 2, *options).values
    assert [piece["cycles_alone"] for piece in one["pieces"]] == [
        terngen("estimate", piece, "--json").values["cycles_per_token"] for piece in pieces]
    assert one["tokens_per_second"] == pytest.approx(one["tokens_per_second_alone"])
    lines = terngen("estimate", speaking, "--split", 2).stdout.splitlines()
    assert [line.split()[0] for line in lines if line] == ["piece", "1", "2", "hop", "latency", "speed"]


def test_generate(terngen, pieces, work):
    """A machine for a piece is one like any other."""
    for piece in pieces:
        manifest = terngen("generate", piece, "-o", "machine", "--json").values
        assert manifest["digest"] == Tape.open(work / piece).config.digest.hex()


@pytest.mark.parametrize("words, code, message", [
    (["run", "{2}", "{1}"],                4,
     r"Model was cut into 2 pieces, which must all be given in their order, not 2, 1$"),
    (["run", "{1}"],                       4, r"Model was cut into 2 pieces, .* not 1$"),
    (["perplexity", "{2}", "--text", "x"], 4, r"Model was cut into 2 pieces, .* not 2$"),
    (["run", "{1}", "{2}", *["--device", "golden"] * 3], 4,
     r"A model of 2 pieces needs as many devices, or one kind for all of them, not 3$"),
    (["run", "{1}", "{model}"],            8,
     r"Several models must be the tapes of its pieces; .* is a folder, which must"),
    (["run", "{model}", *["--device", "golden"] * 3], 4, r"A model of 2 layers can be cut into 1 to 2 pieces, not 3$"),
    (["bench", "{1}", "{2}", "--prompt", "2"], 2,
     r"Options --prompt and --waveform are for one device, not for several\.$"),
    (["bench", "--geometry", "370m", *["--device", "sim"] * 2], 2, r"A published size is played on one device; "),
    (["run", "{1}", "{2}", "--device", "sim", "--waveform", "x.vcd:0-9"], 2,
     r"Option --waveform is for one device, not "),
    (["logits", "{1}", "{2}", "--tokens", "tokens.npy", "--out", "out", "--device", "reference"], 2,
     r"Device reference has the whole model, so that it and its checkpoint must stand alone\.$"),
    (["estimate", "{1}", "--split", "2"],  8, r"Cutting a model needs the checkpoint folder, "),
    (["estimate", "{model}", "--split", "2,1"], 4,
     r"Pieces must have all 2 layers of the model, and at least one each, not 2, 1$"),
    (["convert", "{model}", "-o", "x", "--split", "no"], 2,
     r".*Split must be a number of pieces, or a list with the layers "),
])
def test_refused(refused, speaking, pieces, tokens, text, words, code, message):
    tokens([1, 2])
    names = {"{model}": speaking, "{1}": pieces[0], "{2}": pieces[1], "x": text}
    refused(*(names.get(word, word) for word in words), code=code, message=message)


def test_foreign_pieces(refused, terngen, speaking, pieces):
    """The same pieces for another machine belong to another family."""
    terngen("convert", speaking, "-o", "other.tape", "--split", 2, "--slots", 2)
    refused("run", pieces[0], "other.2of2.tape", code=4,
            message=r"Tapes must be pieces of one conversion, but tape 1 is one of \w{32} and tape 2 one of "
                    r"\w{32}; convert")
