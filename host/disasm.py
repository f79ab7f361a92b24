"""Tapes as text: every descriptor, with the sections and marks that it lies in."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from terngen.host.errors import InputError, TapeError
from terngen.hw.contract import formats
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import DESCRIPTOR_BYTES, DRAINS, Mark, Op, Tape, TapeFormatError, walk

__all__ = ["Entry", "describe", "entries", "lines", "to_dict"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One descriptor.

    Parameters
    ----------
    beat : :class:`int`
        Where it stands.
    op : :class:`Op`
    fields : :class:`dict`
        Raw fields, as :class:`~terngen.hw.contract.tape.Descriptor` has them.
    words : :class:`str`
        What it asks for.
    octets : :class:`str`
        The descriptor, in hexadecimal, least significant octet first.
    """

    beat:   int
    op:     Op
    fields: dict[str, int]
    words:  str
    octets: str


def _number(value: Any) -> str:
    return f"{float(value):.6g}"


def describe(config: Config, fields: dict[str, Any]) -> str:
    """What a descriptor asks for, without the name of its operation."""
    op, length, fmt = fields["opcode"], fields["length"], config.path
    if op is Op.MATVEC:
        words = [f"{length} rows x {fields['place']} columns"]
    else:
        words = [f"{length} rows" if op is Op.LOGITS else f"{length} elements"]
    if op is Op.SQUARE:
        words.append("of T1" if fields["source"] else "of X")
    if op is Op.MLGRU:
        words.append(f"state from element {fields['place'] * config.lanes}")
    if fields["weighted"]:
        words.append("weights follow")
    elif op in (Op.SCAN, Op.SQUARE, Op.GATE, Op.STORE, Op.MLGRU, Op.GLU, Op.RESIDUAL):
        words.append(f"weight {_number(formats.to_float(fmt, fields['weight']))}")
    if op in DRAINS:
        words.append(f"scale {_number(formats.to_float(fmt, fields['scale']))}")
    if op is Op.SQUARE and fields["last"]:
        words.append(f"term {_number(formats.to_float(fmt.wide, fields['scale']))}")
    words += [name for name in ("first", "last", "release") if fields[name]]
    if fields["beats"]:
        words.append(f"{fields['beats']} beats follow")
    return ", ".join(words)


def entries(tape: Tape, mark: Mark) -> Iterator[Entry]:
    """Descriptors of a part of the tape.

    Raises
    ------
    TapeError
        If there is no descriptor where one should be.
    """
    size = tape.config.beat_bytes
    try:
        for beat, fields, _ in walk(tape.config, tape.image, mark):
            octets = tape.image[beat * size:beat * size + DESCRIPTOR_BYTES].tobytes()
            raw    = {name: int(value.value if isinstance(value, Op) else value)
                      for name, value in fields.items()}
            yield Entry(beat, fields["opcode"], raw, describe(tape.config, fields), octets.hex(" "))
    except TapeFormatError as error:
        raise TapeError(str(error)) from error


def _mark(tape: Tape, name: str) -> Mark:
    if name not in tape.marks:
        raise InputError(f"Tape has no mark {name!r}; it has {', '.join(tape.marks)}")
    return tape.marks[name]


def _played(tape: Tape) -> Mark:
    """Everything that has descriptors: from the first mark to the end of the last."""
    start = min(mark.start for mark in tape.marks.values())
    return Mark(start, max(mark.start + mark.count for mark in tape.marks.values()) - start)


def lines(tape: Tape, mark: str | None = None, *, octets: bool = False) -> Iterator[str]:
    """A tape, line by line.

    Parameters
    ----------
    mark
        Only this part.
    octets
        With the octets of each descriptor.

    Raises
    ------
    InputError
        If there is no such mark.
    TapeError
        If the tape holds something else than descriptors.
    """
    config, model = tape.config, tape.model
    part = _played(tape) if mark is None else _mark(tape, mark)
    if mark is None:
        yield (f"tape {model['name']}: {tape.beats} beats of {config.beat_bits} bits, "
               f"{model['ternary_weights']} ternary weights, {len(tape.tokenizer)} octets of "
               f"tokenizer")
        yield f"machine {config.digest.hex()}"
        yield from (f"    {name} = {value}" for name, value in config.to_dict().items()
                    if name != "sites")
        yield "    multipliers: " + ", ".join(f"{site} {kind}" for site, kind
                                              in config.to_dict()["sites"].items())
        yield "model"
        yield from (f"    {name} = {value}" for name, value in model.items())
    headings: dict[int, list[str]] = {}
    for section in tape.sections:
        headings.setdefault(section.start, []).append(
            f"section {section.name}: {section.count} beats from beat {section.start}, "
            f"crc32 {section.crc32:08x}")
    for name, place in tape.marks.items():
        headings.setdefault(place.start, []).append(f"mark {name}: {place.count} beats")
    if mark is None:
        for beat in sorted(beat for beat in headings if beat < part.start):
            yield from ["", *headings[beat]]
    for entry in entries(tape, part):
        if entry.beat in headings:
            yield from ["", *headings[entry.beat]]
        tail = f"    {entry.octets}" if octets else ""
        yield f"{entry.beat:10d}  {entry.op.name:8s}  {entry.words}{tail}"


def to_dict(tape: Tape, mark: str | None = None) -> dict[str, Any]:
    """The same as plain values."""
    part = _played(tape) if mark is None else _mark(tape, mark)
    return {
        "digest":      tape.config.digest.hex(),
        "config":      tape.config.to_dict(),
        "model":       dict(tape.model),
        "beats":       tape.beats,
        "beat_bytes":  tape.config.beat_bytes,
        "sections":    [dataclasses.asdict(section) for section in tape.sections],
        "marks":       {name: dataclasses.asdict(place) for name, place in tape.marks.items()},
        "descriptors": [{**dataclasses.asdict(entry), "op": entry.op.name}
                        for entry in entries(tape, part)],
    }
