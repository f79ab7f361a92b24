"""Benches of the link endpoint against its model in Python."""

import os
import random

import cocotb
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge

from terngen.hw.contract import wire
from terngen.hw.contract.regs import Access
from terngen.hw.contract.wire import Decoder, Frame, Type
from terngen.hw.link.endpoint import Endpoint
from terngen.sim.cocotb_stream import Sink, Source, reset
from terngen.sim.endpoint import EndpointModel

#: Of the endpoint that is looked at.
IDLE_CYCLES = 64


class Recorder:
    """A bus that answers every read differently, and remembers all accesses."""

    def __init__(self):
        self.accesses = []      # (write, address, data)
        self.answers  = []
        self.restarts = 0

    def read(self, address):
        self.answers.append((address * 0x01000193 ^ len(self.answers) << 20) % 2**32)
        self.accesses.append((0, address, 0))
        return self.answers[-1]

    def write(self, address, word):
        self.accesses.append((1, address, word))

    def restart(self):
        self.restarts += 1


class Host:
    """The drivers of one test, and what it received."""

    def __init__(self, dut, seed=0, *, i_stall=0.0, o_stall=0.0, bus_stall=0.0, ports=None):
        rng = random.Random(seed)
        self.dut      = dut
        self.source, self.sink, self.answers = ports if ports is not None else (
            Source(dut, "link_i", stall=lambda: rng.random() < i_stall),
            Sink(dut, "link_o", stall=lambda: rng.random() < o_stall),
            Source(dut, "bus__answers", stall=lambda: rng.random() < bus_stall))
        self.accesses = Sink(dut, "bus__accesses", shape=Access, stall=lambda: rng.random() < bus_stall)
        self.decoder  = Decoder()
        self.restarts = 0
        cocotb.start_soon(self._count())

    async def _count(self):
        while True:
            await RisingEdge(self.dut.clk)
            await ReadOnly()
            self.restarts += int(self.dut.restart.value)

    async def frames(self, count):
        frames = []
        while len(frames) < count:
            [octet] = await self.sink.get(1)
            frames += self.decoder.feed(bytes([octet.to_unsigned()]))
        return frames

    async def check(self, octets, model):
        """Send `octets`; everything that happens must be what `model` says."""
        before   = len(model.bus.accesses), len(model.bus.answers)
        expected = Decoder().feed(model.feed(octets))
        accesses = model.bus.accesses[before[0]:]
        answers  = iter(model.bus.answers[before[1]:])
        self.source.send(octets)

        async def serve():
            actual = []
            for write, _, _ in accesses:
                [access] = await self.accesses.get(1)
                actual.append((access.write, access.address, access.data * access.write))
                if not write:
                    self.answers.send([next(answers)])
            assert actual == accesses

        serving = cocotb.start_soon(serve())
        assert await self.frames(len(expected)) == expected
        await serving
        assert self.decoder.drops == 0


class Model(EndpointModel):
    def __init__(self):
        self.bus = Recorder()
        super().__init__(self.bus)


def numbered(generation, first):
    """Makes requests of one session, one after the other."""
    sequence = first

    def request(type_, **fields):
        nonlocal sequence
        frame = Frame(type=type_, generation=generation, sequence=sequence % 65536, **fields)
        sequence += 1
        return frame

    return request


def write(request, address, payload):
    return wire.encode_frame(request(Type.WRITE, address=address, length=len(payload), payload=payload))


def random_requests(rng, generation, first, count):
    """Requests good and bad, again and too early, and noise; the first is a HELLO."""
    request, sent = numbered(generation, first), []
    sent.append(wire.encode_frame(request(Type.HELLO)))
    for _ in range(count):
        address = rng.randrange(2**30) * 4
        length  = 4 * rng.randrange(1, 12)
        kind    = rng.randrange(12)
        if kind < 4:
            sent.append(write(request, address, bytes(rng.choice([0, 0, 255, rng.randrange(256)])
                                                      for _ in range(length))))
        elif kind < 7:
            sent.append(wire.encode_frame(request(Type.READ, address=address, length=length)))
        elif kind == 7:
            sent.append(rng.choice(sent))
        elif kind == 8:
            bad = {"address": address + rng.randrange(4), "length": rng.choice([0, 3, 8, 1028, 65535])}
            sent.append(wire.encode_frame(request(Type.READ, **bad)))
        elif kind == 9:
            foreign = {"version": rng.choice([1, 1, 2]), "type": rng.choice([Type.ERROR, Type.READ_REPLY])}
            sent.append(wire.encode_frame(Frame(generation=generation + rng.randrange(2),
                                                sequence=rng.randrange(65536), **foreign)))
        elif kind == 10:
            spoilt = bytearray(rng.choice(sent))
            spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
            sent.append(bytes(spoilt) + b"\0")
        else:
            sent.append(bytes(rng.randrange(256) for _ in range(rng.randrange(20))) + b"\0")
    return sent


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize((("i_stall", "o_stall", "bus_stall"),
                     [(0, 0, 0), (0.4, 0, 0.6), (0, 0.4, 0), (0, 0, 0.6), (0.4, 0.4, 0.6)]))
