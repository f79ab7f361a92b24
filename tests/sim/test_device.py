"""The golden machine and the simulated one, as devices."""

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.host.compile import compile_tape, default_config
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.device import Device
from terngen.host.errors import ConfigError, DeviceError, LinkError
from terngen.hw.contract import regs
from terngen.hw.contract.config import Config
from terngen.hw.contract.regs import Reg
from terngen.hw.contract.tape import Tape
from terngen.sim.compiled import CompiledModel, compile_machine
from terngen.sim.device import GoldenTransport, SimPipe

SLOTS = 3


@pytest.fixture(scope="module")
def checkpoint(root):
    return root / "tests" / "data" / "reference" / "tiny"


@pytest.fixture(scope="module")
def tape(checkpoint, tmp_path_factory):
    """A model of 2 layers, 64 wide, for three slots."""
    model  = Checkpoint.open(checkpoint)
    config = default_config(model.geometry, slots=SLOTS)
    path   = tmp_path_factory.mktemp("tape") / "tiny.tape"
    compile_tape(model, config, path)
    return Tape.open(path)


@pytest.fixture
def golden(tape):
    device = Device.open("golden", tape)
    device.load()
    return device


def word(transport, address):
    return int.from_bytes(transport.read(address, 4), "little")


# The golden machine.

def test_public_logits(golden, checkpoint):
    """Through registers and memory, the machine computes what the public implementation does."""
    tokens, public = np.load(checkpoint / "tokens.npy")[-1], np.load(checkpoint / "logits.npy")[-1]
    for place, token in enumerate(tokens[:12].tolist()):
        actual = golden.logits({1: token}, reset=[1] if place == 0 else [])[1]
        error  = actual - public[place]
        assert np.sqrt(np.mean(error**2)) < 0.1 * public[place].std()


def test_results(golden):
    """The best candidates are those of the sums, best first."""
    golden.step({0: 5, 2: 9}, reset=[0, 2])
    found  = {slot: golden.results(slot) for slot in (0, 2)}
    logits = golden.logits({0: 5, 2: 9}, reset=[0, 2])
    for slot, result in found.items():
        order = np.argsort(-logits[slot], kind="stable")[:golden.config.top_k]
        assert result.tokens.tolist() == order.tolist()
        np.testing.assert_allclose(result.logits, logits[slot][order], rtol=1e-6)
    assert found[0].tokens.tolist() != found[2].tokens.tolist()


def test_slots_are_independent(tape, golden):
    """A slot gives the same with others beside it, with pauses, and with other numbers."""
    tokens = [3, 1, 4, 1, 5]
    alone  = [golden.logits({0: token}, reset=[0] if place == 0 else [])[0]
              for place, token in enumerate(tokens)]
    for place, token in enumerate(tokens):
        golden.step({0: 60 + place, 1: 7}, reset=[0, 1] if place == 2 else [])
        beside = golden.logits({2: token, 0: 90}, reset=[2] if place == 0 else [])[2]
        np.testing.assert_array_equal(beside, alone[place])


def test_counters(tape, golden):
    counters = golden.step({0: 1, 1: 2})
    model, marks = tape.model, tape.marks
    assert counters.beats == 2 * model["embedding_beats"] + marks["layers"].count + marks["head"].count
    assert counters.cycles == 0
    assert golden.step({0: 1}, head=False).beats == model["embedding_beats"] + marks["layers"].count


def test_registers(tape):
    transport = GoldenTransport.open(tape.config)
    assert transport.read(Reg.MAGIC.value, 4) == b"TERN"
    assert word(transport, Reg.VERSION.value) == regs.VERSION
    assert transport.read(Reg.DIGEST.value, 16) == tape.config.digest
    transport.write(Reg.PLAY_START.value, bytes([1, 2, 3, 4, 5, 6, 7, 8]))
    assert transport.read(Reg.PLAY_START.value, 8) == bytes([1, 2, 3, 4, 5, 6, 7, 8])
    transport.write(regs.token_address(2), b"\x07\0\0\0")
    assert word(transport, regs.token_address(2)) == 7
    transport.write(Reg.MAGIC.value, b"none")                           # cannot be written
    assert transport.read(Reg.MAGIC.value, 4) == b"TERN"
    assert word(transport, 0x3FC) == 0                                  # nothing is there
    assert word(transport, regs.TAPE_BASE) == 0                         # cannot be read


def test_reset_register(golden):
    """Its bits are zero after the step that obeyed them."""
    golden.step({0: 1, 1: 1}, reset=[1])
    assert word(golden.transport, Reg.RESET.value) == 0
    assert word(golden.transport, Reg.MASK.value) == 0b11


def test_sums(tape, golden):
    """Sums lie where the contract says, those of other slots apart."""
    golden.step({0: 5, 1: 6, 2: 7}, reset=[0, 1, 2])
    sums, config = golden.transport.machine.sums, tape.config
    for slot, row in [(0, 0), (0, 1), (1, 17), (2, 127)]:
        octets = golden.transport.read(regs.sum_address(config, slot, row), 4)
        assert int.from_bytes(octets, "little", signed=True) == sums[slot, row]
    octets = golden.transport.read(regs.sum_address(config, 2, 0), 4 * 128)
    np.testing.assert_array_equal(np.frombuffer(octets, "<i4"), sums[2])
    assert word(golden.transport, regs.sum_address(config, 2, 128)) == 0    # the tile has 128 rows


