"""Number formats and their arithmetic: every rounding, saturation and table of the machine.

All functions are exact integer functions on NumPy arrays of packed codes (int64, any shape, broadcast
against each other). Gateware equals them bit for bit; the golden machine calls them. A code outside
``0 .. 2**fmt.width - 1`` is a caller's mistake that is not looked for.

The bounds of error that follow from these definitions are in ``docs/numerics.md``.
"""

from __future__ import annotations

import functools
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from terngen.hw.contract.floats import EXACT, LMUL, PATH, FloatFormat, Multiplier

__all__ = [
    "EXACT",
    "LMUL",
    "PATH",
    "SIGMOID_ENTRIES",
    "Codes",
    "FloatFormat",
    "Multiplier",
    "accumulate",
    "add",
    "bins",
    "convert",
    "dot",
    "dot_format",
    "from_float",
    "from_int",
    "inverse_root",
    "magnitude",
    "multiply",
    "multiply_literal",
    "negate",
    "reciprocal127",
    "root_bits",
    "sigmoid",
    "sigmoid_index",
    "sigmoid_table",
    "silu",
    "square",
    "subtract",
    "to_float",
    "to_int8",
    "widen",
    "widen_parameter",
]

#: Packed codes, or integers.
Codes: TypeAlias = NDArray[np.int64]

#: Entries of the sigmoid table.
SIGMOID_ENTRIES = 2048


def _integers(values: ArrayLike) -> Codes:
    array = np.asarray(values)
    if array.dtype != np.int64:
        if array.dtype.kind not in "iu":
            raise TypeError(f"Codes must be integers, not {array.dtype}")
        array = array.astype(np.int64)
    return array


def _signs(fmt: FloatFormat, codes: Codes) -> Codes:
    """Sign bits."""
    return (codes >> (fmt.width - 1)) & 1


def _exponents(fmt: FloatFormat, codes: Codes) -> Codes:
    """Exponent fields."""
    return (codes >> fmt.mantissa_bits) & ((1 << fmt.exponent_bits) - 1)


def _split(fmt: FloatFormat, codes: Codes) -> tuple[Codes, Codes]:
    """Exponent fields, and significands: mantissas with the hidden bit, 0 where the code is zero."""
    hidden = 1 << fmt.mantissa_bits
    exponents = _exponents(fmt, codes)
    return exponents, np.where(exponents == 0, 0, (codes & (hidden - 1)) | hidden)


def _limit(fmt: FloatFormat, signs: Codes | int, magnitudes: Codes) -> Codes:
    """Flush magnitudes below the smallest, saturate those above the largest, and attach the sign."""
    return np.where(magnitudes < fmt.smallest, 0,
                    np.minimum(magnitudes, fmt.largest) | (signs << (fmt.width - 1)))


def _round_octets(fmt: FloatFormat, signs: Codes | int, octets: Codes, exponents: Codes | int) -> Codes:
    """Round ``float64 * 2**exponents`` to nearest even; the float64 are positive or zero, given as bits."""
    drop = 52 - fmt.mantissa_bits
    # A mantissa that is rounded up to two carries into the exponent, which is just right.
    rounded = (octets + ((1 << (drop - 1)) - 1) + ((octets >> drop) & 1)) >> drop
    # Zeros need no care: with exponent field 0, they end below the smallest value of every format here.
    return _limit(fmt, signs, rounded + ((exponents + (fmt.bias - 1023)) << fmt.mantissa_bits))


def _round(fmt: FloatFormat, signs: Codes | int, values: Codes, exponents: Codes | int) -> Codes:
    """Round ``values * 2**exponents`` to nearest even; values are not negative and exact in float64."""
    return _round_octets(fmt, signs, values.astype(np.float64).view(np.int64), exponents)


def from_float(fmt: FloatFormat, values: ArrayLike) -> Codes:
    """The nearest code of each float64, halves to even."""
    floats = np.asarray(values, dtype=np.float64)
    if not np.isfinite(floats).all():
        raise ValueError(f"Values must be finite, not {floats[~np.isfinite(floats)].flat[0]}")
    octets = floats.view(np.int64)
    return _round_octets(fmt, (octets >> 63) & 1, octets & ~(-1 << 63), 0)


