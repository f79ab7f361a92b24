"""Benches of the parts of the link endpoint: receiver, executor, replier."""

import binascii
import math
import os
import random

import cocotb
from cocotb.triggers import ClockCycles, ReadOnly

from terngen.hw.contract import bits, wire
from terngen.hw.contract.regs import Access
from terngen.hw.contract.wire import CRC_BYTES, HEADER_BYTES, MAX_FRAME, VERSION, Header, Type
from terngen.hw.link.cobs import Symbol
from terngen.hw.link.endpoint import ANSWER, Executor, Replier
from terngen.hw.link.receiver import Receiver
from terngen.sim.cocotb_stream import Sink, Source, reset

rng = random.Random(int(os.environ["SEED"]))


def port(kind, dut, name, stall, shape):
    return kind(dut, name, stall=lambda: rng.random() < stall, shape=shape)


def octets(type_: Type, payload=b"", **fields) -> bytes:
    """A frame without check sum and encoding."""
    return bits.pack(Header, **{"version": VERSION, "type": type_, "length": len(payload)} | fields) + payload


def checked(body: bytes) -> bytes:
    return body + binascii.crc32(body).to_bytes(CRC_BYTES, "little")


def symbols(frame: bytes, *, broken=0) -> list[dict[str, int]]:
    return [*({"octet": octet} for octet in frame), {"end": 1, "broken": broken}]


def draw_frame() -> bytes:
    """A frame, sound or not."""
    payload = rng.randbytes(rng.choice([4, 12, 48]))
    write   = checked(octets(Type.WRITE, payload, sequence=rng.getrandbits(16)))
    return rng.choice([
        write, checked(octets(Type.READ, length=64)), write,
        checked(octets(Type.WRITE, payload, length=len(payload) + rng.choice([-1, 1]))),
        checked(octets(Type.WRITE, payload, version=VERSION + 1)),
        write[:-1] + bytes([write[-1] ^ 1 << rng.randrange(8)]),
        write[:rng.randrange(1, HEADER_BYTES + CRC_BYTES)],
        checked(bytes(rng.randrange(HEADER_BYTES))),
        b"",
    ])


def passed(frame: bytes) -> bytes | None:
    """What the receiver passes on of a frame; nothing of one that must be dropped."""
    sound = HEADER_BYTES + CRC_BYTES <= len(frame) <= MAX_FRAME and checked(frame[:-CRC_BYTES]) == frame
    if sound and frame[0] & 0xF != VERSION:
        return frame[:HEADER_BYTES]
    try:
        wire.decode_frame(wire.cobs_encode(frame))
    except wire.WireError:
        return b"" if not frame else None
    return frame[:-CRC_BYTES]


@cocotb.test(timeout_time=300, timeout_unit="us")
@cocotb.parametrize(i_stall=[0, 0.4], o_stall=[0, 0.6])
async def receives(dut, i_stall, o_stall):
    dut.drop.value = 0
    source, sink = port(Source, dut, "i", i_stall, Symbol), port(Sink, dut, "o", o_stall, 8)
    hello  = checked(octets(Type.HELLO, generation=3))
    frames = [hello, *(draw_frame() for _ in range(40)), checked(bytes(MAX_FRAME + 20)),
              *[checked(octets(Type.WRITE, rng.randbytes(1024)))] * 2]
    await reset(dut)
    sent   = [*(symbol for frame in frames for symbol in symbols(frame)), *symbols(hello, broken=1)]
    source.send(sent)
    expected = b"".join(passed(frame) or b"" for frame in frames)
    assert bytes(await sink.get(len(expected))) == expected
    await source.put([])
    await ClockCycles(dut.clk, 4)
    await ReadOnly()
    assert int(dut.drops.value) == sum(passed(frame) is None for frame in frames) + 1
    if not i_stall and not o_stall:
        # A frame that follows another one waits for a cycle; two of its symbols are taken before that shows.
        ends = [place for place, symbol in enumerate(sent) if symbol.get("end")]
        gaps = [after - before for before, after in zip(source.cycles, source.cycles[1:])]
        assert [place for place, gap in enumerate(gaps) if gap != 1] == [end + 2 for end in ends[:-1]]
        assert sum(gaps) == len(gaps) + len(ends) - 1
        assert sink.cycles[0] - source.cycles[len(hello)] == Receiver.LATENCY_CYCLES


