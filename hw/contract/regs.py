"""The address space that a host sees through the link: 32-bit words, addresses in octets."""

from amaranth.lib import data, enum

from terngen.hw.contract.config import Config

__all__ = ["Reg", "Status", "Access", "MAGIC", "VERSION", "SUMS_BASE", "TAPE_BASE",
           "TAPE_BYTES", "RESULT_BASE", "RESULT_STRIDE", "TOKEN_BASE", "token_address",
           "result_address", "sum_address", "RESULT_SCALE", "RESULT_TOP"]

#: Contents of ``Reg.MAGIC``: "TERN".
MAGIC = 0x4E524554
#: Contents of ``Reg.VERSION``: version of this page.
VERSION = 1


class Reg(enum.Enum, shape=32):
    """Registers, by address."""

    #: ``MAGIC``.
    MAGIC        = 0x00
    #: ``VERSION``.
    VERSION      = 0x04
    #: Sixteen octets of :attr:`Config.digest`.
    DIGEST       = 0x10
    #: :class:`Status`.
    STATUS       = 0x20
    #: As ``STATUS``, but the answer waits until the machine is idle.
    WAIT         = 0x24
    #: Cycles of the last step, from its start to idle.
    CYCLES       = 0x28
    #: Beats that the machine took in the last step.
    BEATS        = 0x2C
    #: Cycles of the last step in which the machine wanted a beat and the tape had none.
    STALL_TAPE   = 0x30
    #: Cycles of the last step in which the tape had a beat and the array could not take it.
    STALL_ARRAY  = 0x34
    #: Cycles of the last step in which the tape had a beat and the vector unit could not take it.
    STALL_VECTOR = 0x38
    #: Slots that take part in a step, one bit each.
    MASK         = 0x40
    #: Slots whose state is zero at the start of the step, one bit each. Cleared by the step.
    RESET        = 0x44
    #: First beat of the embedding.
    EMBED_START  = 0x48
    #: Beats of an embedding row; zero: the step reads no embedding.
    EMBED_BEATS  = 0x4C
    #: First beat to play.
    PLAY_START   = 0x50
    #: Beats to play.
    PLAY_COUNT   = 0x54
    #: Elements of a residual vector.
    HIDDEN       = 0x58
    #: Rows of the head that are tokens; later ones are padding.
    VOCAB        = 0x5C
    #: Any write starts a step.
    GO           = 0x60


#: Token of slot 0; the others follow, one word each.
TOKEN_BASE = 0x80
#: Result of slot 0: scale of the logits, then index and sum of the best candidates in turn.
RESULT_BASE = 0x400
#: Octets from one slot's result to the next.
RESULT_STRIDE = 0x80
#: Word of the scale in a result.
RESULT_SCALE = 0
#: Word of the first candidate in a result.
RESULT_TOP = 1
#: Sums of the last row tile that was taken, see :func:`sum_address`. Read only.
SUMS_BASE = 0x4000_0000
#: Octets of the tape memory. Write only.
TAPE_BASE = 0x8000_0000
#: Octets that a host can address in the tape memory.
TAPE_BYTES = 0x8000_0000


class Status(data.Struct):
    """State of the machine."""

    busy:  1
    #: A descriptor was met that makes no sense to the machine; it stopped there.
    fault: 1


class Access(data.Struct):
    """One access: a word to write, or to read."""

    write:   1
    address: 32
    data:    32


def token_address(slot: int) -> int:
    """Where the token of a slot is written."""
    return TOKEN_BASE + 4 * slot


def result_address(slot: int, word: int = 0) -> int:
    """Where the result of a slot is read."""
    return RESULT_BASE + slot * RESULT_STRIDE + 4 * word


def sum_address(config: Config, slot: int, row: int) -> int:
    """Where the sum of a row is read: slot, row group and lane, each a power of two apart."""
    group, lane = divmod(row, config.lanes)
    return SUMS_BASE + 4 * ((slot << config.group_bits | group) * config.lanes + lane)
