"""The tape: a model laid out in exactly the order in which the machine consumes it.

A tape image is a sequence of beats. The machine plays it from one beat to another, once and in
order: a descriptor, the beats that belong to it, the next descriptor. Embedding rows are the one
thing read from a place that depends on data; they have no descriptor.

The vector unit owns these places, one of each for every slot:

======  ==============================================================================
``X``   residual vector, ``hidden`` elements
``T0``  forget gate ``z``, then ``silu(p)`` of the GLU, ``wide`` elements
``T1``  output gate ``g``, then the gated state, then the GLU product, ``wide`` elements
``Y``   weighted vector that is about to be quantised, ``wide`` elements
``H``   recurrent state, ``state`` elements
======  ==============================================================================

Codes (int8 activations) and sums (row sums of the array) pass through queues of two banks each:
``QUANTISE`` pushes codes, ``MATVEC`` takes them and pushes sums, the operation that dequantises
takes the sums. So the order on the tape is all that the two sides need to know of each other.
"""

import binascii
import dataclasses
import json
import operator
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
from amaranth.lib import data, enum

from terngen.hw.contract import bits, formats
from terngen.hw.contract.config import Config
from terngen.hw.contract.trits import TRITS_PER_BYTE, pack_trits, unpack_trits

__all__ = ["Op", "Descriptor", "Play", "Mark", "Section", "Tape", "TapeFormatError",
           "DESCRIPTOR_BYTES", "descriptor_beats", "longest", "pack_descriptor", "pack_matrix",
           "unpack_matrix", "pack_parameters", "unpack_parameters", "pack_embedding", "unpack_embedding", "walk",
           "MAGIC", "VERSION", "DRAINS", "SCANS"]


class Op(enum.Enum, shape=4):
    """What a descriptor asks for.

    ``acc`` are the sums in front of the queue; ``v = acc * s`` with the slot's scale
    ``s = (scale * peak) * root``. ``w`` is the parameter vector that follows the descriptor if
    ``weighted``, otherwise the constant ``weight``. Operations marked *scan* also set
    ``Y = y`` and ``peak = max |y|``.
    """

    #: ``X = w``: an embedding row; it stands in no descriptor.
    EMBED    = 0
    #: Multiply a ternary matrix of ``length`` rows and ``place`` columns by the codes in front.
    #: The codes stay for another matrix unless ``release``.
    MATVEC   = 1
    #: *scan*: ``y = X * w``.
    SCAN     = 2
    #: ``codes = int8(Y * (127 / peak))``.
    QUANTISE = 3
    #: Add the squares of ``y = X * w`` (or ``T1 * w`` if ``source``) to the sum of squares, which
    #: starts at zero if ``first``; if ``last``, also add the term ``scale`` (in the wide format),
    #: and ``root = 1 / sqrt(sum)``.
    SQUARE   = 4
    #: ``T0 = sigmoid(-v) * w``: the update gate.
    GATE     = 5
    #: ``T1 = v``, and the squares of ``v * w`` are added to the sum of squares, from zero if
    #: ``first``.
    STORE    = 6
    #: ``T0 = silu(v)``.
    SILU     = 7
    #: *scan*: ``h = H + T0 * (silu(v) - H)``; ``H = h``; ``T1 = T1 * silu(h)``; ``y = T1 * w``.
    #: The state starts at group ``place``.
    MLGRU    = 8
    #: *scan*: ``T1 = T0 * v``; ``y = T1 * w``.
    GLU      = 9
    #: *scan*: ``X = X + v``; ``y = X * w``.
    RESIDUAL = 10
    #: Offer ``acc`` to the sampler and ``s`` as scale of the logits. Rows are numbered from zero
    #: if ``first``, else on from the last tile, which then has rows for all lanes.
    LOGITS   = 11


#: Operations that take sums from the queue.
DRAINS = frozenset({Op.GATE, Op.STORE, Op.SILU, Op.MLGRU, Op.GLU, Op.RESIDUAL, Op.LOGITS})
#: Operations that set ``Y`` and the peak.
SCANS = frozenset({Op.SCAN, Op.MLGRU, Op.GLU, Op.RESIDUAL})


