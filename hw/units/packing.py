"""The steps that floating-point units share: shifting a significand, rounding it, and packing it.

A value is rounded while exponent and mantissa are one integer, so that a mantissa that overflows carries
into the exponent by itself.
"""

from amaranth import C, Cat, Mux, Signal
from amaranth.lib.wiring import In, Out

from terngen.hw.stream import delay

__all__ = ["all_ones", "halve_even", "normalize", "pair_ports", "rounded", "shift_right"]


def pair_ports(fmt):
    """Ports of a pipeline that makes one float of two: clock enable ``en``, operands ``a`` and ``b``, result ``o``."""
    return {"en": In(1, init=1), "a": In(fmt.width), "b": In(fmt.width), "o": Out(fmt.width)}


def normalize(m, value, steps):
    """Shift out leading zeros, ``sum(steps)`` of them at most.

    Parameters
    ----------
    m : :class:`Module`
        Receives the combinational logic.
    value : value-like
        Unsigned.
    steps : iterable of :class:`int`
        Falling powers of two; each is taken where that many leading bits are zero.

    Returns
    -------
    (Signal, list)
        The shifted value, as wide as before, and for each step whether it was taken.
    """
    width = len(value)
    steps = list(steps)
    taken = []
    while steps:
        # Two steps at once: what the second one looks at lies in either of two places, which are looked at
        # beside each other.
        first, *second = steps[:2]
        steps  = steps[2:]
        zero   = Signal(name=f"skip_{first}")
        kept   = Signal(width, name=f"skipped_{first}")
        m.d.comb += zero.eq(~value[max(width - first, 0):].any())
        taken.append(zero)
        if second:
            [step] = second
            near   = ~value[max(width - step, 0):].any()
            far    = ~value[max(width - first - step, 0):max(width - first, 0)].any()
            also   = Signal(name=f"skip_{step}")
            m.d.comb += also.eq(Mux(zero, far, near))
            m.d.comb += kept.eq(Mux(also, Mux(zero, value << first + step, value << step),
                                    Mux(zero, value << first, value)))
            taken.append(also)
        else:
            m.d.comb += kept.eq(Mux(zero, value << first, value))
        value = kept
    return value, taken


def shift_right(m, value, amount):
    """Shift right by a variable amount of any width.

    Returns
    -------
    (Signal, value)
        The shifted value, as wide as before, and bits of which one is set if a one was shifted out.
    """
    levels = len(value).bit_length()
    far    = amount[levels:].any()          # too far for the levels; known beside them
    amount = amount[:levels]
    lost   = [far & value.any()]
    for bit in reversed(range(len(amount))):
        step    = 1 << bit
        shifted = Signal(len(value), name=f"shifted_{step}")
        m.d.comb += shifted.eq(Mux(amount[bit], value >> step, value))
        lost.append(amount[bit] & value[:step].any())
        value = shifted
    return value & ~far.replicate(len(value)), Cat(lost)


def all_ones(m, mantissa, name):
    """Bits that are all set if those of the mantissa are, one cycle later."""
    return delay(m, Cat(mantissa[bit:bit + 4].all() for bit in range(0, len(mantissa), 4)), name=name)


def halve_even(kept, guard, sticky):
    """Whether rounding to nearest, ties to even, increments the ``kept`` bits.

    ``guard`` is the bit below them, ``sticky`` tells whether anything but zeros follows it.
    """
    return guard & (kept[0] | sticky)


def rounded(fmt, mantissa, exponent, step, carry, *, sign, zero):
    """The code of a mantissa and an exponent that may lie outside of the format, with ``step`` added to the mantissa.

    An exponent below that of the smallest value gives zero, one above that of the largest value gives the
    largest value. Whether it is so is found from the operands, beside the addition and not after it.

    Parameters
    ----------
    fmt : :class:`~terngen.hw.contract.formats.FloatFormat`
        Format of the result.
    mantissa : value-like
        As wide as that of ``fmt``.
    exponent : value-like
        Signed. The hidden bit is added here as well: it is one less than that of the result.
    step : value-like
        At most as wide as the mantissa.
    carry : value-like
        Whether mantissa and step together are too large for the mantissa.
    sign : value-like
        Sign of the result.
    zero : value-like
        Forces the result to zero.
    """
    low, high = fmt.mantissa_bits, fmt.mantissa_bits + fmt.exponent_bits
    exponent  = Cat(exponent, exponent[-1].replicate(max(high - low + 1 - len(exponent), 0)))
    field, above, negative = exponent[:high - low], exponent[high - low:-1], exponent[-1]
    over  = ~negative & (above.any() | (field[1:].all() & (field[0] | carry)))
    flush = zero | (negative & ~(exponent.all() & carry))
    total = Cat(mantissa, field) + Cat(step, C(0, low - len(step)), C(1, 1))
    return Mux(flush, 0, Cat(total[:high] | over.replicate(high), sign))
