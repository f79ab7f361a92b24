"""Frames: known octets, round trips, and nothing accepted that is not intact."""

import binascii
import random

import pytest
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC as crc32
from hypothesis import given
from hypothesis import strategies as st

from terngen.hw.contract import wire
from terngen.hw.contract.wire import Decoder, Fault, Frame, Type, WireError

FRAMES = [
    Frame(type=Type.HELLO, generation=0xA5, sequence=0x1234),
    Frame(type=Type.READ, generation=1, sequence=2, address=0x20, length=8),
    Frame(type=Type.WRITE, generation=1, sequence=3, address=0x8000_0000, length=4,
          payload=b"\x00\x01\x02\x00"),
    Frame(type=Type.WRITE, generation=1, sequence=3, address=0x8000_0000, length=1024,
          payload=bytes(range(1, 256)) * 4 + b"\xff" * 4),
    Frame(type=Type.READ_REPLY, sequence=65535, length=1024, payload=bytes(1024)),
    Frame(type=Type.WRITE_REPLY, generation=255, sequence=65535, address=0xFFFF_FFFC),
    Frame(type=Type.ERROR, sequence=7, fault=Fault.LENGTH),
]


def test_known_answer():
    """The octets on the wire, put together by hand."""
    header  = bytes.fromhex("31 a5 3412 00000080 0400 00 00")
    payload = bytes.fromhex("01 00 00 02")
    crc     = crc32(8).compute(header + payload)
    assert crc == 0x94823F4B
    frame = Frame(type=Type.WRITE, generation=0xA5, sequence=0x1234, address=0x8000_0000, length=4,
                  payload=payload)
    assert wire.encode_frame(frame) == bytes.fromhex(
        "05 31a53412 01 01 03 8004 01 01 02 01 01 06 02 4b3f8294 00")


def test_sizes():
    assert (wire.HEADER_BYTES, wire.MAX_FRAME, wire.MAX_ENCODED) == (12, 1040, 1045)


@pytest.mark.parametrize("octets, encoded", [
    ("", "01"),
    ("00", "0101"),
    ("0000", "010101"),
    ("11", "0211"),
    ("1100", "021101"),
    ("11220033", "0311220233"),
    ("11000000", "0211010101"),
    ("aa" * 253, "fe" + "aa" * 253),
    ("aa" * 254, "ff" + "aa" * 254),
    ("aa" * 255, "ff" + "aa" * 254 + "02aa"),
    ("aa" * 254 + "00", "ff" + "aa" * 254 + "0101"),
    ("aa" * 254 + "0011", "ff" + "aa" * 254 + "010211"),
    ("aa" * 508, ("ff" + "aa" * 254) * 2),
])
def test_cobs(octets, encoded):
    assert wire.cobs_encode(bytes.fromhex(octets)).hex() == encoded
    assert wire.cobs_decode(bytes.fromhex(encoded)).hex() == octets


