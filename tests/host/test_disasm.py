"""Tapes as text."""

import dataclasses
import json

import numpy as np
import pytest

from terngen.host import disasm
from terngen.host.errors import InputError, TapeError
from terngen.hw.contract import bits, formats
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Descriptor, Mark, Op, Tape

CONFIG = Config()


@pytest.fixture(scope="module")
def tape(tiny_tape):
    return Tape.open(tiny_tape)


def code(value, fmt=CONFIG.path):
    return int(formats.from_float(fmt, value))


@pytest.mark.parametrize("fields, words", [
    ({"opcode": Op.MATVEC, "length": 512, "place": 64, "beats": 999, "release": 1},
     "512 rows x 64 columns, release, 999 beats follow"),
    ({"opcode": Op.SCAN, "length": 64, "weighted": 1, "beats": 16},
     "64 elements, weights follow, 16 beats follow"),
    ({"opcode": Op.QUANTISE, "length": 64}, "64 elements"),
    ({"opcode": Op.SQUARE, "length": 64, "source": 1, "weight": code(0.5), "first": 1, "last": 1,
      "scale": code(0.25, CONFIG.path.wide)}, "64 elements, of T1, weight 0.5, term 0.25, first, last"),
    ({"opcode": Op.SQUARE, "length": 64, "weight": code(1.0), "first": 1}, "64 elements, of X, weight 1, first"),
    ({"opcode": Op.GATE, "length": 64, "weight": code(1.0), "scale": code(0.125)},
     "64 elements, weight 1, scale 0.125"),
    ({"opcode": Op.SILU, "length": 64, "scale": code(0.125)}, "64 elements, scale 0.125"),
    ({"opcode": Op.MLGRU, "length": 64, "place": 32, "weighted": 1, "scale": code(2.0), "beats": 16},
     "64 elements, state from element 64, weights follow, scale 2, 16 beats follow"),
    ({"opcode": Op.LOGITS, "length": 128, "scale": code(1.5), "first": 1}, "128 rows, scale 1.5, first"),
])
def test_describe(fields, words):
    unpacked = dict(bits.unpack(Descriptor, bits.pack(Descriptor, **fields)))
    assert disasm.describe(CONFIG, unpacked | {"opcode": fields["opcode"]}) == words


def test_lines(tape):
    lines = list(disasm.lines(tape))
    assert lines[0] == (f"tape tiny: {tape.beats} beats of 64 bits, 139264 ternary weights, 0 octets of tokenizer")
    assert lines[1] == f"machine {tape.config.digest.hex()}"
    for name in ("embedding", "layer.0", "layer.1", "head"):
        section = tape.section(name)
        assert lines.count(f"section {name}: {section.count} beats from beat {section.start}, "
                           f"crc32 {section.crc32:08x}") == 1
    for name, mark in tape.marks.items():
        assert lines.count(f"mark {name}: {mark.count} beats") == 1
    # One line for each descriptor, at its beat.
    operations = [line.split() for line in lines if line.startswith("  ") and line.split()[0].isdigit()]
    assert len(operations) == 27 + 26 + 4       # only the first layer scans what it is given
    assert operations[0] == ["2048", "SCAN", "64", "elements,", "weights", "follow,", "16", "beats", "follow"]
    assert [int(words[0]) for words in operations] == sorted(int(words[0]) for words in operations)


def test_one_mark(tape):
    lines = list(disasm.lines(tape, "head", octets=True))
    mark  = tape.marks["head"]
    assert lines[1].startswith("section head: ")
    first = next(line for line in lines if line.strip().startswith(str(mark.start)))
    octets = tape.image[mark.start * 8:mark.start * 8 + 16].tobytes()
    assert first.endswith(octets.hex(" "))
    with pytest.raises(InputError, match=r"^Tape has no mark 'tail'; it has head, head\.0, layer\.0, layer\.1, l"):
        list(disasm.lines(tape, "tail"))


def test_to_dict(tape):
    """Plain values, from which every descriptor can be packed again."""
    found = json.loads(json.dumps(disasm.to_dict(tape)))
    assert found["digest"] == tape.config.digest.hex()
    assert Config.from_dict(found["config"]) == tape.config
    assert found["model"]["vocab_size"] == 128
    assert found["marks"]["layers"] == dataclasses.asdict(tape.marks["layers"])
    assert [section["name"] for section in found["sections"]] == ["embedding", "layer.0", "layer.1", "head"]
    for entry in found["descriptors"]:
        fields = {name: value for name, value in entry["fields"].items() if name != "reserved"}
        assert bits.pack(Descriptor, **fields).hex(" ") == entry["octets"]
        assert Op(fields["opcode"]).name == entry["op"]
    assert [entry["op"] for entry in disasm.to_dict(tape, "head")["descriptors"]] == [
        "QUANTISE", "SQUARE", "MATVEC", "LOGITS"]


def test_not_descriptors(tape):
    """What is no descriptor is said, with the beat."""
    image = np.array(tape.image)
    mark  = tape.marks["layer.1"]
    image[mark.start * 8:mark.start * 8 + 16] = 255
    broken = dataclasses.replace(tape, image=image)
    with pytest.raises(TapeError, match=rf"^There is no descriptor at beat {mark.start}: no operation has number 15$"):
        list(disasm.lines(broken))
    assert len(list(disasm.entries(broken, tape.marks["layer.0"]))) == 27
    with pytest.raises(TapeError):
        list(disasm.entries(tape, Mark(0, 100)))        # embedding rows
