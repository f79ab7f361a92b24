"""Tapes that no model would make: every operation, at any length, with numbers from all over the format.

They are valid, so the gateware and the golden machine must agree on each of their values. A model asks for few of
the sums, exponents and orders that a machine has to stand.
"""

import binascii

import numpy as np

from terngen.hw.contract import tape
from terngen.hw.contract.config import Config
from terngen.hw.contract.formats import FloatFormat
from terngen.hw.contract.tape import DRAINS, Mark, Op, Section, Tape
from terngen.sim.golden.machine import GoldenMachine

__all__ = ["hostile_tape"]

#: Rows of the embedding that are made on purpose; the others are drawn.
_CORNERS = 6


def hostile_tape(config: Config, seed: int, *, operations: int = 80, vocab: int = 24, tiles: int = 4) -> Tape:
    """A tape of random operations, a head, and another head, ``rows``, of many more rows.

    Parameters
    ----------
    config : :class:`Config`
        The machine.
    seed : :class:`int`
        Of all that is drawn.
    operations : :class:`int`
        Descriptors before the head, at least.
    vocab : :class:`int`
        Rows of the head that are tokens.
    tiles : :class:`int`
        Tiles of the other head.
    """
    return _Writer(config, seed, vocab).tape(operations, tiles)


class _Writer:
    """Writes a tape while the golden machine plays it, so that most numbers land where they tell something."""

    def __init__(self, config: Config, seed: int, vocab: int) -> None:
        self._config  = config
        self._rng     = np.random.default_rng(seed)
        self._vocab   = vocab
        self._hidden  = self._length(config.hidden)
        self._image   = bytearray()
        self._machine = GoldenMachine(config, np.zeros(0, np.uint8))
        self._codes: list[int] = []
        self._sums:  list[int] = []
        # Parts of the state, each for operations of one length.
        longest = min(config.wide, config.rows)
        self._parts, place = [], 0
        while place < config.groups(config.state):
            length = min(self._length(longest), config.state - place * config.lanes)
            self._parts.append((place, length))
            place += config.groups(length)

    def tape(self, operations: int, tiles: int) -> Tape:
        """All of it."""
        config, size = self._config, self._config.beat_bytes
        sections = []

        def end(name: str, start: int) -> Mark:
            octets = self._image[start * size:]
            sections.append(Section(name, start, len(octets) // size, binascii.crc32(octets)))
            return Mark(start, len(octets) // size)

        self._image += tape.pack_embedding(config, self._embedding())
        embedding = end("embedding", 0)
        machine   = self._machine
        machine.image = np.frombuffer(bytes(self._image), np.uint8)
        beats = config.embedding_beats(self._hidden)
        for slot in range(config.slots):
            machine.embed({slot: _CORNERS + slot}, 0, beats, self._hidden)
        # The scale of all sums, which is zero after power-up.
        self._scan(self._length(config.hidden))
        self._square(last=True)
        for _ in range(operations):
            self._operation()
        while self._sums or self._codes:
            self._empty()
        layers = end("layers", embedding.count)
        self._scan(self._hidden)
        self._quantise(self._length(config.wide))
        self._head([min(config.rows, self._vocab), min(config.rows, 5)])
        head = end("head", layers.start + layers.count)
        self._scan(self._hidden)
        self._quantise(min(config.wide, config.lanes * config.groups(config.block_cols)))
        self._head([config.rows] * tiles)
        many = end("rows", head.start + head.count)
        return Tape(config=config, sections=tuple(sections), marks={"layers": layers, "head": head, "rows": many},
                    image=np.frombuffer(bytes(self._image), np.uint8),
                    model={"name": "hostile", "vocab_size": self._vocab, "hidden_size": self._hidden,
                           "embedding_start": 0, "embedding_beats": beats})

    # What is drawn.

    def _draw(self, *choices: int) -> int:
        return int(self._rng.choice(choices))

    def _length(self, longest: int) -> int:
        """Whole groups of lanes: often as many as there are, or one less, or one."""
        lanes  = self._config.lanes
        groups = longest // lanes
        return lanes * self._draw(1, max(1, groups - 1), groups, *self._rng.integers(1, groups + 1, 4))

    def _numbers(self, fmt: FloatFormat, shape: int | tuple[int, int]) -> np.ndarray:
        """Codes: near one, from all over, corners, or a mixture."""
        near   = (self._rng.integers(-3, 3, shape) + fmt.bias << fmt.mantissa_bits) | self._rng.integers(
            0, 1 << fmt.mantissa_bits, shape)
        signs  = self._rng.integers(0, 2, shape) << fmt.width - 1
        near   = near | signs
        others = self._rng.integers(0, 1 << fmt.width, shape)
        corners = self._rng.choice([0, 1, fmt.smallest - 1, fmt.smallest, fmt.smallest + 1, fmt.one - 1, fmt.one,
                                    fmt.one + 1, fmt.largest - 1, fmt.largest], shape) | signs
        kind   = self._draw(0, 0, 0, 1, 2, 3)
        which  = self._rng.choice(3, shape, p=[0.9, 0.05, 0.05]) if kind == 3 else kind
        return np.where(which == 0, near, np.where(which == 1, others, corners))

    def _embedding(self) -> np.ndarray:
        """Rows whose codes are all as large as can be, or zero, or cancel, and others."""
        fmt, count = self._config.embedding_format, self._hidden
        minus = 1 << fmt.width - 1
        rows  = np.concatenate([self._numbers(fmt, (1, count)) for _ in range(self._vocab)])
        rows[0] = fmt.one
        rows[1] = 0
        rows[2] = fmt.one | np.where(np.arange(count) % 2, minus, 0)
        rows[3] = fmt.largest | minus
        rows[4] = fmt.smallest
        rows[5] = np.where(np.arange(count) == count - 1, fmt.largest, 1)
        return rows

    def _trits(self, rows: int, cols: int) -> np.ndarray:
        """Some rows that are all the same, and others of any density."""
        trits = self._rng.choice([-1, 0, 1], (rows, cols), p=self._rng.dirichlet([1, 1, 1]))
        for row, value in zip(self._rng.permutation(rows), (-1, 0, 1), strict=False):
            trits[row] = value
        return trits

    # Operations.

    def _write(self, op: Op, length: int, *, scale: int = 0, **fields: int) -> None:
        """A descriptor, with parameters or without; the golden machine plays it."""
        config, fmt = self._config, self._config.path
        octets = b""
        if op not in (Op.QUANTISE, Op.SILU, Op.LOGITS):
            if self._rng.random() < 0.7:
                octets = tape.pack_parameters(config, self._numbers(fmt.parameter, length))
                fields["weighted"] = 1
            else:
                fields["weight"] = int(self._numbers(fmt, 1)[0])
        self._play(tape.pack_descriptor(config, opcode=op, length=length, scale=scale,
                                        beats=len(octets) // config.beat_bytes, **fields) + octets)

    def _play(self, octets: bytes) -> None:
        size  = self._config.beat_bytes
        start = len(self._image) // size
        self._image += octets
        self._machine.image = np.frombuffer(bytes(self._image), np.uint8)
        self._machine.play(Mark(start, len(octets) // size), vocab=self._vocab)

    def _exponent(self, codes: np.ndarray) -> int:
        """That of the largest of some codes."""
        return int(codes.max() & self._config.path.largest) >> self._config.path.mantissa_bits

    def _scale_for(self) -> int:
        """A scale of the sums in front: mostly one that makes values near one of them."""
        fmt = self._config.path
        if self._rng.random() < 0.1:
            return int(self._numbers(fmt, 1)[0])
        bank     = self._machine._sums[0]
        sums     = int(np.abs(bank.values).max()).bit_length()
        wanted   = self._draw(-2, -1, 0, 1, 2, 3, 4, *self._rng.integers(-fmt.bias, fmt.bias, 2))
        exponent = (3 * fmt.bias + wanted - sums - self._exponent(bank.peak) - self._exponent(self._machine.root))
        exponent = min(max(exponent, 0), (1 << fmt.exponent_bits) - 1)
        return int(self._draw(0, 1) << fmt.width - 1 | exponent << fmt.mantissa_bits
                   | int(self._rng.integers(1 << fmt.mantissa_bits)))

    def _scan(self, length: int) -> None:
        self._write(Op.SCAN, length)

    def _quantise(self, length: int) -> None:
        self._codes.append(length)
        self._write(Op.QUANTISE, length)

    def _head(self, tiles: list[int]) -> None:
        for index, rows in enumerate(tiles):
            self._matrix(rows, release=index == len(tiles) - 1)
            self._write(Op.LOGITS, self._sums.pop(0), first=int(index == 0), scale=self._scale_for())

    def _square(self, *, last: bool) -> None:
        source = self._draw(0, 1)
        length = self._length(tape.longest(self._config, Op.SQUARE, source=source))
        self._write(Op.SQUARE, length, source=source, first=self._draw(0, 1), last=int(last),
                    scale=int(self._numbers(self._config.path.wide, 1)[0]))

    def _matrix(self, rows: int, *, release: bool) -> None:
        config, cols = self._config, self._codes[0]
        octets = tape.pack_matrix(config, self._trits(rows, cols))
        self._play(tape.pack_descriptor(config, opcode=Op.MATVEC, length=rows, place=cols, release=int(release),
                                        beats=len(octets) // config.beat_bytes) + octets)
        self._sums.append(rows)
        if release:
            self._codes.pop(0)

    def _operation(self) -> None:
        """One that is possible now."""
        kinds = ["scan", "square"]
        if len(self._codes) < 2:
            kinds += ["quantise"] * 3
        if self._codes and len(self._sums) < 2:
            kinds += ["matrix"] * 5
        if self._sums:
            kinds += ["drain"] * 5
        match kinds[self._rng.integers(len(kinds))]:
            case "scan":
                self._scan(self._length(self._config.hidden))
            case "square":
                self._square(last=self._rng.random() < 0.7)
            case "quantise":
                self._quantise(self._length(self._config.wide))
            case "matrix":
                # Any number of rows is one of a head; most other operations want the length of a part of the state.
                longest = min(self._config.rows, self._config.wide)
                rows    = self._draw(*(length for _, length in self._parts), self._length(longest),
                                     int(self._rng.integers(1, self._config.rows + 1)))
                self._matrix(rows, release=self._rng.random() < 0.6)
            case _:
                self._drain()

    def _drain(self) -> None:
        length = self._sums.pop(0)
        places = [place for place, part in self._parts if part == length]
        ops    = [Op.LOGITS]
        if length % self._config.lanes == 0 and length <= self._config.wide:
            ops += [Op.GATE, Op.STORE, Op.SILU, Op.GLU]
            ops += [Op.RESIDUAL] * 3 * (length <= self._config.hidden) + [Op.MLGRU] * 6 * bool(places)
        op = ops[self._rng.integers(len(ops))]
        assert op in DRAINS
        fields = {"scale": self._scale_for()}
        if op is Op.MLGRU:
            fields["place"] = self._draw(*places)
        if op in (Op.STORE, Op.LOGITS):
            fields["first"] = self._draw(0, 1)
        self._write(op, length, **fields)

    def _empty(self) -> None:
        """Take what waits in the queues."""
        if self._sums:
            self._drain()
        else:
            self._matrix(self._length(self._config.rows), release=True)
