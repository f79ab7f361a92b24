"""The machine, in NumPy: what each descriptor does, to the bit.

The gateware is right when it equals this. Every element-wise value is a packed float code of
``config.path``; all arithmetic is in :mod:`terngen.hw.contract.formats`.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from terngen.hw.contract import formats, tape
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Op

__all__ = ["Event", "GoldenMachine", "MachineFault", "NO_CANDIDATE"]

#: Index of a candidate that the sampler has not seen yet.
NO_CANDIDATE = 0xFFFF_FFFF

#: Trits that are widened for BLAS at a time: few enough that they are still in the cache when it reads them.
_WIDE_TRITS = 1 << 18

Codes = np.ndarray
#: Place of a descriptor in beats, its fields, the octets that follow.
_Step = tuple[int, dict[str, Any], np.ndarray]


class MachineFault(Exception):
    """The tape asks for something that no machine can do: sums that nobody computed, for one."""


@dataclasses.dataclass(frozen=True)
class Event:
    """What one operation did; the fields are those of :mod:`terngen.hw.contract.trace`.

    Parameters
    ----------
    beat : :class:`int`
        Where the descriptor stands on the tape; -1 for an embedding row.
    slots : ``(slots,)``
        Slots that took part, in order.
    elements : mapping to ``(slots, length)``
    scalars : mapping to ``(slots,)``
    """

    op:       Op
    beat:     int
    slots:    np.ndarray
    elements: Mapping[str, np.ndarray]
    scalars:  Mapping[str, np.ndarray]


@dataclasses.dataclass
class _Bank:
    """One vector in a queue, with the peaks that its scale needs."""

    values: np.ndarray      # (slots, length)
    peak:   Codes           # (slots,)


def _row_sums(trits: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """``codes @ trits.T``: ``(rows, cols)`` of int8 and ``(slots, cols)`` to ``(slots, rows)``.

    Sums stay below 2**24, so that float32 is exact in any order of summation and BLAS does the work.
    Trits are kept in int8 and widened a few rows at a time, which is faster than to fetch four times
    as many octets from memory.
    """
    columns = np.ascontiguousarray(codes.T, np.float32)                 # (cols, slots)
    sums    = np.empty((len(trits), len(codes)), np.float32)
    step    = max(1, _WIDE_TRITS // trits.shape[1])
    for start in range(0, len(trits), step):
        rows = slice(start, start + step)
        np.matmul(trits[rows].astype(np.float32), columns, out=sums[rows])
    return sums.T.astype(np.int64)


class GoldenMachine:
    """Executes a tape, bit-exactly.

    Parameters
    ----------
    config : :class:`Config`
        The machine.
    image : ``(octets,)`` of ``uint8``
        The beats of the tape, which may change between steps; see :meth:`forget`.
    slots : :class:`int`
        Vectors served at once, by default those of `config`. Slots are independent, so any number
        computes the same.

    Raises
    ------
    MachineFault
        From the methods that play, if the tape makes no sense for this machine.
    """

    def __init__(self, config: Config, image: np.ndarray, *, slots: int | None = None) -> None:
        self.config  = config
        self.image   = image
        self.slots   = config.slots if slots is None else slots
        self.observe: Callable[[Event], None] | None = None
        #: Called with the name of a site and the operands of its products, which can be broadcast.
        self.observe_products: Callable[[str, Codes, Codes], None] | None = None
        self._walked:     set[tape.Mark] = set()
        self._steps:      dict[tape.Mark, list[_Step]] = {}
        self._matrices:   dict[tuple[int, int, int], np.ndarray] = {}
        self._parameters: dict[tuple[int, int], Codes] = {}
        fmt, count = config.path, self.slots

        def vector(length: int) -> Codes:
            return np.zeros((count, length), np.int64)

        self.x       = vector(config.hidden)
        self.t0      = vector(config.wide)
        self.t1      = vector(config.wide)
        self.y       = vector(config.wide)
        #: Recurrent states, and the one that each slot works on. Slots with the same one are consecutive
        #: tokens of a sequence: it passes through them in order.
        self.h       = vector(config.state)
        self.states  = np.arange(count)
        self.squares = vector(formats.bins(fmt))
        self.peak    = np.zeros(count, np.int64)
        self.factor  = np.zeros(count, np.int64)
        self.root    = np.zeros(count, np.int64)
        #: Scale of the logits, a code for each slot.
        self.scale   = np.zeros(count, np.int64)
        #: Best candidates, in order.
        self.top_index = np.full((count, config.top_k), NO_CANDIDATE, np.int64)
        self.top_sum   = np.full((count, config.top_k), -(1 << config.acc_width - 1), np.int64)
        #: Sums of the last row tile that was taken, ``(slots, rows)``.
        self.sums    = np.zeros((count, config.rows), np.int64)
        #: Sums of all row tiles of the last pass through the head, ``(slots, rows)`` each.
        self.head: list[np.ndarray] = []
        self._codes: deque[_Bank] = deque()
        self._sums:  deque[_Bank] = deque()
        self._row    = 0
        self._fresh  = np.zeros(count, np.bool_)        # slots that take their state as zero

    def forget(self, changed: range | None = None) -> None:
        """Drop what was decoded from the image, because it has changed; or these octets of it, if they were."""
        size = self.config.beat_bytes
        if changed is not None and not any(mark.start * size < changed.stop
                                           and changed.start < (mark.start + mark.count) * size
                                           for mark in self._walked):
            return
        self._walked.clear()
        self._steps.clear()
        self._matrices.clear()
        self._parameters.clear()

    def reset(self) -> None:
        """As after power-up: zero states, one for each slot, empty queues."""
        self.h[:] = 0
        self.states[:] = np.arange(self.slots)
        self._codes.clear()
        self._sums.clear()

    # The queues, for whoever looks at one unit alone.

    def push_sums(self, values: np.ndarray, peak: Codes) -> None:
        """Put sums ``(slots, length)`` into the queue, as if a matrix had been multiplied with codes
        of these peaks ``(slots,)``."""
        self._sums.append(_Bank(np.asarray(values), np.asarray(peak)))

    def pop_codes(self) -> np.ndarray:
        """Take the codes ``(slots, length)`` in front of the queue."""
        return self._codes.popleft().values

    # Playing.

    def embed(self, tokens: Mapping[int, int], start: int, beats: int, hidden: int) -> None:
        """Read the embedding row of each slot's token into ``X``."""
        size  = self.config.beat_bytes
        slots = np.array(sorted(tokens))
        for slot in slots:
            row    = start + tokens[int(slot)] * beats
            octets = self.image[row * size:(row + beats) * size]
            if len(octets) < beats * size:
                raise MachineFault(f"Token {tokens[int(slot)]} has no embedding on this tape")
            self.x[slot, :hidden] = tape.unpack_embedding(self.config, octets, hidden)
        self._report(Op.EMBED, -1, slots, {"value": self.x[slots, :hidden]})

    def play(self, mark: tape.Mark, slots: Sequence[int] | None = None, *,
             reset: Sequence[int] = (), vocab: int | None = None) -> None:
        """Play a part of the tape for some slots.

        Parameters
        ----------
        slots : sequence of :class:`int`
            Slots that take part; all of them by default.
        reset : sequence of :class:`int`
            Slots that take their state as zero.
        vocab : :class:`int`
            Rows of the head that are tokens.
        """
        on = np.arange(self.slots) if slots is None else np.array(sorted(slots), np.int64)
        self._fresh[:] = False
        self._fresh[list(reset)] = True
        limit = 1 << 32 if vocab is None else vocab
        for beat, fields, octets in self._walk(mark):
            self._execute(beat, fields, octets, on, limit)

    def _report(self, op: Op, beat: int, slots: np.ndarray, elements: Mapping[str, np.ndarray],
                **scalars: np.ndarray) -> None:
        if self.observe is not None:
            self.observe(Event(op, beat, slots, {name: np.array(value)
                                                 for name, value in elements.items()},
                               {name: np.array(value) for name, value in scalars.items()}))

    # What lies on the tape, decoded once.

    def _walk(self, mark: tape.Mark) -> Iterator[_Step]:
        if mark in self._steps:
            yield from self._steps[mark]
            return
        self._walked.add(mark)
        steps = []
        for step in tape.walk(self.config, self.image, mark):
            steps.append(step)
            yield step
        # Only where all of it was good, because what comes before a fault is executed.
        self._steps[mark] = steps

    def _matrix(self, beat: int, octets: np.ndarray, rows: int, cols: int) -> np.ndarray:
        key = (beat, rows, cols)
        if key not in self._matrices:
            if len(octets) != self.config.matrix_beats(rows, cols) * self.config.beat_bytes:
                raise MachineFault(f"Matrix of {rows} by {cols} at beat {beat} must take "
                                   f"{self.config.matrix_beats(rows, cols)} beats, not "
                                   f"{len(octets) // self.config.beat_bytes}")
            try:
                trits = tape.unpack_matrix(self.config, octets, rows, cols)
            except ValueError as error:
                raise MachineFault(f"Matrix at beat {beat} is not one of trits: {error}") from error
            # A copy, without the trits that fill up the last beats.
            self._matrices[key] = np.array(trits)                       # (rows, cols)
        return self._matrices[key]

    def _weights(self, beat: int, fields: Mapping[str, Any], octets: np.ndarray) -> Codes:
        length = fields["length"]
        if not fields["weighted"]:
            return np.full(1, fields["weight"], np.int64)
        key = (beat, length)
        if key not in self._parameters:
            if len(octets) != self.config.parameter_beats(length) * self.config.beat_bytes:
                raise MachineFault(f"Parameters at beat {beat} must take "
                                   f"{self.config.parameter_beats(length)} beats, not "
                                   f"{len(octets) // self.config.beat_bytes}")
            self._parameters[key] = tape.unpack_parameters(self.config, octets, length)
        return self._parameters[key]                                    # (length,)

    # Operations.

    def _execute(self, beat: int, fields: Mapping[str, Any], octets: np.ndarray,
                 on: np.ndarray, vocab: int) -> None:
        config, fmt = self.config, self.config.path
        op, length = fields["opcode"], fields["length"]
        longest = tape.longest(config, op, source=fields["source"])
        if not 0 < length <= longest:
            raise MachineFault(f"Descriptor at beat {beat} asks for {length} elements; this "
                               f"machine has room for {longest}")
        if op is not Op.MATVEC and not fields["weighted"] and fields["beats"]:
            raise MachineFault(f"Descriptor at beat {beat} has no parameters, so that no beats may "
                               f"follow it, not {fields['beats']}")

        if op is Op.MATVEC:
            self._matvec(beat, fields, octets, on)
            return
        if op is Op.QUANTISE:
            if len(self._codes) == 2:
                raise MachineFault(f"No bank is free for the codes at beat {beat}")
            product = self._product("quantise", self.y[on, :length], self.factor[on, None])
            codes   = np.zeros((self.slots, length), np.int64)
            codes[on] = formats.to_int8(fmt, product)
            self._codes.append(_Bank(codes, self.peak.copy()))
            self._report(op, beat, on, {"code": codes[on]})
            return
        if op is Op.EMBED:
            raise MachineFault(f"Descriptor at beat {beat} asks for an embedding row; a step "
                               f"does that")

        w = self._weights(beat, fields, octets)
        if op is Op.SCAN:
            y = self._product("norm", self.x[on, :length], w)
            self._scan(op, beat, on, y, {})
            return
        if op is Op.SQUARE:
            source = self.t1 if fields["source"] else self.x
            y = self._product("norm", source[on, :length], w)
            self._square(on, y, first=fields["first"])
            scalars = {}
            if fields["last"]:
                term = np.full((len(on), 1), fields["scale"], np.int64)
                self.squares[on] = formats.accumulate(fmt, self.squares[on], term)
                self.root[on]    = formats.inverse_root(fmt, self.squares[on])
                scalars["root"]  = self.root[on]
            self._report(op, beat, on, {"weighted": y}, **scalars)
            return

        # Everything else takes sums.
        if not self._sums:
            raise MachineFault(f"Descriptor at beat {beat} asks for sums that nobody computed")
        bank = self._sums.popleft()
        if bank.values.shape[1] != length:
            raise MachineFault(f"Descriptor at beat {beat} asks for {length} sums, there are "
                               f"{bank.values.shape[1]}")
        self.sums = bank.values
        acc   = bank.values[on]                                         # (slots, length)
        scale = self._product("dequantise", np.full(1, fields["scale"], np.int64), bank.peak[on])
        scale = self._product("dequantise", scale, self.root[on])
        if op is Op.LOGITS:
            self._logits(beat, on, acc, scale, first=fields["first"], vocab=vocab)
            return
        v = self._product("dequantise", formats.from_int(fmt, acc), scale[:, None])

        if op is Op.GATE:
            z = self._product("gate", formats.sigmoid(fmt, formats.negate(fmt, v)), w)
            self.t0[on, :length] = z
            self._report(op, beat, on, {"acc": acc, "weighted": z}, scale=scale)
        elif op is Op.STORE:
            self.t1[on, :length] = v
            y = self._product("norm", v, w)
            self._square(on, y, first=fields["first"])
            self._report(op, beat, on, {"acc": acc, "value": v, "weighted": y}, scale=scale)
        elif op is Op.SILU:
            value = self._silu(v)
            self.t0[on, :length] = value
            self._report(op, beat, on, {"acc": acc, "value": value}, scale=scale)
        elif op is Op.MLGRU:
            h = self._recurrence(on, v, fields["place"] * config.lanes)
            u = self._product("output", self.t1[on, :length], self._silu(h))
            self.t1[on, :length] = u
            y = self._product("norm", u, w)
            self._scan(op, beat, on, y, {"acc": acc, "value": u, "state": h}, scale=scale)
        elif op is Op.GLU:
            t = self._product("glu", self.t0[on, :length], v)
            self.t1[on, :length] = t
            y = self._product("norm", t, w)
            self._scan(op, beat, on, y, {"acc": acc, "value": t}, scale=scale)
        elif op is Op.RESIDUAL:
            x = formats.add(fmt, self.x[on, :length], v)
            self.x[on, :length] = x
            y = self._product("norm", x, w)
            self._scan(op, beat, on, y, {"acc": acc, "value": x}, scale=scale)

    def _product(self, site: str, a: Codes, b: Codes) -> Codes:
        """Products of one site."""
        if self.observe_products is not None:
            self.observe_products(site, a, b)
        return formats.multiply(self.config.path, a, b, getattr(self.config.sites, site))

    def _silu(self, values: Codes) -> Codes:
        return self._product("silu", values, formats.sigmoid(self.config.path, values))

    def _matvec(self, beat: int, fields: Mapping[str, Any], octets: np.ndarray,
                on: np.ndarray) -> None:
        rows, cols = fields["length"], fields["place"]
        if not self._codes:
            raise MachineFault(f"Matrix at beat {beat} has no codes to multiply")
        if len(self._sums) == 2:
            raise MachineFault(f"No bank is free for the sums of the matrix at beat {beat}")
        bank = self._codes.popleft() if fields["release"] else self._codes[0]
        if bank.values.shape[1] != cols:
            raise MachineFault(f"Matrix at beat {beat} has {cols} columns, the codes are "
                               f"{bank.values.shape[1]}")
        product = np.zeros((self.slots, rows), np.int64)
        product[on] = _row_sums(self._matrix(beat, octets, rows, cols), bank.values[on])
        self._sums.append(_Bank(product, bank.peak))

    def _scan(self, op: Op, beat: int, on: np.ndarray, y: Codes,
              elements: Mapping[str, np.ndarray], **scalars: np.ndarray) -> None:
        fmt = self.config.path
        self.y[on, :y.shape[1]] = y
        self.peak[on]   = formats.magnitude(fmt, y).max(axis=1)
        self.factor[on] = formats.reciprocal127(fmt, self.peak[on])
        self._report(op, beat, on, {**elements, "weighted": y}, **scalars, peak=self.peak[on],
                     factor=self.factor[on])

    def _square(self, on: np.ndarray, y: Codes, *, first: int) -> None:
        fmt = self.config.path
        if first:
            self.squares[on] = 0
        if self.observe_products is not None:
            self.observe_products("square", y, y)
        self.squares[on] = formats.accumulate(fmt, self.squares[on],
                                              formats.square(fmt, y, self.config.sites.square))

    def _recurrence(self, on: np.ndarray, v: Codes, start: int) -> Codes:
        """``h = h + z * (silu(v) - h)``, one product per state element."""
        fmt    = self.config.path
        length = v.shape[1]
        if start + length > self.config.state:
            raise MachineFault(f"State up to element {start + length} is needed; this machine "
                               f"has {self.config.state}")
        c = self._silu(v)
        z = self.t0[on, :length]

        def update(h: Codes, z: Codes, c: Codes) -> Codes:
            change = self._product("recurrence", z, formats.subtract(fmt, c, h))
            return formats.add(fmt, h, change)

        place = slice(start, start + length)
        index = self.states[on]
        fresh = self._fresh[on, None]
        if len(np.unique(index)) == len(index):
            self.h[index, place] = update(np.where(fresh, 0, self.h[index, place]), z, c)
            return self.h[index, place]
        states = np.empty_like(c)
        for step, state in enumerate(index):
            before = np.where(fresh[step], 0, self.h[state, place])
            states[step] = self.h[state, place] = update(before, z[step], c[step])
        return states

    def _logits(self, beat: int, on: np.ndarray, acc: np.ndarray, scale: Codes, *, first: int,
                vocab: int) -> None:
        if first:
            self._row  = 0
            self.head  = []
            self.top_index[on] = NO_CANDIDATE
            self.top_sum[on]   = -(1 << self.config.acc_width - 1)
        self.scale[on] = scale
        self.head.append(acc)
        rows  = min(acc.shape[1], max(0, vocab - self._row))
        sums  = np.concatenate([self.top_sum[on], acc[:, :rows]], axis=1)
        index = np.concatenate([self.top_index[on], np.broadcast_to(
            np.arange(self._row, self._row + rows), (len(on), rows))], axis=1)
        # Largest sum first; equal sums in the order of their rows.
        order = np.argsort(-sums, axis=1, kind="stable")[:, :self.config.top_k]
        self.top_sum[on]   = np.take_along_axis(sums, order, axis=1)
        self.top_index[on] = np.take_along_axis(index, order, axis=1)
        self._row += acc.shape[1]
        self._report(Op.LOGITS, beat, on, {"acc": acc}, scale=scale)