def to_float(fmt: FloatFormat, codes: ArrayLike) -> NDArray[np.float64]:
    """The exact value of each code."""
    codes = _integers(codes)
    octets = ((codes & fmt.largest) << (52 - fmt.mantissa_bits)) + ((1023 - fmt.bias) << 52)
    return np.where(_exponents(fmt, codes) == 0, 0, octets | (_signs(fmt, codes) << 63)).view(np.float64)


def from_int(fmt: FloatFormat, values: ArrayLike) -> Codes:
    """The nearest code of each integer, halves to even. Integers are below 2**63 in magnitude."""
    values = _integers(values)
    numbers = np.abs(values)
    # What float64 cannot hold loses its last bits but one, which then says that there were some.
    cut = ((numbers >> 11) | (numbers & 0x7FF != 0)) << 11
    return _round(fmt, (values < 0).astype(np.int64), np.where(numbers >> 53 == 0, numbers, cut), 0)


def to_int8(fmt: FloatFormat, codes: ArrayLike) -> NDArray[np.int8]:
    """The nearest integer of each code, halves to even, saturated to -127 and 127."""
    return np.clip(np.rint(to_float(fmt, codes)), -127, 127).astype(np.int8)


def magnitude(fmt: FloatFormat, codes: ArrayLike) -> Codes:
    """Absolute values: codes without the sign bit. Comparing them as integers orders them."""
    magnitudes = _integers(codes) & fmt.largest
    return np.where(magnitudes < fmt.smallest, 0, magnitudes)


def negate(fmt: FloatFormat, codes: ArrayLike) -> Codes:
    """Negated values; zero stays code 0."""
    codes = _integers(codes)
    return np.where(_exponents(fmt, codes) == 0, 0, codes ^ (1 << (fmt.width - 1)))


def multiply(fmt: FloatFormat, a: ArrayLike, b: ArrayLike, multiplier: Multiplier) -> Codes:
    """Products, by the given :class:`Multiplier`; saturated and flushed."""
    a, b = _integers(a), _integers(b)
    signs = _signs(fmt, a) ^ _signs(fmt, b)
    if multiplier.is_exact:
        (a_exponents, a), (b_exponents, b) = _split(fmt, a), _split(fmt, b)
        return _round(fmt, signs, a * b, a_exponents + b_exponents - 2 * (fmt.bias + fmt.mantissa_bits))

    offset = _offsets(fmt, a, b, multiplier, literal=False)
    a, b = magnitude(fmt, a), magnitude(fmt, b)
    return _limit(fmt, signs, np.where((a == 0) | (b == 0), 0, a + b - fmt.one + offset))


def multiply_literal(fmt: FloatFormat, a: ArrayLike, b: ArrayLike, multiplier: Multiplier) -> Codes:
    """Products by the formula of L-Mul as it is printed, ``(1 + x + y + offset) * 2**(e + f)``.

    A significand of two or more is halved and rounded to nearest even, and the result is saturated and flushed.
    :func:`multiply` adds the packed fields instead: there the part of the significand above two counts twice.
    """
    if multiplier.is_exact:
        raise ValueError(f"Multiplier of the literal formula must be one of the lmul policies, not {multiplier}")
    a, b = _integers(a), _integers(b)
    signs  = _signs(fmt, a) ^ _signs(fmt, b)
    offset = _offsets(fmt, a, b, multiplier, literal=True)
    (a_exponents, a), (b_exponents, b) = _split(fmt, a), _split(fmt, b)
    significands = np.where((a == 0) | (b == 0), 0, a + b - (1 << fmt.mantissa_bits) + offset)
    return _round(fmt, signs, significands, a_exponents + b_exponents - (2 * fmt.bias + fmt.mantissa_bits))


def _offsets(fmt: FloatFormat, a: Codes, b: Codes, multiplier: Multiplier, *, literal: bool) -> Codes | int:
    """Offset of each product."""
    offset = multiplier.offset(fmt, literal=literal)
    if multiplier.is_gated:
        mantissa = (1 << fmt.mantissa_bits) - 1
        return offset * ((a & mantissa != 0) & (b & mantissa != 0))
    return offset


