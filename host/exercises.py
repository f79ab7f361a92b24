"""A tape that has each operation of a machine play in each of its ways, made up for any machine.

There is no model in it. Each part of the tape takes a token of each slot, leads through some operations, and ends with
sums and candidates, which hold every value that was computed on the way. The golden machine knows the answers.
"""

import binascii
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np

from terngen.hw.contract import formats, tape
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Mark, Op, Section, Tape

__all__ = ["PARTS", "Way", "exercises", "way", "ways"]

#: Rows of both tiles of a head, if there is room, and how many at the end are no tokens.
_TILES, _PADDING = (7, 8), 2
#: Elements of most vectors, if there is room: a few groups of every unit.
_LENGTH = 48
#: What sums are multiplied by, so that values are about as large as they are in a model.
_SCALE = 2.0 ** -6

#: An operation, and how its descriptor says that it be done: the names of flags that are set, and ``place`` where a
#: state does not begin at the first group.
Way: TypeAlias = tuple[Op, frozenset[str]]

_FLAGS = ("weighted", "source", "first", "last", "release")


def way(fields: dict[str, Any]) -> Way:
    """How a descriptor is played."""
    flags = {name for name in _FLAGS if fields[name]}
    if fields["opcode"] is Op.MLGRU and fields["place"]:
        flags.add("place")
    return fields["opcode"], frozenset(flags)


def ways() -> set[Way]:
    """All that a descriptor can ask for, but for the numbers in it."""
    def each(op: Op, *flags: str) -> Iterator[Way]:
        for chosen in range(1 << len(flags)):
            yield op, frozenset(name for bit, name in enumerate(flags) if chosen >> bit & 1)

    return {*each(Op.MATVEC, "release"), *each(Op.SCAN, "weighted"), *each(Op.QUANTISE),
            *each(Op.SQUARE, "weighted", "source", "first", "last"), *each(Op.GATE, "weighted"),
            *each(Op.STORE, "weighted", "first"), *each(Op.SILU), *each(Op.MLGRU, "weighted", "place"),
            *each(Op.GLU, "weighted"), *each(Op.RESIDUAL, "weighted"), *each(Op.LOGITS, "first")}


