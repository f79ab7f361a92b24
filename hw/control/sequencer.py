"""The sequencer: what comes from the tape goes where it belongs."""

from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Descriptor, Op, descriptor_beats
from terngen.hw.units.matvec import Command
from terngen.hw.units.vector import command_layout

__all__ = ["Sequencer", "segment_layout"]


def segment_layout(config: Config) -> data.StructLayout:
    """Beats that come next: an embedding row for a slot, or descriptors with what follows them."""
    return data.StructLayout({"embed": 1, "slot": config.slot_bits, "beats": 32})


class Sequencer(wiring.Component):
    """Splits the stream of beats.

    Descriptors of the vector unit go through a queue of ``QUEUE``, so that the tape can run ahead;
    matrices are announced to the array and their beats handed on in the same cycle. One beat per
    cycle; each descriptor takes one cycle besides its beats.

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
    load : ``Out(stream.Signature(32))``
        Announces a parameter vector of so many beats.
    parameters, weights : ``Out(stream.Signature(config.beat_bits))``
        Beats of parameter vectors and matrices.
    matvec : ``Out(stream.Signature(matvec.Command))``
        Announces a matrix.
    fault : ``Out(1)``
        A descriptor was met that nobody knows; nothing goes on until reset.
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
            "load":         Out(stream.Signature(32)),
            "parameters":   Out(stream.Signature(config.beat_bits)),
            "weights":      Out(stream.Signature(config.beat_bits)),
            "matvec":       Out(stream.Signature(Command)),
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
        taken      = Signal(32)             # beats of the segment so far
        left       = Signal(32)             # beats of the descriptor still to come
        beat       = Signal()
        m.d.comb += beat.eq(self.beats.valid & self.beats.ready)
        with m.If(beat):
            m.d.sync += taken.eq(taken + 1)
            m.d.sync += left.eq(left - 1)

        m.d.comb += [
            self.parameters.payload.eq(self.beats.payload),
            self.weights.payload.eq(self.beats.payload),
            self.load.payload.eq(left),
            self.matvec.payload.rows.eq(descriptor.length),
            self.matvec.payload.cols.eq(descriptor.place),
            self.matvec.payload.release.eq(descriptor.release),
            entry.descriptor.eq(descriptor),
            entry.slot.eq(payload.slot),
        ]

        with m.FSM():
            with m.State("Segment"):
                m.d.comb += self.idle.eq(~self.segment.valid & ~self.vector.valid)
                m.d.sync += taken.eq(0)
                with m.If(self.segment.valid):
                    with m.If(payload.embed):
                        # A row has no descriptor on the tape.
                        m.d.sync += collected.eq(0)
                        m.d.sync += descriptor.length.eq(self.hidden)
                        m.d.sync += left.eq(payload.beats)
                        m.next = "Announce parameters"
                    with m.Else():
                        m.next = "Descriptor"
            with m.State("Descriptor"):
                with m.If(taken == payload.beats):
                    m.d.comb += self.segment.ready.eq(1)
                    m.next = "Segment"
                with m.Else():
                    m.d.comb += self.beats.ready.eq(1)
                    m.d.comb += self.stall_tape.eq(~self.beats.valid)
                    with m.If(self.beats.valid):
                        if pieces == 1:
                            m.d.sync += collected.eq(self.beats.payload)
                            m.next = "Dispatch"
                        else:
                            m.d.sync += collected.eq(
                                (self.beats.payload << (pieces - 1) * config.beat_bits)
                                | collected >> config.beat_bits)
                            m.d.sync += piece.eq(piece + 1)
                            with m.If(piece == pieces - 1):
                                m.d.sync += piece.eq(0)
                                m.next = "Dispatch"
            with m.State("Dispatch"):
                m.d.sync += left.eq(descriptor.beats)
                with m.If(descriptor.opcode == Op.MATVEC):
                    m.d.comb += self.matvec.valid.eq(1)
                    m.d.comb += self.stall_array.eq(~self.matvec.ready)
                    with m.If(self.matvec.ready):
                        m.next = "Weights"
                with m.Elif(descriptor.weighted):
                    m.next = "Announce parameters"
                with m.Else():
                    m.next = "Enqueue"
                # Every other number names no operation, and an embedding row has no descriptor.
                with m.If((descriptor.opcode.as_value() > Op.LOGITS.value)
                          | (descriptor.opcode == Op.EMBED)):
                    m.next = "Fault"
            with m.State("Announce parameters"):
                m.d.comb += self.load.valid.eq(1)
                m.d.comb += self.stall_vector.eq(~self.load.ready)
                with m.If(self.load.ready):
                    m.next = "Enqueue"
            with m.State("Enqueue"):
                m.d.comb += queue.w_en.eq(1)
                m.d.comb += self.stall_vector.eq(~queue.w_rdy)
                with m.If(queue.w_rdy):
                    with m.If(left != 0):
                        m.next = "Parameters"
                    with m.Else():
                        m.next = "Descriptor"
            with m.State("Parameters"):
                m.d.comb += [
                    self.parameters.valid.eq(self.beats.valid),
                    self.beats.ready.eq(self.parameters.ready),
                    self.stall_tape.eq(~self.beats.valid),
                    self.stall_vector.eq(self.beats.valid & ~self.parameters.ready),
                ]
                with m.If(beat & (left == 1)):
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
                with m.If(beat & (left == 1)):
                    m.next = "Descriptor"
            with m.State("Fault"):
                m.d.comb += self.fault.eq(1)
        return m
