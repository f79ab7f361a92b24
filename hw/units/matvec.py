"""Matrix times vector: ternary weights from the tape, activations of every slot."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from terngen.hw.contract.config import Config
from terngen.hw.stream import delay
from terngen.hw.units.activations import CodesSignature
from terngen.hw.units.array import latency, load_cycles, settle_cycles, ternary_array
from terngen.hw.units.sums import LEAD_CYCLES, PUSH_CYCLES, REUSE_CYCLES, Sums, SumsSignature

__all__ = ["TAKE_CYCLES", "Command", "MatVec", "cycles", "pause_cycles"]

#: Cycles from the decision to take a block or a beat until the array sees it: whether a beat comes decides about
#: all of the array, and that is far from where beats come from.
TAKE_CYCLES = 1


class Command(data.Struct):
    """One matrix; the fields are those of :class:`~terngen.hw.contract.tape.Descriptor`, and what follows of them."""

    rows:    18     # at least 1
    cols:    20     # at least 1
    release: 1      # the codes are not needed again
    single:  1      # the columns are not more than a block has


def pause_cycles(config: Config) -> int:
    """Cycles from the decision to take a block to that for the next one, at least."""
    return TAKE_CYCLES + max(load_cycles(config), settle_cycles(config) + 1)


def cycles(config: Config, *, rows: int, cols: int) -> int:
    """Cycles from an accepted command until its sums are ready, if beats are always valid.

    One cycle to start, a beat in each cycle, the pipeline of the array and the sums. A block is prepared
    while the one before it is multiplied; only if that has too few rows it takes longer. In some arrays each block has
    cycles at its beginning without a beat.
    """
    groups = settle_cycles(config) + config.row_groups(rows)
    block  = max(groups, pause_cycles(config))
    return (config.blocks(cols) - 1) * block + groups + TAKE_CYCLES + latency(config) - LEAD_CYCLES + PUSH_CYCLES


class MatVec(wiring.Component):
    """Multiplies ternary matrices with the codes of every slot.

    Takes a command, then the beats of its matrix in the order of
    :func:`~terngen.hw.contract.tape.pack_matrix`. It needs codes in front and a free bank of sums, and
    accepts the command when it has them and the array is ready for the first block. Beats of a matrix
    are taken one per cycle from the cycle after the command on, without a pause if it has at least
    :func:`pause_cycles` row groups, and if the array has no
    :func:`~terngen.hw.units.array.settle_cycles`. The next command is accepted one
    cycle after the last beat, while sums are still on their way; :func:`cycles` counts them.

    ::

        fill -> ternary_array -> Sums -> drain
                     ^
                  weights

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine. Matrices must not be larger than they allow.

    Members
    -------
    command : ``In(stream.Signature(Command))``
        The matrix that comes.
    weights : ``In(stream.Signature(beat_bits))``
        Its beats.
    fill : ``In(CodesSignature)``
        Where the codes come from.
    drain : ``In(SumsSignature)``
        Where the sums go, in the order of the commands.
    at_end : ``Out(1)``
        The beat that is awaited is the last one of its matrix.
    idle : ``Out(1)``
        All sums of accepted commands are ready.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "command": In(stream.Signature(Command)),
            "weights": In(stream.Signature(config.beat_bits)),
            "fill":    In(CodesSignature(config)),
            "drain":   In(SumsSignature(config)),
            "at_end":  Out(1),
            "idle":    Out(1),
        })

    def elaborate(self, platform):
        m      = Module()
        config = self._config
        m.submodules.array = array = ternary_array(config)
        m.submodules.sums  = sums  = Sums(config)
        wiring.connect(m, wiring.flipped(self.fill), array.fill)
        wiring.connect(m, wiring.flipped(self.drain), sums.drain)

        # A matrix is a sequence of blocks. Each is taken when the one before it has ended, and then its
        # beats are streamed.
        busy      = Signal()                            # beats of the matrix are to come
        streaming = Signal()                            # beats of the current block are to come
        group     = Signal(config.row_group_bits)
        top       = Signal(config.row_group_bits)       # last group of every block
        first     = Signal()                            # the current block is the first one
        last      = Signal()                            # ... the last one
        below     = Signal(config.row_group_bits)       # the group before the last one
        at_top    = Signal()                            # the group is the last one
        single    = Signal()                            # there is only one
        left      = Signal(range(config.wide + 1))      # columns that are not in blocks taken
        final_left = Signal()                           # they are one block
        release   = Signal()
        recent    = Signal(REUSE_CYCLES - 1)            # cycles that took a beat, the latest first
        # A row group comes again after as many beats as a block has, and must not come too soon.
        paced     = Signal()

        command = self.command.payload
        start, follow, take, accept, ends, final, loaded = (Signal(name=name) for name in (
            "start", "follow", "take", "accept", "ends", "final", "loaded"))
        taken = delay(m, take, TAKE_CYCLES, reset=True, name="taken")
        m.d.comb += [
            self.weights.ready.eq(streaming & paced),
            accept.eq(self.weights.valid & self.weights.ready),
            ends.eq(accept & at_top),
            self.at_end.eq(streaming & last & at_top),

            loaded.eq(array.loaded & ~taken),
            self.command.ready.eq(~busy & loaded & sums.free),
            start.eq(self.command.valid & self.command.ready),
            follow.eq(busy & ~last & loaded & (~streaming | ends)),
            take.eq(start | follow),
            final.eq(Mux(busy, final_left, command.single)),

            array.take.eq(taken),
            array.rewind.eq(last),
            array.pop.eq(release),
            sums.open.eq(taken & first),
            sums.tags.eq(array.tags),
            self.idle.eq(sums.idle & ~busy),
        ]
        # What decides whether a beat is taken comes from registers.
        kept = recent[:-1]
        m.d.sync += recent.eq(Cat(accept, recent))
        m.d.sync += paced.eq(Mux(accept, sum(kept) < top, sum(kept) <= top))
        with m.If(accept):
            m.d.sync += [group.eq(group + 1), at_top.eq(group == below)]
        with m.If(ends):
            m.d.sync += [group.eq(0), at_top.eq(single), streaming.eq(0), busy.eq(~last)]
        with m.If(take):
            m.d.sync += [first.eq(~busy), last.eq(final)]
        # A cycle later, because it is far from what decides; no two blocks are taken one after the other.
        with m.If(taken):
            m.d.sync += [left.eq(left - config.block_cols), final_left.eq(left <= 2 * config.block_cols)]
        with m.If(delay(m, take, settle_cycles(config), reset=True, name="settled")):
            m.d.sync += streaming.eq(1)
        with m.If(start):
            rows_bits = ceil_log2(config.row_lanes)
            m.d.sync += [busy.eq(1), left.eq(command.cols), release.eq(command.release), recent.eq(0), paced.eq(1),
                         top.eq((command.rows - 1) >> rows_bits),
                         below.eq((command.rows - 1 - config.row_lanes) >> rows_bits),
                         at_top.eq(command.rows <= config.row_lanes), single.eq(command.rows <= config.row_lanes)]

        # Announce each beat to the sums when its partial sums are about to leave the array.
        cycles = TAKE_CYCLES + latency(config) - LEAD_CYCLES
        m.d.comb += [
            array.beat.eq(delay(m, self.weights.payload, TAKE_CYCLES, name="beat")),
            sums.valid.eq(delay(m, accept, cycles, reset=True, name="valid")),
            sums.group.eq(delay(m, group, cycles, name="group")),
            sums.first.eq(delay(m, first, cycles, name="first")),
            sums.last.eq(delay(m, ends & last, cycles, name="last")),
        ]
        for slot in range(config.slots):
            m.d.comb += [sums.partials[slot][row].eq(array.partials[slot][row])
                         for row in range(config.row_lanes)]
        m.d.comb += [sums.carries[row].eq(array.carries[row]) for row in range(config.row_lanes)]
        return m