def add(fmt: FloatFormat, a: ArrayLike, b: ArrayLike) -> Codes:
    """Sums, rounded to nearest even; saturated and flushed."""
    a, b = _integers(a), _integers(b)
    a_larger = (a & fmt.largest) >= (b & fmt.largest)
    large, small = np.where(a_larger, a, b), np.where(a_larger, b, a)
    (large_exponents, augend), (small_exponents, addend) = _split(fmt, large), _split(fmt, small)
    # From a distance of M + 3 on, the smaller one is less than half of the last place, even where the
    # difference falls into the next lower binade. How much less does not matter.
    distance = np.minimum(large_exponents - small_exponents, fmt.mantissa_bits + 3)
    sums = (augend << distance) + np.where(_signs(fmt, a ^ b) == 1, -addend, addend)
    return _round(fmt, _signs(fmt, large), sums, large_exponents - distance - (fmt.bias + fmt.mantissa_bits))


def subtract(fmt: FloatFormat, a: ArrayLike, b: ArrayLike) -> Codes:
    """Differences: the sum of ``a`` and the negated ``b``."""
    return add(fmt, a, negate(fmt, b))


def convert(source: FloatFormat, target: FloatFormat, codes: ArrayLike) -> Codes:
    """The same values in another format, whose fields are not shorter."""
    codes = _integers(codes)
    magnitudes = ((magnitude(source, codes) << (target.mantissa_bits - source.mantissa_bits))
                  + ((target.bias - source.bias) << target.mantissa_bits))
    signs = _signs(source, codes) << (target.width - 1)
    return np.where(_exponents(source, codes) == 0, 0, magnitudes | signs)


def widen(fmt: FloatFormat, codes: ArrayLike) -> Codes:
    """The same values in ``fmt.wide``."""
    return convert(fmt, fmt.wide, codes)


def widen_parameter(fmt: FloatFormat, words: ArrayLike) -> Codes:
    """Codes of ``fmt`` with the values of 16-bit tape words, which hold codes of ``fmt.parameter``."""
    return convert(fmt.parameter, fmt, words)


def square(fmt: FloatFormat, codes: ArrayLike, multiplier: Multiplier) -> Codes:
    """Squares, as codes of ``fmt.wide``."""
    wide = widen(fmt, codes)
    return multiply(fmt.wide, wide, wide, multiplier)


def dot_format(fmt: FloatFormat) -> tuple[int, int]:
    """Format of :func:`dot`: bits of its two's complement, and binary logarithm of its unit.

    The unit is the last place of the smallest product, and there is room for 2**20 of the largest ones; but a unit
    is not below 2**-31, and the width is 62 bits at most.
    """
    if fmt.exponent_bits > 8:
        raise ValueError(f"Operands of a dot product must have at most 8 exponent bits, not {fmt.exponent_bits}")
    unit = max(2 * (1 - fmt.bias) - fmt.mantissa_bits, -31)
    # Two operands of the highest exponent field, whose mantissas carry twice.
    top  = 2 * (1 << fmt.exponent_bits - 1) + 3
    return min(top - unit + 1 + 20, 62), unit


def dot(fmt: FloatFormat, a: ArrayLike, b: ArrayLike, multiplier: Multiplier) -> Codes:
    """L-Mul dot products along the last axis, in the fixed-point format of :func:`dot_format`.

    A product is that of :func:`multiply` in a format with two exponent bits more, where none is flushed and none
    saturates. What its magnitude has below the unit is cut off. Products, and after each addition the sum, saturate.

    Parameters
    ----------
    a, b : int64 (..., n)

    Returns
    -------
    int64 (...)
    """
    if multiplier.is_exact:
        raise ValueError(f"Multiplier of a dot product must be one of the lmul policies, not {multiplier}")
    width, unit = dot_format(fmt)
    wide        = FloatFormat(fmt.exponent_bits + 2, fmt.mantissa_bits)
    largest     = (1 << width - 1) - 1
    products    = multiply(wide, convert(fmt, wide, a), convert(fmt, wide, b), multiplier)
    exponents, significands = _split(wide, products)
    shifts = exponents - (wide.bias + wide.mantissa_bits + unit)
    # A significand has no more bits than there are places between largest and unit.
    high   = width - 2 - wide.mantissa_bits
    terms  = np.where(shifts < 0, significands >> np.clip(-shifts, 0, 63), significands << np.clip(shifts, 0, high))
    terms  = np.where((shifts > high) & (significands != 0), largest, terms)
    terms  = np.where(_signs(wide, products) == 1, -terms, terms)
    sums   = np.zeros(terms.shape[:-1], np.int64)
    for term in np.moveaxis(terms, -1, 0):
        sums = np.clip(sums + term, -largest - 1, largest)
    return sums


