"""Lines with faults: what they do, and that the machine behind them is never wrong in silence."""

import json

import pytest

from terngen.host.compile import default_config
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.device import Device
from terngen.host.errors import ConfigError, GateError, LinkError
from terngen.hw.contract import regs, wire
from terngen.hw.contract.regs import Reg
from terngen.hw.contract.wire import Frame, Type
from terngen.sim import soak
from terngen.sim.device import SimTransport
from terngen.sim.faults import KINDS, Faults, FaultyPipe
from terngen.sim.soak import soak_frames, soak_tokens, stored_tokens

TINY   = "tests/data/reference/tiny"
TOKENS = [3, 14, 15, 92, 65, 35]


class Echo:
    """Gives back what it got, at a time that a test chooses."""

    description = "echo"

    def __init__(self):
        self.now, self.got, self.closed = 0.0, bytearray(), False

    def clock(self):
        return self.now

    def send(self, octets):
        self.got += octets

    def receive(self, max_octets, timeout):
        self.now += timeout
        octets, self.got = self.got[:max_octets], self.got[max_octets:]
        return bytes(octets)

    def close(self):
        self.closed = True


def frames(count):
    return [wire.encode_frame(Frame(type=Type.WRITE, address=4 * index, length=8, payload=bytes([index % 256] * 8)))
            for index in range(count)]


def there(faults, sent):
    """What arrives at the other end when frames are sent one by one."""
    pipe = Echo()
    line = FaultyPipe(pipe, faults, clock=pipe.clock)
    for frame in sent:
        line.send(frame)
        pipe.now += 1e-5
    pipe.now += 1.0
    line.send(b"")
    return bytes(pipe.got), line


def test_sound_line():
    sent = frames(200)
    arrived, line = there(Faults(0.0), sent)
    assert arrived == b"".join(sent)
    assert line.frames == 200
    assert not line.counts


@pytest.mark.parametrize("kind, least, most", [
    ("flip", 0, 0), ("drop", -500, -1), ("insert", 1, 500), ("duplicate", 1, 10_000), ("reorder", -100, 0),
    ("stall", 0, 0), ("cut", -10_000, -1)])
def test_kinds(kind, least, most):
    """Each does its own, about as often as asked for, and the same each time."""
    sent    = frames(1000)
    octets  = b"".join(sent)
    faults  = Faults(0.003, seed=3, kinds=(kind,))
    arrived, line = there(faults, sent)
    assert there(faults, sent)[0] == arrived
    assert 0.6 < line.counts[kind] / (0.003 * len(octets)) < 1.4
    assert least <= len(arrived) - len(octets) <= most
    assert (arrived == octets) == (kind == "stall")
    if kind == "reorder":
        assert sorted(arrived.split(b"\0"))[-900:] == sorted(octets.split(b"\0"))[-900:]
    if kind == "duplicate":
        assert set(arrived.split(b"\0")) == set(octets.split(b"\0"))


def test_stall_holds_back():
    pipe = Echo()
    line = FaultyPipe(pipe, Faults(0.1, kinds=("stall",), stall=0.5), clock=pipe.clock)
    for frame in frames(3):
        line.send(frame)
    assert len(pipe.got) < len(b"".join(frames(3)))
    pipe.now = 2.0
    line.receive(0, 0.0)
    assert pipe.got == b"".join(frames(3))


def test_both_ways():
    pipe = Echo()
    line = FaultyPipe(pipe, Faults(0.01, kinds=("flip",)), clock=pipe.clock)
    pipe.got += bytes(10_000)
    assert line.receive(10_000, 0.0) != bytes(10_000)
    line.close()
    assert pipe.closed


@pytest.mark.parametrize("make, message", [
    (lambda: Faults(-0.1), "Rate of faults must be from 0 to 0.1 for each octet, not -0.1"),
    (lambda: Faults(float("nan")), "Rate of faults must be"),
    (lambda: Faults(0.1, kinds=()), "Faults must be flip, .* not ''"),
    (lambda: Faults(0.1, kinds=("flip", "burn")), "Faults must be flip, .* not 'burn'"),
    (lambda: Faults(0.1, stall=-1.0), "Stall must not be negative"),
    (lambda: Faults.parse("often"), "Rate of faults must be a number, not 'often'"),
])
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_parse():
    assert Faults.parse("1e-3") == Faults(1e-3, kinds=KINDS)
    assert Faults.parse("0.01:flip+cut") == Faults(0.01, kinds=("flip", "cut"))


def test_option_of_the_device(make_tape):
    with pytest.raises(ConfigError, match="Faults must be"):
        Device.open("sim", make_tape(TINY, slots=3), faults="0.1:burn")


@pytest.fixture(scope="module")
def config(root):
    return default_config(Checkpoint.open(root / TINY).geometry, slots=3)


