"""Benches of the COBS coders against the contract."""

import os
import random

import cocotb

from terngen.hw.contract import wire
from terngen.hw.link.cobs import CobsEncoder, Symbol
from terngen.sim.cocotb_stream import Sink, Source, reset


def frames(rng):
    """Around each length at which a block is full, and at random."""
    yield from (b"", b"\0", b"\0\0", b"\1", b"\1\0", b"\0\1")
    for length in (253, 254, 255, 509):
        piece = bytes(rng.randrange(1, 256) for _ in range(length))
        yield from (piece, b"\0" + piece + b"\0\1")
    for _ in range(20):
        yield bytes(rng.choice([0, 1, 255]) for _ in range(rng.randrange(40)))


def symbols(frame):
    return [{"octet": octet} for octet in frame] + [{"end": 1}]


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.4], o_stall=[0, 0.4])
async def decodes(dut, i_stall, o_stall):
    rng = random.Random(int(os.environ["SEED"]))
    source = Source(dut, "i", stall=lambda: rng.random() < i_stall)
    sink = Sink(dut, "o", stall=lambda: rng.random() < o_stall, shape=Symbol)
    sent = list(frames(rng))
    octets = b"".join(wire.cobs_encode(frame) + b"\0" for frame in sent)
    expected = [(symbol.get("octet", 0), symbol.get("end", 0), 0)
                for frame in sent for symbol in symbols(frame)]

    await reset(dut)
    source.send(octets)
    actual = [(s.octet * (not s.end), s.end, s.broken) for s in await sink.get(len(expected))]
    assert actual == expected
    if not i_stall and not o_stall:
        assert source.cycles[-1] - source.cycles[0] == len(octets) - 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def decodes_noise(dut):
    """Every zero gives one end; a frame is broken exactly if the contract refuses it."""
    rng = random.Random(int(os.environ["SEED"]))
    source, sink = Source(dut, "i"), Sink(dut, "o", shape=Symbol)
    pieces = [bytes(rng.choice([1, 2, 3, 4, 9, 255]) for _ in range(rng.randrange(12))) for _ in range(200)]

    await reset(dut)
    source.send(b"".join(piece + b"\0" for piece in pieces))
    for piece in pieces:
        decoded, broken = b"", None
        while broken is None:
            [symbol] = await sink.get(1)
            if symbol.end:
                broken = symbol.broken
            else:
                decoded += bytes([symbol.octet])
        try:
            assert (wire.cobs_decode(piece), 0) == (decoded, broken)
        except wire.WireError:
            assert broken == 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def encodes_at_any_place(dut):
    """A frame alone in the ring, its end at every place."""
    source, sink = Source(dut, "i", shape=Symbol), Sink(dut, "o")
    await reset(dut)
    assert [octet.to_unsigned() for octet in await sink.get(1)] == [0]
    for number in range(CobsEncoder.DEPTH + 2):
        frame = bytes([1 + number % 255])
        await source.put(symbols(frame))
        assert bytes(octet.to_unsigned() for octet in await sink.get(3)) == wire.cobs_encode(frame) + b"\0"


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.4], o_stall=[0, 0.4])
async def encodes(dut, i_stall, o_stall):
    rng = random.Random(int(os.environ["SEED"]))
    source = Source(dut, "i", stall=lambda: rng.random() < i_stall, shape=Symbol)
    sink = Sink(dut, "o", stall=lambda: rng.random() < o_stall)
    sent = list(frames(rng))
    expected = b"\0" + b"".join(wire.cobs_encode(frame) + b"\0" for frame in sent)

    await reset(dut)
    source.send([symbol for frame in sent for symbol in symbols(frame)])
    assert bytes(octet.to_unsigned() for octet in await sink.get(len(expected))) == expected
    if not i_stall and not o_stall:
        # The end of a frame takes two cycles, of which the last needs no transfer.
        assert source.cycles[-1] - source.cycles[0] + 2 <= sum(CobsEncoder.cycles(len(f)) for f in sent)