class Descriptor(data.Struct):
    """One step of the machine: 128 bits, little-endian, padded with zeros to whole beats.

    Vectors are whole groups of lanes; only ``MATVEC`` and ``LOGITS`` have any number of rows.
    """

    opcode:   Op    #: what it asks for
    weighted: 1     #: a parameter vector follows
    source:   1     #: SQUARE: T1 instead of X
    first:    1     #: SQUARE, STORE, LOGITS: start anew
    last:     1     #: SQUARE: take the root
    release:  1     #: MATVEC: the codes are not needed again
    reserved: 1     #: zero
    length:   18    #: elements, or rows
    place:    20    #: MATVEC: columns; MLGRU: first group of the state
    beats:    32    #: beats that follow and belong to this descriptor
    scale:    24    #: constant factor of the sums; SQUARE: the term
    weight:   24    #: constant weight where no parameters follow


#: Octets of a descriptor before padding.
DESCRIPTOR_BYTES = bits.size(Descriptor)


class Play(data.Struct):
    """A request to a tape source: `count` beats from beat `start` on."""

    start: 32
    count: 32


def descriptor_beats(config: Config) -> int:
    """Beats that one descriptor takes."""
    return -(-DESCRIPTOR_BYTES // config.beat_bytes)


def longest(config: Config, op: Op, *, source: int = 0) -> int:
    """Elements or rows that an operation has room for; `source` as in :class:`Descriptor`."""
    if op in (Op.MATVEC, Op.LOGITS):
        return config.rows
    if op in (Op.EMBED, Op.SCAN, Op.RESIDUAL) or op is Op.SQUARE and not source:
        return config.hidden
    return config.wide


def _whole_beats(config: Config, octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % config.beat_bytes)


def pack_descriptor(config: Config, **fields: Any) -> bytes:
    """A descriptor in whole beats."""
    return _whole_beats(config, bits.pack(Descriptor, **fields))


def pack_matrix(config: Config, trits: np.ndarray) -> bytes:
    """One row tile in whole beats.

    Column blocks come one after the other; within a block row groups, each one beat; within a
    beat rows, each ``lane_bytes`` octets of five trits. Trit ``j`` of octet ``t`` is column
    ``j * lane_bytes + t`` of the block, so that the trits that a table filler needs at the same time
    stand side by side. Missing rows and columns are zero.

    Parameters
    ----------
    trits : ``(rows, cols)`` of -1, 0, 1
    """
    rows, cols = trits.shape
    blocks, groups = config.blocks(cols), config.row_groups(rows)
    padded = np.zeros((groups, config.row_lanes, blocks, TRITS_PER_BYTE, config.lane_bytes), np.int8)
    padded.reshape(groups * config.row_lanes, -1)[:rows, :cols] = trits
    octets = pack_trits(padded.swapaxes(3, 4), config.variant.trit_code)
    return octets.transpose(2, 0, 1, 3).tobytes()          # (blocks, groups, row_lanes, lane_bytes)


def unpack_matrix(config: Config, octets: bytes | np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Trits ``(rows, cols)`` of a row tile; the inverse of :func:`pack_matrix`."""
    blocks, groups = config.blocks(cols), config.row_groups(rows)
    packed = np.frombuffer(octets, np.uint8).reshape(blocks, groups, config.row_lanes,
                                                     config.lane_bytes)
    trits = unpack_trits(packed.transpose(1, 2, 0, 3), config.variant.trit_code)
    return trits.swapaxes(3, 4).reshape(groups * config.row_lanes, -1)[:rows, :cols]


def pack_parameters(config: Config, codes: np.ndarray) -> bytes:
    """Parameters (codes of ``config.path.parameter``) in whole beats, 16 bits each."""
    return _whole_beats(config, np.asarray(codes).astype("<u2").tobytes())


def unpack_parameters(config: Config, octets: bytes | np.ndarray, length: int) -> np.ndarray:
    """`length` parameters as codes of the path format."""
    words = np.frombuffer(octets, "<u2")[:length].astype(np.int64)
    return formats.widen_parameter(config.path, words)


def pack_embedding(config: Config, codes: np.ndarray) -> bytes:
    """Embedding rows (codes ``(rows, hidden)`` of ``config.embedding_format``), each in whole beats."""
    rows, hidden = codes.shape
    padded = np.zeros((rows, config.embedding_beats(hidden) * config.beat_bits // config.embedding_bits),
                      f"<u{config.embedding_bits // 8}")
    padded[:, :hidden] = codes
    return padded.tobytes()


def unpack_embedding(config: Config, octets: bytes | np.ndarray, hidden: int) -> np.ndarray:
    """An embedding row as codes of the path format."""
    words = np.frombuffer(octets, f"<u{config.embedding_bits // 8}")[:hidden]
    return formats.convert(config.embedding_format, config.path, words)


# The file.

#: First octets of a tape file.
MAGIC = b"TERNTAPE"
#: Version of everything on this page.
VERSION = 1
_PREFIX = 24
_ALIGN  = 64


class TapeFormatError(ValueError):
    """What is in a tape file is not a tape, or not an intact one."""


@dataclasses.dataclass(frozen=True)
class Mark:
    """A part of the tape that can be played by itself: `count` beats from beat `start` on."""

    start: int
    count: int


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the image with a check sum: the embedding, one layer, the head."""

    name:  str
    start: int      # beats
    count: int      # beats
    crc32: int


_SECTION = operator.itemgetter(*(field.name for field in dataclasses.fields(Section)))


def _number(value: Any) -> int:
    """A number of octets or beats in the header of a tape, or a check sum."""
    if type(value) is not int or not 0 <= value < 1 << 48:
        raise ValueError(f"Numbers must be whole and not negative, not {value!r}")
    return value


@dataclasses.dataclass(frozen=True)
class Tape:
    """A model, compiled for one configuration.

    Parameters
    ----------
    config : :class:`Config`
        The machine that plays it.
    model : mapping
        Facts of the model: ``name``, ``vocab_size``, ``hidden_size``, ``bos_token_id``, ...; of a piece of a
        model also ``piece``, with its ``number`` from zero, how many ``pieces`` there are, and their ``family``, which
        is that of no other model.
    sections, marks
        Parts of the image. Every tape has the marks ``layers`` and ``head``. A whole model, and the first piece of one,
        has the section ``embedding``; other pieces have room for a residual vector of each slot instead, which belongs
        to no section, because what lies there changes.
    image : :class:`numpy.ndarray` of ``uint8``
        All beats; may be a memory map.
    tokenizer : :class:`bytes`
        ``tokenizer.json``, or nothing.
    """

    config:    Config
    model:     Mapping[str, Any]
    sections:  tuple[Section, ...]
    marks:     Mapping[str, Mark]
    image:     np.ndarray
    tokenizer: bytes = b""

    @property
    def rows(self) -> int:
        """Embedding rows: one for each token, or in later pieces of a model one for each slot."""
        piece = self.model.get("piece")
        return self.config.slots if piece is not None and piece["number"] else self.model["vocab_size"]

    @property
    def beats(self) -> int:
        """Beats of the image."""
        return len(self.image) // self.config.beat_bytes

    def section(self, name: str) -> Section:
        """The section of that name."""
        for section in self.sections:
            if section.name == name:
                return section
        raise KeyError(name)

    def header(self) -> bytes:
        """Everything before the image: prefix, metadata, padding.

        ======  ======================================================
        octets  prefix
        ======  ======================================================
        0-7     ``TERNTAPE``
        8-11    version, little-endian
        12-15   octets of metadata
        16-19   CRC-32 of the metadata
        20-23   CRC-32 of the tokenizer
        ======  ======================================================

        The metadata are JSON; the image begins at the next multiple of 64 octets.
        """
        meta = json.dumps({
            "digest":    self.config.digest.hex(),
            "config":    self.config.to_dict(),
            "model":     dict(self.model),
            "sections":  [dataclasses.asdict(section) for section in self.sections],
            "marks":     {name: [mark.start, mark.count] for name, mark in self.marks.items()},
            "image":     len(self.image),
            "tokenizer": len(self.tokenizer),
        }, sort_keys=True).encode()
        prefix = (MAGIC + VERSION.to_bytes(4, "little") + len(meta).to_bytes(4, "little")
                  + binascii.crc32(meta).to_bytes(4, "little")
                  + binascii.crc32(self.tokenizer).to_bytes(4, "little"))
        return prefix + meta + bytes(-(len(prefix) + len(meta)) % _ALIGN)

    @classmethod
    def open(cls, path: Any, *, check: bool = True) -> Self:
        """Read a tape file; the image stays a memory map.

        Raises
        ------
        TapeFormatError
            If the file is not a tape, is of another version, is cut short, or (with `check`) if
            a check sum is wrong.
        """
        try:
            octets = np.memmap(path, np.uint8, "r")
        except ValueError as error:     # an empty file cannot be mapped
            raise TapeFormatError(f"{path} is empty, not a tape") from error
        if octets[:8].tobytes() != MAGIC:
            raise TapeFormatError(f"{path} is not a tape: it begins with "
                                  f"{octets[:8].tobytes()!r}, not {MAGIC!r}")
        if len(octets) < _PREFIX:
            raise TapeFormatError(f"{path} is cut short in its header")
        version, size, crc, tokenizer_crc = np.frombuffer(octets[8:_PREFIX].tobytes(), "<u4")
        if version != VERSION:
            raise TapeFormatError(f"{path} is a tape of version {version}, this program reads "
                                  f"version {VERSION}; convert the model again")
        if _PREFIX + int(size) > len(octets):
            raise TapeFormatError(f"{path} is cut short in its header")
        meta = octets[_PREFIX:_PREFIX + int(size)].tobytes()
        if binascii.crc32(meta) != crc:
            raise TapeFormatError(f"{path} is damaged: the check sum of its header is wrong")
        try:
            fields  = json.loads(meta)
            config  = Config.from_dict(fields["config"])
            start   = _PREFIX + len(meta) + -(_PREFIX + len(meta)) % _ALIGN
            length  = _number(fields["image"])
            text    = _number(fields["tokenizer"])
            digest  = str(fields["digest"])
            tape    = cls(
                config    = config,
                model     = fields["model"],
                sections  = tuple(Section(str(name), _number(first), _number(count), _number(check_sum))
                                  for name, first, count, check_sum in map(_SECTION, fields["sections"])),
                marks     = {name: Mark(_number(first), _number(count))
                             for name, (first, count) in fields["marks"].items()},
                image     = octets[start:start + length],
                tokenizer = octets[start + length:start + length + text].tobytes())
            if not isinstance(tape.model, dict):
                raise TypeError("Model must be an object")
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise TapeFormatError(f"{path} has a header that does not describe a tape: "
                                  f"{error}") from error
        if len(octets) != start + length + text:
            raise TapeFormatError(f"{path} must have {start + length + text} octets, "
                                  f"not {len(octets)}")
        if length % config.beat_bytes:
            raise TapeFormatError(f"{path} has an image of {length} octets, which are not whole "
                                  f"beats of {config.beat_bytes}")
        if digest != config.digest.hex():
            raise TapeFormatError(f"{path} names configuration {digest!r}, but describes "
                                  f"{config.digest.hex()}")
        parts: list[tuple[str, Mark | Section]] = [
            *tape.marks.items(), *((section.name, section) for section in tape.sections)]
        for name, part in parts:
            if part.start + part.count > tape.beats:
                raise TapeFormatError(f"{path}: {name!r} does not lie within the image")
        for name in ("layers", "head"):
            if name not in tape.marks:
                raise TapeFormatError(f"{path} has no mark {name!r}")
        if check:
            tape.check(path)
            if binascii.crc32(tape.tokenizer) != tokenizer_crc:
                raise TapeFormatError(f"{path} is damaged: the check sum of its tokenizer is "
                                      f"wrong")
        return tape

    def check(self, path: Any = "tape") -> None:
        """Compare every section with its check sum.

        Raises
        ------
        TapeFormatError
            If a section is damaged; the message names it.
        """
        for section in self.sections:
            first = section.start * self.config.beat_bytes
            last  = first + section.count * self.config.beat_bytes
            if binascii.crc32(self.image[first:last].data) != section.crc32:
                raise TapeFormatError(f"{path} is damaged: the check sum of section "
                                      f"{section.name!r} is wrong")


def walk(config: Config, image: np.ndarray, mark: Mark) -> Iterator[tuple[int, dict[str, Any],
                                                                          np.ndarray]]:
    """Descriptors of a part of the tape: place in beats, fields, octets that follow.

    Raises
    ------
    TapeFormatError
        If there is no descriptor where one should be, or its beats run over the end.
    """
    beat, end = mark.start, mark.start + mark.count
    size = config.beat_bytes
    while beat < end:
        octets = image[beat * size:beat * size + DESCRIPTOR_BYTES].tobytes()
        if len(octets) < DESCRIPTOR_BYTES:
            raise TapeFormatError(f"Tape ends within the descriptor at beat {beat}")
        fields: dict[str, Any] = dict(bits.unpack(Descriptor, octets))
        try:
            fields["opcode"] = Op(fields["opcode"])
        except ValueError as error:
            raise TapeFormatError(f"There is no descriptor at beat {beat}: no operation has "
                                  f"number {fields['opcode']}") from error
        first = beat + descriptor_beats(config)
        after = first + fields["beats"]
        if after > end:
            raise TapeFormatError(f"Descriptor at beat {beat} claims beats up to {after}, the "
                                  f"part ends at {end}")
        yield beat, fields, image[first * size:after * size]
        beat = after
