"""The host's end of the link, against the model of the device's end, through a pipe with faults."""

import heapq
import itertools
import random

import pytest

from terngen.host.errors import LinkError
from terngen.host.link import FrameTransport
from terngen.hw.contract import wire
from terngen.hw.contract.wire import Fault, Frame, Type
from terngen.sim.endpoint import EndpointModel
from terngen.sim.faults import KINDS, Faults, FaultyPipe

#: Every write counts here; a second execution would be seen.
COUNTER = 0x60
#: Reading takes a while.
WAIT    = 0x24


class Memory:
    """What is behind the endpoint: words, and a register with an effect."""

    def __init__(self):
        self.words    = {}
        self.counter  = 0
        self.restarts = 0
        self.log      = []

    def read(self, address):
        self.log.append(("read", address))
        return self.words.get(address, 0)

    def write(self, address, word):
        self.log.append(("write", address))
        self.counter += address == COUNTER
        self.words[address] = word

    def restart(self):
        self.restarts += 1

    def octets(self, address, count):
        return b"".join(self.words.get(place, 0).to_bytes(4, "little")
                        for place in range(address, address + count, 4))


class ModelPipe:
    """A device behind a line that takes time; `spoil` may change what it carries to the device (0) and
    back (1).

    Time passes while the host waits, and is counted in :attr:`now`.
    """

    description = "model"

    def __init__(self, bus=None, *, spoil=lambda octets, direction: octets, latency=1e-3, octet_time=1e-6, slow=0.0):
        self.bus      = bus if bus is not None else Memory()
        self.endpoint = EndpointModel(self.bus)
        self.spoil    = spoil
        self.now      = 0.0
        self.sent     = 0               # octets
        self.closed   = 0
        self._latency, self._octet_time, self._slow = latency, octet_time, slow
        self._free    = [0.0, 0.0]      # when each direction is free again
        self._coming  = []              # heap of (time, number, octet)
        self._number  = itertools.count()
        self._ready   = 0.0             # when the device has done what it was asked

    def clock(self):
        return self.now

    def _carry(self, direction, start, octets):
        self._free[direction] = max(self._free[direction], start) + self._octet_time * len(octets)
        return self._free[direction]

    def send(self, octets):
        self.sent += len(octets)
        # One frame at a time, for the device takes its time for each.
        for piece in octets.split(b"\0"):
            arrival = self._carry(0, self.now, piece + b"\0") + self._latency
            reads   = len(self.bus.log)
            answer  = self.endpoint.feed(self.spoil(piece + b"\0", 0))
            waits   = ("read", WAIT) in self.bus.log[reads:]
            self._ready = max(self._ready, arrival) + (self._slow if waits else 0.0)
            if waits:
                self._slow = 0.0
            leave = self._carry(1, self._ready, answer) + self._latency
            for octet in self.spoil(answer, 1):
                heapq.heappush(self._coming, (leave, next(self._number), octet))

    def receive(self, max_octets, timeout):
        assert timeout >= 0
        until = self.now + timeout
        if not self._coming or self._coming[0][0] > until:
            self.now = max(until, self.now + 1e-9)
            return b""
        self.now = max(self.now, self._coming[0][0])
        octets = bytearray()
        while self._coming and self._coming[0][0] <= self.now and len(octets) < max_octets:
            octets.append(heapq.heappop(self._coming)[2])
        return bytes(octets)

    def close(self):
        self.closed += 1


def opened(pipe=None, **options):
    pipe = pipe if pipe is not None else ModelPipe()
    return pipe, FrameTransport(pipe, clock=pipe.clock, **options)


def behind_faults(faults, **options):
    """A device behind a line with faults; the line and the transport as well."""
    pipe = ModelPipe()
    line = FaultyPipe(pipe, faults, clock=pipe.clock)
    return pipe, line, FrameTransport(line, clock=pipe.clock, **options)