#: First cell in the sigmoid table, and binary logarithm of the number of cells, of [1, 2), [2, 4), [4, 8) and
#: [8, 16). The 512 cells before them are those of [0, 1).
_SIGMOID_FIRST = np.array([512, 768, 1280, 1792])
_SIGMOID_CELL_BITS = np.array([8, 9, 9, 8])


def sigmoid_index(fmt: FloatFormat, magnitudes: ArrayLike) -> Codes:
    """Address in :func:`sigmoid_table` of magnitudes (codes without sign) below 16.

    Cells are uniform inside each of five segments: 512 cells in [0, 1), 256 in [1, 2), 512 in [2, 4),
    512 in [4, 8) and 256 in [8, 16). A value belongs to the cell that its truncated bits name.
    """
    magnitudes = _integers(magnitudes)
    exponents, significands = _split(fmt, magnitudes)
    exponents = exponents - fmt.bias
    # Cut or padded to nine bits below the point.
    significands = (significands << 9) >> fmt.mantissa_bits
    segments = np.clip(exponents, 0, 3)
    cells = (significands - 512) >> (9 - _SIGMOID_CELL_BITS[segments])
    return np.where(exponents < 0, significands >> np.clip(-exponents, 0, 10), _SIGMOID_FIRST[segments] + cells)


@functools.cache
def sigmoid_table(fmt: FloatFormat) -> Codes:
    """The 2048 codes of ``sigmoid(-x)`` at the middle of each cell of :func:`sigmoid_index`."""
    starts = [0, 1, 2, 4, 8]
    widths = [2.0**-9, *(starts[1:] / 2.0**_SIGMOID_CELL_BITS)]
    counts = [512, *(1 << _SIGMOID_CELL_BITS)]
    middles = np.concatenate([start + (np.arange(count) + 0.5) * width
                              for start, width, count in zip(starts, widths, counts)])
    table = from_float(fmt, 1 / (1 + np.exp(middles)))
    table.flags.writeable = False
    return table


@functools.cache
def _sigmoid_results(fmt: FloatFormat) -> Codes:
    """Sigmoids of each cell for negative x, then for the others; the last cell is that from 16 on."""
    tails = np.append(sigmoid_table(fmt), 0)
    return np.stack([tails, subtract(fmt, fmt.one, tails)])


def sigmoid(fmt: FloatFormat, codes: ArrayLike) -> Codes:
    """Logistic function by table.

    The table gives ``s = sigmoid(-|x|)``, and s = 0 from 16 on. The result is s for negative x, and 1 - s,
    rounded to nearest even, for the others (zero included).
    """
    codes = _integers(codes)
    magnitudes = magnitude(fmt, codes)
    # A format may end below 16; then every magnitude has a cell.
    inside = _exponents(fmt, magnitudes) < fmt.bias + 4
    cells = np.where(inside, sigmoid_index(fmt, np.where(inside, magnitudes, 0)), SIGMOID_ENTRIES)
    positive = (_signs(fmt, codes) == 0) | (magnitudes == 0)
    return _sigmoid_results(fmt)[positive.astype(np.int64), cells]


def silu(fmt: FloatFormat, codes: ArrayLike, multiplier: Multiplier) -> Codes:
    """``x * sigmoid(x)``."""
    return multiply(fmt, codes, sigmoid(fmt, codes), multiplier)


def bins(fmt: FloatFormat) -> int:
    """Bins of a sum of squares: one for every eight binades of ``fmt.wide``."""
    return 1 << (fmt.wide.exponent_bits - 3)


