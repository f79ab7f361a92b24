"""The address space that a host sees through the link: 32-bit words, addresses in octets."""

from amaranth.lib import data, enum

from terngen.hw.contract.config import Config

__all__ = ["Reg", "Status", "Access", "Choice", "MAGIC", "VERSION", "SUMS_BASE", "TAPE_BASE",
           "TAPE_BYTES", "VECTOR_BASE", "RESULT_BASE", "RESULT_STRIDE", "TOKEN_BASE", "token_address",
           "state_address", "result_address", "vector_address", "history_address", "sum_address", "choice_address",
           "RESULT_SCALE", "RESULT_TOP", "HISTORY_BASE", "NO_TOKEN", "STATE_BASE", "CHOICE_BASE", "TOKEN_BITS"]

#: Contents of ``Reg.MAGIC``: "TERN".
MAGIC = 0x4E524554
#: Contents of ``Reg.VERSION``: version of this page.
VERSION = 4


class Reg(enum.Enum, shape=32):
    """Registers, by address."""

    #: :data:`MAGIC`, "TERN".
    MAGIC        = 0x00
    #: :data:`VERSION` of this page.
    VERSION      = 0x04
    #: Sixteen octets of :attr:`Config.digest`.
    DIGEST       = 0x10
    #: :class:`Status`.
    STATUS       = 0x20
    #: As ``STATUS``, but the answer waits until the machine is idle.
    WAIT         = 0x24
    #: Cycles of the last run, from its start to idle.
    CYCLES       = 0x28
    #: Beats that the machine took in the last run.
    BEATS        = 0x2C
    #: Cycles of the last run in which the machine wanted a beat and the tape had none.
    STALL_TAPE   = 0x30
    #: Cycles of the last run in which the tape had a beat and the array could not take it.
    STALL_ARRAY  = 0x34
    #: Cycles of the last run in which the tape had a beat and the vector unit could not take it.
    STALL_VECTOR = 0x38
    #: Steps of the last run, or of the one under way, that are complete.
    DONE         = 0x3C
    #: Slots that take part in a run, one bit each.
    MASK         = 0x40
    #: Slots that take their state as zero in the first step, one bit each. Cleared by the run.
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
    #: Steps of a run, at most :attr:`Config.history`; zero counts as one. In each step but the first the
    #: token of a slot is its best candidate of the step before, or one that was drawn.
    STEPS        = 0x60
    #: A slot whose next token is this one takes no part in the steps that follow; without slots the run
    #: ends.
    STOP         = 0x64
    #: Slots that draw their next token, see :func:`choice_address`, one bit each. Only where
    #: :attr:`Config.draws`.
    DRAW         = 0x68
    #: Any write starts a run.
    GO           = 0x6C
    #: Any write reads the part that is to be played, and finds its CRC-32; the machine is busy meanwhile.
    CHECK        = 0x70
    #: CRC-32 of the part that was read last.
    CRC          = 0x74


#: Token of slot 0; the others follow, one word each.
TOKEN_BASE = 0x80
#: Number of the state that slot 0 works on; the others follow, one word each. After power-up each slot
#: has its own. Slots with the same state are consecutive tokens of one sequence: it passes through them in
#: the order of their numbers.
STATE_BASE = 0xC0
#: How slot 0 draws: state of the generator, then :class:`Choice`; the others follow. Write only, and not during a run,
#: in which each token that is drawn moves the generator on.
CHOICE_BASE = 0x100
#: Result of slot 0: scale of the logits, then index and sum of the best candidates in turn.
RESULT_BASE = 0x400
#: Octets from one slot's result to the next.
RESULT_STRIDE = 0x80
#: Word of the scale in a result.
RESULT_SCALE = 0
#: Word of the first candidate in a result.
RESULT_TOP = 1
#: Bits of a token on the device, see :data:`NO_TOKEN`.
TOKEN_BITS = 18
#: Stands in a history where there is no token: the step was not made, or the slot took no part.
NO_TOKEN = 0xFFFF_FFFF
#: Next token of each slot after each step of a run, see :func:`history_address`. Read only; the answer
#: waits until the step is complete or the machine idle.
HISTORY_BASE = 0x2000_0000
#: Sums of the last row tile that was taken, see :func:`sum_address`. Read only.
SUMS_BASE = 0x4000_0000
#: Residual vectors, see :func:`vector_address`, of a machine whose configuration has them readable. Read only, and
#: what they are is known while the machine is idle.
VECTOR_BASE = 0x6000_0000
#: Octets of the tape memory. Write only.
TAPE_BASE = 0x8000_0000
#: Octets that a host can address in the tape memory.
TAPE_BYTES = 0x8000_0000


class Status(data.Struct):
    """State of the machine."""

    #: A run or a check is under way.
    busy:  1
    #: A descriptor was met that makes no sense to the machine; it stopped there.
    fault: 1


class Choice(data.Struct):
    """How a slot draws, see :mod:`terngen.hw.contract.drawing`."""

    #: One divided by the temperature.
    coldness:   16
    #: Candidates to draw from, at most :attr:`Config.top_k`; zero counts as one.
    candidates: 4


class Access(data.Struct):
    """One access: a word to write, or to read."""

    write:   1
    address: 32
    data:    32


def token_address(slot: int) -> int:
    """Where the token of a slot is written."""
    return TOKEN_BASE + 4 * slot


def state_address(slot: int) -> int:
    """Where the number of a slot's state is written."""
    return STATE_BASE + 4 * slot


def choice_address(slot: int) -> int:
    """Where it is written how a slot draws, two words."""
    return CHOICE_BASE + 8 * slot


def history_address(config: Config, step: int, slot: int) -> int:
    """Where the next token of a slot after a step of a run is read."""
    return HISTORY_BASE + 4 * (step << config.slot_bits | slot)


def result_address(slot: int, word: int = 0) -> int:
    """Where the result of a slot is read."""
    return RESULT_BASE + slot * RESULT_STRIDE + 4 * word


def sum_address(config: Config, slot: int, row: int) -> int:
    """Where the sum of a row is read: slot, row group and lane, each a power of two apart."""
    group, lane = divmod(row, config.lanes)
    return SUMS_BASE + 4 * ((slot << config.group_bits | group) * config.lanes + lane)


def vector_address(config: Config, slot: int, element: int) -> int:
    """Where an element of the residual vector of a slot is read."""
    return VECTOR_BASE + 4 * (slot * config.hidden + element)