@cocotb.test(timeout_time=400, timeout_unit="us")
async def receives_at_any_place(dut):
    """A frame alone in the ring, as often as its end takes to lie at the ring's end."""
    dut.drop.value = 0
    source, sink = port(Source, dut, "i", 0, Symbol), port(Sink, dut, "o", 0, 8)
    await reset(dut)
    for number in range(math.lcm(HEADER_BYTES, Receiver.DEPTH) // HEADER_BYTES + 1):
        frame = octets(Type.READ if number else Type.HELLO, sequence=number)
        await source.put(symbols(checked(frame)))
        assert bytes(await sink.get(len(frame))) == frame


@cocotb.test(timeout_time=300, timeout_unit="us")
@cocotb.parametrize((("i_stall", "access_stall", "reply_stall"),
                     [(0, 0, 0), (0.4, 0, 0), (0, 0.7, 0), (0, 0, 0.9), (0.4, 0.4, 0.4)]))
async def executes(dut, i_stall, access_stall, reply_stall):
    source   = port(Source, dut, "requests", i_stall, 8)
    accesses = port(Sink, dut, "accesses", access_stall, Access)
    replies  = port(Sink, dut, "replies", reply_stall, Header)
    requests, expected = [octets(Type.HELLO, sequence=9)], []
    for sequence in range(10, 40):
        address = rng.randrange(1 << 24) * 4
        words   = [rng.getrandbits(32) for _ in range(rng.randint(1, 12))]
        write   = rng.randrange(2)
        payload = b"".join(word.to_bytes(4, "little") for word in words) if write else b""
        requests.append(octets(Type.WRITE if write else Type.READ, payload, length=4 * len(words),
                               address=address, sequence=sequence))
        expected += [(write, address + 4 * index, word) for index, word in enumerate(words)]
    await reset(dut)
    source.send(octet for request in requests for octet in request)
    replying = cocotb.start_soon(replies.get(len(requests)))
    for (write, address, word), access in zip(expected, await accesses.get(len(expected))):
        assert (access.write, access.address) == (write, address)
        assert access.data == word or not write
    for request, reply in zip(requests, await replying):
        asked = Header.from_bits(int.from_bytes(request[:HEADER_BYTES], "little"))
        assert (reply.type.value, reply.sequence) == (asked.type.value + ANSWER, asked.sequence)
        assert reply.length == (asked.length if asked.type == Type.READ else 0)
    if not (i_stall or access_stall or reply_stall):
        place = 0
        for request in requests[:-1]:
            last  = place + len(request)
            taken = source.cycles[last] - source.cycles[place]
            read  = Header.from_bits(int.from_bytes(request[:HEADER_BYTES], "little")).length // 4
            place = last
            if len(request) > HEADER_BYTES:
                assert taken == len(request) - HEADER_BYTES + Executor.OVERHEAD_CYCLES
            else:
                assert taken <= read + Executor.OVERHEAD_CYCLES


@cocotb.test(timeout_time=300, timeout_unit="us")
@cocotb.parametrize((("reply_stall", "answer_stall", "o_stall"),
                     [(0, 0, 0), (0.7, 0, 0), (0, 0.7, 0), (0, 0, 0.4), (0.4, 0.4, 0.4)]))
async def replies(dut, reply_stall, answer_stall, o_stall):
    source  = port(Source, dut, "replies", reply_stall, Header)
    answers = port(Source, dut, "answers", answer_stall, 32)
    sink    = port(Sink, dut, "o", o_stall, Symbol)
    lengths = [0, 4, 64, 0, 8, 256, 12]
    frames  = [checked(octets(Type.READ_REPLY, rng.randbytes(length), sequence=rng.getrandbits(16)))
               for length in lengths]
    await reset(dut)
    for frame in frames:
        payload = frame[HEADER_BYTES:-CRC_BYTES]
        source.send([int.from_bytes(frame[:HEADER_BYTES], "little")])
        answers.send(int.from_bytes(payload[place:place + 4], "little") for place in range(0, len(payload), 4))
    expected = [(symbol.get("octet"), symbol.get("end", 0)) for frame in frames for symbol in symbols(frame)]
    actual   = await sink.get(len(expected))
    assert [(None if symbol.end else symbol.octet, symbol.end) for symbol in actual] == expected
    if not (reply_stall or answer_stall or o_stall):
        taken = source.cycles
        assert [after - before for before, after in zip(taken, taken[1:])] == list(map(Replier.cycles, lengths[:-1]))