def accumulate(fmt: FloatFormat, totals: ArrayLike, terms: ArrayLike) -> Codes:
    """Add codes of ``fmt.wide`` to bins. Exact, and independent of the order.

    A term with exponent field e adds ``significand << (e % 8)`` to bin ``e // 8``; so bin k counts in units
    of ``2**(8 * k - fmt.wide.bias - M)``. The idea is Kulisch's long accumulator, with the carries left for
    later. The sign of a term is not looked at.

    Parameters
    ----------
    totals : int64 (..., bins(fmt))
    terms : int64 (..., n)

    Returns
    -------
    int64 (..., bins(fmt))
    """
    totals, terms = _integers(totals), _integers(terms)
    count = bins(fmt)
    if totals.shape[-1:] != (count,) or totals.shape[:-1] != terms.shape[:-1]:
        raise ValueError(f"Totals must have the shape of the terms with {count} bins last, "
                         f"not {totals.shape} for terms of {terms.shape}")
    exponents, significands = _split(fmt.wide, terms)
    values = significands << (exponents & 7)
    rows = np.arange(totals.size // count).reshape(*terms.shape[:-1], 1)
    # Sums of fewer than 2**30 values below 2**23 are exact in float64.
    sums = np.bincount((rows * count + (exponents >> 3)).reshape(-1), values.reshape(-1), totals.size)
    return totals + sums.astype(np.int64).reshape(totals.shape)


def root_bits(fmt: FloatFormat) -> int:
    """Bits of the operand of :func:`inverse_root`'s recurrence: the even number from M + 8 on.

    With them the truncation of the operand costs at most 2**-6 steps of the result.
    """
    return (fmt.mantissa_bits + 9) & ~1


def inverse_root(fmt: FloatFormat, totals: ArrayLike) -> Codes:
    """``1 / sqrt(sum)`` of the sum in bins, as codes of ``fmt``; the largest value for an empty sum.

    1. The bins are combined from the lowest to the highest non-zero bin K:
       ``acc = (acc >> 8) + (bin << 16)``, in units of ``2**(8 * K - 16)`` of the unit of bin 0.
    2. ``acc * 2**u`` becomes ``x * 2**t`` with t even and ``2**(S-2) <= x < 2**S``, x truncated to an
       integer; S = :func:`root_bits`.
    3. ``r = floor(2**p / sqrt(x))`` with ``p = M + 1 + S / 2``, which has M + 2 bits (M + 3 when x is the
       power of four), found bit by bit: r is the largest integer with ``r * r * x <= 2**(2 * p)``.
    4. ``r * 2**(-p - t / 2)`` is rounded to nearest, saturated and flushed. There are no ties: r is exact
       only for a power of four, and then even; so rounding is adding one and dropping the last bit.

    Parameters
    ----------
    totals : int64 (..., bins(fmt))
        Not negative, each below 2**46.

    Returns
    -------
    int64 (...)
    """
    totals = _integers(totals)
    if totals.shape[-1:] != (bins(fmt),):
        raise ValueError(f"Totals must have {bins(fmt)} bins last, not the shape {totals.shape}")
    acc = combined = highest = np.zeros(totals.shape[:-1], np.int64)
    for index in range(bins(fmt)):
        total = totals[..., index]
        acc = (acc >> 8) + (total << 16)
        combined = np.where(total != 0, acc, combined)
        highest = np.where(total != 0, index, highest)

    size, bits = root_bits(fmt), fmt.mantissa_bits
    unit = 8 * highest - (16 + fmt.wide.bias + bits)
    # A bin that is not empty has M + 1 bits at least, so the combined sum has more than S.
    operand = np.where(combined == 0, 1 << size, combined)
    # A sum of nothing but ones may be taken for the next power of two. Then x has two bits less, and its
    # root is rounded to the same power of two.
    drop = np.frexp(operand.astype(np.float64))[1].astype(np.int64) - size
    drop = drop + ((drop + unit) & 1)
    operand = operand >> drop

    point = bits + 1 + size // 2
    # Float64 has bits enough: where r * r * x is not 2**(2 * p), it differs by 2**-43 of that at least.
    root = np.floor(2.0**point / np.sqrt(operand)).astype(np.int64)
    sticky = root * root * operand != 1 << (2 * point)
    result = _round(fmt, 0, 2 * root + sticky, -point - 1 - ((drop + unit) >> 1))
    return np.where(combined == 0, fmt.largest, result)


def reciprocal127(fmt: FloatFormat, codes: ArrayLike) -> Codes:
    """``127 / |a|``, rounded to nearest even; 0 for 0. The scale of an absmax quantisation."""
    codes = _integers(codes)
    exponents, significands = _split(fmt, codes)
    divisors = np.where(significands == 0, 1, significands)
    quotients, remainders = np.divmod(np.int64(127 << (2 * fmt.mantissa_bits)), divisors)
    # A last bit stands for the remainder.
    result = _round(fmt, 0, 2 * quotients + (remainders != 0), fmt.bias - fmt.mantissa_bits - 1 - exponents)
    return np.where(significands == 0, 0, result)