async def equals_model(dut, i_stall, o_stall, bus_stall):
    seed = int(os.environ["SEED"])
    rng, model = random.Random(seed), Model()
    host = Host(dut, seed, i_stall=i_stall, o_stall=o_stall, bus_stall=bus_stall)
    await reset(dut)
    first = rng.choice([0, 65530, 32760])
    await host.check(b"".join(random_requests(rng, 7, first, 60)), model)
    assert host.restarts == model.bus.restarts == 1
    await ReadOnly()
    assert int(dut.drops.value) == model.drops


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def refuses_without_session(dut):
    host, model = Host(dut), Model()
    await reset(dut)
    await host.check(wire.encode_frame(Frame(type=Type.READ, address=4, length=4)), model)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def takes_writes_at_the_speed_of_the_link(dut):
    host, request = Host(dut), numbered(1, 5)
    await reset(dut)
    rng    = random.Random(int(os.environ["SEED"]))
    pieces = [bytes(rng.randrange(256) for _ in range(wire.MAX_PAYLOAD)) for _ in range(3)]
    octets = wire.encode_frame(request(Type.HELLO))
    octets += b"".join(write(request, 1024 * place, piece) for place, piece in enumerate(pieces))
    host.source.send(octets)
    replies = cocotb.start_soon(host.frames(4))
    words   = await host.accesses.get(768)
    assert b"".join(word.data.to_bytes(4, "little") for word in words) == b"".join(pieces)
    assert [word.address for word in words] == list(range(0, 3072, 4))
    frames = await replies
    assert [frame.sequence for frame in frames] == [5, 6, 7, 8]

    # The link never waits, and an endpoint that is fed by a faster link would not either.
    cycles = host.source.cycles
    assert cycles[-1] - cycles[0] == len(octets) - 1
    assert Endpoint.write_cycles(wire.MAX_PAYLOAD) <= wire.MAX_ENCODED
    # The last word is written soon after the last octet has come: payloads do not pile up.
    assert host.accesses.cycles[-1] - cycles[-1] <= Endpoint.write_cycles(wire.MAX_PAYLOAD) + 8


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def answers_reads_at_the_speed_of_the_link(dut):
    host, request = Host(dut), numbered(1, 5)
    await reset(dut)
    host.source.send(wire.encode_frame(request(Type.HELLO)) +
                     wire.encode_frame(request(Type.READ, address=0, length=1024)))
    host.answers.send(range(256))
    words = cocotb.start_soon(host.accesses.get(256))
    octets = await host.sink.get(1020)
    await words
    # One octet in each cycle, once a block has begun; the first comes with its 254th octet.
    gaps = [after - before for before, after in zip(host.sink.cycles, host.sink.cycles[1:])]
    assert sum(gap > 1 for gap in gaps[40:]) == 0
    assert len(octets) == 1020


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(waiting=["access", "answer", "second answer", "repeated reads"])
async def hello_ends_whatever_runs(dut, waiting):
    """A new session gets in while the machine does not answer, and the old one leaves no trace."""
    old, new = numbered(1, 5), numbered(2, 100)
    source, sink, answers = Source(dut, "link_i"), Sink(dut, "link_o"), Source(dut, "bus__answers")
    # The accesses are withdrawn by the restart, so a driver that judges streams comes later.
    dut.bus__accesses__ready.value = waiting != "access"
    await reset(dut)
    hello, read = old(Type.HELLO), old(Type.READ, address=0x24, length=8)
    listening = cocotb.start_soon(sink.get(1 << 20))
    again = 50 if waiting == "repeated reads" else 0
    await source.put(wire.encode_frame(hello) + wire.encode_frame(read) * (1 + again))
    await ClockCycles(dut.clk, 50)
    if waiting == "second answer":
        await answers.put([0x11111111])

    hello = wire.encode_frame(new(Type.HELLO))
    source.send(hello)
    await RisingEdge(dut.restart)
    await RisingEdge(dut.clk)
    listening.cancel()
    sink.clear()
    host, model = Host(dut, ports=(source, sink, answers)), Model()
    model.feed(hello)
    [frame] = await host.frames(1)
    assert (frame.type, frame.generation, frame.sequence) == (Type.HELLO_REPLY, 2, 100)
    assert host.decoder.drops <= 1      # what the restart has cut off
    host.decoder.drops = 0
    requests = wire.encode_frame(new(Type.READ, address=0x40, length=12)) + write(new, 0x60, b"\1\0\0\0")
    await host.check(requests, model)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(part=[1, 5, 11, 20, 28])
async def silence_drops_what_has_begun(dut, part):
    """The next frame is whole, although no zero has come before it; one that only pauses is whole as well."""
    host, model, request = Host(dut), Model(), numbered(3, 9)
    await reset(dut)
    await host.check(wire.encode_frame(request(Type.HELLO)), model)
    frame, *later = (write(request, 0x40, bytes([1, 0, 2, 0] * number)) for number in (3, 3, 2))
    await host.source.put(frame[:part])
    await ClockCycles(dut.clk, IDLE_CYCLES // 2)
    await host.source.put(frame[part:-1])
    await host.check(frame[-1:], _fed(model, frame[:-1]))
    await host.source.put(frame[:part])
    await ClockCycles(dut.clk, 2 * IDLE_CYCLES)
    await host.check(b"".join(later), model)
    await ReadOnly()
    # Of a code alone nobody knew but the decoder.
    assert int(dut.drops.value) == (part > 1)


def _fed(model, octets):
    assert model.feed(octets) == b""
    return model


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(after=[3, 40, 150, 400])
async def resumes_after_reset(dut, after):
    seed = int(os.environ["SEED"])
    host, rng = Host(dut, seed), random.Random(seed)
    await reset(dut)
    host.source.send(b"".join(random_requests(rng, 1, 9, 20)))
    listening = [cocotb.start_soon(port.get(1 << 20)) for port in (host.sink, host.accesses)]
    await ClockCycles(dut.clk, after)
    for task in listening:
        task.cancel()
    for port in (host.source, host.sink, host.accesses, host.answers):
        port.clear()
    await reset(dut)
    host.decoder, model = Decoder(), Model()
    await host.check(b"".join(random_requests(rng, 3, 0, 20)), model)
