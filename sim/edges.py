"""Tapes whose numbers lie where rounding decides, in each unit and each lane.

As those of :mod:`terngen.sim.hostile` they are valid, and no model would make them. There most numbers are drawn; here
scales and weights are chosen, of many that are drawn, for what no unit of that lane has met before: a product just
below the smallest value, a tie, a rest of one bit, terms that cancel.
"""

from collections import Counter

import numpy as np

from terngen.hw.contract import formats
from terngen.hw.contract.config import Config
from terngen.hw.contract.floats import FloatFormat
from terngen.hw.contract.tape import Op, Tape
from terngen.sim.hostile import Writer

__all__ = ["close_roots", "edge_tape", "gate_tape", "product_kinds", "sum_kinds"]

#: Scales, weights of each element, and those of a gate, of which one is taken.
_SCALES, _WEIGHTS, _GATES = 512, 48, 256

Codes = np.ndarray


def edge_tape(config: Config, seed: int, *, rounds: int = 8, vocab: int = 24) -> Tape:
    """A tape of operations at the edges, with a head as that of a hostile one.

    Parameters
    ----------
    config : :class:`Config`
        The machine.
    seed : :class:`int`
        Of all that is drawn.
    rounds : :class:`int`
        How often each operation comes.
    vocab : :class:`int`
        Rows of the head that are tokens.
    """
    return _Edges(config, seed, vocab).tape(rounds, 1)


def gate_tape(config: Config, seed: int, *, rounds: int = 8, vocab: int = 24) -> Tape:
    """As :func:`edge_tape`, of gates whose weights are chosen for what the operations behind them make of it."""
    return _Gates(config, seed, vocab).tape(rounds, 1)


def product_kinds(fmt: FloatFormat, a: Codes, b: Codes) -> Codes:
    """Of what kinds products are: a bit for each."""
    bits, top = fmt.mantissa_bits, (1 << fmt.exponent_bits) - 1
    (a_field, a), (b_field, b) = (_fields(fmt, codes) for codes in (a, b))
    product  = a * b
    tall     = product >> 2 * bits + 1
    dropped  = bits + tall
    kept     = product >> dropped & fmt.smallest - 1
    guard    = product >> dropped - 1 & 1
    rest     = product & (1 << dropped - 1) - 1
    up       = guard & ((kept & 1) | (rest != 0))
    exponent = a_field + b_field - fmt.bias + tall
    kinds    = _rounding(fmt, kept, up, exponent) << 0
    kinds   |= np.where(guard & (rest == 0), 1 << 16 + 2 * tall + (kept & 1), 0)
    # What is rounded up because of one bit, or is not although all others are set.
    single   = guard & (kept & 1 ^ 1) & (rest & rest - 1 == 0) & (rest != 0)
    kinds   |= np.where(single, 1 << 20 + np.minimum(_log2(rest), 15) + 16 * tall, 0)
    kinds   |= np.where((guard == 0) & (rest + 1 == 1 << dropped - 1), 1 << 52 + tall, 0)
    kinds   |= np.where(exponent < 0, 1 << 54 + np.minimum(_log2(np.maximum(-exponent, 1)), 4), 0)
    kinds   |= np.where(exponent > top, 1 << 59 + np.minimum(_log2(np.maximum(exponent - top, 1)), 3), 0)
    return np.where(product == 0, 0, kinds)


def sum_kinds(fmt: FloatFormat, a: Codes, b: Codes) -> Codes:
    """Of what kinds sums are: a bit for each."""
    bits = fmt.mantissa_bits
    swap = (a & fmt.largest) < (b & fmt.largest)
    large, small = np.where(swap, b, a), np.where(swap, a, b)
    differ = (a ^ b) >> fmt.width - 1 & 1
    (field, augend), (other, addend) = (_fields(fmt, codes) for codes in (large, small))
    distance = np.minimum(field - other, bits + 3)
    total    = (augend << distance) + np.where(differ == 1, -addend, addend)
    width    = _log2(np.maximum(total, 1))
    dropped  = np.maximum(width - bits, 0)
    kept     = total >> dropped & fmt.smallest - 1
    guard    = np.where(dropped > 0, total >> np.maximum(dropped - 1, 0) & 1, 0)
    rest     = total & (1 << np.maximum(dropped - 1, 0)) - 1
    up       = guard & ((kept & 1) | (rest != 0))
    exponent = field - distance + width - bits
    kinds    = _rounding(fmt, kept, up, exponent)
    kinds   |= np.where(addend != 0, 1 << 16 + distance + 16 * differ, 0)
    kinds   |= np.where((guard == 1) & (rest == 0), 1 << 48 + (kept & 1), 0)
    kinds   |= np.where((guard & (kept & 1 ^ 1) == 1) & (rest != 0) & (rest & rest - 1 == 0), 1 << 50, 0)
    # Places that a difference loses in front.
    kinds   |= np.where(differ == 1, 1 << 51 + np.clip(field - exponent, 0, 11), 0)
    return np.where(total == 0, 0, kinds)


