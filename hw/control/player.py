"""The player: one step of the machine, from the registers to idle."""

from collections.abc import Mapping

from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Play
from terngen.hw.control.sequencer import segment_layout
from terngen.hw.stream import delay

__all__ = ["IDLE_CYCLES", "SETTLE_CYCLES", "Player", "cycles"]

#: Cycles until an idle machine is known to be.
IDLE_CYCLES   = 1
#: Cycles that the machine must be idle, one after the other, before a step has ended.
SETTLE_CYCLES = 3


def cycles(config: Config, *, tokens: Mapping[int, int] | None, part: bool = True) -> int:
    """Cycles that a step is busy, if everything is taken at once and the machine is always idle.

    Parameters
    ----------
    tokens : mapping of :class:`int` to :class:`int`
        Token of each slot that takes part, or None if no embedding is read.
    part : :class:`bool`
        Whether a part of the tape is played.
    """
    rows = 1
    if tokens is not None:
        # A slot's turn begins and ends; a row is found with one cycle for each bit of the token.
        rows = 2 * config.slots + sum(token.bit_length() + 3 for token in tokens.values())
    # The part is on its way to the sequencer one cycle longer than a request takes.
    return rows + 1 + (3 + IDLE_CYCLES) * part + SETTLE_CYCLES


class Player(wiring.Component):
    """Has the tape played for a step: the embedding row of each slot, then a part of the tape.

    Requests do not wait for the sequencer: the segments of a whole step fit into a queue. So the tape
    source runs from the embedding rows into the layers without a pause. Besides waiting for the machine,
    a step takes :func:`cycles`.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    go : ``In(1)``
        Starts a step, unless one is under way. Everything below must not change until it is done.
    mask : ``In(config.slots)``
        Slots that take part.
    tokens : ``In(data.ArrayLayout(32, config.slots))``
        Token of each slot.
    embed_start, embed_beats : ``In(32)``
        First beat of the embedding, and beats of a row; zero beats: no embedding is read.
    play_start, play_count : ``In(32)``
        Beats to play then.
    play : ``Out(stream.Signature(Play))``
        Requests to the tape reader.
    segment : ``Out(stream.Signature(segment_layout(config)))``
        The same for the sequencer, two cycles later.
    machine_idle : ``In(1)``
        Nothing is being read, multiplied or computed.
    busy : ``Out(1)``
        A step is under way.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "go":           In(1),
            "mask":         In(config.slots),
            "tokens":       In(data.ArrayLayout(32, config.slots)),
            "embed_start":  In(32),
            "embed_beats":  In(32),
            "play_start":   In(32),
            "play_count":   In(32),
            "play":         Out(stream.Signature(Play)),
            "segment":      Out(stream.Signature(segment_layout(config))),
            "machine_idle": In(1),
            "busy":         Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config

        slot   = Signal(config.slot_bits)
        token  = Signal(32)
        stride = Signal(32)         # beats of a row, times the weight of the lowest bit of `token`
        start  = Signal(32)
        count  = Signal(32)
        embed  = Signal()
        asked  = Signal()           # the reader has the request
        told   = Signal()           # the queue has the segment
        settle = Signal(range(SETTLE_CYCLES))

        # A row for each slot, and the part.
        layout  = segment_layout(config)
        segment = Signal(layout)
        m.submodules.queue = queue = SyncFIFOBuffered(width=layout.size, depth=config.slots + 1)
        m.d.comb += [
            self.play.payload.start.eq(start),
            self.play.payload.count.eq(count),
            segment.embed.eq(embed),
            segment.slot.eq(slot),
            segment.beats.eq(count),
            queue.w_data.eq(segment),
            self.segment.payload.as_value().eq(queue.r_data),
            self.segment.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.segment.ready),
        ]

        no_row = delay(m, self.embed_beats == 0, name="no_row")    # written long before a step begins
        idle   = delay(m, self.machine_idle & (queue.level == 0), IDLE_CYCLES, reset=True, name="idle")
        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("Idle"))
            with m.State("Idle"):
                m.d.sync += slot.eq(0)
                with m.If(self.go):
                    m.next = "Embedding"
            with m.State("Embedding"):
                m.d.sync += [
                    embed.eq(1),
                    token.eq(self.tokens[slot]),
                    stride.eq(self.embed_beats),
                    start.eq(self.embed_start),
                    count.eq(self.embed_beats),
                ]
                with m.If(no_row):
                    m.next = "Part"
                with m.Elif(self.mask.bit_select(slot, 1)):
                    m.next = "Row"
                with m.Else():
                    m.next = "Next slot"
            with m.State("Row"):
                # start + token * stride, one bit of the token per cycle.
                with m.If(token[0]):
                    m.d.sync += start.eq(start + stride)
                m.d.sync += token.eq(token >> 1)
                m.d.sync += stride.eq(stride << 1)
                with m.If(token == 0):
                    m.next = "Request"
            with m.State("Part"):
                m.d.sync += embed.eq(0)
                m.d.sync += [start.eq(self.play_start), count.eq(self.play_count)]
                with m.If(self.play_count == 0):
                    m.next = "Settle"
                with m.Else():
                    m.next = "Request"
            with m.State("Request"):
                m.d.comb += self.play.valid.eq(~asked)
                m.d.comb += queue.w_en.eq(~told)
                with m.If(self.play.valid & self.play.ready):
                    m.d.sync += asked.eq(1)
                with m.If(queue.w_en & queue.w_rdy):
                    m.d.sync += told.eq(1)
                with m.If(asked & told):
                    m.d.sync += asked.eq(0)
                    m.d.sync += told.eq(0)
                    with m.If(embed):
                        m.next = "Next slot"
                    with m.Else():
                        m.next = "Settle"
            with m.State("Next slot"):
                m.d.sync += slot.eq(slot + 1)
                with m.If(slot == config.slots - 1):
                    m.next = "Part"
                with m.Else():
                    m.next = "Embedding"
            with m.State("Settle"):
                # What one unit hands on may take a few cycles to show as work of the next.
                with m.If(idle):
                    m.d.sync += settle.eq(settle + 1)
                    with m.If(settle == SETTLE_CYCLES - 1):
                        m.d.sync += settle.eq(0)
                        m.next = "Idle"
                with m.Else():
                    m.d.sync += settle.eq(0)
        return m
