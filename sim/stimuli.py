"""What a machine is put through to find out what is wrong with it, or what nothing has tried.

:func:`observed` does all of it with a simulated machine, beside the golden machine where that knows the answer, and
tells what came of it: a model and tapes that no model would make, what is asked right and wrong, each bit of a header,
registers, senseless descriptors, places that are far away, sessions that begin in the middle of others, draws that are
close, a memory that gives nothing for long, and a line with faults.
"""

import binascii
import functools
import itertools
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from terngen.host.device import Device
from terngen.host.errors import DeviceError, LinkError
from terngen.host.sampling import Sampling
from terngen.hw.contract import bits, drawing, regs, wire
from terngen.hw.contract.config import Config
from terngen.hw.contract.regs import Reg
from terngen.hw.contract.tape import Op, Tape, longest, pack_descriptor
from terngen.hw.contract.wire import Fault, Frame, Type
from terngen.sim.compiled import CompiledModel, Library
from terngen.sim.device import GoldenTransport, SimTransport
from terngen.sim.edges import edge_tape, gate_tape
from terngen.sim.faults import Faults
from terngen.sim.gate import CheckedTransport
from terngen.sim.hostile import MADE_WITH, hostile_tape, square_tape, twin_tape
from terngen.sim.memory import MemoryModel

__all__ = ["Observation", "observed"]

#: Cycles without an answer after which a mutant counts as dead.
_QUIET   = 400_000
#: Cycles after which it counts as dead although it still says something: more than any stage takes of any machine.
_LONGEST = 10_000_000

#: What was done, and what came of it.
Observation = tuple[str, Any]

_MEMORY  = MemoryModel(latency=7, refresh_period=301, refresh_pause=13, stall=0.1)
#: One that the machine waits for, and that then gives many beats at once.
_BURSTS  = MemoryModel(latency=7, refresh_period=89, refresh_pause=43)


class Noticed(Exception):
    """A mutant did what the machine must not do."""


class _Model(CompiledModel):
    """A machine that does not go on for ever."""

    def run(self, octets: bytes = b"", *, want: int = 0, max_cycles: int) -> tuple[int, bytes]:
        """See :meth:`CompiledModel.run`."""
        if self.counters.cycles > _LONGEST:
            raise LinkError(f"Machine must be done after {_LONGEST} cycles")
        return super().run(octets, want=want, max_cycles=max_cycles)


class _Machine(SimTransport):
    """A machine of a library."""

    QUIET_CYCLES          = _QUIET
    QUIET_CYCLES_PER_BEAT = 0

    def __init__(self, library: Library, config: Config, *, faults: Faults | None = None,
                 direct: bool = False, memory: MemoryModel = _MEMORY, stall_out: float = 0.1) -> None:
        self.config  = config
        self.memory  = memory
        self.model   = _Model(library, memory=self.memory, stall_in=0.1, stall_out=stall_out, seed=1)
        self._direct = direct
        self._faults = faults
        self._beats  = 0
        self._chance = random.Random(1)     # each does the same
        self._connect()


def _same(what: str, actual: Any, expected: Any) -> None:
    if actual != expected:
        raise Noticed(f"{what} is {actual!r}, not {expected!r}")


def _checked(transport: _Machine, tape: Tape) -> tuple[CheckedTransport, Device]:
    """A machine beside the golden machine, with a tape."""
    checked = CheckedTransport(transport)
    device  = Device(checked, tape)
    device.load()
    return checked, device


