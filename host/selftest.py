"""Bringing up a board: steps that show where it is broken.

Each needs what the ones before it have shown. Answers are compared with the golden machine's, which the caller brings.
"""

import dataclasses
import random
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from terngen.host.device import Device
from terngen.host.errors import DeviceError, LinkError
from terngen.host.exercises import PARTS
from terngen.hw.contract import regs
from terngen.hw.contract.regs import Reg
from terngen.hw.contract.tape import Mark, Op, descriptor_beats, walk

__all__ = ["Step", "selftest"]

#: Token that the machine reads.
TOKEN = 1


@dataclasses.dataclass(frozen=True)
class Step:
    """What came out of a step."""

    name:   str
    passed: bool
    #: What was seen; where it failed, what to do next.
    detail: str


#: Names, what is done, and what to do when it fails.
_Steps = list[tuple[str, Callable[[], str], str]]


def selftest(device: Device, golden: Device, progress: Callable[[int, int], None]) -> Iterator[Step]:
    """Link, memory, and what the tape of the device has: each operation in each of its ways and a text, if it is that
    of :func:`~terngen.host.exercises.exercises`; else one matrix, one layer, one token.

    Parameters
    ----------
    device, golden
        With the same tape; the golden one has it loaded. The memory of the device is written.
    progress
        Of loading.
    """
    steps: _Steps = [
        ("link",   lambda: _echo(device),
         "check wires and rate of the link, and that the clock of the board is as built"),
        ("memory", lambda: _memory(device, progress),
         "check power and clock of the memory; on a board with SDRAM build with another flight or a slower clock"),
    ]
    exercised = device.tape.marks.keys() >= PARTS.keys()
    for name, step, remedy in steps + (_exercises if exercised else _model)(device, golden):
        try:
            yield Step(name, True, step())
        except LinkError:
            raise
        except DeviceError as error:
            yield Step(name, False, f"{error}; {remedy}")
            return


def _model(device: Device, golden: Device) -> _Steps:
    """With a model."""
    return [
        ("matrix", lambda: _parts(device, golden, _first_matrix(device)),
         "timing of the array or the vector unit; build again, and see the worst path of report.json"),
        ("layer",  lambda: _parts(device, golden, [device.tape.marks["layer.0"]]),
         "timing of the vector unit; build again, and see the worst path of report.json"),
        ("token",  lambda: _token(device, golden), "as for the layer; then play token after token with `terngen run`"),
    ]


def _exercises(device: Device, golden: Device) -> _Steps:
    """Without one."""
    def step(name: str) -> Callable[[], str]:
        return lambda: _exercise(device, golden, name)

    again = "build again, and see the worst path of report.json"
    return [*((name, step(name), f"new in this part: {write.__doc__}; {again}") for name, write in PARTS.items()),
            ("text", lambda: _text(device, golden), f"the machine makes tokens by itself here; {again}")]


def _echo(device: Device) -> str:
    """Words come back as they were written, in registers that have no effect."""
    rng    = np.random.default_rng(1)
    slots  = device.config.slots
    octets = 0
    for pattern in (0x0000_0000, 0xFFFF_FFFF, 0x5555_5555, 0xAAAA_AAAA, *rng.integers(0, 1 << 32, 60).tolist()):
        words = np.full(3, pattern, "<u4")
        device.transport.write(Reg.EMBED_START.value, words[:1].tobytes())
        device.transport.write(Reg.PLAY_START.value, words[1:].tobytes())
        for register in (Reg.EMBED_START, Reg.PLAY_START, Reg.PLAY_COUNT):
            found = int.from_bytes(device.transport.read(register.value, 4), "little")
            if found != pattern:
                raise DeviceError(f"Register {register.name} must read {pattern:#010x}, as it was written, not "
                                  f"{found:#010x}")
            octets += 8
    resends = getattr(device.transport, "resends", 0)
    return f"{octets} octets went there and back with {slots} slots, {resends} frames were sent again"


