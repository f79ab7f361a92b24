"""Five trits in one byte: the codes in which ternary weights lie on the tape.

243 of the 256 bytes are used, 1.6 bits per weight. Which code a tape uses follows from the variant of the
array that reads it: each variant has the code that costs it the least logic.
"""

from __future__ import annotations

import enum
import functools
import itertools
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["GRAY_FIRST", "GRAY_STEPS", "GRAY_TAPS", "TRIPLES", "TRITS_PER_BYTE", "TritCode", "pack_trits",
           "trit_table", "trit_valid", "unpack_trits"]

TRITS_PER_BYTE = 5


def _shifted() -> tuple[int, ...]:
    """States of a shift register of eight bits that is fed the parity of four of them: all but zero, in a circle.

    The taps are those of a table of maximal-length registers (Xilinx XAPP052). A counter that wants no adder.
    """
    states = [1]
    while len(states) < 255:
        state = states[-1]
        states.append(state << 1 & 0xff | (state & GRAY_TAPS).bit_count() % 2)
    return tuple(states)


#: Bits of a step of the Gray walk whose parity is shifted into the next one.
GRAY_TAPS = 0b1011_1000
#: Octets in the order in which a table filler goes through them, again and again. It writes to the address that
#: it has reached.
GRAY_STEPS = _shifted()
#: Place in it of the first entry (all trits minus one) of the Gray walk, which goes to the end. The steps before it
#: leave time to clear, to subtract the five activations, and for seven stages of pipeline from the step to the entry.
GRAY_FIRST = 12

_Table: TypeAlias = NDArray[np.int8]


class TritCode(enum.Enum):
    """How five trits become a byte."""

    #: Two pairs and a single, for arrays of adders; see :func:`_pairs`.
    PAIRS = "pairs"
    #: The step of a reflected ternary Gray walk, for arrays of tables; see :func:`_gray`.
    GRAY = "gray"
    #: The place in a table of three and what a pair adds to it, for arrays of small tables; see :func:`_triples`.
    TRIPLES = "triples"


def _pairs() -> dict[int, tuple[int, ...]]:
    """Bytes of :attr:`TritCode.PAIRS` and their trits.

    The single is trit 4, the first pair trits 0 and 1, the second pair trits 2 and 3.

    ======== ====== ====== =================================================
    bits 7:6 5:3    2:0
    ======== ====== ====== =================================================
    single   second first  neither pair is zero
    11       0 s s  second the first pair is zero; s s is the single
    11       1 s s  first  the second pair is zero; s s is the single
    11       0 1 1  0 s s  both pairs are zero; s s is the single
    ======== ====== ====== =================================================

    A single is 00 (zero), 01 (plus) or 10 (minus). A pair (a, b) that is not zero is a sign bit, which
    negates both trits, and two bits that say which they are: 00 a + b, 01 a - b, 10 b, 11 a.
    """
    singles = {0b00: 0, 0b01: 1, 0b10: -1}
    kinds = {0b00: (1, 1), 0b01: (1, -1), 0b10: (0, 1), 0b11: (1, 0)}
    pairs = kinds | {0b100 | kind: (-a, -b) for kind, (a, b) in kinds.items()}
    table: dict[int, tuple[int, ...]] = {}
    for top, single in singles.items():
        for (high, second), (low, first) in itertools.product(pairs.items(), pairs.items()):
            table[top << 6 | high << 3 | low] = (*first, *second, single)
        for low, pair in pairs.items():
            table[0b110_00_000 | top << 3 | low] = (0, 0, *pair, single)
            table[0b111_00_000 | top << 3 | low] = (*pair, 0, 0, single)
        table[0b110_11_000 | top] = (0, 0, 0, 0, single)
    return table


