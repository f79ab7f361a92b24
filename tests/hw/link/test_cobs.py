"""The COBS coders equal the contract, at one octet per cycle."""

import random

import pytest
from amaranth import ClockDomain

from terngen.hw.contract import wire
from terngen.hw.link.cobs import CobsDecoder, CobsEncoder
from terngen.sim import stream

STALLS = pytest.mark.parametrize("i_stall, o_stall", [(0.4, 0), (0.3, 0.4)])


def frames(rng):
    """Around each length at which a block is full, and at random."""
    yield from (b"", b"\0", b"\0\0", b"\1", b"\1\0", b"\0\1")
    for length in (254, 255):
        yield bytes(rng.randrange(1, 256) for _ in range(length))
        yield bytes(rng.randrange(1, 256) for _ in range(length)) + b"\0"
        yield b"\0" + bytes(rng.randrange(1, 256) for _ in range(length)) + b"\0\1"
    for _ in range(10):
        yield bytes(rng.choice([0, 1, 255]) for _ in range(rng.randrange(40)))


def symbols(frame):
    return [{"octet": octet, "end": 0} for octet in frame] + [{"octet": 0, "end": 1}]


def played(dut, i_values, o_count, i_stall=0.0, o_stall=0.0, cycles=60_000):
    rng, actual = random.Random(1), []

    async def i_testbench(ctx):
        await stream.put(ctx, dut.i, i_values, stall=lambda: rng.random() < i_stall)

    async def o_testbench(ctx):
        actual.extend(await stream.get(ctx, dut.o, o_count, stall=lambda: rng.random() < o_stall))

    return actual, stream.run(dut, i_testbench, o_testbench, cycles=cycles)


@STALLS
def test_decoder(i_stall, o_stall):
    sent = list(frames(random.Random(0)))
    octets = b"".join(wire.cobs_encode(frame) + b"\0" for frame in sent)
    expected = [(symbol["octet"], symbol["end"], 0) for frame in sent for symbol in symbols(frame)]
    actual, _ = played(CobsDecoder(), octets, len(expected), i_stall, o_stall)
    assert [(s.octet * (not s.end), s.end, s.broken) for s in actual] == expected


@pytest.mark.parametrize("octets, expected", [
    ("00",         ["end"]),
    ("050000",     ["broken", "end"]),
    ("03110002aa00", [0x11, "broken", 0xAA, "end"]),
    ("ff1100",     [0x11, "broken"]),
    ("02110300 00", [0x11, 0, "broken", "end"]),
])
def test_decoder_broken(octets, expected):
    """A frame that ends within a block is named, and the next is not harmed."""
    octets = bytes.fromhex(octets)
    actual, _ = played(CobsDecoder(), octets, len(expected))
    assert ["broken" if s.broken else "end" if s.end else s.octet for s in actual] == expected


def test_decoder_throughput():
    octets = wire.cobs_encode(bytes(range(256)) * 4) + b"\0"
    _, cycles = played(CobsDecoder(), octets, 1024 + 1)
    assert cycles == len(octets)


@STALLS
def test_encoder(i_stall, o_stall):
    sent = list(frames(random.Random(0)))
    expected = b"\0" + b"".join(wire.cobs_encode(frame) + b"\0" for frame in sent)
    actual, _ = played(CobsEncoder(), [s for frame in sent for s in symbols(frame)], len(expected),
                       i_stall, o_stall)
    assert bytes(actual) == expected


@pytest.mark.parametrize("octet, length", [(0, 0), (0, 1), (1, 1), (0, 254), (1, 254), (1, 255),
                                           (1, 508), (1, 509)])
def test_encoder_cycles(octet, length):
    """Frames leave as fast as they enter; only the last block lags behind."""
    count = 1 + 200 // (length + 1)
    frame = wire.cobs_encode(bytes([octet]) * length) + b"\0"
    assert CobsEncoder.cycles(length) == (len(frame) if octet or not length else length + 2)
    actual, cycles = played(CobsEncoder(), symbols(bytes([octet]) * length) * count,
                            1 + count * len(frame))
    assert bytes(actual) == b"\0" + frame * count
    lag = (wire.BLOCK if octet else 0) + CobsEncoder.LATENCY_CYCLES
    assert cycles <= 1 + count * CobsEncoder.cycles(length) + lag


def test_encoder_resumes_after_reset():
    """What a reset cuts off is ended by a zero; the next frame is whole."""
    sync, dut, actual = ClockDomain("sync"), CobsEncoder(), []

    async def testbench(ctx):
        await stream.put(ctx, dut.i, symbols(b"\1\2\0\3\4")[:-1])
        ctx.set(sync.rst, 1)
        await ctx.tick()
        ctx.set(sync.rst, 0)
        await stream.put(ctx, dut.i, symbols(b"\5"))
        actual.extend(await stream.get(ctx, dut.o, 4))

    stream.run(dut, testbench, domain=sync)
    assert bytes(actual) == b"\0\2\5\0"