def _play(transport: _Machine, tape: Tape) -> Iterator[Any]:
    """A load, steps of some and of all slots, a prompt, a text; every value beside the golden machine's."""
    checked, device = _checked(transport, tape)
    _same("Memory", transport.model.memory_read(0, len(tape.image)), tape.image.tobytes())
    yield device.damaged()
    rng   = np.random.default_rng(1)
    vocab = tape.model["vocab_size"]
    every = range(tape.config.slots)

    def token() -> int:
        return int(rng.integers(vocab))

    def results() -> list[Any]:
        found = [device.results(slot) for slot in every]
        return [(result.tokens.tolist(), result.sums.tolist(), result.scale) for result in found]

    yield device.step({slot: token() for slot in every}, reset=every), results()
    yield device.step({0: token()}), results()
    yield device.step({slot: token() for slot in every}, reset=[1]), results()
    yield device.prefill([token() for _ in range(5)], state=0)
    yield device.step({1: vocab - 1}, head=False)
    # The first slot draws, where one can.
    yield list(device.decode({slot: token() for slot in every}, 3,
                             sampling={0: Sampling(temperature=float(tape.config.draws), seed=1)})), device.counters
    yield device.logits({0: token()})[0].tolist()
    # What is written to the tape starts nothing.
    checked.write(regs.TAPE_BASE, tape.image[:256].tobytes())
    yield checked.read(Reg.WAIT.value, 4), checked.read(Reg.CRC.value, 4)


def _hostile(transport: _Machine, tape: Tape) -> Iterator[Any]:
    """Steps of a tape that no model would make."""
    checked, device = _checked(transport, tape)
    every = range(tape.config.slots)
    vocab = tape.model["vocab_size"]
    for step in range(4):
        # First what the tape was made with, then the corners of the embedding.
        tokens = {slot: MADE_WITH + slot if step == 0 else ((step - 1) * len(every) + slot) % vocab for slot in every}
        if step == 2 and len(every) > 1:
            del tokens[0]
        yield device.step(tokens, reset=every if step == 0 else [], states=dict.fromkeys(tokens, 0) if step == 3
                          else None)
        for slot in tokens:
            result = device.results(slot)
            yield result.tokens.tolist(), result.sums.tolist(), result.scale
            # Of the last tile, which has that many rows.
            checked.read(regs.sum_address(tape.config, slot, 0), 4 * 5)
    best = device.results(len(every) - 1).tokens[0]
    yield list(device.decode(dict.fromkeys(every, 7), 3, stop=int(best))), device.counters
    yield device.damaged()
    # All rows of the other head are tokens.
    rows = tape.marks["rows"]
    device._put(Reg.MASK.value, (1 << len(every)) - 1, 0, 0, tape.model["embedding_beats"], rows.start, rows.count,
                tape.model["hidden_size"], regs.NO_TOKEN, 0, regs.NO_TOKEN, 0, 1)
    yield checked.read(Reg.WAIT.value, 4 * 6)
    for slot in every:
        yield checked.read(regs.result_address(slot), regs.RESULT_STRIDE)


