"""Number formats and their arithmetic: every rounding, saturation and table of the machine.

All functions are exact integer functions on NumPy arrays of packed codes (int64, any shape, broadcast
against each other). Gateware equals them bit for bit; the golden machine calls them. A code outside
``0 .. 2**fmt.width - 1`` is a caller's mistake that is not looked for.

The bounds of error that follow from these definitions are in ``docs/numerics.md``.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    "from_float",
    "from_int",
    "inverse_root",
    "magnitude",
    "multiply",
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


@dataclass(frozen=True, order=True)
class FloatFormat:
    """A small float: sign (most significant bit), exponent, mantissa.

    The exponent bias is ``2**(exponent_bits - 1) - 1``. Exponent field 0 is zero, whatever the other bits
    say; the only zero that any function returns is code 0. There are no subnormals, infinities or NaNs:
    the highest exponent field is an ordinary binade. Results that overflow saturate to the largest finite
    value of their sign, results that are below the smallest normal value after rounding become code 0.

    Parameters
    ----------
    exponent_bits : :class:`int`
        2 to 10. A format of the element-wise path has at most 9, so that its ``wide`` partner exists.
    mantissa_bits : :class:`int`
        1 to 15, without the hidden bit.
    """

    exponent_bits: int
    mantissa_bits: int

    def __post_init__(self) -> None:
        if not 2 <= self.exponent_bits <= 10:
            raise ValueError(f"Exponent must have 2 to 10 bits, not {self.exponent_bits!r}")
        if not 1 <= self.mantissa_bits <= 15:
            raise ValueError(f"Mantissa must have 1 to 15 bits, not {self.mantissa_bits!r}")

    @classmethod
    def parse(cls, text: str) -> FloatFormat:
        """The format named like ``"e6m11"``."""
        match = re.fullmatch(r"e([0-9]{1,2})m([0-9]{1,2})", text)
        if match is None:
            raise ValueError(f"Float format must be written like e6m11, not {text!r}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"e{self.exponent_bits}m{self.mantissa_bits}"

    @property
    def width(self) -> int:
        """Bits of a code, sign included."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def bias(self) -> int:
        """Exponent field of the values from 1 to 2."""
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def one(self) -> int:
        """Code of 1.0."""
        return self.bias << self.mantissa_bits

    @property
    def smallest(self) -> int:
        """Code of the smallest positive value."""
        return 1 << self.mantissa_bits

    @property
    def largest(self) -> int:
        """Code of the largest value."""
        return (1 << (self.exponent_bits + self.mantissa_bits)) - 1

    @property
    def wide(self) -> FloatFormat:
        """Format of squares: one exponent bit more, because a square has twice the exponent."""
        return FloatFormat(self.exponent_bits + 1, self.mantissa_bits)

    @property
    def parameter(self) -> FloatFormat:
        """Format of norm weights and embedding rows on the tape: at most 16 bits wide."""
        return FloatFormat(self.exponent_bits, min(15 - self.exponent_bits, self.mantissa_bits))


#: Default format of the element-wise path: 18 bits, one block-RAM word.
PATH = FloatFormat(6, 11)

#: Offset of ``lmul-unbiased`` for mantissas of 1 to 15 bits: the whole number of least significant bits that
#: brings the mean relative error over all pairs of mantissas (uniform) closest to zero.
_UNBIASED_OFFSETS = (0, 0, 1, 1, 2, 4, 7, 15, 29, 58, 116, 232, 464, 928, 1855)


