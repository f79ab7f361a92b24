"""A tape in block RAM."""

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Play
from terngen.hw.memory import StreamMemory
from terngen.hw.tape.loader import load_layout

__all__ = ["OnChipTape"]


class OnChipTape(wiring.Component):
    """Plays a tape out of block RAM.

    The first beat comes :attr:`LATENCY_CYCLES` after its request, then one comes in each cycle, also
    from one request to the next. Beats beyond `depth` have no meaning, and neither has a beat that is
    written while it is played; writing beyond `depth` does nothing.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.
    depth : :class:`int`
        Beats that the memory holds.
    init : iterable of :class:`int`
        First beats; the rest is zero.

    Members
    -------
    play : ``In(stream.Signature(Play))``
        Requests.
    beats : ``Out(stream.Signature(config.beat_bits))``
        What was asked for, in order.
    load : ``In(stream.Signature(load_layout(config)))``
        Writes; one is taken in each cycle.
    """

    LATENCY_CYCLES = 1 + StreamMemory.LATENCY_CYCLES

    def __init__(self, config: Config, *, depth: int, init=()):
        if not isinstance(depth, int) or not 1 <= depth <= 1 << 32:
            raise ValueError(f"Tape depth must be from 1 to 2**32 beats, not {depth!r}")
        self._depth = depth
        self._store = StreamMemory(shape=config.beat_bits, depth=depth, init=init)
        super().__init__({
            "play":  In(stream.Signature(Play)),
            "beats": Out(stream.Signature(config.beat_bits)),
            "load":  In(stream.Signature(load_layout(config))),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = self._store
        wiring.connect(m, store.o, wiring.flipped(self.beats))

        place = Signal(32)
        left  = Signal(32)
        moved = store.addresses.valid & store.addresses.ready
        m.d.comb += [
            store.addresses.valid.eq(left != 0),
            store.addresses.payload.eq(place),
            self.play.ready.eq((left == 0) | ((left == 1) & store.addresses.ready)),
            self.load.ready.eq(1),
        ]
        with m.If(moved):
            m.d.sync += [place.eq(place + 1), left.eq(left - 1)]
        with m.If(self.play.valid & self.play.ready):
            m.d.sync += [place.eq(self.play.payload.start), left.eq(self.play.payload.count)]
        with m.If(self.load.valid & (self.load.payload.address < self._depth)):
            m.d.comb += [
                store.writes.valid.eq(1),
                store.writes.payload.address.eq(self.load.payload.address),
                store.writes.payload.data.eq(self.load.payload.data),
            ]
        return m
