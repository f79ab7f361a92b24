"""The machine."""

from typing import Self

from amaranth import Cat, Module, Mux, ResetInserter
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.config import Config, Control
from terngen.hw.contract.tape import Tape
from terngen.hw.control.decode import Decode
from terngen.hw.control.player import Player
from terngen.hw.control.registers import Registers
from terngen.hw.control.sequencer import Sequencer
from terngen.hw.interface import machine_members, trace_signature
from terngen.hw.link.endpoint import Endpoint
from terngen.hw.program.machine import ProgramMachine
from terngen.hw.stream import delay
from terngen.hw.tape.check import TapeCheck
from terngen.hw.tape.loader import Loader
from terngen.hw.tape.onchip import OnChipTape
from terngen.hw.tape.reader import TapeReader
from terngen.hw.tape.sdram import SdramTape
from terngen.hw.tape.striped import StripedTape
from terngen.hw.units.draw import Draw
from terngen.hw.units.matvec import MatVec
from terngen.hw.units.parameters import Parameters
from terngen.hw.units.vector import Vector

__all__ = ["Machine", "OnChipMachine", "SdramMachine", "StripedMachine"]


class Machine(wiring.Component):
    """Plays tapes, and answers a host::

        link --> endpoint --> registers --> decode --> player
                                 |                  |
                               loader       reader --> sequencer --> weights --> array --> sums
                                 |            ^  |          |                      ^         |
                               load        beats play       '--> parameters --> vector unit <'

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    link_i, link_o : streams of octets
        Frames of :mod:`terngen.hw.contract.wire`, from and to the host.
    play : ``Out(stream.Signature(Play))``
        Requests to the tape source.
    beats : ``In(stream.Signature(config.beat_bits))``
        What was asked for, in order.
    load : ``Out(stream.Signature(load_layout(config)))``
        Writes to the tape memory.
    busy : ``Out(1)``
        A run is under way.
    trace : ``Out(...)``
        See :mod:`terngen.hw.contract.trace`.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(machine_members(config))

    def elaborate(self, platform):
        m = Module()
        config = self._config
        if config.control is Control.PROGRAM:
            self._program(m)
            return m

        # A new session of the host begins with a machine as after power-up. The endpoint stays, because it
        # answers, and the reader and the loader, because the tape source keeps what it was asked for.
        m.submodules.endpoint   = endpoint   = Endpoint()
        m.submodules.reader     = reader     = TapeReader(config)
        m.submodules.loader     = loader     = Loader(config)
        # From a register for each of the large units, one behind the other, because it has a long way. Of the three
        # cycles that it takes in each there is one in which it does in all.
        restarts = [endpoint.restart, delay(m, endpoint.restart, 1), delay(m, endpoint.restart, 2)]
        restart  = delay(m, Cat(restarts).any(), reset=True, name="restart")
        restart_matvec = delay(m, restart, reset=True, name="restart_matvec")
        restart_vector = delay(m, restart_matvec, reset=True, name="restart_vector")
        m.d.comb += reader.restart.eq(restart)
        restarted  = ResetInserter(restart)
        registers  = Registers(config)
        decode     = Decode(config)
        player     = Player(config)
        sequencer  = Sequencer(config)
        parameters = Parameters(config)
        check      = TapeCheck(config)
        matvec     = MatVec(config)
        vector     = Vector(config)
        m.submodules.registers  = restarted(registers)
        m.submodules.decode     = restarted(decode)
        m.submodules.player     = restarted(player)
        m.submodules.sequencer  = restarted(sequencer)
        m.submodules.parameters = restarted(parameters)
        m.submodules.check      = restarted(check)
        m.submodules.matvec     = ResetInserter(restart_matvec)(matvec)
        m.submodules.vector     = ResetInserter(restart_vector)(vector)

        # Who looks at sums and candidates, the machine or the host; from a register, because that is far and wide, and
        # neither looks in the first cycle.
        running = delay(m, decode.busy, reset=True, name="running")

        # Link and registers.
        wiring.connect(m, wiring.flipped(self.link_i), endpoint.link_i)
        wiring.connect(m, endpoint.link_o, wiring.flipped(self.link_o))
        wiring.connect(m, endpoint.bus, registers.bus)
        wiring.connect(m, registers.tape, loader.i)
        wiring.connect(m, loader.o, wiring.flipped(self.load))

        # Tape.
        wiring.connect(m, player.play, check.i)
        wiring.connect(m, check.play, reader.i)
        wiring.connect(m, reader.play, wiring.flipped(self.play))
        wiring.connect(m, wiring.flipped(self.beats), reader.beats)
        wiring.connect(m, player.segment, sequencer.segment)
        wiring.connect(m, reader.o, check.beats)
        wiring.connect(m, check.o, sequencer.beats)
        wiring.connect(m, sequencer.load, parameters.command)
        wiring.connect(m, sequencer.parameters, parameters.i)
        wiring.connect(m, sequencer.matvec, matvec.command)
        wiring.connect(m, sequencer.weights, matvec.weights)
        wiring.connect(m, sequencer.vector, vector.command)
        wiring.connect(m, vector.weights, parameters.o)
        wiring.connect(m, vector.codes, matvec.fill)

        place = 0           # of the candidate that decoding asks for
        if config.draws:
            m.submodules.draw = draw = ResetInserter(restart)(Draw(config))
            m.d.comb += [
                draw.choose.eq(registers.choose),
                draw.choice.eq(registers.choice),
                draw.go.eq(decode.draw),
                draw.slot.eq(decode.ask_slot),
                draw.scale.eq(vector.top_scale),
                draw.sum.eq(vector.top_sum),
                decode.drawn.eq(draw.done),
            ]
            place = draw.place

        machine_idle = sequencer.idle & vector.idle & matvec.idle
        m.d.comb += [
            decode.go.eq(registers.go),
            decode.steps.eq(registers.steps),
            decode.stop.eq(registers.stop),
            decode.mask.eq(registers.mask),
            decode.draws.eq(registers.draw),
            decode.first.eq(registers.tokens),
            decode.player_busy.eq(player.busy),
            decode.best.eq(vector.top_row),
            decode.place.eq(registers.history_place),
            registers.history_token.eq(decode.token),
            registers.done.eq(decode.done),
            registers.busy.eq(decode.busy),
            check.start.eq(registers.check),
            check.part.start.eq(registers.play_start),
            check.part.count.eq(registers.play_count),
            registers.checking.eq(check.busy),
            registers.crc.eq(check.crc),

            player.go.eq(decode.player_go),
            player.mask.eq(decode.active),
            player.tokens.eq(decode.tokens),
            player.embed_start.eq(registers.embed_start),
            player.embed_beats.eq(registers.embed_beats),
            player.play_start.eq(registers.play_start),
            player.play_count.eq(registers.play_count),
            player.machine_idle.eq(machine_idle),

            sequencer.hidden.eq(registers.hidden),
            sequencer.matvec_end.eq(matvec.at_end),
            self.busy.eq(decode.busy),
            registers.fault.eq(sequencer.fault),
            registers.beat.eq(reader.o.valid & reader.o.ready),
            registers.stall_tape.eq(sequencer.stall_tape),
            registers.stall_array.eq(sequencer.stall_array),
            registers.stall_vector.eq(sequencer.stall_vector),

            vector.mask.eq(decode.active),
            vector.clear.eq(delay(m, Mux(decode.opening, registers.reset, 0), name="clear")),
            vector.states.eq(registers.states),
            vector.vocab.eq(registers.vocab),
            vector.top_slot.eq(Mux(running, decode.ask_slot, registers.top_slot)),
            vector.top_place.eq(Mux(running, place, registers.top_place)),
            registers.top_row.eq(vector.top_row),
            registers.top_sum.eq(vector.top_sum),
            registers.top_scale.eq(vector.top_scale),

            # The host looks at the sums that were taken last, while nothing happens.
            matvec.drain.last.eq(~running),
            matvec.drain.slot.eq(Mux(running, vector.sums.slot, registers.sums_slot)),
            matvec.drain.group.eq(Mux(running, vector.sums.group, registers.sums_group)),
            matvec.drain.pop.eq(vector.sums.pop),
            vector.sums.sums.eq(matvec.drain.sums),
            vector.sums.tags.eq(matvec.drain.tags),
            vector.sums.ready.eq(matvec.drain.ready),
            registers.sums.eq(matvec.drain.sums),
        ]
        if config.readable:
            m.d.comb += [vector.look.eq(registers.look), registers.seen.eq(vector.seen)]
        wiring.connect(m, vector.trace, wiring.flipped(self.trace))
        return m

    def _program(self, m):
        m.submodules.program = program = ProgramMachine(self._config)
        for name in self.signature.members:
            inner, outer = getattr(program, name), getattr(self, name)
            if name == "busy":
                m.d.comb += outer.eq(inner)
            elif self.signature.members[name].flow is Out:
                wiring.connect(m, inner, wiring.flipped(outer))
            else:
                wiring.connect(m, wiring.flipped(outer), inner)


def _with_tape(m, machine, tape, outer):
    """A machine and its tape source, with the link and the trace of the machine outside."""
    m.submodules.machine = machine
    m.submodules.tape    = tape
    wiring.connect(m, machine.play, tape.play)
    wiring.connect(m, tape.beats, machine.beats)
    wiring.connect(m, machine.load, tape.load)
    wiring.connect(m, wiring.flipped(outer.link_i), machine.link_i)
    wiring.connect(m, machine.link_o, wiring.flipped(outer.link_o))
    wiring.connect(m, machine.trace, wiring.flipped(outer.trace))
    m.d.comb += outer.busy.eq(machine.busy)


class OnChipMachine(wiring.Component):
    """A machine with its tape in block RAM.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.
    depth : :class:`int`
        Beats that the memory holds.
    init : iterable of :class:`int`
        First beats, those that a bitstream brings along; the rest is zero.

    Members
    -------
    link_i, link_o, busy, trace
        As in :class:`Machine`.
    """

    def __init__(self, config: Config, *, depth: int, init=()):
        self._config = config
        self._tape   = OnChipTape(config, depth=depth, init=init)
        super().__init__({
            "link_i": In(stream.Signature(8)),
            "link_o": Out(stream.Signature(8)),
            "busy":   Out(1),
            "trace":  Out(trace_signature(config)),
        })

    @classmethod
    def of(cls, tape: Tape) -> Self:
        """A machine that comes with a model, and has room for nothing else."""
        beats = tape.image.reshape(-1, tape.config.beat_bytes)
        return cls(tape.config, depth=tape.beats, init=[int.from_bytes(beat.tobytes(), "little") for beat in beats])

    def elaborate(self, platform):
        m = Module()
        _with_tape(m, Machine(self._config), self._tape, self)
        return m


class SdramMachine(wiring.Component):
    """A machine with its tape in an SDR SDRAM chip, which shares its clock.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.
    options
        Of :class:`~terngen.hw.tape.sdram.SdramTape`.

    Members
    -------
    link_i, link_o, busy, trace
        As in :class:`Machine`.
    pins
        As in :class:`~terngen.hw.tape.sdram.SdramTape`.
    """

    def __init__(self, config: Config, **options):
        self._config = config
        self._tape   = SdramTape(config, **options)
        super().__init__({
            "link_i": In(stream.Signature(8)),
            "link_o": Out(stream.Signature(8)),
            "busy":   Out(1),
            "trace":  Out(trace_signature(config)),
            "pins":   self._tape.signature.members["pins"],
        })

    def elaborate(self, platform):
        m = Module()
        _with_tape(m, Machine(self._config), self._tape, self)
        wiring.connect(m, self._tape.pins, wiring.flipped(self.pins))
        return m


class StripedMachine(wiring.Component):
    """A machine with its tape in several memories behind AXI4 ports.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.
    channels : :class:`int`
        Memories; a power of two.
    options
        Of :class:`~terngen.hw.tape.striped.StripedTape`.

    Members
    -------
    link_i, link_o, busy, trace
        As in :class:`Machine`.
    axi, error
        As in :class:`~terngen.hw.tape.striped.StripedTape`.
    """

    def __init__(self, config: Config, *, channels: int, **options):
        self._config = config
        self._tape   = StripedTape(config, channels=channels, **options)
        ports        = self._tape.signature.members
        super().__init__({
            "link_i": In(stream.Signature(8)),
            "link_o": Out(stream.Signature(8)),
            "busy":   Out(1),
            "trace":  Out(trace_signature(config)),
            "axi":    ports["axi"],
            "error":  ports["error"],
        })

    def elaborate(self, platform):
        m = Module()
        tape = self._tape
        _with_tape(m, Machine(self._config), tape, self)
        for inner, outer in zip(tape.axi, self.axi):
            wiring.connect(m, inner, wiring.flipped(outer))
        m.d.comb += self.error.eq(tape.error)
        return m