@dataclass(frozen=True, order=True)
class Multiplier:
    """How two floats are multiplied.

    ``policy`` is one of

    ``exact``
        Product of the significands, rounded to nearest even.
    ``lmul``
        L-Mul (arXiv 2410.00907): one integer addition of the packed fields plus an offset of
        ``2**(M - l)`` mantissa steps, where l = M up to 3 mantissa bits, 3 for 4, and 4 above.
        ``lmul-paper`` is another name for it.
    ``lmul-mitchell``
        The same addition without an offset (Mitchell, 1962).
    ``lmul-unbiased``
        The offset that makes the mean relative error zero, added only where both mantissas are non-zero
        (products by powers of two are exact).
    ``lmul-<n>``
        An offset of n mantissa steps.
    """

    policy: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"exact|lmul|lmul-mitchell|lmul-unbiased|lmul-[0-9]{1,5}", self.policy):
            raise ValueError("Multiplier must be exact, lmul, lmul-mitchell, lmul-unbiased or lmul-<offset>, "
                             f"not {self.policy!r}")

    @classmethod
    def parse(cls, text: str) -> Multiplier:
        """The multiplier of that name."""
        return cls("lmul" if text == "lmul-paper" else text)

    def __str__(self) -> str:
        return self.policy

    @property
    def is_exact(self) -> bool:
        """Whether it needs a product of significands."""
        return self.policy == "exact"

    @property
    def is_gated(self) -> bool:
        """Whether the offset is added only where both mantissas are non-zero."""
        return self.policy == "lmul-unbiased"

    def offset(self, fmt: FloatFormat) -> int:
        """Steps of the mantissa that are added to the sum of the packed fields."""
        bits = fmt.mantissa_bits
        match self.policy.partition("-")[2]:
            case "":
                offset = 0 if self.is_exact else 1 << (bits - (bits if bits <= 3 else 3 if bits == 4 else 4))
            case "mitchell":
                offset = 0
            case "unbiased":
                offset = _UNBIASED_OFFSETS[bits - 1]
            case steps:
                offset = int(steps)
        if offset >= 1 << bits:
            raise ValueError(f"Offset of {self} must be less than one ({1 << bits} steps) in {fmt}, not {offset}")
        return offset


EXACT = Multiplier("exact")
LMUL = Multiplier("lmul")


def _integers(values: ArrayLike) -> Codes:
    array = np.asarray(values)
    if array.dtype != np.int64:
        if array.dtype.kind not in "iu":
            raise TypeError(f"Codes must be integers, not {array.dtype}")
        array = array.astype(np.int64)
    return array


def _exponents(fmt: FloatFormat, codes: Codes) -> Codes:
    """Exponent fields."""
    return (codes >> fmt.mantissa_bits) & ((1 << fmt.exponent_bits) - 1)


def _significands(fmt: FloatFormat, codes: Codes) -> Codes:
    """Mantissas with the hidden bit; 0 where the code is zero."""
    hidden = 1 << fmt.mantissa_bits
    return np.where(_exponents(fmt, codes) == 0, 0, (codes & (hidden - 1)) | hidden)


def _signs(fmt: FloatFormat, codes: Codes) -> Codes:
    return (codes >> (fmt.width - 1)) & 1


def _bit_lengths(values: Codes) -> Codes:
    """Bits of each value, 0 for 0. Values are not negative."""
    lengths = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    # The conversion may have rounded a value of more than 53 bits up to the next power of two.
    return lengths - ((lengths > 53) & (values >> np.maximum(lengths - 1, 0) == 0))


def _limit(fmt: FloatFormat, signs: Codes | int, magnitudes: Codes) -> Codes:
    """Flush magnitudes below the smallest, saturate those above the largest, and attach the sign."""
    limited = np.where(magnitudes < fmt.smallest, 0, np.minimum(magnitudes, fmt.largest))
    return limited | np.where(limited == 0, 0, signs << (fmt.width - 1))


def _round(fmt: FloatFormat, signs: Codes | int, values: Codes, exponents: Codes | int) -> Codes:
    """Round ``values * 2**exponents`` to nearest even; values are not negative and below 2**62.

    A value that is not exact must have its lowest bit set to say so (sticky) and at least M + 3 bits.
    """
    bits = fmt.mantissa_bits
    lengths = _bit_lengths(values)
    # Two bits to drop at least, so that there always is a half.
    room = np.maximum(bits + 3 - lengths, 0)
    values = values << room
    drop = lengths + room - (bits + 1)
    rounded = (values + ((np.int64(1) << (drop - 1)) - 1) + ((values >> drop) & 1)) >> drop
    # The hidden bit adds one to the exponent field, and so does the carry of a mantissa rounded up to 2.
    magnitudes = ((exponents + lengths + (fmt.bias - 2)) << bits) + rounded
    return _limit(fmt, signs, np.where(values == 0, 0, magnitudes))


def from_float(fmt: FloatFormat, values: ArrayLike) -> Codes:
    """The nearest code of each float64, halves to even."""
    floats = np.asarray(values, dtype=np.float64)
    if not np.isfinite(floats).all():
        raise ValueError(f"Values must be finite, not {floats[~np.isfinite(floats)].flat[0]}")
    octets = floats.view(np.int64)
    exponents = (octets >> 52) & 0x7FF
    # Subnormal doubles are far below the smallest value of any format here.
    significands = np.where(exponents == 0, 0, (octets & ((1 << 52) - 1)) | (1 << 52))
    return _round(fmt, (octets >> 63) & 1, significands, exponents - 1075)


