"""What a small float is, and the ways to multiply two of them.

The arithmetic is in :mod:`terngen.hw.contract.formats`, which has these names as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["EXACT", "LMUL", "PATH", "FloatFormat", "Multiplier"]


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

    def fits(self, other: FloatFormat) -> bool:
        """Whether every value of this format is one of another."""
        return self.exponent_bits <= other.exponent_bits and self.mantissa_bits <= other.mantissa_bits

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
#: brings the mean relative error over all pairs of mantissas (uniform) closest to zero. Of the addition, and of the
#: formula as it is printed.
_UNBIASED_OFFSETS = (0, 0, 1, 1, 2, 4, 7, 15, 29, 58, 116, 232, 464, 928, 1856)
_LITERAL_UNBIASED_OFFSETS = (0, 1, 2, 3, 6, 13, 25, 50, 100, 201, 401, 803, 1606, 3211, 6422)


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

    def offset(self, fmt: FloatFormat, *, literal: bool = False) -> int:
        """Steps of the mantissa that are added to the sum of the packed fields, or in the literal formula."""
        bits = fmt.mantissa_bits
        match self.policy.partition("-")[2]:
            case "":
                offset = 0 if self.is_exact else 1 << (bits - (bits if bits <= 3 else 3 if bits == 4 else 4))
            case "mitchell":
                offset = 0
            case "unbiased":
                offset = (_LITERAL_UNBIASED_OFFSETS if literal else _UNBIASED_OFFSETS)[bits - 1]
            case steps:
                offset = int(steps)
        if offset >= 1 << bits:
            raise ValueError(f"Offset of {self} must be less than one ({1 << bits} steps) in {fmt}, not {offset}")
        return offset


EXACT = Multiplier("exact")
LMUL = Multiplier("lmul")
