"""The driver, on the golden machine and on transports that misbehave."""

import dataclasses

import numpy as np
import pytest

from terngen.host.device import Counters, Device, Result, devices
from terngen.host.errors import ConfigError, DeviceError, InputError, LinkError
from terngen.host.sampling import Sampling
from terngen.hw.contract import regs
from terngen.hw.contract.config import Config
from terngen.hw.contract.regs import Reg
from terngen.hw.contract.tape import Mark
from terngen.sim.device import GoldenTransport


class Wrapped:
    """A golden machine that is looked at, or lied about."""

    description = "wrapped machine"

    def __init__(self, config):
        self.inner  = GoldenTransport(config)
        self.writes = []                # (address, octets)
        self.forged = {}                # by address
        self.aborted = self.closed = 0

    def read(self, address, octets, *, timeout=None):
        answer = self.inner.read(address, octets)
        return self.forged.get(address, answer)[:octets]

    def write(self, address, octets):
        self.writes.append((address, len(octets)))
        self.inner.write(address, octets)

    def abort(self):
        self.aborted += 1
        self.inner.abort()

    def close(self):
        self.closed += 1


@pytest.fixture
def wrapped(slotted):
    return Wrapped(slotted.config)


@pytest.fixture
def device(slotted):
    with Device.open("golden", slotted) as device:
        device.load()
        yield device


def top(device, slot):
    result = device.results(slot)
    return result.tokens.tolist(), result.sums.tolist(), result.scale


# Opening.

def test_kinds():
    assert devices() == ["golden", "mmap", "serial", "sim"]


def test_unknown_kind(slotted):
    with pytest.raises(ConfigError, match=r"^There is no device 'usb'; there are golden, mmap, serial, sim$"):
        Device.open("usb:1", slotted)


def test_unknown_option(slotted):
    with pytest.raises(ConfigError, match=r"^Golden machine has no option 'memory'$"):
        Device.open("golden", slotted, memory="latency=3")
    with pytest.raises(ConfigError, match=r"^Golden machine has no option 'place'$"):
        Device.open("golden:here", slotted)


@pytest.mark.parametrize("address, octets, error, message", [
    (Reg.MAGIC, b"GNRT", DeviceError, r"^wrapped machine is not a terngen machine: it answers 0x54524e47, not "
                                      r"0x4e524554$"),
    (Reg.VERSION, b"\1\0\0\0", DeviceError, r"^wrapped machine has registers of version 1, this program knows "
                                            r"version 4; generate the machine again$"),
    (Reg.DIGEST, bytes(range(16)), ConfigError, r"^Machine was generated for configuration "
                                                r"000102030405060708090a0b0c0d0e0f, the tape for [0-9a-f]{32}; rebuild "
                                                r"one of them$"),
])
def test_not_the_machine(slotted, wrapped, address, octets, error, message):
    """Nothing is written to a machine that is not the one of the tape."""
    wrapped.forged[address.value] = octets
    with pytest.raises(error, match=message) as caught:
        Device(wrapped, slotted)
    assert caught.value.exit_code == (4 if error is ConfigError else 7)
    assert wrapped.writes == []


def test_other_digest(slotted):
    other = GoldenTransport(dataclasses.replace(slotted.config, prefetch=128))
    with pytest.raises(ConfigError, match=rf"^Machine was generated for configuration {other.config.digest.hex()}, "
                                          rf"the tape for {slotted.config.digest.hex()}; rebuild one of them$"):
        Device(other, slotted)


def test_closed_when_refused(slotted, monkeypatch):
    """A device that turns out to be the wrong one is let go of."""
    opened = []

    def lie(config, **options):
        opened.append(Wrapped(Config(slots=2)))
        return opened[0]

    monkeypatch.setattr(GoldenTransport, "open", lie)
    with pytest.raises(ConfigError, match="^Machine was generated for configuration "):
        Device.open("golden", slotted)
    assert opened[0].closed == 1


# Loading.