def to_float(fmt: FloatFormat, codes: ArrayLike) -> NDArray[np.float64]:
    """The exact value of each code."""
    codes = _integers(codes)
    signed = np.where(_signs(fmt, codes) == 1, -1.0, 1.0) * _significands(fmt, codes) + 0.0
    return np.ldexp(signed, (_exponents(fmt, codes) - (fmt.bias + fmt.mantissa_bits)).astype(np.int32))


def from_int(fmt: FloatFormat, values: ArrayLike) -> Codes:
    """The nearest code of each integer, halves to even. Integers are below 2**62 in magnitude."""
    values = _integers(values)
    return _round(fmt, (values < 0).astype(np.int64), np.abs(values), 0)


def to_int8(fmt: FloatFormat, codes: ArrayLike) -> NDArray[np.int8]:
    """The nearest integer of each code, halves to even, saturated to -127 and 127."""
    codes = _integers(codes)
    significands = _significands(fmt, codes)
    drop = fmt.bias + fmt.mantissa_bits - _exponents(fmt, codes)
    # Two bits of fraction and one sticky bit below them hold every half; what is shifted left by eight
    # or more is far above 127, what is shifted right by M + 4 or more is below a half.
    scaled = (significands << 2) << np.clip(-drop, 0, 8)
    right = np.clip(drop, 0, fmt.mantissa_bits + 4)
    fixed = (scaled >> right) | ((scaled & ((np.int64(1) << right) - 1)) != 0)
    rounded = np.minimum((fixed + 1 + ((fixed >> 2) & 1)) >> 2, 127)
    return np.where(_signs(fmt, codes) == 1, -rounded, rounded).astype(np.int8)


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
        products = _significands(fmt, a) * _significands(fmt, b)
        exponents = _exponents(fmt, a) + _exponents(fmt, b) - 2 * (fmt.bias + fmt.mantissa_bits)
        return _round(fmt, signs, products, exponents)

    offset: Codes | int = multiplier.offset(fmt)
    if multiplier.is_gated:
        mantissa = (1 << fmt.mantissa_bits) - 1
        offset = offset * ((a & mantissa != 0) & (b & mantissa != 0))
    a, b = magnitude(fmt, a), magnitude(fmt, b)
    return _limit(fmt, signs, np.where((a == 0) | (b == 0), 0, a + b - fmt.one + offset))


def add(fmt: FloatFormat, a: ArrayLike, b: ArrayLike) -> Codes:
    """Sums, rounded to nearest even; saturated and flushed."""
    a, b = _integers(a), _integers(b)
    a_larger = (a & fmt.largest) >= (b & fmt.largest)
    large, small = np.where(a_larger, a, b), np.where(a_larger, b, a)
    exponents = _exponents(fmt, large)
    # Three bits below the mantissa are enough: a difference loses more than one leading bit only where the
    # exponents differ by at most one, and then nothing is shifted out. The last bit collects what is.
    distance = np.minimum(exponents - _exponents(fmt, small), fmt.mantissa_bits + 4)
    addend = _significands(fmt, small) << 3
    aligned = (addend >> distance) | ((addend & ((np.int64(1) << distance) - 1)) != 0)
    differ = _signs(fmt, a) ^ _signs(fmt, b)
    sums = (_significands(fmt, large) << 3) + np.where(differ == 1, -aligned, aligned)
    return _round(fmt, _signs(fmt, large), sums, exponents - (fmt.bias + fmt.mantissa_bits + 3))


def subtract(fmt: FloatFormat, a: ArrayLike, b: ArrayLike) -> Codes:
    """Differences: the sum of ``a`` and the negated ``b``."""
    return add(fmt, a, negate(fmt, b))


def widen(fmt: FloatFormat, codes: ArrayLike) -> Codes:
    """The same values in ``fmt.wide``."""
    codes = _integers(codes)
    magnitudes = magnitude(fmt, codes) + ((fmt.wide.bias - fmt.bias) << fmt.mantissa_bits)
    signs = _signs(fmt, codes) << (fmt.wide.width - 1)
    return np.where(_exponents(fmt, codes) == 0, 0, magnitudes | signs)


def widen_parameter(fmt: FloatFormat, words: ArrayLike) -> Codes:
    """Codes of ``fmt`` with the values of 16-bit tape words, which hold codes of ``fmt.parameter``."""
    codes = _integers(words) << (fmt.mantissa_bits - fmt.parameter.mantissa_bits)
    return np.where(_exponents(fmt, codes) == 0, 0, codes)