def _talk(transport: _Machine, tape: Tape) -> Iterator[Any]:
    """What is refused, what comes twice, what is not intact; then the same machine as a device."""
    pipe = transport.pipe

    def ask(octets: bytes) -> list[Frame]:
        pipe.send(octets)
        decoder, frames = wire.Decoder(), []
        while piece := pipe.receive(4096, 30e-6):
            frames += decoder.feed(piece)
        _same("Frames that are not intact", decoder.drops, 0)
        return frames

    def request(kind: Type, sequence: int, **fields: Any) -> bytes:
        return wire.encode_frame(Frame(type=kind, generation=77, sequence=sequence, **fields))

    def write(sequence: int, address: int, payload: bytes) -> bytes:
        return request(Type.WRITE, sequence, address=address, length=len(payload), payload=payload)

    def kinds(octets: bytes) -> list[tuple[Type, Fault]]:
        return [(frame.type, frame.fault) for frame in ask(octets)]

    ask(bytes(3))
    _same("Opening", kinds(request(Type.HELLO, 10)), [(Type.HELLO_REPLY, Fault.NONE)])
    place = Reg.HIDDEN.value
    first = write(11, place, b"\1\2\3\4")
    _same("Writing", kinds(first), [(Type.WRITE_REPLY, Fault.NONE)])
    _same("Overtaking", kinds(write(13, place, b"\5\5\5\5")), [(Type.ERROR, Fault.SEQUENCE)])
    _same("Another write", kinds(write(12, place, b"\6\7\1\2")), [(Type.WRITE_REPLY, Fault.NONE)])
    _same("Once more", kinds(first), [(Type.WRITE_REPLY, Fault.NONE)])
    look = request(Type.READ, 13, address=place, length=4)
    _same("Reading", [frame.payload for frame in ask(look)], [b"\6\7\1\2"])
    _same("Again", [frame.payload for frame in ask(b"\0" + look)], [b"\6\7\1\2"])
    _same("Foreign", kinds(wire.encode_frame(Frame(type=Type.READ, generation=78, sequence=14, address=0, length=4))),
          [(Type.ERROR, Fault.GENERATION)])
    _same("Crooked", kinds(request(Type.READ, 14, address=2, length=4)), [(Type.ERROR, Fault.ADDRESS)])
    for number, length in enumerate((0, 6, wire.MAX_PAYLOAD + 4)):
        _same("Length", kinds(request(Type.READ, 15 + number, address=0, length=length)), [(Type.ERROR, Fault.LENGTH)])
    answers = ask(request(Type.READ, 18, version=2, address=0, length=4))
    _same("Version", [(frame.fault, frame.version) for frame in answers], [(Fault.VERSION, wire.VERSION)])
    spoilt = bytearray(write(18, place, b"\1\1\1\1"))
    for bit in range(8, 8 * len(spoilt) - 16, 41):
        other = bytearray(spoilt)
        other[bit // 8] ^= 1 << bit % 8
        _same("What is not intact", ask(bytes(other)), [])
    _same("Too long", ask(b"\x07" * (wire.MAX_ENCODED + 9) + b"\0"), [])
    long = np.random.default_rng(2).integers(0, 3, wire.MAX_PAYLOAD, np.uint8).tobytes()
    _same("Longest", kinds(write(18, regs.TAPE_BASE, long)), [(Type.WRITE_REPLY, Fault.NONE)])
    _same("Unchanged", [frame.payload for frame in ask(request(Type.READ, 19, address=place, length=4))], [b"\6\7\1\2"])
    _same("Written", transport.model.memory_read(0, len(long)), long)
    _same("The same session", kinds(request(Type.HELLO, 10)), [(Type.HELLO_REPLY, Fault.NONE)])
    _same("Kept", [frame.payload for frame in ask(request(Type.READ, 20, address=place, length=4))], [b"\6\7\1\2"])
    _same("A new session", kinds(request(Type.HELLO, 99)), [(Type.HELLO_REPLY, Fault.NONE)])
    _same("Reset", [frame.payload for frame in ask(request(Type.READ, 100, address=place, length=4))], [bytes(4)])
    transport._connect()
    device = Device(transport, tape)
    device._put(Reg.PLAY_START.value, 0, 1)
    transport.model.memory_write(0, b"\xff" * tape.config.beat_bytes)
    device._put(Reg.GO.value, 1)
    yield transport.read(Reg.WAIT.value, 4)


def _headers(transport: _Machine, tape: Tape) -> Iterator[Any]:
    """Each bit of a header: kinds and versions, generations, numbers, lengths, addresses, and what does not count."""
    place, kept = Reg.HIDDEN.value, b"\x5a\xa5\x0f\xf0"

    def send(sequence: int, kind: int = Type.READ.value << 4 | wire.VERSION, *, generation: int = 77,
             address: int = place, length: int = 4, payload: bytes = b"", rest: bytes = bytes(2)) -> None:
        octets  = bits.pack(wire.Header, version=0, type=Type.HELLO.value, generation=generation & 0xFF,
                            sequence=sequence & 0xFFFF, address=address, length=length, fault=0)
        octets  = bytes([kind]) + octets[1:-2] + rest + payload[:wire.MAX_PAYLOAD]
        octets += binascii.crc32(octets).to_bytes(wire.CRC_BYTES, "little")
        transport.pipe.send(wire.cobs_encode(octets) + b"\0")

    def ask(sequence: int, *kind: int, generation: int = 77, **fields: Any) -> Frame:
        send(sequence, *kind, generation=generation, **fields)
        decoder = wire.Decoder()
        while piece := transport.pipe.receive(4096, 30e-6):
            if frames := decoder.feed(piece):
                [frame, *_] = frames
                _same("Whose answer", (frame.generation, frame.sequence), (generation & 0xFF, sequence & 0xFFFF))
                return frame
        raise Noticed("There is no answer")

    def begin(sequence: int, generation: int = 77) -> None:
        answer = ask(sequence, Type.HELLO.value << 4 | wire.VERSION, generation=generation, address=0, length=0)
        _same("Opening", answer.type, Type.HELLO_REPLY)

    def write(sequence: int, payload: bytes, **fields: int) -> Fault:
        return ask(sequence, Type.WRITE.value << 4 | wire.VERSION, length=len(payload), payload=payload, **fields).fault

    begin(9)
    _same("Writing", write(10, kept), Fault.NONE)
    # As many as would be sessions of their own, if they were taken for a HELLO.
    for kind in range(256):
        if kind & 15 != wire.VERSION or kind >> 4 not in (Type.HELLO.value, Type.READ.value, Type.WRITE.value):
            wanted = Fault.TYPE if kind & 15 == wire.VERSION else Fault.VERSION
            # What follows, and what the length says, means nothing then.
            _same(f"First octet {kind:#x}", ask(kind, kind, generation=kind, length=4).fault, wanted)
            _same(f"First octet {kind:#x}", ask(kind, kind, generation=kind, length=0, payload=kept).fault, wanted)
    for bit in range(8):
        _same("Generation", ask(11, generation=77 ^ 1 << bit).fault, Fault.GENERATION)
    _same("Kept", ask(11).payload, kept)
    for bit in range(16):
        # Numbers before the next one are answered again.
        ahead = ((12 ^ 1 << bit) - 12) & 0xFFFF
        _same("Number", ask(12 ^ 1 << bit).fault, Fault.SEQUENCE if ahead < 1 << 15 else Fault.NONE)
    _same("Does not count", ask(12, rest=b"\xff\xff").fault, Fault.NONE)
    for sequence, length in enumerate([*(1 << bit for bit in range(16)), *(1024 | 1 << bit for bit in range(10)), 1020],
                                      13):
        valid  = length % 4 == 0 and 0 < length <= wire.MAX_PAYLOAD
        answer = ask(sequence, address=regs.history_address(tape.config, 0, 0), length=length)
        _same("Length", (answer.fault, answer.length), (Fault.NONE, length) if valid else (Fault.LENGTH, 0))
    for sequence, offset in enumerate((1, 2, 3), 40):
        _same("Address", ask(sequence, address=place + offset).fault, Fault.ADDRESS)
    for sequence, count in enumerate((1, 2, 3, 5), 43):
        _same("Length", write(sequence, bytes(count)), Fault.LENGTH)
    # Frames that are longer or shorter than they say get no answer: the one that comes is that of the next.
    for bit in range(2, 11):
        for length in {(4 << bit % 3) ^ 1 << bit, 1020 ^ 1 << bit} - {0}:
            send(47, Type.WRITE.value << 4 | wire.VERSION, length=length, payload=bytes(length ^ 1 << bit))
        send(47, payload=bytes(1 << bit))
        _same("Kept", ask(47).payload, kept)
    # The number after each that carries; then a request that comes twice, and one that comes too early.
    for bit in range(17):
        number = (1 << bit) - 1
        begin(number, generation=bit)
        _same("Carried", write(number + 1, kept, generation=bit), Fault.NONE)
        _same("Twice", write(number + 1, bytes(4), generation=bit), Fault.NONE)
        _same("Early", write(number + 3, bytes(4), generation=bit), Fault.SEQUENCE)
        _same("Kept", ask(number + 2, generation=bit).payload, kept)
    # A session differs from another in any bit, and is the same in all.
    generation = number = 0x55
    begin(number, generation)
    for bit in range(24):
        _same("Writing", write(number + 1, kept, generation=generation), Fault.NONE)
        begin(number, generation)
        _same("Kept", ask(number + 2, generation=generation).payload, kept)
        number, generation = number ^ (1 << bit & 0xFFFF), generation ^ (1 << bit >> 16)
        begin(number, generation)
        _same("Reset", ask(number + 1, generation=generation).payload, bytes(4))
        begin(number ^ 0x5A5A, generation)
        begin(number, generation)
    yield transport.model.counters


def _small_tape(config: Config, seed: int) -> Tape:
    return hostile_tape(config, seed, operations=0, tiles=1)


@functools.cache
def _head(config: Config, make: Callable[[Config, int], Tape]) -> Tape:
    """A tape with logits of all slots that differ; the first seed of which there is one."""
    every = range(config.slots)
    for seed in itertools.count():
        tape   = make(config, seed)
        device = Device(GoldenTransport(config), tape)
        device.load()
        device.step({slot: MADE_WITH + slot for slot in every}, reset=every)
        results = [device.results(slot) for slot in every]
        if all(result.scale and result.sums[0] > result.sums[-1] for result in results):
            return tape
    raise AssertionError


def _draws(transport: _Machine, tape: Tape) -> Iterator[Any]:
    """Tokens that are drawn, from where the best one always wins to where all are alike; with those seeds of many with
    which it is close."""
    _, device = _checked(transport, tape)
    every  = range(tape.config.slots)
    tokens = {slot: MADE_WITH + slot for slot in every}
    yield device.step(tokens, reset=every)
    results = [device.results(slot) for slot in every]
    states  = np.array([drawing.start(seed) for seed in range(20_000)])

    def close(sums: np.ndarray, slope: int) -> list[int]:
        """Seeds with which two candidates are the best, or the best is better by one."""
        now, scores = states, []
        for loss in ((sums[0] - sums).astype(np.int64) * slope >> drawing.DISTANCE_BITS - 1).tolist():
            for _ in range(4):
                now = drawing.leap(now)
            scores.append(drawing.noise(now) - loss)
        best = np.sort(np.array(scores), axis=0)
        lead = best[-1] - best[-2]
        return [*np.flatnonzero(lead == 0)[:4].tolist(), *np.flatnonzero(lead == 1)[:4].tolist(), *range(8)]

    for power in (-4, -2, -1, 0, 1, 2, 3, 4, 5, 7, 9, 11):
        temperatures, seeds = [], []
        for slot, result in enumerate(results):
            behind = abs(result.scale) * int(result.sums[0] - result.sums[-1])
            temperatures.append(behind * (1 + slot / 3) * 2.0 ** -power)
            seeds.append(close(result.sums, drawing.slope(result.scale, drawing.coldness(temperatures[slot]))))
        for place in range(8):
            sampling = {slot: Sampling(temperature=temperatures[slot], seed=seeds[slot][place],
                                       top_k=2 + slot if place == 7 else None) for slot in every}
            yield list(device.decode(tokens, 1, reset=every, sampling=sampling))


def _twins(transport: _Machine, tape: Tape) -> Iterator[Any]:
    """Draws among the best alone, of which there are two, and among all alike."""
    _, device = _checked(transport, tape)
    every  = range(tape.config.slots)
    tokens = {slot: MADE_WITH + slot for slot in every}
    for temperature in (1e-30, 1e30):
        for seed in range(8):
            sampling = {slot: Sampling(temperature=temperature, seed=seed) for slot in every}
            yield list(device.decode(tokens, 1, reset=every, sampling=sampling))


def _crowd(transport: _Machine, tape: Tape) -> Iterator[Any]:
    """Requests that wait for no answer, on a line that takes few octets: whatever can wait for another does."""
    golden, decoder, answers = GoldenTransport(tape.config), wire.Decoder(), []
    image  = np.random.default_rng(6).integers(0, 256, (8, wire.MAX_PAYLOAD), np.uint8)
    octets = wire.encode_frame(Frame(type=Type.HELLO, generation=79, sequence=0))
    for turn, part in enumerate(image):
        octets += wire.encode_frame(Frame(type=Type.READ, generation=79, sequence=2 * turn + 1, address=0,
                                          length=wire.MAX_PAYLOAD))
        octets += wire.encode_frame(Frame(type=Type.WRITE, generation=79, sequence=2 * turn + 2,
                                          address=regs.TAPE_BASE + turn * wire.MAX_PAYLOAD, length=wire.MAX_PAYLOAD,
                                          payload=part.tobytes()))
    transport.pipe.send(octets)
    while piece := transport.pipe.receive(4096, 30e-6):
        answers += decoder.feed(piece)
    _same("Frames that are not intact", decoder.drops, 0)
    _same("Answers", [answer.sequence for answer in answers], list(range(17)))
    for answer in answers[1::2]:
        _same("Reading", answer.payload, golden.read(0, wire.MAX_PAYLOAD))
    _same("Memory", transport.model.memory_read(0, image.size), image.tobytes())
    yield len(answers)


def _squares(transport: _Machine, tape: Tape) -> Iterator[Any]:
    """Sums of squares from all over the format."""
    _, device = _checked(transport, tape)
    every = range(tape.config.slots)
    for turn in range(2):
        yield device.step({slot: (MADE_WITH + slot, slot)[turn] for slot in every}, reset=every, head=False)


def _registers(transport: _Machine, tape: Tape) -> Iterator[Any]:
    """All that is written and read back, and what is not there."""
    config = tape.config
    golden = GoldenTransport(config)
    rng    = np.random.default_rng(3)
    kept   = [register.value for register in GoldenTransport.SET]
    kept  += [address(slot) for slot in range(config.slots) for address in (regs.token_address, regs.state_address)]
    width  = {Reg.MASK.value: config.slots, Reg.RESET.value: config.slots, Reg.DRAW.value: config.slots}
    width |= {regs.state_address(slot): config.slot_bits for slot in range(config.slots)}
    _same("Register", transport.read(0, 0x400), golden.read(0, 0x400))
    for word in (0xFFFF_FFFF, 0, *(1 << bit for bit in range(32)), *rng.integers(0, 1 << 32, 8).tolist()):
        for address in rng.permutation(kept).tolist():
            octets = (word % (1 << width.get(address, 32))).to_bytes(4, "little")
            for each in transport, golden:
                each.write(address, octets)
            word = (word << 1 | word >> 31) & 0xFFFF_FFFF
        _same("Register", transport.read(0x40, 0xC0), golden.read(0x40, 0xC0))
    # Elsewhere: what is written does nothing, what is read is zero.
    for address in (0x08, 0x78, 0x180, 0x1BC, 0x1000, 0x1_0040, 0x0100_0040, 0x1FFF_FFFC, 0x400 + 0x80 * config.slots):
        transport.write(address, b"\xff" * 4)
        _same("Nothing", transport.read(address, 4), bytes(4))
    _same("Register", transport.read(0, 0x400), golden.read(0, 0x400))
    for slot in range(config.slots):
        yield transport.read(regs.result_address(slot), regs.RESULT_STRIDE)
    # Not a zero in it.
    yield transport.read(regs.history_address(config, 0, 0), wire.MAX_PAYLOAD)


def _large(transport: _Machine, tape: Tape) -> Iterator[Any]:
    """Parts of the tape that are far away or longer than it is, and sizes that cannot be: each bit of each register."""
    config, layers, hidden = tape.config, tape.marks["layers"], tape.model["hidden_size"]
    row = config.embedding_beats(hidden)
    transport.model.memory_write(0, tape.image)

    def run(start: int, beats: int, place: int, count: int, hidden: int, vocab: int) -> bytes:
        transport.write(regs.token_address(0), np.array([1, 1], "<u4").tobytes())
        transport.write(Reg.MASK.value, np.array([1, 1, start, beats, place, count, hidden, vocab, 0, regs.NO_TOKEN, 0,
                                                  1], "<u4").tobytes())
        return transport.read(Reg.WAIT.value, 4 * 6)

    for bit in range(32):
        one = 1 << bit
        yield run(0, row, layers.start | one, 1, hidden, 9), transport.model.counters.requests
        transport.reset()
        yield run(one, row, layers.start, 0, hidden, 9), transport.model.counters.requests
        yield run(0, 0, tape.beats, one, hidden, 9)
        transport.reset()
        yield run(0, config.embedding_beats(config.hidden), layers.start, 0, config.hidden | one, 9)
        transport.reset()
        yield run(0, max(one, 2 * config.parameter_beats(config.wide)), layers.start, 0, hidden, 9)
        transport.reset()
    for bit in (0, 3, 4, 5, 16, 31):
        yield run(0, row, layers.start, layers.count + tape.marks["head"].count, hidden, 1 << bit)
        yield transport.read(regs.result_address(0), regs.RESULT_STRIDE)


def _about(rng: np.random.Generator, value: int) -> int:
    """A number at a limit, or far from it."""
    return int(rng.choice([0, 1, 2, value - 1, value, value + 1, 2 * value, rng.integers(1 << 17),
                           1 << int(rng.integers(18))]))


def _senseless(transport: _Machine, tape: Tape) -> Iterator[Any]:
    """Descriptors at and over the limits: faults of both machines, or of none."""
    config = tape.config
    rng    = np.random.default_rng(4)
    golden = GoldenTransport(config)
    size   = config.beat_bytes
    for _ in range(150):
        op     = Op(int(rng.integers(len(Op))))
        room   = longest(config, op)
        length = _about(rng, room) // config.lanes * config.lanes if rng.random() < 0.7 else _about(rng, room)
        fields = {"opcode": op, "length": length % (1 << 18), "weighted": int(rng.integers(2)), "weight": 7,
                  "source": int(rng.integers(2)), "last": int(rng.integers(2)), "scale": config.path.wide.one}
        beats  = config.parameter_beats(length) if fields["weighted"] else 0
        fields["beats"] = int(rng.choice([beats, beats, beats, 0, 1, beats + 1, 1 << int(rng.integers(32))]))
        if op in (Op.MATVEC, Op.MLGRU):
            fields["place"] = _about(rng, config.wide)
        image = np.frombuffer(pack_descriptor(config, **fields), np.uint8)
        count = len(image) // size + int(rng.choice([fields["beats"], 0, 1]) if fields["beats"] < 64 else 64)
        image = np.concatenate([image, np.zeros(size * (count + 4), np.uint8)])
        golden.reset()
        golden.attach(image)
        for each in golden, transport:
            each.write(Reg.MASK.value, np.array([1, 0, 0, 0, 0, count, 64, 9, 0, regs.NO_TOKEN], "<u4").tobytes())
        golden.write(Reg.GO.value, b"\1\0\0\0")
        fault = golden.read(Reg.STATUS.value, 4)
        # What makes no sense by itself, and not because of what came before or comes after.
        if golden.fault is None or re.search("nobody computed|no codes|Parameters at|Matrix", golden.fault):
            continue
        transport.model.memory_write(0, image)
        transport.write(Reg.GO.value, b"\1\0\0\0")
        answer = transport.read(Reg.WAIT.value, 4)
        _same("Fault", answer, fault)
        yield answer
        transport._connect()


def _interrupt(transport: _Machine, tape: Tape) -> Iterator[Any]:
    """A new session while the machine is at something, at any time; then it does all of it."""
    device = Device(transport, tape)
    device.load()
    for cycles in np.random.default_rng(5).integers(1, 6000, 20).tolist():
        device._start(device._through, [0, 1], [0], embed=True)
        transport.model.run(max_cycles=cycles, want=1)
        transport._connect()
        device = Device(transport, tape)
    yield device.step({0: 3, 1: 5}, reset=[0, 1])
    for slot in range(2):
        yield device.results(slot).sums.tolist()


def _cut(transport: _Machine, tape: Tape) -> Iterator[Any]:
    """Reads of the tape of any length that a new session cuts off, soon or when all has come; after each a step."""
    device = Device(transport, tape)
    device.load()
    layers, every = tape.marks["layers"], range(tape.config.slots)
    for bit in range(layers.count.bit_length() - 1):
        for cycles in (30, 60 + (2 << bit)):
            device._put(Reg.MASK.value, 1, 0, 0, 0, layers.start, 1 << bit | 1 << max(bit - 2, 0), 0, 0, 0,
                        regs.NO_TOKEN)
            device._put(Reg.GO.value, 1)
            transport.model.run(max_cycles=cycles, want=1)
            transport._connect()
            device = Device(transport, tape)
            yield device.step(dict.fromkeys(every, MADE_WITH), reset=every)
            for slot in every:
                result = device.results(slot)
                yield result.tokens.tolist(), result.sums.tolist(), result.scale


def _waste(transport: _Machine, tape: Tape) -> Iterator[Any]:
    """A check of the memory while all comes that a session before has asked for."""
    device = Device(transport, tape)
    device.load()
    layers = tape.marks["layers"]
    device._put(Reg.MASK.value, 1, 0, 0, 0, layers.start, layers.count, 0, 0, 0, regs.NO_TOKEN)
    device._put(Reg.GO.value, 1)
    transport.model.run(max_cycles=30, want=1)
    transport._connect()
    yield Device(transport, tape).damaged()


def _suffer(transport: _Machine, tape: Tape) -> Iterator[Any]:
    """A load through a line with faults, and what is left of it."""
    image = tape.image[:2048].tobytes()
    transport.write(regs.TAPE_BASE, image)
    transport.write(Reg.EMBED_START.value, image[:16])
    yield transport.read(Reg.EMBED_START.value, 16)
    _same("Memory", transport.model.memory_read(0, len(image)), image)


#: A name, what is done, with what tape, on what line.
_Stage = tuple[str, Callable[..., Iterator[Any]], Tape, dict[str, Any]]


@functools.cache
def _edges(config: Config, rounds: int) -> Tape:
    return edge_tape(config, 0, rounds=rounds)


def _stages(model: Tape, hostile: Sequence[Tape]) -> Iterator[_Stage]:
    """All that is done."""
    config = model.config
    yield "model", _play, model, {}
    yield "hostile", _hostile, hostile[0], {"direct": True}
    yield "edges", _hostile, _edges(config, 12), {"direct": True}
    yield "link", _talk, model, {}
    yield "headers", _headers, model, {}
    for seed in range(2):
        yield "faults", _suffer, model, {"faults": Faults(3e-3, seed=seed)}
    yield "registers", _registers, model, {}
    yield "senseless", _senseless, model, {}
    yield "large", _large, hostile[0], {}
    yield "interrupted", _interrupt, model, {"direct": True}
    yield "cut off", _cut, model, {"direct": True}
    if config.draws:
        yield "draws", _draws, _head(config, _small_tape), {"direct": True}
    yield "bursts", _hostile, _edges(config, 1), {"direct": True, "memory": _BURSTS}
    for tape in hostile[1:]:
        yield "hostile", _hostile, tape, {"direct": True}
    yield "crowd", _crowd, model, {"stall_out": 0.9}
    yield "squares", _squares, square_tape(model.config), {"direct": True}
    yield "gates", _hostile, gate_tape(config, 0), {"direct": True}
    if config.top_k > 2:
        yield "twins", _twins, _head(config, twin_tape), {"direct": True}
    yield "waste", _waste, model, {"direct": True}


def observed(library: Library, tapes: Sequence[Tape],
             end: Callable[[CompiledModel], None] = lambda model: None) -> Iterator[Observation]:
    """What a machine does, stage by stage.

    Parameters
    ----------
    tapes : sequence of :class:`Tape`
        That of a model, then hostile ones.
    end : callable
        Gets each machine before it goes.
    """
    for name, stage, tape, line in _stages(tapes[0], tapes[1:]):
        transport = None
        try:
            transport = _Machine(library, tape.config, **line)
            for made in stage(transport, tape):
                yield name, repr(made)
            yield f"cycles of {name}", transport.model.counters
        except (DeviceError, LinkError, Noticed, ValueError, IndexError, OverflowError) as error:
            yield f"error in {name}", f"{type(error).__name__}: {error}"
        finally:
            if transport is not None:
                end(transport.model)
                transport.model.close()