def test_load(slotted, wrapped):
    device, seen = Device(wrapped, slotted), []
    device.load(lambda *progress: seen.append(progress))
    size = len(slotted.image)
    assert bytes(wrapped.inner.machine.image) == bytes(slotted.image)
    assert seen == [(size, size)]       # one piece
    assert [address for address, _ in wrapped.writes] == [regs.TAPE_BASE]
    device.step({0: 5}, reset=[0])
    assert wrapped.inner.read(Reg.HIDDEN.value, 8) == bytes([64, 0, 0, 0, 128, 0, 0, 0])


def test_load_odd_octets(slotted, wrapped):
    """An image that does not fill words is filled up."""
    short  = dataclasses.replace(slotted, image=slotted.image[:4098])
    device = Device(wrapped, short)
    device.load()
    assert wrapped.writes[0] == (regs.TAPE_BASE, 4100)
    assert bytes(wrapped.inner.machine.image) == bytes(slotted.image[:4098]) + bytes(2)


def test_load_is_resumed(slotted, monkeypatch):
    """After a link that broke in the middle, loading goes on where it was, in another session."""
    monkeypatch.setattr("terngen.host.device._CHUNK", 4096)
    device, seen = Device.open("golden", slotted), []

    class Torn(Wrapped):
        def write(self, address, octets):
            if address == regs.TAPE_BASE + 5 * 4096:
                raise LinkError("gone")
            super().write(address, octets)

    torn = Torn(slotted.config)
    with pytest.raises(LinkError, match="^gone$"):
        Device(torn, slotted).load(lambda done, total: seen.append(done))
    assert seen[-1] == 5 * 4096
    again = Wrapped(slotted.config)
    again.inner = torn.inner            # the same machine
    resumed = Device(again, slotted)
    resumed.load(start=seen[-1])
    assert again.writes[0] == (regs.TAPE_BASE + 5 * 4096, 4096)
    assert bytes(again.inner.machine.image) == bytes(slotted.image)
    device.load()
    for one in (device, resumed):
        one.step({0: 5}, reset=[0])
    assert top(device, 0) == top(resumed, 0)


@pytest.mark.parametrize("start", [-4, 2, 1 << 30])
def test_load_start_wrong(slotted, wrapped, start):
    with pytest.raises(ValueError, match=rf"^Start must be a multiple of four up to {len(slotted.image)}, not "):
        Device(wrapped, slotted).load(start=start)
    assert wrapped.writes == []


def test_tape_too_large(slotted, wrapped, monkeypatch):
    monkeypatch.setattr(regs, "TAPE_BYTES", 1000)
    with pytest.raises(ConfigError, match=rf"^Tape has {len(slotted.image)} octets, a device at most 1000$"):
        Device(wrapped, slotted).load()
    assert wrapped.writes == []


# Steps.

def test_step_and_results(device, slotted):
    """Best first, equal sums in the order of tokens, logits as the whole head gives them."""
    counters = device.step({0: 5, 2: 9}, reset=[0, 2])
    found    = {slot: device.results(slot) for slot in (0, 2)}
    logits   = device.logits({0: 5, 2: 9}, reset=[0, 2])
    for slot, result in found.items():
        order = np.argsort(-logits[slot], kind="stable")[:slotted.config.top_k]
        assert result.tokens.tolist() == order.tolist()
        np.testing.assert_allclose(result.logits, logits[slot][order], rtol=1e-6)
    marks = slotted.marks
    assert counters == Counters(cycles=0, beats=2 * slotted.model["embedding_beats"] + marks["layers"].count
                                + marks["head"].count, stall_tape=0, stall_array=0, stall_vector=0)


def test_step_is_layers_and_head(device):
    """The parts of the tape, one after the other, do what a step does."""
    device.step({0: 5}, reset=[0])
    whole = top(device, 0)
    device.step({0: 5}, reset=[0], head=False)
    device.play("head", [0])
    assert top(device, 0) == whole
    logits = device.logits({0: 5}, reset=[0])[0]
    assert logits.dtype == np.float32
    assert logits.shape == (128,)
    assert logits.argmax() == whole[0][0]


def test_state_is_kept_and_reset(device):
    """A sequence goes on until it is reset, and then is as the first."""
    def told(reset):
        found = []
        for place, token in enumerate([5, 9, 77]):
            device.step({1: token}, reset=[1] if reset and place == 0 else [])
            found.append(top(device, 1))
        return found

    first = told(reset=True)
    assert told(reset=False) != first
    assert told(reset=True) == first


