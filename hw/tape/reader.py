"""The reader: between the player and the tape source."""

from amaranth import Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Play
from terngen.hw.memory import Queue
from terngen.hw.stream import delay

__all__ = ["TapeReader"]


class TapeReader(wiring.Component):
    """Passes requests on, and holds up to ``config.prefetch`` beats ahead of the machine.

    So the source can go on while the machine pauses, and the machine while the source does. A request
    reaches the source one cycle later, a beat the machine :attr:`LATENCY_CYCLES` later; throughput is
    one beat per cycle. A request for no beats is not passed on. At most 2**32 - 1 beats may be due at
    once.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    i : ``In(stream.Signature(Play))``
        Requests of the player.
    play : ``Out(stream.Signature(Play))``
        Requests to the source.
    beats : ``In(stream.Signature(config.beat_bits))``
        Beats from the source.
    o : ``Out(stream.Signature(config.beat_bits))``
        Beats to the machine. Withdrawn by `restart`.
    idle : ``Out(1)``
        No request is on its way, no beat is due and none is held.
    restart : ``In(1)``
        Forget all that was asked for in earlier cycles. What the source still gives of it is thrown
        away; no request is taken until it has.
    """

    LATENCY_CYCLES = Queue.LATENCY_CYCLES

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "i":       In(stream.Signature(Play)),
            "play":    Out(stream.Signature(Play)),
            "beats":   In(stream.Signature(config.beat_bits)),
            "o":       Out(stream.Signature(config.beat_bits)),
            "idle":    Out(1),
            "restart": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        queue = Queue(shape=self._config.beat_bits, depth=self._config.prefetch)
        m.submodules.queue = ResetInserter(self.restart)(queue)
        wiring.connect(m, queue.o, wiring.flipped(self.o))

        # The request is held here, so that it stays on offer whatever becomes of the player.
        held    = Signal()
        some    = Signal()                  # it is one for beats
        asked   = self.i.valid & self.i.ready
        waste   = Signal()                  # what is due belongs to nobody
        m.d.comb += [
            self.i.ready.eq(~held & ~waste & ~self.restart),
            self.play.valid.eq(held & some),
        ]
        m.d.sync += held.eq(asked | held & some & ~self.play.ready)
        with m.If(~held):
            m.d.sync += [self.play.payload.eq(self.i.payload), some.eq(self.i.payload.count != 0)]

        # Beats that the source has yet to give, a cycle late: it gives none so soon.
        due   = Signal(32)
        fresh = delay(m, asked, name="fresh")
        came  = delay(m, self.beats.valid & self.beats.ready, name="came")
        m.d.sync += due.eq(due + Mux(fresh, self.play.payload.count, 0) - came)
        m.d.comb += [
            queue.i.valid.eq(self.beats.valid & ~waste),
            queue.i.payload.eq(self.beats.payload),
            self.beats.ready.eq(queue.i.ready | waste),
            self.idle.eq((due == 0) & ~fresh & queue.empty),
        ]
        m.d.sync += waste.eq((waste | self.restart) & (fresh | (due != 0)))
        return m
