"""Ports of the processor: what it is joined to, by number."""

from amaranth.lib import enum

__all__ = ["In", "Out"]


class In(enum.Enum, shape=4):
    """What an :attr:`~terngen.hw.program.isa.Code.IN` reads."""

    #: Address and data of an access of the host, and whether it is a write. The first waits for one.
    ADDRESS = 0
    DATA    = 1
    WRITE   = 2
    #: The next beat of the tape.
    BEAT    = 3
    #: Sum of row ``I``; three cycles after ``I``.
    SUM     = 4
    #: Peak of the vector that was multiplied. Waits for the sums.
    TAG     = 5
    #: Cycles of the run.
    CYCLES  = 6
    #: The index ``I``.
    INDEX   = 7


class Out(enum.Enum, shape=5):
    """What an :attr:`~terngen.hw.program.isa.Code.OUT` writes."""

    #: ``I``, ``N`` and ``J``.
    INDEX   = 0
    END     = 1
    POINTER = 2
    #: The access is done; the answer to a read, with which it is.
    DONE    = 3
    ANSWER  = 4
    #: A request to the tape: its first beat, and then its number of beats.
    START   = 5
    COUNT   = 6
    #: A beat to write to the tape memory: its number, and then what is written.
    PLACE   = 7
    LOAD    = 8
    #: A matrix: its rows, whether its codes are not needed again, and then its columns.
    ROWS    = 9
    RELEASE = 10
    COLS    = 11
    #: Waits until all beats of the matrix have been taken.
    TAKEN   = 12
    #: Code ``I`` of the vector that is multiplied next; its peak, and that it is complete.
    CODE    = 13
    PUSH    = 14
    #: The sums are not needed again.
    POP     = 15
    #: Whether a run is under way; forget what the tape has still to give.
    BUSY    = 16
    FORGET  = 17
    #: What is shown of the work, see :mod:`terngen.hw.contract.trace`: fields, and then that they are complete.
    OP       = 18
    ACC      = 19
    VALUE    = 20
    STATE    = 21
    WEIGHTED = 22
    CODED    = 23
    SCALE    = 24
    PEAK     = 25
    FACTOR   = 26
    ROOT     = 27
    ELEMENT  = 28
    SCALARS  = 29