def _memory(device: Device, progress: Callable[[int, int], None]) -> str:
    """The tape, read back by the device; before it, words that differ at addresses that differ in one bit."""
    image  = device.tape.image
    places = [0, *(1 << bit for bit in range(2, (len(image) - 1).bit_length()))]
    rng    = random.Random(2)
    for place in places:
        device.transport.write(regs.TAPE_BASE + place, rng.randbytes(4))
    device.load(progress)
    device.verify()
    return f"{len(image):,} octets were written and read back by the device"


def _first_matrix(device: Device) -> list[Mark]:
    """What the first matrix needs of the layers, with what takes its sums, and nothing that fills codes for another."""
    wanted = [Op.SCAN, Op.QUANTISE, Op.SQUARE, Op.MATVEC, Op.GATE]
    parts  = []
    for place, fields, _ in walk(device.config, device.tape.image, device.tape.marks["layer.0"]):
        if wanted and fields["opcode"] is wanted[0]:
            wanted.pop(0)
            parts.append(Mark(place, descriptor_beats(device.config) + fields["beats"]))
    return parts


def _parts(device: Device, golden: Device, parts: list[Mark]) -> str:
    """The sums of the last matrix in parts of the tape, after a token."""
    rows = [fields["length"] for part in parts for _, fields, _ in walk(device.config, device.tape.image, part)
            if fields["opcode"] is Op.MATVEC][-1]
    return _same(*(each.sums_after(parts, {0: TOKEN}, rows) for each in (device, golden)))


def _same(found: NDArray[np.int32], wanted: NDArray[np.int32]) -> str:
    """Sums ``(slots, rows)`` of both."""
    differ = np.argwhere(found != wanted)
    if len(differ):
        slot, row = differ[0]
        raise DeviceError(f"Sums of a matrix must be the golden machine's, but {len(differ)} of {found.size} differ, "
                          f"first that of row {row} in slot {slot}: {found[slot, row]}, not {wanted[slot, row]}")
    return f"{found.size} sums are the golden machine's"


def _exercise(device: Device, golden: Device, name: str) -> str:
    """A part of the exercises, in all slots, in a new sequence and in one that goes on."""
    part, config = device.tape.marks[name], device.config
    descriptors  = [fields for _, fields, _ in walk(config, device.tape.image, part)]
    rows, vocab  = descriptors[-1]["length"], device.tape.model["vocab_size"]
    for reset in (True, False):
        tokens = {slot: (slot + reset) % vocab for slot in range(config.slots)}
        _same(*(each.sums_after([part], tokens, rows, reset=reset) for each in (device, golden)))
        for slot in tokens:
            _best(device, golden, slot)
    return (f"{len(descriptors)} descriptors, twice in {config.slots} slots, gave the golden machine's sums and "
            f"candidates")


def _text(device: Device, golden: Device) -> str:
    """Tokens that the machine makes by itself, until one that ends the text."""
    steps  = min(device.config.history, 8)
    tokens = dict.fromkeys(range(device.config.slots), TOKEN)
    stop   = None
    for _ in range(2):
        found, wanted = (list(each.decode(tokens, steps, reset=[*tokens], stop=stop)) for each in (device, golden))
        if found != wanted:
            raise DeviceError(f"Tokens must be {wanted}, not {found}")
        stop = wanted[-1][0]
    return f"{steps} tokens in {len(tokens)} slots are the golden machine's, and so is the end of a text"


def _token(device: Device, golden: Device) -> str:
    """A token through the whole model."""
    for each in (device, golden):
        each.step({0: TOKEN}, reset=[0])
    return f"the best candidate is token {_best(device, golden, 0)}, as the golden machine has it"


def _best(device: Device, golden: Device, slot: int) -> int:
    """The best candidate of a slot, if all are the same."""
    found, wanted = ((result.tokens.tolist(), result.sums.tolist(), result.scale)
                     for result in (each.results(slot) for each in (device, golden)))
    if found != wanted:
        raise DeviceError(f"Best candidates of slot {slot} must be {wanted[0]} with sums {wanted[1]} and scale "
                          f"{wanted[2]}, not {found[0]} with {found[1]} and {found[2]}")
    return int(wanted[0][0])