@pytest.mark.parametrize("rate", [1e-3, 1e-4])
def test_frames(config, rate):
    """Nothing is wrong without a word, and no call takes 100 ms longer than a frame."""
    outcome = soak_frames(config, Faults(rate, seed=1), 5000)
    assert outcome["silent"] == 0
    assert outcome["frames"] >= 5000
    assert outcome["faults"] > 5
    assert outcome["resends"] > 0
    assert outcome["longest_seconds"] < 0.1


def test_frames_notices(config, monkeypatch):
    """A device that forgets a write is found out."""
    whole = SimTransport.write

    def forgetful(self, address, octets):
        if address != regs.TAPE_BASE + 1000 * self.config.beat_bytes:
            whole(self, address, octets if address < regs.TAPE_BASE or len(octets) < 128 else octets[:-64])

    monkeypatch.setattr(SimTransport, "write", forgetful)
    assert soak_frames(config, Faults(1e-4, seed=1), 2000)["silent"] > 0


def test_tokens(make_tape):
    """A thousand tokens, everything stalling, slots that come and go, a bad line: each value is right."""
    outcome = soak_tokens(make_tape(TINY, slots=3), Faults(1e-3, seed=2), 1000)
    assert outcome["wrong"] == 0
    assert outcome["tokens"] >= 1000
    assert outcome["values_compared"] > 1_000_000
    assert outcome["faults"] > 100


@pytest.fixture
def parts(monkeypatch):
    """Seeds of the parts that are played; a part takes no time."""
    played = []

    def part(tape, faults, tokens, progress):
        played.append(faults.seed)
        return {"rate": faults.rate, "tokens": tokens + 1, "slots": 3, "values_compared": 10, "wrong": 0, "frames": 5,
                "faults": 2, "kinds": {"drop": 1, "flip": 1}, "resends": 3, "seconds": 0.5}

    monkeypatch.setattr(soak, "soak_tokens", part)
    return played


def test_stored_tokens(make_tape, parts, tmp_path):
    """What was played counts, and is not played again; another rate, or other gateware, begins anew."""
    tape, store = make_tape(TINY, slots=3), tmp_path / "soak.json"
    row = stored_tokens(tape, Faults(1e-4, seed=7), 2000, store, "tiny")
    assert parts == [7, 8]
    assert (row["tokens"], row["seeds"], row["kinds"]) == (2002, [7, 8], {"drop": 2, "flip": 2})
    row = stored_tokens(tape, Faults(1e-4, seed=7), 3000, store, "tiny")
    assert parts == [7, 8, 9]
    assert (row["tokens"], row["values_compared"], row["seeds"]) == (3003, 30, [7, 9])
    assert stored_tokens(tape, Faults(1e-4, seed=7), 3000, store, "tiny") == row
    stored_tokens(tape, Faults(1e-3), 1000, store, "tiny")
    assert parts == [7, 8, 9, 0]
    assert json.loads(store.read_text())[0] == row
    store.write_text(store.read_text().replace(row["machine"], "another"))
    assert stored_tokens(tape, Faults(1e-4), 1000, store, "tiny")["tokens"] == 1001
    assert [each["rate"] for each in json.loads(store.read_text())] == [1e-3, 1e-4]


def test_stored_tokens_wrong(make_tape, parts, tmp_path, monkeypatch):
    """A part with a difference is not stored, and one can tell which it was."""
    tape, store = make_tape(TINY, slots=3), tmp_path / "soak.json"
    stored_tokens(tape, Faults(1e-4), 1000, store, "tiny")
    before = store.read_text()

    def wrong(*arguments):
        raise GateError("Values must equal the golden machine's, but one does not")

    monkeypatch.setattr(soak, "soak_tokens", wrong)
    with pytest.raises(GateError, match=r"^With seed 1: Values must equal "):
        stored_tokens(tape, Faults(1e-4), 2000, store, "tiny")
    assert store.read_text() == before


def test_stored_page(root):
    """The page says what is stored."""
    rows = json.loads((root / "docs/soak.json").read_text())
    text = (root / "docs/trust.md").read_text()
    assert soak.page(text, rows) == text
    assert not any(row["wrong"] for row in rows)
    assert "| 1,234,567 |" in soak.page(text, [{**rows[0], "tokens": 1234567}])


class Breaking:
    """A cable that is pulled after so many octets, either way."""

    def __init__(self, pipe, octets):
        self.pipe, self.left = pipe, octets

    description = "cable"

    def _carry(self, count):
        self.left -= count
        if self.left < 0:
            raise LinkError("cable is gone")

    def send(self, octets):
        while octets:
            part, octets = octets[:64], octets[64:]
            self._carry(len(part))
            self.pipe.send(part)

    def receive(self, max_octets, timeout):
        self._carry(0)
        octets = self.pipe.receive(max_octets, timeout)
        self._carry(len(octets))
        return octets

    def close(self):
        self.pipe.close()


