"""Instructions of the processor: 16 bits, of which the upper five are a :class:`Code` and the rest its operand.

The processor has an accumulator ``A`` of :data:`ACC_BITS`, an exponent ``E``, a sign ``S``, an index ``I`` of a vector
with its end ``N``, a pointer ``J``, and words of 16 bits in a memory. ``M`` is the word that an operand names
(:class:`Mode`). An instruction takes a cycle for the word, and one to compute; products take two, and what is done
several times takes one for each (:func:`steps`). So no time depends on numbers.
"""

from amaranth.lib import enum

from terngen.hw.contract.formats import FloatFormat

__all__ = ["ACC_BITS", "ADDRESS_BITS", "BINS", "EXPONENT_BITS", "LEADING", "NORM_STEPS", "OPERAND_BITS", "STACK",
           "STACK_DEPTH", "Code", "Condition", "Mode", "Unary", "steps"]

#: Bits of the accumulator.
ACC_BITS = 36
#: Bits of the exponent, with its sign.
EXPONENT_BITS = 10
#: Bits of an operand, those of a place in the program.
OPERAND_BITS = 11
#: Bits of an address of the memory.
ADDRESS_BITS = 14
#: Bit of the accumulator where a significand begins: below it is room for one in all places that :attr:`Code.ALIGN`
#: moves it to, and for a carry.
LEADING = 22
#: Where places to return to are kept, and how many.
STACK, STACK_DEPTH = 0x1F0, 16
#: Where the bins of a sum of squares begin, two words each.
BINS = 0x1C0


class Mode(enum.Enum, shape=2):
    """Which word an operand names, by its upper two bits."""

    #: That at the address in the lower nine.
    DIRECT  = 0
    #: Element ``I`` of the vector of that number: 256 words for each.
    INDEXED = 1
    #: That at ``J``; if the lowest bit is set, ``J`` moves on.
    POINTER = 2
    #: The lower nine bits themselves.
    NUMBER  = 3


class Code(enum.Enum, shape=5):
    """What an instruction does."""

    #: ``A = M``, zeros above it; with its sign; without its sign bit.
    LD     = 0
    LDS    = 1
    LDM    = 2
    #: ``A = A + M``, ``A - M``; with its sign; 16 bits higher.
    ADD    = 3
    SUB    = 4
    SUBS   = 5
    ADDH   = 6
    SUBH   = 7
    #: ``A = A & M``, ``A ^ M``, 16 bits higher; ``256 * A`` and the low octet of ``M``.
    AND    = 8
    XOR    = 9
    XORH   = 10
    CAT    = 11
    #: ``A = A[0:16] * M``.
    MUL    = 12
    #: ``M = A[0:16]``, ``M = A[16:32]``.
    ST     = 13
    STH    = 14
    #: ``A``, ``E`` and ``S`` are those of a float; of a positive one in the wide format, whose significand is a number.
    LDF    = 15
    LDFW   = 16
    #: Times a float.
    MULF   = 17
    #: Until ``E`` is that of a float, but as far as it matters: ``A = 2 * A``, ``E = E - 1``.
    ALIGN  = 18
    #: Plus a float of the same exponent, which is not larger.
    ADDF   = 19
    #: ``E = E + operand``; then ``A = 2 * A``, ``E = E - 1`` until the highest bit is set.
    NORM   = 20
    #: The highest bits of ``A`` rounded to nearest even, the exponent in front of them; or without it, if one is given.
    RND    = 21
    #: The code of the float of that magnitude and sign ``S``; of the wide format, if one is given.
    LIM    = 22
    #: From a port to ``A``; from ``A`` to a port. Waits for it.
    IN     = 23
    OUT    = 24
    JMP    = 25
    CALL   = 26
    #: ``I = I + 1``, and a jump unless that is ``N``.
    LOOP   = 27
    #: The next instructions do nothing, as many as the upper eight bits of the operand say, if the :class:`Condition`
    #: is met that the lower three name.
    SKIP   = 28
    #: What needs no operand: see :class:`Unary`.
    UNARY  = 29


class Condition(enum.Enum, shape=3):
    """When instructions are skipped: ``A`` is zero, negative or odd, ``S`` is set; or not."""

    ZERO         = 0
    NEGATIVE     = 1
    ODD          = 2
    MINUS        = 3
    NOT_ZERO     = 4
    NOT_NEGATIVE = 5
    EVEN         = 6
    PLUS         = 7


class Unary(enum.Enum, shape=4):
    """What is done to the accumulator, or the like."""

    #: Twice, a half, a 256th of it.
    SHL    = 0
    SHR    = 1
    SHR8   = 2
    #: Its magnitude; the sign is ``S``, and ``E`` zero.
    ABS    = 3
    #: ``A = E``.
    GETE   = 4
    #: The entry of the table of sigmoids.
    TABLE  = 5
    #: A jump to it.
    JUMP   = 6
    RETURN = 7
    #: Until ``E`` is a multiple of eight: ``A = 2 * A``, ``E = E - 1``.
    SHIFT  = 8
    #: ``J`` is where the bin of ``E`` begins.
    BIN    = 9
    NONE   = 10


#: Steps of four places, and then of one, that bring any bit to the top.
NORM_STEPS = ACC_BITS // 4 - 1, 3


def steps(fmt: FloatFormat, code: Code, operand: int) -> int:
    """Cycles in which an instruction computes."""
    match code:
        case Code.MUL | Code.MULF:
            return 2
        case Code.ALIGN:
            return fmt.mantissa_bits + 3
        case Code.NORM:
            return 1 + sum(NORM_STEPS)
        case Code.UNARY if operand == Unary.SHIFT.value:
            return 7
    return 1