def test_forget(device, slotted):
    """Another tape in the memory is another model at once; what was decoded is forgotten."""
    device.step({0: 5}, reset=[0])
    before = top(device, 0)
    image  = np.array(slotted.image)
    image[-1016:-16] = image[-1016:-16][::-1]       # trits of the head; after them comes LOGITS
    other  = Device(device.transport, dataclasses.replace(slotted, image=image))
    other.load()
    other.step({0: 5}, reset=[0])
    assert top(other, 0) != before
    device.load()
    device.step({0: 5}, reset=[0])
    assert top(device, 0) == before


def test_reset_of_the_machine(device):
    """After a reset in the middle of a sequence, the machine is as new; the memory is not touched."""
    device.step({0: 5}, reset=[0])
    first = top(device, 0)
    device.step({0: 6, 1: 7}, reset=[1])
    device.transport.reset()
    device.load()
    device.step({0: 5})
    assert top(device, 0) == first


@pytest.mark.parametrize("tokens, error, message", [
    ({0: 128},  InputError, r"^Token must be from 0 to 127, not 128$"),
    ({0: -1},   InputError, r"^Token must be from 0 to 127, not -1$"),
    ({3: 1},    ValueError, r"^Slots must be from 0 to 2, not \[3\]$"),
    ({-1: 1},   ValueError, r"^Slots must be from 0 to 2, not \[-1\]$"),
    ({},        ValueError, r"^Slots must be from 0 to 2, not \[\]$"),
])
def test_step_wrong(slotted, wrapped, tokens, error, message):
    device = Device(wrapped, slotted)
    with pytest.raises(error, match=message):
        device.step(tokens)
    with pytest.raises(error, match=message):
        device.logits(tokens)
    assert wrapped.writes == []


def one_by_one(device, tokens, slot=0):
    """Give a sequence to one slot, a token in a step."""
    for place, token in enumerate(tokens):
        device.step({slot: token}, reset=[slot] if place == 0 else [])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
