"""Complete boards, simulated: everything behind the pins that a bitstream has, and what is at the pins."""

from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.boards import find
from terngen.hw.boards.board import Board
from terngen.hw.boards.system import System
from terngen.hw.contract.config import Config
from terngen.hw.link.uart import Uart, divisor
from terngen.hw.top import trace_signature

__all__ = ["VirtualBoard", "virtual_board"]

#: Cycles of a bit where nothing else is asked for: the fewest that a serial port can have.
DIVISOR = 4


class VirtualBoard(wiring.Component):
    """A board with chips at its pins: the other end of its serial port, and its memory.

    Parameters
    ----------
    board : :class:`Board`
    config : :class:`Config`
        The machine.
    memory : :class:`str`
        Name of the memory of the board.
    divisor : :class:`int`
        Cycles of a bit on the wires of the serial port, which both ends have here.

    Members
    -------
    link_i, link_o
        Octets to and from the other end of the serial port.
    busy, trace
        As of :class:`~terngen.hw.top.Machine`.
    """

    def __init__(self, board: Board, config: Config, *, memory: str, image: bytes = b"", divisor: int):
        self._board, self._config, self._memory = board, config, memory
        self._image, self._divisor = image, divisor
        super().__init__({
            "link_i": In(stream.Signature(8)),
            "link_o": Out(stream.Signature(8)),
            "busy":   Out(1),
            "trace":  Out(trace_signature(config)),
        })

    def elaborate(self, platform):
        m = Module()
        memory = self._board.memories[self._memory]
        m.submodules.system = system = System(
            self._config, tape=memory.source(self._config, self._board.clock_hz, self._image),
            link=Uart(divisor=self._divisor))
        m.submodules.host = host = Uart(divisor=self._divisor)
        m.d.comb += [system.rx.eq(host.tx), host.rx.eq(system.tx), self.busy.eq(system.busy)]
        wiring.connect(m, wiring.flipped(self.link_i), host.i)
        wiring.connect(m, host.o, wiring.flipped(self.link_o))
        wiring.connect(m, system.trace, wiring.flipped(self.trace))
        return m


def virtual_board(config: Config, spec: str, *, beats: int = 0, real_time: bool = False) -> VirtualBoard:
    """A board by its name, see :func:`terngen.hw.boards.find`.

    Parameters
    ----------
    beats
        That a memory inside has to hold.
    real_time
        Whether bits take as many cycles as on the board, instead of :data:`DIVISOR`.

    Raises
    ------
    ValueError
        If there is no such board, or the machine does not suit it.
    """
    board, memory = find(spec)
    return VirtualBoard(board, config, memory=memory, image=bytes(beats * config.beat_bytes),
                        divisor=divisor(board.clock_hz, board.link.baud) if real_time else DIVISOR)