def square(fmt: FloatFormat, codes: ArrayLike, multiplier: Multiplier) -> Codes:
    """Squares, as codes of ``fmt.wide``."""
    wide = widen(fmt, codes)
    return multiply(fmt.wide, wide, wide, multiplier)


def sigmoid_index(fmt: FloatFormat, magnitudes: ArrayLike) -> Codes:
    """Address in :func:`sigmoid_table` of magnitudes (codes without sign) below 16.

    Cells are uniform inside each of five segments: 512 cells in [0, 1), 256 in [1, 2), 512 in [2, 4),
    512 in [4, 8) and 256 in [8, 16). A value belongs to the cell that its truncated bits name.
    """
    magnitudes = _integers(magnitudes)
    exponents = _exponents(fmt, magnitudes) - fmt.bias
    # Mantissa with hidden bit, cut or padded to nine bits below the point.
    significands = (_significands(fmt, magnitudes) << 9) >> fmt.mantissa_bits
    cells = significands - 512
    below_one = significands >> np.minimum(np.maximum(-exponents, 0), 10)
    return np.select([exponents < 0, exponents == 0, exponents == 1, exponents == 2],
                     [below_one, 512 + (cells >> 1), 768 + cells, 1280 + cells], 1792 + (cells >> 1))


@functools.cache
def sigmoid_table(fmt: FloatFormat) -> Codes:
    """The 2048 codes of ``sigmoid(-x)`` at the middle of each cell of :func:`sigmoid_index`."""
    segments = [(0, 1, 512), (1, 2, 256), (2, 4, 512), (4, 8, 512), (8, 16, 256)]
    middles = np.concatenate([low + (np.arange(cells) + 0.5) * (high - low) / cells
                              for low, high, cells in segments])
    table = from_float(fmt, 1 / (1 + np.exp(middles)))
    table.flags.writeable = False
    return table


def sigmoid(fmt: FloatFormat, codes: ArrayLike) -> Codes:
    """Logistic function by table.

    The table gives ``s = sigmoid(-|x|)``, and s = 0 from 16 on. The result is s for negative x, and 1 - s,
    rounded to nearest even, for the others (zero included).
    """
    codes = _integers(codes)
    magnitudes = magnitude(fmt, codes)
    # In a format without 16 every magnitude has a cell.
    inside = _exponents(fmt, magnitudes) < fmt.bias + 4
    tails = sigmoid_table(fmt)[np.where(inside, sigmoid_index(fmt, np.where(inside, magnitudes, 0)), 0)]
    tails = np.where(inside, tails, 0)
    negative = (_signs(fmt, codes) == 1) & (magnitudes != 0)
    return np.where(negative, tails, subtract(fmt, fmt.one, tails))


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
    exponents = _exponents(fmt.wide, terms)
    values = _significands(fmt.wide, terms) << (exponents & 7)
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
    # A bin that is not empty holds M + 1 bits at least, 16 of which are below the point: more than S.
    operand = np.where(combined == 0, 1 << size, combined)
    drop = _bit_lengths(operand) - size
    drop = drop + ((drop + unit) & 1)
    operand = operand >> drop

    point = bits + 1 + size // 2
    square_limit = 1 << (2 * point)
    root = np.floor(2.0**point / np.sqrt(operand)).astype(np.int64)
    # The float64 estimate is at most one off.
    root = root - (root * root * operand > square_limit)
    root = root + ((root + 1) * (root + 1) * operand <= square_limit)
    sticky = root * root * operand != square_limit
    result = _round(fmt, 0, 2 * root + sticky, -point - 1 - ((drop + unit) >> 1))
    return np.where(combined == 0, fmt.largest, result)


def reciprocal127(fmt: FloatFormat, codes: ArrayLike) -> Codes:
    """``127 / |a|``, rounded to nearest even; 0 for 0. The scale of an absmax quantisation."""
    codes = _integers(codes)
    significands = _significands(fmt, codes)
    divisors = np.where(significands == 0, 1, significands)
    quotients, remainders = np.divmod(np.int64(127 << (2 * fmt.mantissa_bits)), divisors)
    exponents = fmt.bias - fmt.mantissa_bits - 1 - _exponents(fmt, codes)
    result = _round(fmt, 0, 2 * quotients + (remainders != 0), exponents)
    return np.where(significands == 0, 0, result)
