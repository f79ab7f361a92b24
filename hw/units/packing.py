"""The steps that floating-point units share: shifting a significand, rounding it, and packing it.

A value is rounded while exponent and mantissa are one integer, so that a mantissa that overflows carries
into the exponent by itself.
"""

from amaranth import C, Cat, Mux, Signal

__all__ = ["halve_even", "normalize", "packed", "saturated", "shift_right"]


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
    taken = []
    for step in steps:
        zero    = Signal(name=f"skip_{step}")
        shifted = Signal(width, name=f"skipped_{step}")
        m.d.comb += zero.eq(~value[max(width - step, 0):].any())
        m.d.comb += shifted.eq(Mux(zero, value << step, value))
        value = shifted
        taken.append(zero)
    return value, taken


def shift_right(m, value, amount):
    """Shift right by a variable amount of any width.

    Returns
    -------
    (Signal, value)
        The shifted value, as wide as before, and whether a one was shifted out.
    """
    levels = len(value).bit_length()
    amount = amount[:levels] | amount[levels:].any().replicate(min(levels, len(amount)))
    lost   = C(0, 1)
    for bit in reversed(range(len(amount))):
        step    = 1 << bit
        shifted = Signal(len(value), name=f"shifted_{step}")
        m.d.comb += shifted.eq(Mux(amount[bit], value >> step, value))
        lost |= amount[bit] & value[:step].any()
        value = shifted
    return value, lost


def halve_even(kept, guard, sticky):
    """Whether rounding to nearest, ties to even, increments the ``kept`` bits.

    ``guard`` is the bit below them, ``sticky`` tells whether anything but zeros follows it.
    """
    return guard & (kept[0] | sticky)


def packed(mantissa, exponent, up):
    """Exponent and mantissa as one signed integer, incremented by one place of the mantissa if ``up``.

    The hidden bit is added here as well: ``exponent``, signed, is one less than that of the result.
    """
    steps = Cat(up, C(0, len(mantissa) - 1), C(1, 2))
    return Cat(mantissa, exponent).as_signed() + steps.as_signed()


def saturated(fmt, value, *, sign, zero):
    """The code of a packed exponent and mantissa that may lie outside of the format.

    An exponent below that of the smallest value gives zero, one above that of the largest value gives the
    largest value.

    Parameters
    ----------
    fmt : :class:`~terngen.hw.contract.formats.FloatFormat`
        Format of the result.
    value : value-like
        Exponent and mantissa, signed; at least one bit wider than those of ``fmt``.
    sign : value-like
        Sign of the result.
    zero : value-like
        Forces the result to zero.
    """
    low, high = fmt.mantissa_bits, fmt.mantissa_bits + fmt.exponent_bits
    over  = value[high:-1].any()
    flush = zero | value[-1] | ~value[low:-1].any()
    return Mux(flush, 0, Cat(value[:high] | over.replicate(high), sign))