def _gray() -> dict[int, tuple[int, ...]]:
    """Bytes of :attr:`TritCode.GRAY` and their trits.

    The bytes are :data:`GRAY_STEPS`. From number ``GRAY_FIRST`` on, which is all minus one, each differs from the one
    before in one trit, by one. Trit 0 changes fastest; each trit runs up and down in turn, as reflection makes it.
    """
    table: dict[int, tuple[int, ...]] = {}
    for index in range(3**TRITS_PER_BYTE):
        trits = []
        for place in range(TRITS_PER_BYTE):
            rest, digit = divmod(index // 3**place, 3)
            trits.append(1 - digit if rest % 2 else digit - 1)
        table[GRAY_STEPS[GRAY_FIRST + index]] = tuple(trits)
    return table


#: Sums of three activations in the table of :attr:`TritCode.TRIPLES`, each one or its opposite. At the two places
#: without one an octet has another meaning.
TRIPLES = ((1, 0, 0), (0, 1, 0), (1, 1, 0), (1, -1, 0), (0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, -1),
           None, (1, 0, 1), (1, 1, 1), (1, 1, -1), None, (-1, 0, 1), (-1, 1, 1), (-1, 1, -1))


def _triples() -> dict[int, tuple[int, ...]]:
    """Bytes of :attr:`TritCode.TRIPLES` and their trits.

    Trits 0 to 2 are a triple, whose place in :data:`TRIPLES` is in bits 3:0, and trits 3 and 4 a pair (a, b): bits 6:5
    say 00 a + b, 01 a - b, 10 b, 11 a. Bit 7 negates the pair, and then bit 4 all five trits.

    Where bits 3:0 are 1x00, the place of a triple is in bits 7, 2, 6 and 5, and the pair is zero.
    """
    pairs = (1, 1), (1, -1), (0, 1), (1, 0)
    table: dict[int, tuple[int, ...]] = {}
    for octet in range(256):
        triple, pair = TRIPLES[octet & 15], pairs[octet >> 5 & 3]
        sign = -1 if octet & 0x10 else 1
        back = -sign if octet & 0x80 else sign
        if triple is None:
            triple, pair = TRIPLES[octet >> 4 & 8 | octet & 4 | octet >> 5 & 3], (0, 0)
        if triple is not None:
            trits = *(sign * trit for trit in triple), *(back * trit for trit in pair)
            # What is zero has both signs, of which one is used.
            if trits not in table.values():
                table[octet] = trits
    return table


@functools.cache
def _tables(code: TritCode) -> tuple[_Table, NDArray[np.bool_], NDArray[np.uint8]]:
    """Trits of each byte, whether it is one, and the byte of each base-3 number (trit 0 lowest, plus one)."""
    octets = {TritCode.PAIRS: _pairs, TritCode.GRAY: _gray, TritCode.TRIPLES: _triples}[code]()
    trits = np.zeros((256, TRITS_PER_BYTE), np.int8)
    valid = np.zeros(256, np.bool_)
    inverse = np.zeros(3**TRITS_PER_BYTE, np.uint8)
    for octet, values in octets.items():
        trits[octet] = values
        valid[octet] = True
        inverse[sum((value + 1) * 3**place for place, value in enumerate(values))] = octet
    for table in trits, valid, inverse:
        table.flags.writeable = False
    return trits, valid, inverse


def trit_table(code: TritCode) -> _Table:
    """The trits of every byte, int8 (256, 5); zeros for the 13 bytes that are not used."""
    return _tables(code)[0]


def trit_valid(code: TritCode) -> NDArray[np.bool_]:
    """Which of the 256 bytes are used."""
    return _tables(code)[1]


def pack_trits(trits: ArrayLike, code: TritCode) -> NDArray[np.uint8]:
    """Bytes of trits, (..., 5) integers in {-1, 0, 1} to uint8 (...)."""
    array = np.asarray(trits)
    if array.dtype.kind not in "iu":
        raise TypeError(f"Trits must be integers, not {array.dtype}")
    if array.shape[-1:] != (TRITS_PER_BYTE,):
        raise ValueError(f"Trits must come in fives, not in the shape {array.shape}")
    if array.size and not (-1 <= array.min() and array.max() <= 1):
        wrong = array[(array < -1) | (array > 1)]
        raise ValueError(f"Trits must be -1, 0 or 1, not {wrong.flat[0]}")
    digits = array.astype(np.uint8, copy=False) + np.uint8(1)
    numbers = digits[..., 4]
    for place in (3, 2, 1, 0):
        numbers = numbers * np.uint8(3) + digits[..., place]
    return _tables(code)[2][numbers]


def unpack_trits(octets: ArrayLike, code: TritCode) -> _Table:
    """Trits of bytes, uint8 (...) to int8 (..., 5). A byte that is not used is refused."""
    array = np.asarray(octets)
    if array.dtype != np.uint8:
        raise TypeError(f"Packed trits must be uint8, not {array.dtype}")
    table, valid, _ = _tables(code)
    if not valid[array].all():
        place = int(np.argmin(valid[array.reshape(-1)]))
        raise ValueError(f"Byte {place} must be a code of {code.value} trits, not {array.reshape(-1)[place]:#04x}")
    return np.take(table, array, axis=0)
