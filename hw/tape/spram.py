"""A tape in single-port memories."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring

from terngen.hw.contract.config import Config
from terngen.hw.interface import source_members
from terngen.hw.vendor.spram import SinglePortMemory

__all__ = ["SpramTape"]


class SpramTape(wiring.Component):
    """Plays a tape out of a memory that is either read or written.

    The first beat comes :attr:`LATENCY_CYCLES` after its request, then one in each cycle. The next request is taken
    when all beats have been. Beats beyond `depth` have no meaning.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.
    depth : :class:`int`
        Beats that the memory holds.

    Members
    -------
    play : ``In(stream.Signature(Play))``
        Requests.
    beats : ``Out(stream.Signature(config.beat_bits))``
        What was asked for, in order.
    load : ``In(stream.Signature(load_layout(config)))``
        Writes, which wait while beats are to come.
    """

    LATENCY_CYCLES = 2

    def __init__(self, config: Config, *, depth: int):
        self._config = config
        self._depth  = depth
        super().__init__(source_members(config))

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = SinglePortMemory(width=self._config.beat_bits, words=self._depth)
        place = Signal(range(self._depth))
        left  = Signal(range(self._depth + 1))
        busy  = Signal()
        there = Signal()                    # the word of `place` is
        taken = Signal()
        m.d.comb += [
            taken.eq(self.beats.valid & self.beats.ready),
            self.play.ready.eq(~busy),
            self.load.ready.eq(~busy),
            self.beats.valid.eq(there),
            self.beats.payload.eq(words.word),
            words.data.eq(self.load.payload.data),
            words.write.eq(self.load.valid & ~busy),
            words.address.eq(Mux(busy, place + taken, self.load.payload.address)),
        ]
        m.d.sync += there.eq(busy & ~(taken & (left == 1)))
        with m.If(taken):
            m.d.sync += [place.eq(place + 1), left.eq(left - 1), busy.eq(left != 1)]
        with m.If(self.play.valid & self.play.ready):
            m.d.sync += [place.eq(self.play.payload.start), left.eq(self.play.payload.count),
                         busy.eq(self.play.payload.count != 0)]
        return m
