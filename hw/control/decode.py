"""The loop of a text: what comes out of a step goes into the next one."""

from collections.abc import Sequence

from amaranth import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.config import Config
from terngen.hw.contract.regs import TOKEN_BITS
from terngen.hw.stream import delay
from terngen.hw.units import draw
from terngen.hw.units.sampler import PLACE_LATENCY, SHOW_LATENCY

__all__ = ["READ_LATENCY", "Decode", "cycles"]

#: Cycles from a place in the history to its token.
READ_LATENCY = 2


def cycles(config: Config, *, steps: int, drawn: Sequence[int] = ()) -> int:
    """Cycles of a run besides those in which the player is busy.

    A step is started, waited for and counted, and after it every slot is asked for its best candidate.

    Parameters
    ----------
    drawn
        Candidates of each token that is drawn instead.
    """
    return (steps * (3 + config.slots * (SHOW_LATENCY + 1))
            + sum(draw.latency(candidates) + PLACE_LATENCY for candidates in drawn))


class Decode(wiring.Component):
    """Makes the steps of a run, each with what comes out of the one before it.

    After a step the best candidate of every slot that took part, or one that is drawn, is kept in a history, and
    becomes the slot's token. A slot whose token is `stop` leaves. The run ends after `steps` steps, or when no slot
    is left. Besides its steps a run takes :func:`cycles`.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    go : ``In(1)``
        Starts a run, unless one is under way. What is asked for must not change until it is done.
    steps, stop : ``In(32)``
        Steps to make, zero counts as one; token after which a slot leaves.
    mask : ``In(config.slots)``, first : ``In(data.ArrayLayout(32, config.slots))``
        Slots that take part, and their tokens in the first step.
    draws : ``In(config.slots)``
        Slots that draw their tokens.
    busy : ``Out(1)``
        A run is under way.
    done : ``Out(32)``
        Steps that are complete.
    opening : ``Out(1)``
        The first step is under way, or none.
    player_go : ``Out(1)``, player_busy : ``In(1)``
        Of the :class:`~terngen.hw.control.player.Player`.
    active : ``Out(config.slots)``, tokens : ``Out(data.ArrayLayout(32, config.slots))``
        Slots that take part in the step, and their tokens.
    ask_slot : ``Out(config.slot_bits)``, best : ``In(32)``
        Best candidate of a slot, ``SHOW_LATENCY`` of :mod:`terngen.hw.units.sampler` later; after a draw the
        candidate that was drawn, ``PLACE_LATENCY`` later. While no run is under way, `ask_slot` has no meaning.
    draw : ``Out(1)``, drawn : ``In(1)``
        Begins to draw for a slot; it is drawn, see :class:`~terngen.hw.units.draw.Draw`.
    place : ``In(range(config.history << config.slot_bits))``, token : ``Out(TOKEN_BITS)``
        Read port of the history, with ``READ_LATENCY``: step and slot, and the token, all ones for none.
    """

    def __init__(self, config: Config):
        self._config = config
        self._depth  = config.history << config.slot_bits
        tokens = data.ArrayLayout(32, config.slots)
        super().__init__({
            "go":          In(1),
            "steps":       In(32),
            "stop":        In(32),
            "mask":        In(config.slots),
            "draws":       In(config.slots),
            "first":       In(tokens),
            "busy":        Out(1),
            "done":        Out(32),
            "opening":     Out(1),
            "player_go":   Out(1),
            "player_busy": In(1),
            "active":      Out(config.slots),
            "tokens":      Out(tokens),
            "ask_slot":    Out(config.slot_bits),
            "best":        In(32),
            "draw":        Out(1),
            "drawn":       In(1),
            "place":       In(range(self._depth)),
            "token":       Out(TOKEN_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config

        m.submodules.history = history = memory.Memory(shape=TOKEN_BITS, depth=self._depth, init=[],
                                                       attrs={"no_rw_check": 1})
        write, read = history.write_port(), history.read_port()
        m.d.comb += [
            read.addr.eq(self.place),
            self.token.eq(delay(m, read.data, READ_LATENCY - 1, name="token")),
        ]

        slot  = Signal(config.slot_bits)
        wait  = Signal(range(SHOW_LATENCY + 1))
        taken = Signal()                # the slot took part
        ready = Signal()                # its candidate has been drawn
        leave = Signal()
        m.d.comb += [
            self.opening.eq(self.done == 0),
            self.ask_slot.eq(slot),
            taken.eq(self.active.bit_select(slot, 1)),
            leave.eq(self.best == self.stop),
            write.addr.eq(Cat(slot, self.done[:(config.history - 1).bit_length()])),
            write.data.eq(Mux(taken, self.best[:TOKEN_BITS], (1 << TOKEN_BITS) - 1)),
        ]
        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("Idle"))
            with m.State("Idle"):
                m.d.sync += [self.tokens.eq(self.first), self.active.eq(self.mask)]
                with m.If(self.go):
                    m.d.sync += self.done.eq(0)
                    m.next = "Start"
            with m.State("Start"):
                m.d.comb += self.player_go.eq(1)
                m.next = "Step"
            with m.State("Step"):
                m.d.sync += [slot.eq(0), wait.eq(SHOW_LATENCY)]
                with m.If(~self.player_busy):
                    m.next = "Collect"
            with m.State("Collect"):
                m.d.sync += wait.eq(wait - 1)
                with m.If((wait == 0) & taken & self.draws.bit_select(slot, 1) & ~ready):
                    m.d.comb += self.draw.eq(1)
                    m.next = "Draw"
                with m.Elif(wait == 0):
                    m.d.comb += write.en.eq(1)
                    m.d.sync += [wait.eq(SHOW_LATENCY), slot.eq(slot + 1), ready.eq(0),
                                 Array(self.tokens)[slot].eq(self.best)]
                    with m.If(taken & leave):
                        m.d.sync += self.active.bit_select(slot, 1).eq(0)
                    with m.If(slot == config.slots - 1):
                        m.d.sync += self.done.eq(self.done + 1)
                        m.next = "Again"
            with m.State("Draw"):
                m.d.sync += [wait.eq(PLACE_LATENCY - 1), ready.eq(1)]
                with m.If(self.drawn):
                    m.next = "Collect"
            with m.State("Again"):
                with m.If((self.done >= self.steps) | (self.active == 0)):
                    m.next = "Idle"
                with m.Else():
                    m.next = "Start"
        return m