def session(device):
    """All that the host sees of a sequence."""
    seen = []
    for place, token in enumerate(TOKENS):
        device.step({1: token}, reset=[1] if place == 0 else [])
        result = device.results(1)
        seen.append((result.tokens.tolist(), result.sums.tolist(), result.scale))
    return seen


@pytest.fixture(scope="module")
def answers(make_tape):
    with Device.open("golden", make_tape(TINY, slots=3)) as device:
        device.load()
        return session(device)


@pytest.fixture(scope="module")
def dialog(make_tape):
    """Octets both ways until the tape is loaded, and until the session is over."""
    tape      = make_tape(TINY, slots=3)
    transport = SimTransport(tape.config)
    transport._pipe = cable = Breaking(transport.pipe, 1 << 30)
    device = Device(transport, tape)
    device.load()
    loaded = (1 << 30) - cable.left
    session(device)
    device.close()
    return loaded, (1 << 30) - cable.left


@pytest.mark.parametrize("phase", [0.0, 0.001, 0.3, 0.999, 1.001, 1.3, 1.7, 1.999])
def test_cable_is_pulled(make_tape, answers, dialog, phase):
    """At any phase of a load (up to 1) and of a session (up to 2) there is an error for the one who waits; the next
    session loads what is missing, and all is well."""
    loaded, total = dialog
    tape      = make_tape(TINY, slots=3)
    transport = SimTransport(tape.config, seed=1)
    place     = phase * loaded if phase < 1 else loaded + (phase - 1) * (total - loaded)
    transport._pipe = Breaking(transport.pipe, int(place))

    def use():
        device = Device(transport, tape)
        device.load()
        session(device)

    with pytest.raises(LinkError, match="cable is gone"):
        use()
    with pytest.raises(LinkError, match="open it again"):
        transport.read(0, 4)
    transport._connect()
    device = Device(transport, tape)
    assert bool(device.complete()) == (phase < 1)
    assert session(device) == answers
    device.close()


class Impatient:
    """Somebody who presses Ctrl-C after so many looks for octets."""

    def __init__(self, pipe, looks):
        self.pipe, self.left = pipe, looks

    description = "simulated machine"

    def send(self, octets):
        self.pipe.send(octets)

    def receive(self, max_octets, timeout):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.pipe.receive(max_octets, timeout)

    def close(self):
        self.pipe.close()


@pytest.mark.parametrize("looks", [2, 6, 7, 8, 9, 50, 120])
def test_interrupt_stops(make_tape, answers, looks):
    """Ctrl-C while a machine makes ten thousand tokens by itself: from then on it does nothing at all, and is ready."""
    tape   = make_tape(TINY, slots=3)
    device = Device.open("sim", tape)
    device.load()
    transport = device.transport
    transport.trace()
    transport._pipe = Impatient(transport.pipe, looks)
    with pytest.raises(KeyboardInterrupt):
        for _ in device.decode({0: 1, 1: 2, 2: 3}, 10_000, reset=[0, 1, 2]):
            pass
    if looks > 7:
        assert len(transport.events()["op"]) > 0
    transport.events()
    transport.model.run(max_cycles=200_000)
    assert all(len(each) == 0 for each in transport.events().values())
    if looks < 6:       # before it had begun; the session is broken off
        device.abort()
    assert device._get(Reg.STATUS) == 0
    assert session(device) == answers
    device.close()


def test_power_cycle(make_tape, answers):
    """The memory has lost what it held, the machine what it did."""
    tape   = make_tape(TINY, slots=3)
    device = Device.open("sim", tape)
    device.load()
    device.step({1: 3}, reset=[1])
    transport = device.transport
    transport.model.memory_write(0, b"\xA5" * len(tape.image))
    transport.reset()
    device = Device(transport, tape)
    assert device.complete() == list(tape.sections)
    assert session(device) == answers
    device.close()


def test_scrub(make_tape, answers):
    """Between tokens a bit is found that has flipped, and only its section is loaded again."""
    tape   = make_tape(TINY, slots=3)
    device = Device.open("sim", tape)
    device.load()
    wanted = tape.sections[len(tape.sections) // 2]
    place  = (wanted.start + wanted.count // 2) * tape.config.beat_bytes
    seen   = []
    for index, token in enumerate(TOKENS):
        if index == 3:
            octet = device.transport.model.memory_read(place, 1)[0]
            device.transport.model.memory_write(place, bytes([octet ^ 4]))
            assert device.damaged() == [wanted]
            assert device.complete() == [wanted]
        assert device.damaged() == []
        device.step({1: token}, reset=[1] if index == 0 else [])
        result = device.results(1)
        seen.append((result.tokens.tolist(), result.sums.tolist(), result.scale))
    assert seen == answers
    device.close()
