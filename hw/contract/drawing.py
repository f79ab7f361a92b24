"""How a token is drawn from the best candidates of a slot, by its probability at a temperature.

Gumbel's way: to the logit of each candidate, divided by the temperature, a random number is added, and the largest
sum wins. With ``-ln(-ln(1 - v))`` of uniform ``v`` that draws from the softmax of what was added to; so neither an
exponential nor a quotient is needed. A score is fixed-point, with ``SCORE_BITS`` after the point. The random
numbers come from a table, whose cells are the narrower the smaller ``v`` is, but for their last bits, which are those
of the generator: so equal ones are rare.

The generator is a shift register with feedback (x^32 + x^22 + x^2 + x + 1, which is primitive), and each candidate
takes 32 bits of it. So what is drawn depends on the state that it began with and on what has been drawn since, and on
nothing else.

All functions are exact, and work on arrays as well as on single numbers; gateware equals them bit for bit.
"""

from __future__ import annotations

import functools
import hashlib
import math
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from terngen.hw.contract import formats
from terngen.hw.contract.floats import FloatFormat

__all__ = ["COLDNESS", "DISTANCE_BITS", "FIRST_BITS", "FRESH_BITS", "LARGEST_SLOPE", "NOISE_ENTRIES",
           "NOISE_WIDTH", "SCORE_BITS", "SLOPE_WIDTH", "coldness", "draw", "leap", "noise", "noise_index",
           "noise_table", "skip", "slope", "start"]

#: Format of one divided by the temperature.
COLDNESS = FloatFormat(6, 9)
#: Bits of a score after the point, of a random number, and of those of it that are not from the table.
SCORE_BITS, NOISE_WIDTH, FRESH_BITS = 10, 14, 3
#: Bits of the distance of a sum from the best one: of any machine.
DISTANCE_BITS = 23
#: Bits of a score for a distance of one, which has ``DISTANCE_BITS - 1`` more after the point. The largest one stands
#: for all above: what lies so far behind is never drawn.
SLOPE_WIDTH = NOISE_WIDTH + DISTANCE_BITS - 1
LARGEST_SLOPE = (1 << SLOPE_WIDTH) - 1
#: Bits among which the first one is looked for that is set, and bits of a cell between two powers of two.
FIRST_BITS, _CELL_BITS = 15, 6
#: Entries of the table of random numbers.
NOISE_ENTRIES = FIRST_BITS + 1 << _CELL_BITS
#: Added to all random numbers, so that none is negative.
_OFFSET = 2
#: Octets of the generator that a candidate takes.
_LEAPS = 4

Integers = NDArray[np.int64]
_State   = TypeVar("_State", int, Integers)


def start(seed: int) -> int:
    """State of the generator that a seed begins with; neighbours have nothing in common."""
    return int.from_bytes(hashlib.sha256(b"%d" % seed).digest()[:4], "little") or 1


def coldness(temperature: float) -> int:
    """Code of one divided by a temperature, which is above zero; the largest or zero where there is none."""
    largest = float(formats.to_float(COLDNESS, COLDNESS.largest))
    return int(formats.from_float(COLDNESS, min(1 / max(temperature, 1 / largest), largest)))


def leap(state: _State) -> _State:
    """The generator eight bits later."""
    fresh = (state ^ state >> 1 ^ state >> 2 ^ state >> 22) & 0xFF
    return fresh << 24 | state >> 8


def skip(state: int, candidates: int) -> int:
    """The generator after one of so many candidates was drawn."""
    for _ in range(_LEAPS * candidates):
        state = leap(state)
    return state


def noise_index(state: Integers) -> Integers:
    """Address in :func:`noise_table` of what the generator gives.

    ``v`` lies in [1/2, 1) if the first of its bits is set, in [1/4, 1/2) if the second is, and so on; where none is it
    lies below 2**-15. Between two such limits it has 64 cells.
    """
    first = state & (1 << FIRST_BITS) - 1
    zeros = FIRST_BITS - np.frexp(first.astype(np.float64))[1].astype(np.int64)
    return zeros << _CELL_BITS | state >> FIRST_BITS & (1 << _CELL_BITS) - 1


@functools.cache
def noise_table() -> Integers:
    """``2 - ln(-ln(1 - v))`` at the middle of each cell of :func:`noise_index`, without the last ``FRESH_BITS``."""
    zeros = np.arange(FIRST_BITS + 1)[:, None]
    cells = (np.arange(1 << _CELL_BITS) + 0.5) / (1 << _CELL_BITS)
    v     = np.where(zeros < FIRST_BITS, 0.5 ** (zeros + 1) * (1 + cells), 0.5 ** FIRST_BITS * cells)
    steps = 1 << FRESH_BITS
    exact = (_OFFSET - np.log(-np.log1p(-v))) * (1 << SCORE_BITS)
    table = np.rint((exact - (steps - 1) / 2) / steps).astype(np.int64).ravel()
    table = np.minimum(table, (1 << NOISE_WIDTH - FRESH_BITS) - 1)
    table.flags.writeable = False
    return table


def noise(state: Integers) -> Integers:
    """The random number that the generator gives."""
    fresh = state >> FIRST_BITS + _CELL_BITS & (1 << FRESH_BITS) - 1
    return noise_table()[noise_index(state)] << FRESH_BITS | fresh


def slope(scale: float, code: int) -> int:
    """What a distance of one takes from a score, rounded down: `scale` of the logits times the coldness of that
    `code`, both without their sign."""
    factor = float(formats.to_float(COLDNESS, code & COLDNESS.largest))
    exact  = math.ldexp(abs(scale) * factor, SCORE_BITS + DISTANCE_BITS - 1)
    return int(min(exact, LARGEST_SLOPE))


def draw(state: ArrayLike, steepness: int, sums: ArrayLike) -> tuple[Integers, Integers]:
    """Draw one of some candidates.

    Parameters
    ----------
    state : ``(...)``
        State of the generator.
    steepness : :class:`int`
        :func:`slope` of the logits.
    sums : ``(..., candidates)``
        Sums of the candidates, the best one first.

    Returns
    -------
    The candidate, ``(...)``, and the state afterwards. Of equal scores the first one wins.
    """
    now  = np.asarray(state, np.int64)
    sums = np.asarray(sums, np.int64)
    scores = []
    for place in range(sums.shape[-1]):
        for _ in range(_LEAPS):
            now = leap(now)
        loss = (sums[..., 0] - sums[..., place]) * steepness >> DISTANCE_BITS - 1
        scores.append(noise(now) - loss)
    return np.argmax(np.stack(scores, axis=-1), axis=-1), now
