"""A machine that is run by a processor."""

from amaranth import Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring

from terngen.hw.contract import trace
from terngen.hw.contract.config import Config
from terngen.hw.interface import machine_members
from terngen.hw.link.endpoint import Endpoint
from terngen.hw.program import ports
from terngen.hw.program.core import Core
from terngen.hw.program.firmware import firmware
from terngen.hw.program.isa import ADDRESS_BITS
from terngen.hw.stream import delay
from terngen.hw.tape.reader import TapeReader
from terngen.hw.units.matvec import MatVec
from terngen.hw.vendor.spram import SinglePortMemory

__all__ = ["ProgramMachine"]


class ProgramMachine(wiring.Component):
    """Plays tapes, and answers a host, with a processor and the ternary array::

        link --> endpoint --> processor <--> memory
                               |  ^  ^'-> play, load
                               |  |  '--- beats ---.
                         codes |  | sums           | weights
                               '-> array <---------'

    What it does is in :mod:`terngen.hw.program.firmware`. The members are those of :class:`~terngen.hw.top.Machine`.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(machine_members(config))

    def elaborate(self, platform):
        m      = Module()
        config = self._config

        # A new session begins with a machine as after power-up, see `Machine`.
        m.submodules.endpoint = endpoint = Endpoint()
        m.submodules.reader   = reader   = TapeReader(config)
        m.submodules.memory   = store    = SinglePortMemory(width=16, words=1 << ADDRESS_BITS)
        restart   = delay(m, endpoint.restart, reset=True, name="restart")
        restarted = ResetInserter(endpoint.restart | restart)
        core      = Core(fmt=config.path, program=firmware(config))
        matvec    = MatVec(config)
        m.submodules.core   = restarted(core)
        m.submodules.matvec = restarted(matvec)
        wiring.connect(m, wiring.flipped(self.link_i), endpoint.link_i)
        wiring.connect(m, endpoint.link_o, wiring.flipped(self.link_o))
        wiring.connect(m, reader.play, wiring.flipped(self.play))
        wiring.connect(m, wiring.flipped(self.beats), reader.beats)
        m.d.comb += [
            store.address.eq(core.address),
            store.data.eq(core.data),
            store.write.eq(core.write),
            core.word.eq(store.word),
        ]

        taken  = core.taken
        access = endpoint.bus.accesses.payload
        busy   = Signal()
        cycles = Signal(32)
        rows   = Signal.like(matvec.command.payload.rows)
        again  = Signal()                   # the codes are needed again
        streams = Signal()                  # beats belong to a matrix
        forget = Signal()
        start  = Signal(32)
        place  = Signal(32)
        m.d.sync += cycles.eq(cycles + busy)
        m.d.comb += [
            self.busy.eq(busy),
            reader.restart.eq(restart | forget),
            reader.i.payload.start.eq(start),
            reader.i.payload.count.eq(taken),
            self.load.payload.address.eq(place),
            endpoint.bus.answers.payload.eq(taken),
            matvec.command.payload.rows.eq(rows),
            matvec.command.payload.cols.eq(taken),
            matvec.command.payload.release.eq(~again),
            matvec.command.payload.single.eq(taken[:16] <= config.block_cols),
            matvec.weights.payload.eq(reader.o.payload),
            matvec.weights.valid.eq(reader.o.valid & streams),
            matvec.fill.group.eq(core.index),
            matvec.fill.codes.eq(taken),
            matvec.fill.tags.eq(taken),
            matvec.drain.group.eq(core.index),
            matvec.drain.last.eq(~busy),
        ]
        with m.If(matvec.weights.valid & matvec.weights.ready & matvec.at_end):
            m.d.sync += streams.eq(0)

        # What is read.
        beat = Signal()
        given = {
            ports.In.ADDRESS: (access.address, endpoint.bus.accesses.valid),
            ports.In.DATA:    (access.data, 1),
            ports.In.WRITE:   (access.write, 1),
            ports.In.BEAT:    (reader.o.payload, reader.o.valid),
            ports.In.SUM:     (matvec.drain.sums[0], 1),
            ports.In.TAG:     (matvec.drain.tags[0], matvec.drain.ready),
            ports.In.CYCLES:  (cycles, 1),
            ports.In.INDEX:   (core.index, 1),
        }
        m.d.comb += reader.o.ready.eq(Mux(streams, matvec.weights.ready, beat))
        with m.If(core.reads), m.Switch(core.port):
            for port, (value, ready) in given.items():
                with m.Case(port.value):
                    m.d.comb += [core.given.eq(value), core.ready.eq(ready)]
                    if port is ports.In.BEAT:
                        m.d.comb += beat.eq(1)

        # What is written: whether it is, by port, and what it waits for.
        loads  = ~self.load.valid | self.load.ready
        waits  = {
            ports.Out.ANSWER: endpoint.bus.answers.ready,
            ports.Out.COUNT:  reader.i.ready,
            ports.Out.PLACE:  loads,
            ports.Out.LOAD:   loads,
            ports.Out.COLS:   matvec.command.ready,
            ports.Out.TAKEN:  ~streams,
            ports.Out.CODE:   matvec.fill.free,
            ports.Out.PUSH:   matvec.fill.free,
        }
        offers = {port: core.writes & (core.port == port.value) for port in ports.Out}
        writes = {port: offers[port] & waits.get(port, 1) for port in ports.Out}
        with m.If(core.writes):
            m.d.comb += core.ready.eq(1)
        for port, ready in waits.items():
            with m.If(offers[port]):
                m.d.comb += core.ready.eq(ready)
        m.d.comb += [
            endpoint.bus.accesses.ready.eq(writes[ports.Out.DONE] | writes[ports.Out.ANSWER]),
            endpoint.bus.answers.valid.eq(offers[ports.Out.ANSWER]),
            reader.i.valid.eq(offers[ports.Out.COUNT]),
            matvec.command.valid.eq(offers[ports.Out.COLS]),
            matvec.fill.valid.eq(writes[ports.Out.CODE]),
            matvec.fill.push.eq(writes[ports.Out.PUSH]),
            matvec.drain.pop.eq(writes[ports.Out.POP]),
            forget.eq(writes[ports.Out.FORGET]),
        ]
        # A write that is on offer stays on offer, whatever becomes of the processor.
        with m.If(self.load.ready):
            m.d.sync += self.load.valid.eq(0)
        with m.If(writes[ports.Out.LOAD]):
            m.d.sync += [self.load.valid.eq(1), self.load.payload.data.eq(taken)]
        for port, target in ((ports.Out.START, start), (ports.Out.PLACE, place), (ports.Out.ROWS, rows)):
            with m.If(writes[port]):
                m.d.sync += target.eq(taken)
        with m.If(writes[ports.Out.RELEASE]):
            m.d.sync += again.eq(~taken.any())
        with m.If(writes[ports.Out.COLS]):
            m.d.sync += streams.eq(1)
        with m.If(writes[ports.Out.BUSY]):
            m.d.sync += busy.eq(taken)
            with m.If(taken[0]):
                m.d.sync += cycles.eq(0)
        with m.If(restart):
            m.d.sync += [busy.eq(0), streams.eq(0)]

        # The trace.
        event  = self.trace.event
        shown  = Signal.like(event.as_value())
        fields = trace.event_layout(config)
        for port, name in ((ports.Out.OP, "op"), (ports.Out.ACC, "acc"), (ports.Out.VALUE, "value"),
                           (ports.Out.STATE, "state"), (ports.Out.WEIGHTED, "weighted"), (ports.Out.CODED, "code"),
                           (ports.Out.SCALE, "scale"), (ports.Out.PEAK, "peak"), (ports.Out.FACTOR, "factor"),
                           (ports.Out.ROOT, "root")):
            field = fields[name]
            with m.If(writes[port]):
                m.d.sync += shown[field.offset:field.offset + field.width].eq(taken)
        ends = writes[ports.Out.ELEMENT], writes[ports.Out.SCALARS]
        m.d.comb += [
            self.trace.valid.eq(ends[0] | ends[1]),
            event.as_value().eq(shown),
            event.group.eq(core.index),
            event.scalars.eq(ends[1]),
            event.slot.eq(0),
        ]
        return m