class _Writer:
    """Beats of a tape with random numbers."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._rng   = np.random.default_rng(1)
        self._beats: list[bytes] = []
        self.beats  = 0
        step        = config.lanes
        shortest    = 2 * step
        # More than a block of columns, where there is room.
        self.hidden = min(config.hidden, config.rows, max(shortest, _whole(max(_LENGTH, config.block_cols + 1), step)))
        # Only the last tile may end within a group of lanes.
        self.tiles  = min(config.rows // step * step, _whole(_TILES[0], step)), min(config.rows, _TILES[1])
        self.vocab  = sum(self.tiles) - min(_PADDING, self.tiles[1] - 1)
        self.state  = min(config.wide, config.rows, config.state - step, max(step, _whole(_LENGTH // 2, step)))

    def _put(self, octets: bytes) -> None:
        self._beats.append(octets)
        self.beats += len(octets) // self.config.beat_bytes

    def image(self) -> np.ndarray:
        """All that was written."""
        return np.frombuffer(b"".join(self._beats), np.uint8)

    def embedding(self) -> int:
        """Rows of all tokens; the beats of each."""
        values = self._rng.normal(0, 1, (self.vocab, self.hidden))
        self._put(tape.pack_embedding(self.config, formats.from_float(self.config.embedding_format, values)))
        return self.beats // self.vocab

    def op(self, op: Op, length: int, *flags: str, scale: float = _SCALE, place: int = 0) -> None:
        """An operation of the vector unit."""
        config, octets, weight = self.config, b"", 0.0
        values = self._rng.uniform(0.5, 1.5, length)
        if "weighted" in flags:
            octets = tape.pack_parameters(config, formats.from_float(config.path.parameter, values))
        elif op is not Op.LOGITS:
            weight = float(values[0])
        wide = config.path.wide if op is Op.SQUARE else config.path
        self._descriptor(op, length, flags, octets, place=place, weight=int(formats.from_float(config.path, weight)),
                         scale=int(formats.from_float(wide, scale)))

    def matrix(self, rows: int, cols: int, *, release: bool = True) -> None:
        """A matrix of random trits."""
        trits = self._rng.integers(-1, 2, (rows, cols), np.int8)
        self._descriptor(Op.MATVEC, rows, ["release"] if release else [], tape.pack_matrix(self.config, trits),
                         place=cols)

    def _descriptor(self, op: Op, length: int, flags: Iterable[str], octets: bytes, **numbers: int) -> None:
        beats = len(octets) // self.config.beat_bytes
        self._put(tape.pack_descriptor(self.config, opcode=op, length=length, beats=beats, **dict.fromkeys(flags, 1),
                                       **numbers) + octets)

    # What parts are made of.

    def enter(self, *flags: str) -> None:
        """From the residual vector to codes, and the root that sums need."""
        self.op(Op.SCAN, self.hidden, *flags)
        self.op(Op.QUANTISE, self.hidden)
        self.op(Op.SQUARE, self.hidden, "weighted", "first", "last")

    def sums(self, rows: int) -> None:
        """From the residual vector to sums."""
        self.enter("weighted")
        self.matrix(rows, self.hidden)

    def leave(self, length: int) -> None:
        """From what was scanned to sums and candidates, in two tiles of which the second has other codes left."""
        first, second = self.tiles
        self.op(Op.QUANTISE, length)
        self.matrix(first, length, release=False)
        self.op(Op.LOGITS, first, "first")
        self.matrix(second, length)
        self.op(Op.LOGITS, second)


def _whole(length: int, step: int) -> int:
    return -(-length // step) * step


def _scan(to: _Writer) -> None:
    """``SCAN``, ``QUANTISE``, ``MATVEC`` and ``LOGITS``"""
    for flags in (["weighted"], []):
        to.enter(*flags)
        to.matrix(to.hidden, to.hidden)
        # Adds what was found, so that it is not lost with the second.
        to.op(Op.RESIDUAL, to.hidden, "weighted")
    to.leave(to.hidden)


def _residual(to: _Writer) -> None:
    """``RESIDUAL`` with a weight for all"""
    for flags in ([], ["weighted"]):
        to.sums(to.hidden)
        to.op(Op.RESIDUAL, to.hidden, *flags)
    to.leave(to.hidden)


def _square(to: _Writer) -> None:
    """``SQUARE`` of both vectors, with each combination of begin and end"""
    to.sums(to.state)
    to.op(Op.STORE, to.state, "first")
    for source, length in (([], to.hidden), (["source"], to.state)):
        for weighted in ([], ["weighted"]):
            # A sum of three parts, and one of a single part.
            parts: tuple[list[str], ...]
            for parts in ((["first"], [], ["last"]), (["first", "last"],)):
                for flags in parts:
                    to.op(Op.SQUARE, length, *source, *weighted, *flags)
                to.op(Op.SCAN, to.hidden)
                to.op(Op.QUANTISE, to.hidden)
                to.matrix(to.hidden, to.hidden)
                to.op(Op.RESIDUAL, to.hidden)
    to.leave(to.hidden)


def _gate(to: _Writer) -> None:
    """``GATE`` and ``GLU``"""
    for flags in ([], ["weighted"]):
        to.sums(to.state)
        to.op(Op.GATE, to.state, *flags)
        to.sums(to.state)
        to.op(Op.GLU, to.state, *flags)
        to.op(Op.QUANTISE, to.state)
        to.matrix(to.hidden, to.state)
        to.op(Op.RESIDUAL, to.hidden)
    to.leave(to.hidden)


def _silu(to: _Writer) -> None:
    """``SILU``"""
    to.sums(to.state)
    to.op(Op.SILU, to.state)
    to.sums(to.state)
    to.op(Op.GLU, to.state)
    to.leave(to.state)


def _store(to: _Writer) -> None:
    """``STORE``, of which the squares make a root"""
    for flags in (["first"], [], ["weighted", "first"], ["weighted"]):
        to.sums(to.state)
        to.op(Op.STORE, to.state, *flags)
        to.op(Op.SQUARE, to.state, "source", "last")
        to.op(Op.SCAN, to.hidden)
        to.op(Op.QUANTISE, to.hidden)
        to.matrix(to.hidden, to.hidden)
        to.op(Op.RESIDUAL, to.hidden)
    to.leave(to.hidden)


def _mlgru(to: _Writer) -> None:
    """``MLGRU``, and the memory of states"""
    for place in (0, 1):
        for flags in ([], ["weighted"]):
            to.sums(to.state)
            to.op(Op.GATE, to.state)
            to.sums(to.state)
            to.op(Op.STORE, to.state, "first")
            to.sums(to.state)
            to.op(Op.MLGRU, to.state, *flags, place=place)
            to.op(Op.QUANTISE, to.state)
            to.matrix(to.hidden, to.state)
            to.op(Op.RESIDUAL, to.hidden)
    to.leave(to.hidden)


#: Parts of the tape, each of which needs what those before have shown; the words of each say what is new in it.
PARTS = {"scan": _scan, "residual": _residual, "square": _square, "gate": _gate, "silu": _silu, "store": _store,
         "mlgru": _mlgru}


def exercises(config: Config) -> Tape:
    """The tape. Its marks are :data:`PARTS`; as ``layers`` and ``head`` it has the last of them, so that a machine can
    make tokens by itself.
    """
    to       = _Writer(config)
    rows     = to.embedding()
    marks    = {}
    places   = [0, to.beats]
    for name, write in PARTS.items():
        write(to)
        marks[name] = Mark(places[-1], to.beats - places[-1])
        places.append(to.beats)
    image    = to.image()
    beat     = config.beat_bytes
    sections = [Section(name, start, end - start, binascii.crc32(image[start * beat:end * beat].data))
                for name, start, end in zip(["embedding", *PARTS], places[:-1], places[1:], strict=True)]
    *_, last = marks.values()
    marks   |= {"layers": last, "head": Mark(last.start + last.count, 0)}
    return Tape(config=config, model={
        "name": "exercises", "vocab_size": to.vocab, "hidden_size": to.hidden, "state_size": to.state,
        "intermediate_size": to.state, "num_hidden_layers": 1, "bos_token_id": 0, "eos_token_id": None,
        "ternary_weights": 0, "embedding_start": 0, "embedding_beats": rows,
    }, sections=tuple(sections), marks=marks, image=image)
