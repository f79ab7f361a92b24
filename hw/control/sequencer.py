"""The sequencer: what comes from the tape goes where it belongs."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Descriptor, Op, descriptor_beats, longest
from terngen.hw.stream import delay
from terngen.hw.units.matvec import Command
from terngen.hw.units.vector import command_layout

__all__ = ["SEGMENT_CYCLES", "Sequencer", "cycles", "segment_layout"]

#: Cycles of a segment besides those of its descriptors or of its embedding row.
SEGMENT_CYCLES = 2


def cycles(config: Config, *, beats: int) -> int:
    """Cycles of a descriptor and the beats that belong to it, if nothing stalls."""
    return descriptor_beats(config) + 2 + beats


def segment_layout(config: Config) -> data.StructLayout:
    """Beats that come next: an embedding row for a slot, or descriptors with what follows them."""
    return data.StructLayout({"embed": 1, "slot": config.slot_bits, "beats": 32})


class Sequencer(wiring.Component):
    """Splits the stream of beats.

    Descriptors of the vector unit go through a queue of ``QUEUE``, so that the tape can run ahead;
    matrices are announced to the array. Beats are handed on in the cycle in which they come, so the
    latency is zero. Throughput is one beat per cycle; each descriptor takes two cycles besides, one to
    look whether it makes sense and one to act (:func:`cycles`), and each segment ``SEGMENT_CYCLES``.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    segment : ``In(stream.Signature(segment_layout(config)))``
        What the next beats are. Taken when they have all come.
    hidden : ``In(32)``
        Elements of an embedding row.
    beats : ``In(stream.Signature(config.beat_bits))``
        The tape.
    vector : ``Out(stream.Signature(vector.command_layout(config)))``
        Operations of the vector unit.
    load : ``Out(stream.Signature(range(config.parameter_beats(config.wide) + 1)))``
        Announces a parameter vector of so many beats.
    parameters, weights : ``Out(stream.Signature(config.beat_bits))``
        Beats of parameter vectors and matrices.
    matvec : ``Out(stream.Signature(matvec.Command))``
        Announces a matrix.
    matvec_end : ``In(1)``
        The beat that `weights` awaits is the last one of its matrix.
    fault : ``Out(1)``
        A descriptor was met that makes no sense by itself: of no operation, of no or more elements than
        there is room for, with beats where none belong or without where some do, or past the end of the
        segment; or a matrix has more or fewer beats than its descriptor. Nothing goes on until reset.
    idle : ``Out(1)``
        No segment is being read, and the queue is empty.
    stall_tape, stall_array, stall_vector : ``Out(1)``
        In this cycle no beat could be had, or the array or the vector unit did not take it.
    """

    QUEUE = 4

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "segment":      In(stream.Signature(segment_layout(config))),
            "hidden":       In(32),
            "beats":        In(stream.Signature(config.beat_bits)),
            "vector":       Out(stream.Signature(command_layout(config))),
            "load":         Out(stream.Signature(range(config.parameter_beats(config.wide) + 1))),
            "parameters":   Out(stream.Signature(config.beat_bits)),
            "weights":      Out(stream.Signature(config.beat_bits)),
            "matvec":       Out(stream.Signature(Command)),
            "matvec_end":   In(1),
            "fault":        Out(1),
            "idle":         Out(1),
            "stall_tape":   Out(1),
            "stall_array":  Out(1),
            "stall_vector": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        layout = command_layout(config)

        m.submodules.queue = queue = SyncFIFOBuffered(width=layout.size, depth=self.QUEUE)
        entry = Signal(layout)
        m.d.comb += [
            queue.w_data.eq(entry),
            self.vector.payload.as_value().eq(queue.r_data),
            self.vector.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.vector.ready),
        ]

        # The descriptor, collected from as many beats as it takes.
        pieces     = descriptor_beats(config)
        size       = Descriptor.as_shape().size
        collected  = Signal(pieces * config.beat_bits)
        descriptor = data.View(Descriptor, collected[:size])
        piece      = Signal(range(pieces))
        payload    = self.segment.payload
        rest       = Signal(32)             # beats of the segment still to come
        left       = Signal(32)             # beats of the descriptor still to come
        spent      = Signal()               # no beat of the segment is to come; from a register, as the next one
        only       = Signal()               # one beat of the descriptor is to come
        beat       = Signal()
        m.d.comb += beat.eq(self.beats.valid & self.beats.ready)
        with m.If(beat):
            m.d.sync += [rest.eq(rest - 1), spent.eq(rest == 1)]
            m.d.sync += [left.eq(left - 1), only.eq(left == 2)]

        m.d.comb += [
            self.parameters.payload.eq(self.beats.payload),
            self.weights.payload.eq(self.beats.payload),
            self.load.payload.eq(descriptor.beats),
            self.matvec.payload.rows.eq(descriptor.length),
            self.matvec.payload.cols.eq(descriptor.place),
            self.matvec.payload.release.eq(descriptor.release),
            # The descriptor has been there for a cycle.
            self.matvec.payload.single.eq(delay(m, descriptor.place <= config.block_cols, name="single")),
            entry.descriptor.eq(descriptor),
            entry.slot.eq(payload.slot),
        ]

        # What the machine would wait for without end, or what would run over the end of a buffer.
        room      = Signal(range(max(config.wide, config.rows) + 1))     # zero where no operation is
        senseless = Signal()
        reasons   = Signal(4)
        matrix    = descriptor.opcode == Op.MATVEC
        cols      = descriptor.place
        with m.Switch(descriptor.opcode):
            for op in Op:
                with m.Case(op):
                    m.d.comb += room.eq(Mux(descriptor.source, longest(config, op, source=1),
                                            longest(config, op)))
        row = self.segment.payload.beats
        # Written long before a segment comes.
        no_row   = delay(m, self.hidden == 0, name="no_row")
        long_row = delay(m, self.hidden > longest(config, Op.EMBED), name="long_row")
        m.d.comb += senseless.eq(reasons.any())
        checks = [
            # An embedding row has no descriptor on the tape.
            (descriptor.length == 0) | ((matrix | descriptor.weighted) ^ (descriptor.beats != 0))
            | matrix & (cols == 0) | (descriptor.opcode == Op.EMBED),
            _larger(descriptor.length, room),
            _larger(descriptor.beats, rest),
            Mux(matrix, _larger(cols, C(config.wide)),
                _larger(descriptor.beats, C(config.parameter_beats(config.wide))))
            | (descriptor.opcode == Op.MLGRU) & _exceeds(descriptor.place << (config.lanes - 1).bit_length(),
                                                         descriptor.length, config.state),
        ]

        with m.FSM():
            with m.State("Segment"):
                m.d.comb += self.idle.eq(~self.segment.valid & (queue.level == 0))
                m.d.sync += [rest.eq(payload.beats), spent.eq(payload.beats == 0)]
                with m.If(self.segment.valid):
                    m.next = "Descriptor"
                    with m.If(payload.embed):
                        # A row has no descriptor on the tape.
                        m.d.sync += [
                            collected.eq(0),
                            descriptor.opcode.eq(Op.EMBED),
                            descriptor.weighted.eq(1),
                            descriptor.length.eq(self.hidden),
                            descriptor.beats.eq(payload.beats),
                        ]
                        # Of a row only its length is to be looked at.
                        m.d.sync += reasons.eq(Cat(no_row | (row == 0), long_row,
                                                   row > config.parameter_beats(config.wide)))
                        m.next = "Operation"
            with m.State("Descriptor"):
                with m.If(spent & (piece == 0)):
                    m.d.comb += self.segment.ready.eq(1)
                    m.next = "Segment"
                with m.Elif(spent):
                    m.next = "Fault"
                with m.Else():
                    m.d.comb += self.beats.ready.eq(1)
                    m.d.comb += self.stall_tape.eq(~self.beats.valid)
                    with m.If(self.beats.valid):
                        # The first piece ends up in the lowest bits.
                        m.d.sync += collected.eq(Cat(collected, self.beats.payload)[config.beat_bits:])
                        m.d.sync += piece.eq(piece + 1)
                        with m.If(piece == pieces - 1):
                            m.d.sync += piece.eq(0)
                            m.next = "Check"
            with m.State("Check"):
                m.d.sync += reasons.eq(Cat(checks))
                m.next = "Operation"
                with m.If(matrix):
                    m.next = "Matrix"
            with m.State("Matrix"):
                m.d.sync += [left.eq(descriptor.beats), only.eq(descriptor.beats == 1)]
                m.d.comb += self.matvec.valid.eq(~senseless)
                m.d.comb += self.stall_array.eq(~senseless & ~self.matvec.ready)
                with m.If(senseless):
                    m.next = "Fault"
                with m.Elif(self.matvec.ready):
                    m.next = "Weights"
            with m.State("Operation"):
                m.d.sync += [left.eq(descriptor.beats), only.eq(descriptor.beats == 1)]
                # An operation is enqueued when its parameters are announced.
                m.d.comb += self.load.valid.eq(~senseless & descriptor.weighted & queue.w_rdy)
                m.d.comb += queue.w_en.eq(~senseless & (~descriptor.weighted | self.load.ready))
                m.d.comb += self.stall_vector.eq(~senseless & ~(queue.w_rdy & queue.w_en))
                with m.If(senseless):
                    m.next = "Fault"
                with m.Elif(queue.w_rdy & queue.w_en):
                    m.next = "Descriptor"
                    with m.If(descriptor.weighted):
                        m.next = "Parameters"
            with m.State("Parameters"):
                m.d.comb += [
                    self.parameters.valid.eq(self.beats.valid),
                    self.beats.ready.eq(self.parameters.ready),
                    self.stall_tape.eq(~self.beats.valid),
                    self.stall_vector.eq(self.beats.valid & ~self.parameters.ready),
                ]
                with m.If(beat & only):
                    with m.If(payload.embed):
                        m.d.comb += self.segment.ready.eq(1)
                        m.next = "Segment"
                    with m.Else():
                        m.next = "Descriptor"
            with m.State("Weights"):
                m.d.comb += [
                    self.weights.valid.eq(self.beats.valid),
                    self.beats.ready.eq(self.weights.ready),
                    self.stall_tape.eq(~self.beats.valid),
                    self.stall_array.eq(self.beats.valid & ~self.weights.ready),
                ]
                with m.If(beat & only):
                    m.next = "Descriptor"
                with m.If(beat & (only ^ self.matvec_end)):
                    m.next = "Fault"
            with m.State("Fault"):
                m.d.comb += self.fault.eq(1)
        return m


def _larger(a, b):
    """``a > b``, as the sign of a difference: a carry that leaves its chain by itself costs a nanosecond."""
    return (b - a)[-1]


def _exceeds(a, b, limit):
    """Whether ``a + b > limit``, with the addition and the comparison in one carry chain."""
    width = max(len(a), len(b), limit.bit_length()) + 3
    c     = C(-(limit + 1), signed(width)).as_unsigned()
    a, b  = (Cat(value, C(0, width - len(value))) for value in (a, b))
    total = (a ^ b ^ c) + (((a & b) | (a & c) | (b & c)) << 1)
    return ~total[width - 1]