@given(st.binary(max_size=600) | st.lists(st.sampled_from([0, 1, 254, 255]), max_size=600).map(bytes))
def test_cobs_round_trip(octets):
    encoded = wire.cobs_encode(octets)
    assert 0 not in encoded
    assert len(encoded) <= len(octets) + max(1, -(-len(octets) // wire.BLOCK))
    assert wire.cobs_decode(encoded) == octets


@pytest.mark.parametrize("octets, message", [
    ("0311",   r"^Frame must not end within a block of 2 octets, but does after 1$"),
    ("031100", r"^Frame must not hold a zero$"),
    ("021100", r"^Frame must not hold a zero$"),
])
def test_cobs_refused(octets, message):
    with pytest.raises(WireError, match=message):
        wire.cobs_decode(bytes.fromhex(octets))


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.type.name)
def test_round_trip(frame):
    encoded = wire.encode_frame(frame)
    assert encoded[-1] == 0
    assert len(encoded) <= wire.MAX_ENCODED + 1
    assert wire.decode_frame(encoded[:-1]) == frame


@pytest.mark.parametrize("frame, message", [
    (Frame(type=Type.WRITE, length=1028, payload=bytes(1028)),
     r"^Payload must have at most 1024 octets, not 1028$"),
    (Frame(type=Type.WRITE, length=8, payload=bytes(4)),
     r"^Length of a WRITE must be that of its payload \(4\), not 8$"),
    (Frame(type=Type.READ, length=4, payload=bytes(4)),
     r"^A READ must have no payload, not one of 4 octets$"),
    (Frame(type=Type.HELLO, generation=256), r"^Field generation must fit "),
])
def test_encode_refused(frame, message):
    with pytest.raises(ValueError, match=message):
        wire.encode_frame(frame)


def framed(header: bytes, payload: bytes = b"") -> bytes:
    octets = header + payload
    return wire.cobs_encode(octets + binascii.crc32(octets).to_bytes(4, "little"))


@pytest.mark.parametrize("octets, message", [
    (b"\x01",                       r"^Frame must have at least 16 octets, not 0$"),
    (b"\x02" * 1046,                r"^Frame must have at most 1045 octets, not 1046$"),
    (framed(b"\x11" + bytes(10)),   r"^Frame must have at least 16 octets, not 15$"),
    (framed(b"\x12" + bytes(11)),   r"^Frame must be of version 1, not 2$"),
    (framed(b"\x71" + bytes(11)),   r"^Frame has type 7 and fault 0; there is no such$"),
    (framed(b"\xf1" + bytes(9) + b"\x63\0"), r"^Frame has type 15 and fault 99; there is no such$"),
    (framed(b"\x31" + bytes(7) + b"\4\0\0\0", bytes(8)),
     r"^Frame of type WRITE with length 4 has a payload of 8 octets$"),
    (framed(b"\x21" + bytes(7) + b"\4\0\0\0", bytes(4)),
     r"^Frame of type READ with length 4 has a payload of 4 octets$"),
    (wire.cobs_encode(bytes(16)),   r"^CRC-32 of a frame must be 7bd5c66f, not 00000000$"),
])
def test_decode_refused(octets, message):
    with pytest.raises(WireError, match=message):
        wire.decode_frame(octets)


def test_error_of_another_version():
    """A host can say which version a device speaks."""
    frame = wire.decode_frame(framed(b"\xf2" + bytes(9) + b"\1\0"))
    assert (frame.version, frame.type, frame.fault) == (2, Type.ERROR, Fault.VERSION)


@pytest.mark.parametrize("step", [1, 2, 7, 5000])
def test_decoder_in_pieces(step):
    octets  = b"".join(wire.encode_frame(frame) for frame in FRAMES)
    decoder = Decoder()
    frames  = [frame for start in range(0, len(octets), step)
                     for frame in decoder.feed(octets[start:start + step])]
    assert frames == FRAMES
    assert decoder.drops == 0


def test_decoder_resumes():
    """After noise of any length the next zero starts afresh, and memory stays bounded."""
    decoder = Decoder()
    good = wire.encode_frame(FRAMES[0])
    assert decoder.feed(b"\x55" * 100_000) == []
    assert len(decoder._held) <= wire.MAX_ENCODED
    assert decoder.feed(b"\x55") == []
    assert decoder.feed(good) == []                     # it ends the noise
    assert (decoder.drops, str(decoder.error)) == (1, "Frame must have at most 1045 octets")
    assert decoder.feed(b"\0\0" + good) == [FRAMES[0]]
    assert decoder.drops == 1
    assert decoder.feed(good[:5] + b"\0" + good) == [FRAMES[0]]
    assert decoder.drops == 2


def test_decoder_against_corruption():
    """One octet changed, dropped or inserted anywhere: the frame is gone, the next is not."""
    rng  = random.Random(0)
    good = wire.encode_frame(FRAMES[2])
    for place in range(len(good) - 1):
        for spoilt in (good[:place] + bytes([good[place] ^ 1 << rng.randrange(8)]) + good[place + 1:],
                       good[:place] + good[place + 1:],
                       good[:place] + bytes([rng.randrange(256)]) + good[place:]):
            decoder = Decoder()
            assert decoder.feed(spoilt) == ([FRAMES[2]] if spoilt == b"\0" + good else [])
            assert decoder.feed(b"\0" + good) == [FRAMES[2]]


@given(st.binary(max_size=1200))
def test_decoder_takes_anything(octets):
    decoder = Decoder()
    assert decoder.feed(octets + b"\0") == []
    assert decoder.feed(wire.encode_frame(FRAMES[1])) == [FRAMES[1]]