def test_prefill(device, count):
    """Many tokens in a pass leave the state that one after the other leave; other slots keep theirs."""
    tokens = [5, 9, 77, 31, 5, 0, 127, 2][:count + 1]
    one_by_one(device, [8, 9, 10], slot=2)
    device.step({2: 11})
    other = top(device, 2)
    one_by_one(device, tokens, slot=1)
    expected = top(device, 1)

    one_by_one(device, [8, 9, 10], slot=2)
    passes = device.prefill(tokens[:-1], state=1)
    assert len(passes) == -(-count // 3)
    device.step({1: tokens[-1]}, reset=[] if count else [1])
    assert top(device, 1) == expected
    device.step({2: 11})
    assert top(device, 2) == other


def test_prefill_goes_on(device):
    """A sequence that has begun takes more tokens."""
    one_by_one(device, [5, 9, 77, 31, 5])
    expected = top(device, 0)
    device.prefill([5, 9])
    device.prefill([77, 31], reset=False)
    device.step({0: 5})
    assert top(device, 0) == expected


def test_state_begins_in_the_middle(device):
    """In one pass a sequence ends in one slot, and another begins in the next one on the same state."""
    one_by_one(device, [7, 8])
    expected = top(device, 0)
    device.step({0: 3}, reset=[0])
    device.step({0: 4, 1: 7, 2: 8}, reset=[1], states={0: 0, 1: 0, 2: 0})
    assert top(device, 2) == expected


def test_decode(device):
    """What the machine makes by itself is what it makes when the host gives each token back."""
    expected, tokens = [], {0: 5, 2: 9}
    for step in range(6):
        device.step(tokens, reset=[0, 2] if step == 0 else [])
        tokens = {slot: top(device, slot)[0][0] for slot in tokens}
        expected.append(tokens)
    assert list(device.decode({0: 5, 2: 9}, 6, reset=[0, 2])) == expected
    [counters] = device.counters
    assert counters.beats > 0
    # The state is that of a sequence which goes on.
    device.step(expected[-1])
    after = top(device, 0)
    one_by_one(device, [5, *(tokens[0] for tokens in expected)])
    assert top(device, 0) == after


def test_decode_in_runs(slotted):
    """More tokens than the machine can make by itself are several runs."""
    short = dataclasses.replace(slotted, config=dataclasses.replace(slotted.config, history=4))
    found = []
    for tape in (slotted, short):
        with Device.open("golden", tape) as device:
            device.load()
            found.append(list(device.decode({1: 5}, 10, reset=[1])))
            assert len(device.counters) == (1 if tape is slotted else 3)
    assert found[0] == found[1]
    assert len(found[0]) == 10


def chosen(device, tokens, count, sampling, stop=None):
    """What :meth:`Device.decode` should give: the host makes every step, and chooses."""
    made, reset = [], list(tokens)
    for _ in range(count):
        device.step(tokens, reset=reset)
        tokens, reset = {slot: sampling[slot].choose(device.results(slot)) for slot in tokens}, []
        made.append(tokens)
        tokens = {slot: token for slot, token in tokens.items() if token != stop}
        if not tokens:
            break
    return made


def samplings():
    """Of three slots: two that draw, each in its way, and one that takes the best."""
    return {0: Sampling(temperature=1.5, seed=3), 1: Sampling(), 2: Sampling(temperature=0.7, top_k=3, seed=4)}


def test_decode_draws(device):
    """Each slot draws in its own way, what the host would have drawn; and a text that goes on later goes on so."""
    tokens   = {0: 5, 1: 9, 2: 5}
    expected = chosen(device, tokens, 12, samplings())
    again    = samplings()
    made     = list(device.decode(tokens, 5, reset=[0, 1, 2], sampling=again))
    made    += device.decode(made[-1], 7, sampling=again)
    assert made == expected
    best = list(device.decode(tokens, 12, reset=[0, 1, 2]))
    assert [step[1] for step in best] == [step[1] for step in expected]
    for slot in (0, 2):
        assert [step[slot] for step in best] != [step[slot] for step in expected]
    # One by one they draw the same.
    for slot in tokens:
        alone = list(device.decode({slot: tokens[slot]}, 12, reset=[slot], sampling=samplings()))
        assert [step[slot] for step in alone] == [step[slot] for step in expected]


def test_decode_draws_and_stops(device):
    """What is drawn ends a text, and the slot draws no more."""
    tokens = {0: 5, 2: 9}
    stop   = chosen(device, tokens, 12, samplings())[4][0]
    assert list(device.decode(tokens, 12, reset=[0, 2], stop=stop, sampling=samplings())) \
        == chosen(device, tokens, 12, samplings(), stop)


def test_decode_draws_in_runs(slotted):
    short = dataclasses.replace(slotted, config=dataclasses.replace(slotted.config, history=4))
    found = []
    for tape in (slotted, short):
        with Device.open("golden", tape) as device:
            device.load()
            found.append(list(device.decode({0: 5, 1: 5}, 10, reset=[0, 1], sampling=samplings())))
    assert found[0] == found[1]


def test_decode_draws_given_up(device):
    """Whoever wants no more has drawn what came, and nothing else."""
    expected, drawing = chosen(device, {0: 5}, 4, samplings()), samplings()
    run = device.decode({0: 5}, 6, reset=[0], sampling=drawing)
    assert [next(run), next(run)] == expected[:2]
    run.close()
    device.step({0: 5}, reset=[0])
    device.step(expected[0])
    assert list(device.decode(expected[1], 2, sampling=drawing)) == expected[2:]


def test_nothing_to_draw(slotted):
    """A machine of one candidate says so; it takes the best."""
    tape = dataclasses.replace(slotted, config=dataclasses.replace(slotted.config, top_k=1))
    with Device.open("golden", tape) as device:
        device.load()
        with pytest.raises(ConfigError, match=r"^Machine keeps one candidate for each slot, which leaves noth"):
            list(device.decode({0: 5}, 3, reset=[0], sampling={0: Sampling(temperature=1.0)}))
        assert len(list(device.decode({0: 5}, 3, reset=[0], sampling={0: Sampling()}))) == 3


def test_decode_stops(device):
    """A slot leaves after the token that ends its text; the run ends with the last one."""
    free = list(device.decode({0: 5, 1: 9}, 12, reset=[0, 1]))
    stop = free[3][0]
    made = list(device.decode({0: 5, 1: 9}, 12, reset=[0, 1], stop=stop))
    for slot in (0, 1):
        alone = [tokens[slot] for tokens in free]
        until = alone.index(stop) + 1 if stop in alone else len(alone)
        assert [tokens[slot] for tokens in made if slot in tokens] == alone[:until]


def test_decode_given_up(device):
    """Whoever wants no more finds a machine that is ready."""
    expected = list(device.decode({0: 5}, 1, reset=[0]))
    for tokens in device.decode({0: 5}, 6, reset=[0]):
        assert tokens == expected[0]
        break
    assert list(device.decode({0: 5}, 1, reset=[0])) == expected


def test_decode_is_interrupted(device):
    """Another step in the middle of a run: the run ends first, and its tokens are not lost."""
    expected = list(device.decode({0: 5}, 6, reset=[0]))
    found    = []
    for tokens in device.decode({0: 5}, 6, reset=[0]):
        found.append(tokens)
        if len(found) == 2:
            device.step({1: 9}, reset=[1])
            other = top(device, 1)
    assert found == expected
    device.step({1: 9}, reset=[1])
    assert top(device, 1) == other


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("place", ["token", "end"])
def test_abort(slotted, wrapped, place, exception, monkeypatch):
    """Who does not want to wait stops the machine, and may go on with it; nothing else comes of it."""
    with Device(wrapped, slotted) as device:
        device.load()
        expected = list(device.decode({0: 5}, 6, reset=[0]))
        read, address = wrapped.read, Reg.WAIT.value if place == "end" else regs.history_address(device.config, 2, 0)

        def interrupted(where, octets, *, timeout=None):
            if where == address:
                monkeypatch.undo()
                raise exception
            return read(where, octets)

        monkeypatch.setattr(wrapped, "read", interrupted)
        found = []
        with pytest.raises(exception):
            found.extend(device.decode({0: 5}, 6, reset=[0]))
        assert found == expected[:6 if place == "end" else 2]
        assert wrapped.aborted == 1
        assert list(device.decode({0: 5}, 6, reset=[0])) == expected
    assert wrapped.aborted == 1


def test_close_stops(slotted, wrapped):
    """Who leaves in the middle of a run leaves a machine that stands still."""
    device = Device(wrapped, slotted)
    device.load()
    run = device.decode({0: 5}, 6, reset=[0])
    next(run)
    device.close()
    assert (wrapped.aborted, wrapped.closed) == (1, 1)
    run.close()
    with Device(wrapped, slotted) as device:
        assert len(list(device.decode({0: 5}, 6, reset=[0]))) == 6
    assert wrapped.aborted == 1


def test_nobody_to_stop(slotted, wrapped):
    """A link that is gone is not asked again."""
    def gone(address, octets, *, timeout=None):
        raise LinkError("cable")

    with Device(wrapped, slotted) as device:
        device.load()
        wrapped.read = gone
        with pytest.raises(LinkError, match="cable"):
            device.step({0: 1}, reset=[0])
    assert (wrapped.aborted, wrapped.closed) == (0, 1)


def test_states_wrong(slotted, wrapped):
    with pytest.raises(ValueError, match=r"^States must be from 0 to 2, not \[3\]$"):
        Device(wrapped, slotted).step({0: 1}, states={0: 3})
    assert wrapped.writes == []


def test_verify(slotted):
    """The memory is what was loaded, and then it is not."""
    with Device.open("golden", slotted) as device:
        with pytest.raises(DeviceError, match=r"^Memory of golden machine must hold the tape, but does not in emb"):
            device.verify()
        device.load()
        device.verify()
        counters = device.step({0: 1}, reset=[0])
        section  = slotted.sections[-1]
        place    = (section.start + section.count - 1) * slotted.config.beat_bytes
        octets   = slotted.image[place:place + 4] ^ 1
        device.transport.write(regs.TAPE_BASE + place, octets.tobytes())
        with pytest.raises(DeviceError, match=rf"^Memory of .*, but does not in {section.name}; load the tape again$"):
            device.verify()
        device.load()
        device.verify()
        assert device.step({0: 1}, reset=[0]) == counters


def test_ping(slotted, wrapped):
    """A machine that is there says so, in the middle of a run as well."""
    device = Device(wrapped, slotted)
    device.load()
    run = device.decode({0: 5}, 4, reset=[0])
    made = [next(run)]
    device.ping()
    assert len([*made, *run]) == 4
    wrapped.forged[Reg.MAGIC.value] = bytes(4)
    with pytest.raises(DeviceError, match=r"^wrapped machine is no terngen machine any more: it answers 0x00000000$"):
        device.ping()


def test_logits_of_some(device):
    """Consecutive tokens of a sequence, and another one, in a pass: logits of whom one wants, candidates of all."""
    one_by_one(device, [5, 9])
    first = top(device, 0)
    one_by_one(device, [7])
    other = top(device, 0)
    whole = device.logits({0: 7}, reset=[0])[0]
    logits = device.logits({0: 5, 1: 7, 2: 9}, reset=[0, 1], states={0: 0, 1: 1, 2: 0}, wanted=[1])
    assert logits.keys() == {1}
    assert (logits[1] == whole).all()
    assert top(device, 1) == other
    assert top(device, 2) == first
    total = Counters.total(device.counters)
    assert total == device.step({0: 5, 1: 7, 2: 9}, reset=[0, 1], states={0: 0, 1: 1, 2: 0})


def test_fault(slotted):
    """A machine that meets something else than a descriptor stops, and says so."""
    device = Device.open("golden", dataclasses.replace(slotted, marks={**slotted.marks, "noise": Mark(0, 100)}))
    device.load()
    with pytest.raises(DeviceError, match=r"^golden machine met a descriptor that makes no sense to it; load the tape "
                                          r"again$"):
        device.play("noise", [0])


def test_no_candidates(slotted, wrapped):
    wrapped.forged[regs.result_address(1)] = b"\xff" * 4 * 17
    with pytest.raises(DeviceError, match=r"^wrapped machine has no candidates for slot 1; a step with the head "
                                          r"must come first$"):
        Device(wrapped, slotted).results(1)


def test_candidates_that_are_none(slotted, wrapped):
    """Fewer tokens than candidates: the rest is not offered."""
    words = np.array([1 << 17, 7, 100, 3, -5 & 0xFFFFFFFF] + [0xFFFF_FFFF, 0x8000_0000] * 6, "<u4")
    wrapped.forged[regs.result_address(0)] = words.tobytes()
    result = Device(wrapped, slotted).results(0)
    assert result.tokens.tolist() == [7, 3]
    assert result.sums.tolist() == [100, -5]


def test_counters():
    steps = [Counters(10, 5, 1, 2, 3), Counters(20, 6, 0, 1, 0)]
    assert Counters.total(steps) == Counters(30, 11, 1, 3, 3)
    assert Counters.total([]) == Counters(0, 0, 0, 0, 0)


def test_result_logits():
    result = Result(np.array([4, 2]), np.array([10, -3]), 0.5)
    assert result.logits.tolist() == [5.0, -1.5]


def test_complete(slotted):
    """Only what the device does not have is written, so that a load that was broken off goes on."""
    with Device.open("golden", slotted) as device:
        assert [section.name for section in device.complete()] == [section.name for section in slotted.sections]
        assert device.complete() == []
        section = slotted.sections[1]
        place   = section.start * slotted.config.beat_bytes
        device.transport.write(regs.TAPE_BASE + place, (slotted.image[place:place + 4] ^ 1).tobytes())
        assert device.damaged() == [section]
        writes, write = [], device.transport.write
        device.transport.write = lambda address, octets: (writes.append((address, len(octets))), write(address, octets))
        told = []
        assert device.complete(lambda done, total: told.append((done, total))) == [section]
        device.transport.write = write
        size = section.count * slotted.config.beat_bytes
        assert sum(count for address, count in writes if address >= regs.TAPE_BASE) == size
        assert told[-1] == (size, size)
        device.verify()
