"""Tapes and reports of `terngen convert`."""

import re

import pytest

from terngen.hw.contract.tape import Tape


def test_convert(terngen, tiny, tiny_tape, work):
    """A tape, and a report: shape, zero fraction and scale of each tensor, what saturates where."""
    report = terngen("convert", tiny, "-o", "a.tape", "--json").values
    tape   = Tape.open(work / "a.tape")
    assert bytes(tape.image) == bytes(Tape.open(tiny_tape).image)
    assert report["tape"] == "a.tape"
    assert report["digest"] == tape.config.digest.hex()
    matrix = report["tensors"]["model.layers.0.attn.i_proj.weight"]
    assert matrix["shape"] == [64, 64]
    assert 0.2 < matrix["zero_fraction"] < 0.5
    assert matrix["scale"] > 0
    assert report["tensors"]["model.norm.weight"] == {"shape": [64]}
    calibration = report["calibration"]
    assert (calibration["source"], calibration["tokens"]) == ("random", 32)
    assert calibration["sites"]["MLGRU.state"].keys() == {"values", "saturated", "zero", "largest"}
    assert calibration["sites"]["MLGRU.state"]["values"] == 32 * 2 * 64
    assert calibration["saturated"] == {}
    assert [path.name for path in work.iterdir()] == ["a.tape"]


def test_convert_for_people(terngen, speaking, text):
    lines = terngen("convert", speaking, "-o", "a.tape", "--text", text, "--calibration-tokens", 5).stdout.splitlines()
    assert lines[0] == ("a.tape: 54,032 octets, of which 37,648 are played for a token; 139,264 ternary weights at "
                        "2.1627 bits")
    assert any(re.fullmatch(r"model\.layers\.1\.attn\.o_proj\.weight +64x64 +0\.\d{4} +0\.\d+", line) for line in lines)
    assert "calibration: 5 tokens, text" in lines
    assert lines[-1] == "no float saturated"


def test_convert_options(terngen, speaking, work):
    report = terngen("convert", speaking, "-o", "a.tape", "--config", "wide", "--slots", 3, "--json").values
    tape   = Tape.open(work / "a.tape")
    assert (tape.config.beat_bits, tape.config.slots) == (256, 3)
    assert report["calibration"]["source"] == "built-in text"
    assert tape.tokenizer == (speaking / "tokenizer.json").read_bytes()
    assert "calibration" not in terngen("convert", speaking, "-o", "b.tape", "--calibration-tokens", 0,
                                               "--json").values


def test_convert_narrow_format(terngen, speaking, work):
    """Where a format is too small, the report says where it saturates."""
    (work / "narrow.json").write_text('{"path": "e4m9"}')
    result = terngen("convert", speaking, "-o", "a.tape", "--config", "narrow.json")
    assert re.search(r"^saturated in (embedding|layer\.\d|head): \w+\.\w+ \d+ times", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("words, code, message", [
    (["{tape}", "-o", "x"],             8, r"Conversion needs the checkpoint folder, because a tape has lost the "),
    (["{work}/none", "-o", "x"],        8, r"Checkpoint .*/none must be a folder .*, and does not exist$"),
    (["{tiny}", "-o", "none/x"],        9, r"none/x cannot be written: No such file or directory$"),
    (["{tiny}", "-o", "."],             9, r"\. cannot be written: It is not a file$"),
    (["{tiny}", "-o", "x", "--config", "huge"], 4, r"There is no configuration 'huge', and no file of that name; "),
    (["{tiny}", "-o", "x", "--slots", "17"],    4, r"Configuration is refused: Slots must be from 1 to 16, not 17$"),
    (["{tiny}", "-o", "x", "--text", "none"],   8, r"Text none cannot be read: No such file or directory$"),
    (["{tiny}", "-o", "x", "--text", "{tape}"], 8, r"Text .* must be UTF-8, but at octet \d+ it is not: "),
    (["{tiny}", "-o", "x", "--text", "{text}"], 8, r"Checkpoint .* has no tokenizer\.json, so it cannot read or "),
    (["{tiny}"],                        2, r"Missing option '-o' / '--output'"),
])
def test_convert_refused(refused, tiny, tiny_tape, work, text, words, code, message):
    names = {"tape": tiny_tape, "tiny": tiny, "work": work, "text": text}
    refused("convert", *(word.format(**names) for word in words), code=code, message=message)