def close_roots(fmt: FloatFormat, count: int) -> Codes:
    """Operands of the recurrence of :func:`~terngen.hw.contract.formats.inverse_root` whose results are closest to the
    middle between two codes."""
    size    = formats.root_bits(fmt)
    operand = np.arange(1 << size - 2, 1 << size)
    power   = fmt.mantissa_bits + 1 + size // 2
    # The last bit of a root decides how it is rounded.
    middle  = np.floor(2.0 ** power / np.sqrt(operand)).astype(np.int64) | 1
    return operand[np.argsort(np.abs((1 << 2 * power) - middle * middle * operand) / (operand * middle))[:count]]


def _fields(fmt: FloatFormat, codes: Codes) -> tuple[Codes, Codes]:
    """Exponent fields and significands."""
    field = codes >> fmt.mantissa_bits & (1 << fmt.exponent_bits) - 1
    return field, np.where(field == 0, 0, codes & fmt.smallest - 1 | fmt.smallest)


def _log2(values: Codes) -> Codes:
    """Number of the highest bit, of values above zero."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1


def _rounding(fmt: FloatFormat, kept: Codes, up: Codes, exponent: Codes) -> Codes:
    """Bits 0 to 15: a mantissa of ones, or of all but one in each part of it, that is rounded up, or not; below the
    smallest value, in the highest binade, and elsewhere."""
    zeros = fmt.smallest - 1 & ~kept
    part  = np.minimum(_log2(np.maximum(zeros, 1)) // 4, 2)
    which = np.where(zeros == 0, np.where(up == 1, 0, 1), np.where((up == 1) & (zeros & zeros - 1 == 0), 2 + part, -1))
    place = np.where(exponent == 0, 0, np.where(exponent == (1 << fmt.exponent_bits) - 1, 1, 2))
    kinds = np.where(which >= 0, 1 << 5 * place + np.maximum(which, 0), 0)
    return kinds | np.where((exponent == 0) & (up == 0), 1 << 15, 0)


class _Edges(Writer):
    """Writes a tape, and remembers what kinds of numbers each unit has met in each lane."""

    def __init__(self, config: Config, seed: int, vocab: int) -> None:
        super().__init__(config, seed, vocab)
        self.seen: Counter[tuple[str, int]] = Counter()
        self._begun = False

    def _operation(self) -> None:
        """Each of them once."""
        config = self._config
        if not self._begun:
            self._begun = True
            self._powers_of_four()
            self._close_roots()
            self._each_bin()
            self._few_rows()
            self._full_bin()
        self._root()
        place, length = self._parts[int(self._rng.integers(len(self._parts)))]
        length = min(length, config.hidden)
        # What follows takes what comes before, which must not be at an edge itself.
        for op in (Op.STORE, Op.GATE, Op.SILU):
            self._sum(length)
            self._choose(op, length)
        for before, op in ((Op.STORE, Op.MLGRU), (Op.SILU, Op.GLU), (Op.GATE, Op.MLGRU), (Op.GATE, Op.GLU)):
            self._sum(length)
            self._write(before, length, scale=self._scale_to(self._draw(-14, -9, -1, 3)))
            self._sum(length)
            self._choose(op, length, place)
        self._sum(length)
        self._choose(Op.RESIDUAL, length)

    def _powers_of_four(self) -> None:
        """Sums of squares whose root is exact, if all elements of the embedding row are; that of the first token is."""
        fmt, lanes = self._config.path.parameter, self._config.lanes
        for power in (-9, -2, 0, 1, 8):
            weight = fmt.one + (power << fmt.mantissa_bits)
            for length in (lanes, 2 * lanes, 8 * lanes):
                self._write(Op.SQUARE, length, weights=np.full(length, weight), first=1, last=1)

    def _close_roots(self) -> None:
        """Sums of squares whose root, in the middle between two codes or nearly so, is hard to round."""
        fmt, lanes = self._config.path, self._config.lanes
        for number, operand in enumerate(close_roots(fmt, 48).tolist()):
            # The term has the first bits of the sum, a square the others.
            below  = operand & (1 << operand.bit_length() - (fmt.mantissa_bits + 1)) - 1
            unit   = 2.0 ** (-formats.root_bits(fmt) + 2 * int(self._rng.integers(-4, 5)))
            value  = float(formats.to_float(fmt, self._machine.x[number % self._config.slots, 0])) or 1.0
            weight = formats.from_float(fmt.parameter, np.sqrt((below + 0.5) * unit) / value)
            self._write(Op.SQUARE, lanes, weights=np.where(np.arange(lanes) == 0, weight, 0), first=1, last=1,
                        scale=int(formats.from_float(fmt.wide, (operand - below) * unit)))

    def _full_bin(self) -> None:
        """So many squares that a bin gets as large as here it can: the longest vector, over and over."""
        fmt, machine, length = self._config.path, self._machine, min(self._config.wide, self._config.rows)
        self._sum(length)
        self._write(Op.STORE, length, scale=self._scale_to(0), first=1)
        # The largest squares of a bin in the middle.
        power  = (8 * (formats.bins(fmt) // 2) + 7 - fmt.wide.bias) / 2
        for slot in range(self._config.slots):
            values  = formats.to_float(fmt, machine.t1[slot, :length])
            weights = formats.from_float(fmt.parameter, 1.4 * 2.0 ** power / np.where(values == 0, 1.0, values))
            for number in range(16):
                self._write(Op.SQUARE, length, weights=weights, source=1, first=int(number == 0),
                            last=int(number == 15))

    def _each_bin(self) -> None:
        """Sums of squares that have but one bin, of each slot."""
        fmt, length = self._config.path, 4 * self._config.lanes
        for number in range(formats.bins(fmt)):
            for slot in range(self._config.slots):
                values = formats.to_float(fmt, self._machine.x[slot, :length])
                for last in range(2):
                    powers  = (8 * number + self._rng.integers(0, 8, length) - fmt.wide.bias) / 2
                    weights = formats.from_float(fmt.parameter, 2.0 ** powers / np.where(values == 0, 1.0, values))
                    self._write(Op.SQUARE, length, weights=weights, first=1 - last, last=last,
                                scale=number << fmt.mantissa_bits + 3)
        self._root()

    def _root(self) -> None:
        """A root that leaves something of the sums that it scales."""
        hidden = self._config.hidden
        self._write(Op.SQUARE, hidden, weights=self._near(self._config.path.parameter, hidden), first=1, last=1)

    def _few_rows(self) -> None:
        """Matrices of few rows and many columns, each behind one that the memory limits."""
        config = self._config
        self._scan(config.hidden)
        self._quantise(config.hidden)
        for rows in range(1, 5 * config.row_lanes + 1):
            for count in (min(config.rows, 16 * config.row_lanes), rows):
                self._matrix(count, release=False)
                self._write(Op.LOGITS, self._sums.pop(0), first=1, scale=self._scale_to(0))
        self._matrix(1, release=True)
        self._write(Op.LOGITS, self._sums.pop(0), first=1, scale=self._scale_to(0))

    def _sum(self, length: int) -> None:
        """Sums of so many rows."""
        hidden = self._config.hidden
        self._write(Op.SCAN, hidden, weights=self._near(self._config.path.parameter, hidden))
        self._quantise(self._alive(self._machine.y) or hidden)
        self._matrix(length, release=True)
        self._sums.pop(0)

    # What is chosen.

    def _scale_to(self, power: int, bank: int = 0) -> int:
        """A scale with which the largest of the sums in front, or behind them, is about that power of two."""
        largest = np.abs(self._machine._sums[bank].values[0]).max(keepdims=True)
        return int(self._scales_for(np.exp2([power]), largest, bank)[0])

    def _scales_for(self, wanted: np.ndarray, sums: np.ndarray, bank: int = 0) -> Codes:
        """Codes of scales that make these values of these sums of the first slot."""
        fmt, machine = self._config.path, self._machine
        root = formats.to_float(fmt, np.array([machine._sums[bank].peak[0], machine.root[0]])).prod() or 1.0
        return formats.from_float(fmt, wanted / (np.where(sums == 0, 1, sums) * root))

    def _magnitudes(self, count: int) -> np.ndarray:
        """As many as that at an edge of the format."""
        return np.array([self._edge() for _ in range(count)])

    def _choose(self, op: Op, length: int, place: int = 0) -> None:
        """An operation on the sums in front, with a scale and then with weights that give its units most of what is
        new to them."""
        config, fmt, machine = self._config, self._config.path, self._machine
        # Small sums as well: of others, and a scale that is not zero, there is no small value.
        sums   = machine._sums[0].values[0]
        small  = np.argsort(np.where(sums == 0, 1 << 30, np.abs(sums)))[:4]
        at     = np.where(self._rng.random(_SCALES) < 0.5, self._rng.integers(0, length, _SCALES),
                          self._rng.choice(small, _SCALES))
        x, t0  = (np.abs(formats.to_float(fmt, kept[0, at])) for kept in (machine.x, machine.t0))
        mixed  = 0.5 * np.where(self._rng.random(_SCALES) < 0.5, t0, 1)
        factor = {Op.SILU: 0.5, Op.GLU: t0, Op.MLGRU: mixed}.get(op, 1.0)
        wanted = self._magnitudes(_SCALES) / np.where(factor == 0, 1.0, factor)
        powers = np.exp2(self._rng.uniform(-fmt.mantissa_bits - 3, 4, _SCALES)) * np.where(x == 0, 1.0, x)
        # A vector that saturates spoils the rest of the step.
        wanted = np.where(self._rng.random(_SCALES) < (1.0 if op is Op.RESIDUAL else 0.5), powers, wanted)
        wanted = wanted * self._rng.choice([-1, 1], _SCALES)
        scales = self._scales_for(wanted, sums[at])

        units, results = self._units(op, scales, length, place)
        new  = sum(self._new(name, kinds) for name, kinds in units.items())
        best = int(np.argmax(new))
        for name, kinds in units.items():
            self._see(name, kinds[best:best + 1])
        if op is Op.SILU:
            self._write(op, length, scale=int(scales[best]))
            return
        values  = formats.to_float(fmt, results[best])                          # (slots, length)
        target  = np.array([values[slot] for slot in self._rng.integers(0, config.slots, _WEIGHTS)])
        edges   = self._magnitudes(_WEIGHTS * length).reshape(_WEIGHTS, length) / np.where(target == 0, 1.0, target)
        weights = formats.from_float(fmt.parameter, edges)
        weights[::3] = self._numbers(fmt.parameter, weights[::3].shape)
        wide    = formats.widen_parameter(fmt, weights)
        kinds   = product_kinds(fmt, results[best], wide[:, None])              # (weights, slots, length)
        taken   = []
        for element in range(length):
            lane  = element % config.lanes
            found = np.bitwise_or.reduce(kinds[..., element], axis=1)
            taken.append(int(np.argmax(np.bitwise_count(found & ~self.seen["tail", lane]))))
            self.seen["tail", lane] |= int(found[taken[-1]])
        fields = {"place": place} if op is Op.MLGRU else {"first": 1} if op is Op.STORE else {}
        self._write(op, length, scale=int(scales[best]), weights=weights[taken, np.arange(length)], **fields)

    def _new(self, name: str, kinds: Codes) -> Codes:
        """What is new to a unit, ``(scales,)``, of kinds ``(scales, slots, length)``; those at edges count more."""
        lanes = self._config.lanes
        found = np.stack([np.bitwise_or.reduce(kinds[..., lane::lanes], axis=(1, 2)) & ~self.seen[name, lane]
                          for lane in range(lanes)])
        return (np.bitwise_count(found) + 4 * np.bitwise_count(found & 0xFFFF)).sum(axis=0, dtype=np.int64)

    def _see(self, name: str, kinds: Codes) -> None:
        lanes = self._config.lanes
        for lane in range(lanes):
            self.seen[name, lane] |= int(np.bitwise_or.reduce(kinds[..., lane::lanes], axis=None))

    def _units(self, op: Op, scales: Codes, length: int, place: int, *, bank: int = 0,
               t0: Codes | None = None) -> tuple[dict[str, Codes], Codes]:
        """Kinds of what each unit meets, and results before they are weighted, ``(scales, slots, length)``; of the sums
        of a bank, and of what is in `t0` or might be."""
        config, fmt, machine = self._config, self._config.path, self._machine
        units: dict[str, Codes] = {}

        def multiply(name: str, a: Codes, b: Codes) -> Codes:
            multiplier = getattr(config.sites, name.removesuffix(" of h"))
            units[name] = units.get(name, 0) | product_kinds(fmt, a, b)
            return formats.multiply(fmt, a, b, multiplier)

        def add(name: str, a: Codes, b: Codes) -> Codes:
            units[name] = sum_kinds(fmt, a, b)
            return formats.add(fmt, a, b)

        def silu(name: str, values: Codes) -> Codes:
            return multiply(name, values, formats.sigmoid(fmt, values))

        sums  = machine._sums[bank]
        scale = formats.multiply(fmt, scales[:, None], sums.peak, config.sites.dequantise)
        scale = formats.multiply(fmt, scale, machine.root, config.sites.dequantise)
        v     = multiply("dequantise", formats.from_int(fmt, sums.values), scale[..., None])
        t1, x = (kept[:, :length] for kept in (machine.t1, machine.x))
        t0    = machine.t0[:, :length] if t0 is None else t0
        match op:
            case Op.GATE:
                return units, formats.sigmoid(fmt, formats.negate(fmt, v))
            case Op.SILU:
                return units, silu("silu", v)
            case Op.GLU:
                return units, multiply("glu", t0, v)
            case Op.RESIDUAL:
                return units, add("residual", x, v)
            case Op.MLGRU:
                start  = place * config.lanes
                h      = machine.h[machine.states, start:start + length]
                change = add("difference", silu("silu", v), formats.negate(fmt, h))
                h      = add("state", h, multiply("recurrence", t0, change))
                return units, multiply("output", t1, silu("silu of h", h))
        return units, v


class _Gates(_Edges):
    """As its base, of vectors in `t0` that are chosen element by element."""

    def _operation(self) -> None:
        place, length = max(self._parts, key=lambda part: part[1])
        length = min(length, self._config.hidden)
        self._root()
        self._sum(length)
        self._choose(Op.SILU, length)
        for op in (Op.MLGRU, Op.GLU):
            self._root()
            self._sum(length)
            self._write(Op.STORE, length, scale=self._scale_to(self._draw(-1, 0, 1)), first=1)
            self._gate(op, length, place)
        # Products just below the smallest value, which rounding lifts to it, or far below.
        self._gate(Op.GLU, length, place, below=True)

    def _gate(self, op: Op, length: int, place: int, *, below: bool = False) -> None:
        """A gate with weights that give the units of an operation behind it most of what is new to them."""
        config, fmt = self._config, self._config.path
        hidden = config.hidden
        self._write(Op.SCAN, hidden, weights=self._near(fmt.parameter, hidden))
        self._quantise(self._alive(self._machine.y) or hidden)
        for release in (False, True):
            self._matrix(length, release=release)
        self._sums.clear()
        power      = 15 - fmt.bias if below else self._draw(0, 1, 2)
        scales     = [self._scale_to(self._draw(0, 1)), self._scale_to(power, 1)]
        _, [gates] = self._units(Op.GATE, np.array(scales[:1]), length, place)
        # What is left of a state, or is added to it, is about as large as it was.
        factors    = self._rng.uniform(-1, 2, (_GATES, length)) * 2.0 ** (-13 if below else 0)
        weights    = formats.from_float(fmt.parameter, factors)
        t0         = formats.multiply(fmt, gates, formats.widen_parameter(fmt, weights)[:, None], config.sites.gate)
        units, _   = self._units(op, np.array(scales[1:]), length, place, bank=1, t0=t0)
        units      = {f"{name} below" if below else name: np.bitwise_or.reduce(kinds, axis=1)
                      for name, kinds in units.items() if len(kinds) == _GATES}
        taken      = []
        for element in range(length):
            lane = element % config.lanes
            new  = sum((np.bitwise_count(found) + 4 * np.bitwise_count(found & 0x1F)).astype(np.int64)
                       for name, kinds in units.items() for found in [kinds[:, element] & ~self.seen[name, lane]])
            taken.append(int(np.argmax(new)))
            for name, kinds in units.items():
                self.seen[name, lane] |= int(kinds[taken[-1], element])
        self._write(Op.GATE, length, scale=scales[0], weights=weights[taken, np.arange(length)])
        self._write(op, length, scale=scales[1], **({"place": place} if op is Op.MLGRU else {}))
