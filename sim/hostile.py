"""Tapes that no model would make: every operation, at any length, with numbers from all over the format.

They are valid, so the gateware and the golden machine must agree on each of their values. A model asks for few of
the sums, exponents and orders that a machine has to stand.
"""

import binascii

import numpy as np

from terngen.hw.contract import formats, tape
from terngen.hw.contract.config import Config
from terngen.hw.contract.formats import FloatFormat
from terngen.hw.contract.tape import DRAINS, Mark, Op, Section, Tape
from terngen.sim.golden.machine import GoldenMachine

__all__ = ["MADE_WITH", "Writer", "hostile_tape", "hostile_tapes", "square_tape",
           "twin_tape"]

#: Token with which slot 0 makes a tape, from power-up on, and the others with those after it: with them many of the
#: numbers are at an edge of the format. The rows before it are made on purpose.
MADE_WITH = 6


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
    return Writer(config, seed, vocab).tape(operations, tiles)


def hostile_tapes(config: Config, count: int) -> list[Tape]:
    """So many, from seed 0 on; the other head of the first is so long that the numbers of its rows are."""
    return [hostile_tape(config, seed, tiles=4 if seed else 70) for seed in range(count)]


def square_tape(config: Config, *, operations: int = 200) -> Tape:
    """A tape of squares alone, so many sums of them, with numbers from all over the format."""
    return Writer(config, 0, 24).tape(0, 1, squares=operations)


def twin_tape(config: Config, seed: int) -> Tape:
    """A tape of a head alone, whose rows come in twos that are the same, with logits about as large as they get."""
    return _Twins(config, seed, 24).tape(0, 1)


