"""Everything of a board but its clock and its pins."""

from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from terngen.hw.contract.config import Config
from terngen.hw.interface import trace_signature
from terngen.hw.top import Machine

__all__ = ["System"]

#: What a tape source and a link have for the machine.
_TAPE = ("play", "beats", "load")
_LINK = ("i", "o")


class System(wiring.Component):
    """A machine with its tape source and its link::

        pins of the link <-> link <-> machine <-> tape source <-> pins of the memory

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.
    tape : component
        Its source of beats: ``play``, ``beats`` and ``load`` as of :class:`~terngen.hw.tape.onchip.OnChipTape`.
    link : component
        Its way to the host: ``o`` has octets for the machine, ``i`` takes octets from it, as of
        :class:`~terngen.hw.link.uart.Uart`.
    clock_hz : :class:`int`
        Frequency that all of them were made for.
    memory : :class:`~terngen.hw.boards.board.TapeMemory`
        What the pins of the memory lead to.

    Members
    -------
    busy, trace
        As of :class:`~terngen.hw.top.Machine`.
    others
        What tape source and link have besides: their pins, under their names.
    """

    def __init__(self, config: Config, *, tape: Any, link: Any, clock_hz: int, memory: Any = None):
        self.config   = config
        self.clock_hz = clock_hz
        #: What the tape memory is, for those who join its pins.
        self.memory   = memory
        self._tape    = tape
        self._link    = link
        members       = {"busy": Out(1), "trace": Out(trace_signature(config))}
        for component, inner in ((tape, _TAPE), (link, _LINK)):
            for name in _pins(component, inner):
                if name in members:
                    raise ValueError(f"Tape source and link must have pins of different names, but both have {name!r}")
                members[name] = component.signature.members[name]
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.machine = machine = Machine(self.config)
        m.submodules.tape    = tape    = self._tape
        m.submodules.link    = link    = self._link
        wiring.connect(m, link.o, machine.link_i)
        wiring.connect(m, machine.link_o, link.i)
        wiring.connect(m, machine.play, tape.play)
        wiring.connect(m, tape.beats, machine.beats)
        wiring.connect(m, machine.load, tape.load)
        wiring.connect(m, machine.trace, wiring.flipped(self.trace))
        m.d.comb += self.busy.eq(machine.busy)
        for component, inner in ((tape, _TAPE), (link, _LINK)):
            for name in _pins(component, inner):
                _join(m, component.signature.members[name], getattr(component, name), getattr(self, name))
        return m


def _pins(component, inner):
    return [name for name in component.signature.members if name not in inner]


def _join(m, member, inside, outside):
    """Lead a member of a part out, as it is."""
    if member.is_port:
        m.d.comb += outside.eq(inside) if member.flow is wiring.Out else inside.eq(outside)
    elif member.dimensions:
        for each, other in zip(inside, outside):
            wiring.connect(m, each, wiring.flipped(other))
    else:
        wiring.connect(m, inside, wiring.flipped(outside))