@pytest.mark.parametrize("octets", [0, 4, 1020, 1024, 1028, 5000])
def test_write_and_read(octets):
    pipe, transport = opened()
    data = random.Random(octets).randbytes(octets)
    transport.write(0x8000_0000, data)
    assert pipe.bus.octets(0x8000_0000, octets) == data
    assert transport.read(0x8000_0000, octets) == data
    words = list(range(0x8000_0000, 0x8000_0000 + octets, 4))
    assert pipe.bus.log == [("write", word) for word in words] + [("read", word) for word in words]
    assert (transport.resends, transport.drops, transport.stale, pipe.bus.restarts) == (0, 0, 0, 1)


def test_window():
    """On a long line several frames are on their way; no more than the window."""
    data, times = bytes(64 << 10), []
    for window in (1, 2, 8):
        pipe, transport = opened(ModelPipe(latency=5e-3), window=window)
        transport.write(0, data)
        times.append(pipe.now)
        assert transport.resends == 0
    frame = wire.MAX_ENCODED * 1e-6
    assert times[0] == pytest.approx(65 * (2 * 5e-3 + frame), rel=0.05)
    assert times[0] / times[1] == pytest.approx(2, rel=0.1)
    assert times[0] / times[2] == pytest.approx(8, rel=0.2)


def test_payload_efficiency():
    """At least 90 % of the line carries payload."""
    pipe, transport = opened(ModelPipe(latency=0.5e-3))
    start = pipe.now
    transport.write(0, bytes(256 << 10))
    assert (256 << 10) * 1e-6 / (pipe.now - start) > 0.97