class Writer:
    """Writes a tape while the golden machine plays it, so that most numbers land where they tell something."""

    def __init__(self, config: Config, seed: int, vocab: int) -> None:
        self._config  = config
        self._rng     = np.random.default_rng(seed)
        self._vocab   = vocab
        self._hidden  = config.hidden - config.lanes * self._draw(0, 0, 1)
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

    def tape(self, operations: int, tiles: int, squares: int = 0) -> Tape:
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
            machine.embed({slot: MADE_WITH + slot}, 0, beats, self._hidden)
        # The scale of all sums, which is zero after power-up.
        self._scan(self._length(config.hidden))
        self._square(last=True)
        for _ in range(operations):
            self._operation()
        while self._sums or self._codes:
            self._empty()
        for _ in range(squares):
            self._spread()
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

    def _near(self, fmt: FloatFormat, shape: int | tuple[int, int]) -> np.ndarray:
        """Codes near one and minus one."""
        others = self._rng.integers(0, 1 << fmt.width, shape) & ~(fmt.largest & -fmt.smallest)
        return others | self._rng.integers(-3, 3, shape) + fmt.bias << fmt.mantissa_bits

    def _numbers(self, fmt: FloatFormat, shape: int | tuple[int, int]) -> np.ndarray:
        """Codes: near one, from all over, corners, or a mixture."""
        near   = self._near(fmt, shape)
        signs  = self._rng.integers(0, 2, shape) << fmt.width - 1
        others = self._rng.integers(0, 1 << fmt.width, shape)
        corners = self._rng.choice([0, 1, fmt.smallest - 1, fmt.smallest, fmt.smallest + 1, fmt.one - 1, fmt.one,
                                    fmt.one + 1, fmt.largest - 1, fmt.largest], shape) | signs
        # Few vectors of extremes only: what has been zero or the largest value stays it.
        kind   = self._rng.choice(4, p=[0.8, 0.06, 0.06, 0.08])
        which  = self._rng.choice(3, shape, p=[0.9, 0.05, 0.05]) if kind == 3 else kind
        return np.where(which == 0, near, np.where(which == 1, others, corners))

    def _weights(self, values: np.ndarray | None, length: int) -> np.ndarray:
        """Parameters; where the values that they weigh are known, often such that products are at an edge."""
        path, fmt = self._config.path, self._config.path.parameter
        if values is None or self._rng.random() < 0.85:
            return self._numbers(fmt, length)
        floats = formats.to_float(path, values[:length])
        edges  = np.array([self._edge() for _ in range(length)])
        return formats.from_float(fmt, edges / np.where(floats == 0, 1.0, floats))

    def _embedding(self) -> np.ndarray:
        """Rows whose codes are all as large as can be, or zero, or cancel, and others."""
        fmt, count = self._config.embedding_format, self._hidden
        minus = 1 << fmt.width - 1
        rows  = np.concatenate([(self._near if row % 3 else self._numbers)(fmt, (1, count))
                                for row in range(self._vocab)])
        rows[0] = fmt.one
        rows[1] = 0
        rows[2] = fmt.one | np.where(np.arange(count) % 2, minus, 0)
        rows[3] = fmt.largest | minus
        rows[4] = fmt.smallest
        rows[5] = np.where(np.arange(count) == count - 1, fmt.largest, 1)
        # Those that the tape is made with.
        rows[MADE_WITH:MADE_WITH + self._config.slots] = self._near(fmt, (self._config.slots, count))
        return rows

    def _trits(self, rows: int, cols: int) -> np.ndarray:
        """Some rows that are all the same, and others of any density."""
        trits = self._rng.choice([-1, 0, 1], (rows, cols), p=self._rng.dirichlet([1, 1, 1]))
        for row, value in zip(self._rng.permutation(rows), (-1, 0, 1), strict=False):
            trits[row] = value
        return trits

    # Operations.

    def _write(self, op: Op, length: int, *, values: np.ndarray | None = None, weights: np.ndarray | None = None,
               scale: int = 0, **fields: int) -> None:
        """A descriptor, with parameters, those or others, or without; the golden machine plays it."""
        config, fmt = self._config, self._config.path
        octets = b""
        if op not in (Op.QUANTISE, Op.SILU, Op.LOGITS):
            if weights is not None or self._rng.random() < 0.7:
                octets = tape.pack_parameters(config, self._weights(values, length) if weights is None else weights)
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

    def _edge(self) -> float:
        """A magnitude just below the smallest or at the largest value, with a mantissa of ones, or of all but one, that
        quarters of a place take over the edge."""
        fmt = self._config.path
        significand = 2 * fmt.smallest - 1 ^ self._draw(0, 1) << int(self._rng.integers(fmt.mantissa_bits))
        exponent    = self._draw(0, (1 << fmt.exponent_bits) - 1) - fmt.bias - fmt.mantissa_bits
        return (significand + self._draw(0, 1, 2, 3, 4) / 4) * 2.0 ** exponent

    def _scale_for(self, op: Op = Op.LOGITS) -> int:
        """A scale of the sums in front: mostly one that makes values near one of them, or, of one of them, such a value
        that what the operation makes of it is at an edge of the format, or about to change the last place."""
        fmt, machine = self._config.path, self._machine
        # A residual vector that saturates spoils the rest of the step.
        kind = self._rng.choice(4, p=[0.02, 0.55, 0.03, 0.4] if op is Op.RESIDUAL else [0.05, 0.65, 0.3, 0])
        if kind == 0:
            return int(self._numbers(fmt, 1)[0])
        bank  = machine._sums[0]
        sums  = np.abs(bank.values[0])
        place = int(self._rng.choice(np.flatnonzero(sums))) if sums.any() else 0
        factor = float(formats.to_float(fmt, machine.t0[0, place])) if op is Op.GLU else 1.0
        augend = float(formats.to_float(fmt, machine.x[0, place])) if op is Op.RESIDUAL else 0.0
        if kind == 1 or kind == 3 and augend == 0:
            wanted, sums = 2.0 ** int(self._rng.integers(-3, 6)), sums.max(keepdims=True)
            place  = 0
        elif kind == 2:
            wanted = self._edge() / (abs(factor) or 1.0)
        else:
            wanted = abs(augend) * 2.0 ** (int(self._rng.integers(-3, 3)) - fmt.mantissa_bits)
        root   = formats.to_float(fmt, np.array([bank.peak[0], machine.root[0]])).prod()
        signs  = self._draw(-1, 1)
        return int(formats.from_float(fmt, signs * wanted / ((sums[place] or 1) * (root or 1.0))))

    def _scan(self, length: int) -> None:
        self._write(Op.SCAN, length, values=self._machine.x[0])

    def _quantise(self, length: int) -> None:
        self._codes.append(length)
        self._write(Op.QUANTISE, length)

    def _head(self, tiles: list[int]) -> None:
        for index, rows in enumerate(tiles):
            self._matrix(rows, release=index == len(tiles) - 1)
            self._write(Op.LOGITS, self._sums.pop(0), first=int(index == 0), scale=self._scale_for())

    def _square(self, *, last: bool) -> None:
        config, fmt, machine = self._config, self._config.path, self._machine
        while True:
            source = int(self._alive(machine.t1) > 0 and self._rng.random() < 0.5)
            length = self._length(tape.longest(config, Op.SQUARE, source=source))
            self._write(Op.SQUARE, length, values=(machine.t1 if source else machine.x)[0], source=source,
                        first=int(self._rng.random() < 0.8), last=int(last), scale=int(self._numbers(fmt.wide, 1)[0]))
            # A root at an edge leaves nothing of the sums that it scales, so mostly another one follows.
            if abs((int(machine.root[0]) >> fmt.mantissa_bits) - fmt.bias) < fmt.bias // 2 or self._rng.random() < 0.2:
                break

    def _spread(self) -> None:
        """A sum of squares of any size: of different ones, or of many that are the same, as large as its bin takes."""
        config, fmt, rng = self._config, self._config.path, self._rng
        length = config.lanes * (config.hidden // config.lanes)
        fields = {"opcode": Op.SQUARE, "length": length, "first": int(rng.random() < 0.5), "last": 1,
                  "scale": int(rng.integers(1 << fmt.wide.width))}
        if rng.random() < 0.3:
            self._play(tape.pack_descriptor(config, weight=int(rng.integers(1 << fmt.width)), **fields))
            return
        octets = tape.pack_parameters(config, rng.integers(0, 1 << fmt.parameter.width, length))
        self._play(tape.pack_descriptor(config, weighted=1, beats=len(octets) // config.beat_bytes, **fields) + octets)

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
        if len(self._codes) < 2 and self._alive(self._machine.y):
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
                self._quantise(self._alive(self._machine.y) if self._rng.random() < 0.8
                               else self._length(self._config.wide))
            case "matrix":
                # Any number of rows is one of a head; most other operations want the length of a part of the state.
                longest = min(self._config.rows, self._config.wide)
                lengths = [length for _, length in self._parts]
                lengths += [self._length(longest), self._length(self._config.hidden)]
                rows    = self._draw(*lengths, int(self._rng.integers(1, self._config.rows + 1)))
                self._matrix(rows, release=self._rng.random() < 0.6)
            case _:
                self._drain()

    def _drain(self) -> None:
        length = self._sums.pop(0)
        places = [place for place, part in self._parts if part == length]
        ops    = [Op.LOGITS]
        if length % self._config.lanes == 0 and length <= self._config.wide:
            # What takes vectors when there is something in them, and else what makes them.
            t0, t1 = (self._alive(place) >= length for place in (self._machine.t0, self._machine.t1))
            ops += [Op.GATE, Op.SILU] * (1 if t0 else 4) + [Op.STORE] * (1 if t1 else 4) + [Op.GLU] * (3 if t0 else 1)
            ops += [Op.RESIDUAL] * 3 * (length <= self._config.hidden)
            ops += [Op.MLGRU] * (8 if t0 and t1 else 1) * bool(places)
        op = ops[self._rng.integers(len(ops))]
        assert op in DRAINS
        fields = {"scale": self._scale_for(op)}
        if op is Op.MLGRU:
            fields["place"] = self._draw(*places)
        if op in (Op.STORE, Op.LOGITS):
            fields["first"] = self._draw(0, 1)
        self._write(op, length, **fields)

    def _alive(self, place: np.ndarray) -> int:
        """The longest vector in a place of which most is not zero."""
        lanes = self._config.lanes
        there = np.cumsum(place[0] != 0)[lanes - 1::lanes] * 2 > np.arange(lanes, place.shape[1] + 1, lanes)
        return lanes * (1 + int(np.flatnonzero(there).max(initial=-1)))

    def _empty(self) -> None:
        """Take what waits in the queues."""
        if self._sums:
            self._drain()
        else:
            self._matrix(self._length(self._config.rows), release=True)


class _Twins(Writer):
    """Writes a head whose tokens come in twos."""

    def _trits(self, rows: int, cols: int) -> np.ndarray:
        return np.repeat(super()._trits(rows, cols), 2, axis=0)[:rows]

    def _scale_for(self, op: Op = Op.LOGITS) -> int:
        return self._config.path.largest
