"""Bringing up a board: steps that show where it is broken.

Each needs what the ones before it have shown. Answers are compared with the golden machine's, which the caller brings.
"""

import dataclasses
import random
from collections.abc import Callable, Iterator

import numpy as np

from terngen.host.device import Device
from terngen.host.errors import DeviceError, LinkError
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


def selftest(device: Device, golden: Device, progress: Callable[[int, int], None]) -> Iterator[Step]:
    """Link, memory, one matrix, one layer, one token.

    Parameters
    ----------
    device, golden
        With the same tape; the golden one has it loaded. The memory of the device is written.
    progress
        Of loading.
    """
    steps: list[tuple[str, Callable[[], str], str]] = [
        ("link",   lambda: _echo(device),
         "check wires and rate of the link, and that the clock of the board is as built"),
        ("memory", lambda: _memory(device, progress),
         "check power and clock of the memory; on a board with SDRAM build with another flight or a slower clock"),
        ("matrix", lambda: _parts(device, golden, _first_matrix(device)),
         "timing of the array or the vector unit; build again, and see the worst path of report.json"),
        ("layer",  lambda: _parts(device, golden, [device.tape.marks["layer.0"]]),
         "timing of the vector unit; build again, and see the worst path of report.json"),
        ("token",  lambda: _token(device, golden), "as for the layer; then play token after token with `terngen run`"),
    ]
    for name, step, remedy in steps:
        try:
            yield Step(name, True, step())
        except LinkError:
            raise
        except DeviceError as error:
            yield Step(name, False, f"{error}; {remedy}")
            return


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
    found, wanted = (each.sums_after(parts, TOKEN, rows) for each in (device, golden))
    differ = np.flatnonzero(found != wanted)
    if len(differ):
        row = differ[0]
        raise DeviceError(f"Sums of a matrix must be the golden machine's, but {len(differ)} of {rows} differ, first "
                          f"that of row {row}: {found[row]}, not {wanted[row]}")
    return f"{rows} sums are the golden machine's"


def _token(device: Device, golden: Device) -> str:
    found = []
    for each in (device, golden):
        each.step({0: TOKEN}, reset=[0])
        result = each.results(0)
        found.append((result.tokens.tolist(), result.sums.tolist(), result.scale))
    if found[0] != found[1]:
        raise DeviceError(f"Best candidates must be {found[1][0]}, not {found[0][0]}")
    return f"the best candidate is token {found[0][0][0]}, as the golden machine has it"