@pytest.mark.parametrize("rate, octets", [(1e-4, 20_000), (1e-3, 6_000)])
@pytest.mark.parametrize("kinds", [("flip",), ("drop",), ("insert",), ("duplicate", "reorder"), KINDS])
@pytest.mark.parametrize("seed", [1, 2])
def test_faults_are_survived(rate, octets, kinds, seed):
    """Every word arrives, and every write is made once, however the line behaves."""
    pipe, line, transport = behind_faults(Faults(rate, seed=10 * seed, kinds=kinds), timeout=10.0)
    rng, expected = random.Random(seed), {}
    for count in range(1, 40):
        address = 0x8000_0000 + 4 * rng.randrange(1 << 16)
        data = rng.randbytes(4 * rng.randrange(1, octets // 80))
        transport.write(address, data)
        for index in range(0, len(data), 4):
            expected[address + index] = int.from_bytes(data[index:index + 4], "little")
        transport.write(COUNTER, b"\1\0\0\0")
        assert pipe.bus.counter == count
        assert transport.read(address, len(data)) == data
    pipe.bus.words.pop(COUNTER)
    assert pipe.bus.words == expected
    assert line.counts.total() > 0
    assert pipe.bus.restarts == 1


@pytest.mark.parametrize("seed", range(20))
def test_faults_are_never_silent(seed):
    """On a line on which hardly a frame survives: the right octets or an error, in bounded time."""
    pipe, _, transport = behind_faults(Faults(5e-3, seed=seed))
    rng = random.Random(seed)
    for count in range(1, 30):
        data, start = rng.randbytes(4 * rng.randrange(1, 200)), pipe.now
        try:
            transport.write(0x8000_0000, data)
            transport.write(COUNTER, b"\1\0\0\0")
            assert pipe.bus.counter == count
            assert transport.read(0x8000_0000, len(data)) == data
        except LinkError:
            assert pipe.now - start < 30
            break


@pytest.mark.parametrize("kind", ["requests", "answers"])
def test_one_lost_frame(kind):
    """It costs as little as the window, and no waiting where a later frame tells of it."""
    lost = []

    def spoil(octets, direction):
        frames = wire.Decoder().feed(octets)
        wanted = Type.WRITE if kind == "requests" else Type.WRITE_REPLY
        if frames and frames[0].type is wanted and frames[0].address == 2048 and not lost:
            lost.append(octets)
            return b""
        return octets

    pipe, transport = opened(ModelPipe(spoil=spoil))
    start = pipe.now
    transport.write(0, bytes(range(256)) * 32)
    assert pipe.bus.octets(0, 8192) == bytes(range(256)) * 32
    assert len(pipe.bus.log) == 2048
    assert lost
    if kind == "answers":
        assert transport.resends == 0       # the answer to a later write says it all
    else:
        assert 1 <= transport.resends <= 4
    assert pipe.now - start < 0.05


def test_silence():
    pipe, transport = opened()
    pipe.spoil, start = (lambda octets, direction: b""), pipe.now
    with pytest.raises(LinkError, match=r"^model has not answered a WRITE of 8 octets at 0x00000040 within "
                                        r"2\.0 s: \d+ frames were sent again, 0 came back spoilt$"):
        transport.write(0x40, bytes(8))
    assert pipe.now - start == pytest.approx(2.0)
    assert 5 <= transport.resends <= 30
    with pytest.raises(LinkError, match=r"^Session with model must be open, but it has not answered a WRITE "
                                        r".*; open it again$"):
        transport.read(0, 4)


def test_babble():
    """A device that never stops talking does not keep the host, or fill its memory or its line."""
    pipe, transport = opened()
    rng, sent = random.Random(1), pipe.sent

    def receive(max_octets, timeout):
        pipe.now += 1e-3
        return rng.randbytes(1000)

    pipe.receive = receive
    start = pipe.now
    with pytest.raises(LinkError, match=r"\d{3,} came back spoilt$"):
        transport.write(0x40, bytes(8))
    assert pipe.now - start < 2.1
    assert pipe.sent - sent < 2000


def test_nobody_there():
    with pytest.raises(LinkError, match=r"^model has not answered a HELLO of 0 octets at 0x00000000 within "):
        opened(ModelPipe(spoil=lambda octets, direction: b""))


def test_a_read_may_wait():
    """Asking again while a register lets its reader wait does not pile up requests."""
    pipe, transport = opened(ModelPipe(slow=300.0))
    pipe.bus.words[WAIT] = 2
    with pytest.raises(ValueError, match="^Timeout must be positive"):
        transport.read(WAIT, 4, timeout=0)
    start = pipe.now
    assert transport.read(WAIT, 4, timeout=1000.0) == b"\2\0\0\0"
    assert 300 < pipe.now - start < 301
    assert transport.resends < 60
    assert transport.read(0x40, 4) == bytes(4)
    assert transport.write(0x40, b"abcd") is None
    assert transport.stale > 0


def test_another_host():
    """Two hosts never mix: the first learns that it has lost the device."""
    pipe, first = opened()
    second = FrameTransport(pipe, clock=pipe.clock)
    while second._generation == first._generation:
        second = FrameTransport(pipe, clock=pipe.clock)
    second.write(0x40, b"1234")
    with pytest.raises(LinkError, match=r"^model has ended this session: it was reset, or another host "):
        first.write(0x40, b"5678")
    assert second.read(0x40, 4) == b"1234"


def test_device_was_reset():
    pipe, transport = opened()
    pipe.endpoint = EndpointModel(pipe.bus)
    with pytest.raises(LinkError, match=r"^model has ended this session: "):
        transport.read(0x40, 4)


@pytest.mark.parametrize("fault, message", [
    (Fault.VERSION, r"^model speaks version 2 of the link, not 1$"),
    (Fault.TYPE,    r"^model does not know a READ of 4 octets at 0x00000040$"),
    (Fault.ADDRESS, r"^model refuses a READ of 4 octets at 0x00000040: addresses are multiples of four$"),
    (Fault.LENGTH,  r"^model refuses a READ of 4 octets at 0x00000040: lengths are multiples of four up "),
])
def test_refused(fault, message):
    pipe, transport = opened()

    def answer(octets, direction):
        frames = wire.Decoder().feed(octets)
        if not frames or frames[0].type is not Type.READ_REPLY:
            return octets
        return wire.encode_frame(Frame(type=Type.ERROR, fault=fault, generation=frames[0].generation,
                                       sequence=frames[0].sequence,
                                       version=2 if fault is Fault.VERSION else 1))

    pipe.spoil = answer
    with pytest.raises(LinkError, match=message):
        transport.read(0x40, 4)


@pytest.mark.parametrize("change", [{"generation": 1}, {"sequence": 1}, {"address": 4}, {"type": Type.WRITE_REPLY},
                                    {"payload": bytes(8)}, {"type": Type.READ}])
def test_answers_to_something_else(change):
    """Intact frames that answer another request are not taken for the answer."""
    pipe, transport = opened()
    pipe.bus.words[0x40] = 0x12345678
    done = []

    def precede(octets, direction):
        frames = wire.Decoder().feed(octets)
        if not frames or frames[0].type is not Type.READ_REPLY or done:
            return octets
        done.append(1)
        frame  = frames[0]
        fields = {"type": frame.type, "generation": frame.generation, "sequence": frame.sequence,
                  "address": frame.address, "payload": bytes(4)} | change
        for name in ("generation", "sequence", "address"):
            if name in change:
                fields[name] = (getattr(frame, name) + change[name]) % 256
        if fields["type"] is not Type.READ_REPLY:
            fields["payload"] = b""
        return wire.encode_frame(Frame(length=len(fields["payload"]), **fields)) + octets

    pipe.spoil = precede
    assert transport.read(0x40, 4) == (0x12345678).to_bytes(4, "little")
    assert done
    assert transport.stale == 1


def test_interrupted():
    """After Ctrl-C in the middle nobody knows what was executed; a new session does."""
    pipe, transport = opened()
    receive, count = pipe.receive, itertools.count()

    def interrupted(max_octets, timeout):
        if next(count) == 3:
            raise KeyboardInterrupt
        return receive(max_octets, timeout)

    pipe.receive = interrupted
    with pytest.raises(KeyboardInterrupt):
        transport.write(0, bytes(20_000))
    with pytest.raises(LinkError, match=r"must be open, but an exchange was broken off; open it again$"):
        transport.write(0, bytes(4))
    transport.abort()
    transport.write(0, b"abcd" * 1000)
    assert transport.read(0, 4000) == b"abcd" * 1000
    assert pipe.bus.restarts == 2


@pytest.mark.parametrize("start", [65_530, 65_535, 32_760])
def test_numbers_wrap(start, monkeypatch):
    """After 65535 comes 0, and the device goes along; half of the numbers is no limit either."""
    monkeypatch.setattr(random.SystemRandom, "randrange", lambda self, limit: start % limit)
    pipe, transport = opened()
    assert transport._sequence == (start + 1) % 65536
    for count in range(1, 40):
        transport.write(COUNTER, b"\0\0\0\0")
        assert pipe.bus.counter == count
    assert (transport.resends, transport.stale, pipe.bus.restarts) == (0, 0, 1)


def test_close():
    pipe, transport = opened()
    transport.close()
    transport.close()
    assert pipe.closed == 2
    assert transport.description == "model"
    with pytest.raises(LinkError, match=r"^Session with model must be open, but it was closed; open it again$"):
        transport.read(0, 4)


@pytest.mark.parametrize("call, message", [
    (lambda t: t.read(2, 4),            r"^Address and number of octets must be multiples of four, not 0x2 and 4$"),
    (lambda t: t.write(4, b"12345"),    r"^Address and number of octets must be multiples of four, not 0x4 and 5$"),
    (lambda t: t.read(0xFFFF_FFFC, 8),  r"^Octets must lie within the 32-bit address space, not from 0xfffffffc "),
    (lambda t: t.read(-4, 8),           r"^Octets must lie within the 32-bit address space, not from -0x4 "),
    (lambda t: t.read(0, -4),           r"^Octets must lie within the 32-bit address space, not from 0x0 "),
])
def test_access_wrong(call, message):
    pipe, transport = opened()
    with pytest.raises(ValueError, match=message):
        call(transport)
    assert pipe.bus.log == []
    transport.read(0, 4)


@pytest.mark.parametrize("options, message", [
    ({"window": 0},                    r"^Window must be from 1 to 1024 requests, not 0$"),
    ({"patience": 0},                  r"^Patience must be positive and at most the timeout \(2\.0 s\), not 0 s$"),
    ({"patience": 3.0},                r"^Patience must be positive and at most the timeout "),
])
def test_options_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        opened(**options)
