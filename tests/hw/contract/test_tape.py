import binascii
import dataclasses

import numpy as np
import pytest

from terngen.hw.contract import tape
from terngen.hw.contract.config import ArrayVariant, Config
from terngen.hw.contract.formats import FloatFormat
from terngen.hw.contract.tape import Mark, Op, Section, Tape, TapeFormatError
from terngen.hw.contract.trits import unpack_trits


def small_tape(config=None):
    config = config or Config(beat_bits=16, lanes=1, hidden=16, wide=16, rows=16, state=16)
    image  = (tape.pack_descriptor(config, opcode=Op.QUANTISE, length=16)
              + tape.pack_descriptor(config, opcode=Op.SCAN, length=3, weighted=1, beats=3)
              + tape.pack_parameters(config, np.array([1, 2, 3])))
    image  = np.frombuffer(image, np.uint8)
    beats  = len(image) // 2
    return Tape(config=config, model={"name": "test"}, image=image, tokenizer=b"{}",
                sections=(Section("head", 0, beats, binascii.crc32(image)),),
                marks={"layers": Mark(0, 8), "head": Mark(8, beats - 8)})


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "test.tape"
    laid_out = small_tape()
    path.write_bytes(laid_out.header() + laid_out.image.tobytes() + laid_out.tokenizer)
    return path


@pytest.mark.parametrize("variant", ArrayVariant)
@pytest.mark.parametrize("beat_bits, row_lanes", [(16, 1), (64, 2), (64, 8), (256, 8)])
@pytest.mark.parametrize("rows, cols", [(1, 1), (7, 33), (16, 40)])
def test_matrix_round_trip(variant, beat_bits, row_lanes, rows, cols):
    config = Config(variant=variant, beat_bits=beat_bits, row_lanes=row_lanes)
    trits  = np.random.default_rng(rows).integers(-1, 2, (rows, cols)).astype(np.int8)
    octets = tape.pack_matrix(config, trits)
    assert len(octets) == config.matrix_beats(rows, cols) * config.beat_bytes
    assert np.array_equal(tape.unpack_matrix(config, octets, rows, cols), trits)


def test_matrix_order():
    # Two rows of two octets: a beat holds ten columns of two rows.
    config = Config(beat_bits=32, row_lanes=2, lanes=4)
    trits  = np.zeros((3, 18), np.int8)
    trits[2, 17] = 1    # block 1, group 1, row 0, second octet, fourth trit
    octets = tape.pack_matrix(config, trits)
    blank  = tape.pack_matrix(config, np.zeros((3, 18), np.int8))
    assert [place for place in range(len(octets)) if octets[place] != blank[place]] == [13]
    assert unpack_trits(np.uint8(octets[13]), config.variant.trit_code).tolist() == [0, 0, 0, 1, 0]


def test_parameters_known_answer():
    config = Config(beat_bits=64)
    assert tape.pack_parameters(config, np.array([0x1234, 0x00FF])).hex() == "3412ff0000000000"
    assert tape.unpack_parameters(config, bytes.fromhex("0080017800000000"), 2).tolist() == [
        0, 0x7801 << 2]      # the sign bit alone is zero; nine mantissa bits become eleven


def test_embedding_known_answer():
    config = Config(beat_bits=32)
    assert tape.pack_embedding(config, np.array([[0x1234, 0x00FF, 0x7801]])).hex(" ", 4) == "3412ff00 01780000"
    assert tape.unpack_embedding(config, bytes.fromhex("00800178"), 2).tolist() == [0, 0x7801 << 2]
    # Eight bits: of 1.5, -0.875 with a zero mantissa bit less, and two codes of zero.
    config = Config(beat_bits=32, embedding=FloatFormat(4, 3))
    octets = tape.pack_embedding(config, np.array([[0x3C, 0xB6, 0x87], [0x07, 0, 0]]))
    assert octets.hex(" ", 4) == "3cb68700 07000000"
    assert tape.unpack_embedding(config, octets[:4], 3).tolist() == [
        31 << 11 | 0x400, 1 << 17 | 30 << 11 | 0x600, 0]


def test_walk():
    laid_out = small_tape()
    found = list(tape.walk(laid_out.config, laid_out.image, Mark(0, laid_out.beats)))
    assert [(beat, fields["opcode"], len(octets)) for beat, fields, octets in found] == [
        (0, Op.QUANTISE, 0), (8, Op.SCAN, 6)]


def test_walk_runs_over():
    laid_out = small_tape()
    with pytest.raises(TapeFormatError, match=r"^Descriptor at beat 8 claims beats up to 19, the part ends "
                                              r"at 18$"):
        list(tape.walk(laid_out.config, laid_out.image, Mark(0, 18)))


def test_walk_lost():
    laid_out = small_tape()
    with pytest.raises(TapeFormatError, match=r"^There is no descriptor at beat 0: no operation has number 15$"):
        list(tape.walk(laid_out.config, np.full(64, 255, np.uint8), Mark(0, 32)))


def test_file_round_trip(path):
    read, written = Tape.open(path), small_tape()
    for field in dataclasses.fields(Tape):
        if field.name == "image":
            assert np.array_equal(read.image, written.image)
        else:
            assert getattr(read, field.name) == getattr(written, field.name)


def damaged(path, place, value=None):
    octets = bytearray(path.read_bytes())
    octets[place] = octets[place] ^ 1 if value is None else value
    path.write_bytes(octets)


@pytest.mark.parametrize("size, message", [
    (0,    r"is empty, not a tape$"),
    (4,    r"is not a tape: it begins with"),
    (12,   r"is cut short in its header$"),
    (200,  r"is cut short in its header$"),
    (-1,   r"must have \d+ octets, not \d+$"),
])
def test_file_cut_short(path, size, message):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(TapeFormatError, match=message):
        Tape.open(path)


@pytest.mark.parametrize("place, message", [
    (0,   r"is not a tape: it begins with"),
    (8,   r"is a tape of version 0, this program reads version 1; convert the model again$"),
    (17,  r"is damaged: the check sum of its header is wrong$"),
    (40,  r"is damaged: the check sum of its header is wrong$"),
    (-10, r"is damaged: the check sum of section 'head' is wrong$"),
    (-1,  r"is damaged: the check sum of its tokenizer is wrong$"),
])
def test_file_damaged(path, place, message):
    damaged(path, place)
    with pytest.raises(TapeFormatError, match=message):
        Tape.open(path)


def test_every_bit_of_the_file_counts(path):
    octets = path.read_bytes()
    header = len(small_tape().header())
    meta   = 24 + int.from_bytes(octets[12:16], "little")
    for place in [*range(meta), *range(header, len(octets))]:   # all but the padding
        damaged(path, place)
        with pytest.raises(TapeFormatError):
            Tape.open(path)
        path.write_bytes(octets)


@pytest.mark.parametrize("change, message", [
    ({"marks": {"layers": Mark(0, 8)}},                        r"has no mark 'head'$"),
    ({"marks": {"layers": Mark(0, 8), "head": Mark(0, 1000)}}, r"'head' does not lie within the image$"),
])
def test_file_inconsistent(path, change, message):
    laid_out = dataclasses.replace(small_tape(), **change)
    path.write_bytes(laid_out.header() + laid_out.image.tobytes() + laid_out.tokenizer)
    with pytest.raises(TapeFormatError, match=message):
        Tape.open(path)