def test_nothing_loaded(tape):
    """A machine without a tape stops, says why, and is well after a reset."""
    device = Device.open("golden", tape)
    with pytest.raises(DeviceError, match=r"^golden machine met a descriptor that makes no sense to it; "):
        device.play("layers", [0])
    assert "Tape ends" in device.transport.fault
    device.transport.reset()
    device.load()
    assert device.transport.fault is None
    device.step({0: 1}, reset=[0])


def test_token_without_embedding(golden):
    transport = golden.transport
    transport.write(regs.token_address(0), (1 << 30).to_bytes(4, "little"))
    with pytest.raises(DeviceError):
        golden._run(golden.tape.marks["layers"], [0], [], embed=True)
    assert transport.fault == f"Token {1 << 30} has no embedding on this tape"


def test_attach(tape, golden):
    """An image is played where it lies; writing to the memory leaves it as it was."""
    device = Device.open("golden", tape)
    device.transport.attach(tape.image)
    assert device.transport.machine.image is tape.image
    device._put(Reg.HIDDEN.value, tape.model["hidden_size"], tape.model["vocab_size"])
    np.testing.assert_array_equal(device.logits({0: 5}, reset=[0])[0], golden.logits({0: 5}, reset=[0])[0])
    before = tape.image[:8].copy()
    device.transport.write(regs.TAPE_BASE, bytes(8 - b for b in range(8)))
    np.testing.assert_array_equal(tape.image[:8], before)
    assert device.transport.machine.image[:8].tolist() == list(range(8, 0, -1))
    np.testing.assert_array_equal(device.transport.machine.image[8:], tape.image[8:])


def test_tape_changes(tape, golden):
    """What is loaded later is what is played."""
    first  = golden.logits({0: 5}, reset=[0])[0]
    start  = tape.marks["head.0"].start * tape.config.beat_bytes
    golden.transport.write(regs.TAPE_BASE + start, tape.image[start:start + 4].tobytes())
    np.testing.assert_array_equal(golden.logits({0: 5}, reset=[0])[0], first)
    golden.transport.write(regs.TAPE_BASE, bytes(tape.sections[0].count * tape.config.beat_bytes))
    assert not golden.logits({0: 5}, reset=[0])[0].any()


@pytest.mark.parametrize("address, octets", [(2, 4), (4, 3), (-4, 4)])
def test_access_wrong(tape, address, octets):
    transport = GoldenTransport.open(tape.config)
    with pytest.raises(ValueError, match=r"^(Address|Number of octets) must be a multiple of four, not "):
        transport.read(address, octets)
    with pytest.raises(ValueError, match=r"^(Address|Number of octets) must be a multiple of four, not "):
        transport.write(address, bytes(octets))


def test_golden_has_no_options(tape):
    with pytest.raises(ConfigError, match=r"^Golden machine has no option 'seed'$"):
        Device.open("golden", tape, seed=1)


# The link of a simulated machine.

class Answerer(wiring.Component):
    """Answers an octet after 20 cycles with its complement; 0 it does not answer, and after 1 it
    takes no more."""

    link_i: In(stream.Signature(8))
    link_o: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        octet, age = Signal(8), Signal(5)
        with m.FSM():
            with m.State("Take"):
                m.d.comb += self.link_i.ready.eq(1)
                m.d.sync += [octet.eq(self.link_i.payload), age.eq(0)]
                with m.If(self.link_i.valid & (self.link_i.payload == 1)):
                    m.next = "Dead"
                with m.Elif(self.link_i.valid & (self.link_i.payload != 0)):
                    m.next = "Think"
            with m.State("Think"):
                m.d.sync += age.eq(age + 1)
                with m.If(age == 19):
                    m.next = "Answer"
            with m.State("Answer"):
                m.d.comb += [self.link_o.valid.eq(1), self.link_o.payload.eq(~octet)]
                with m.If(self.link_o.ready):
                    m.next = "Take"
            with m.State("Dead"):
                m.next = "Dead"
        return m


@pytest.fixture
def pipe():
    config = Config()
    return SimPipe(CompiledModel(compile_machine(Answerer(), config=config)), quiet=10_000)


def test_pipe(pipe):
    """What is sent need not be received at once, and comes in pieces of the size that is asked for."""
    octets = bytes(range(2, 200))
    pipe.send(octets)
    answers = [pipe.receive(50, 1.0) for _ in range(4)]
    assert [len(answer) for answer in answers] == [50, 50, 50, 48]
    assert b"".join(answers) == bytes(255 - octet for octet in octets)


def test_pipe_timeout(pipe):
    """Time is that of the machine."""
    pipe.send(bytes(5))
    before = pipe.clock()
    assert pipe.receive(10, 20e-6) == b""
    assert pipe.clock() - before == pytest.approx(20e-6, abs=1e-8)
    pipe.send(b"\x02")
    assert pipe.receive(10, 0.0) == b""
    assert pipe.receive(10, 1e-6) == b"\xfd"


def test_machine_does_not_answer(pipe):
    pipe.send(b"\0")
    with pytest.raises(LinkError, match=r"^Device must answer, but simulated machine has not for 10000 cycles$"):
        pipe.receive(1, 1.0)


def test_machine_does_not_listen(pipe):
    with pytest.raises(LinkError, match=r"^Device must take octets from the link, but simulated machine has "
                                        r"taken none for \d+ cycles$"):
        pipe.send(b"\x05\x01\x05\x05")
