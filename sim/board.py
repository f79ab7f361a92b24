"""Complete boards, simulated: everything behind the pins that a bitstream has, and what is at the pins."""

import dataclasses
import hashlib
from pathlib import Path

from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from terngen.hw.boards import find
from terngen.hw.boards.board import Board, Sdram
from terngen.hw.boards.system import System
from terngen.hw.contract.config import Config
from terngen.hw.interface import trace_signature
from terngen.hw.link.uart import Uart, divisor
from terngen.hw.tape.chips import SdramChip
from terngen.sim import verilate
from terngen.sim.compiled import Library, compile_machine
from terngen.sim.sdram import SdramModel, connect_chip, lines_file, lines_module
from terngen.sim.verilog import cached_verilog

__all__ = ["VirtualBoard", "compile_board", "virtual_board"]

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

    @property
    def chip(self) -> SdramChip | None:
        """The memory chip, if there is one, with only as many rows as the tape needs."""
        memory = self._board.memories[self._memory]
        if not isinstance(memory, Sdram):
            return None
        chip = memory.chip
        rows = ceil_log2(max(2, -(-len(self._image) * 8 // (chip.width * chip.cols * chip.banks))))
        return dataclasses.replace(chip, rows=min(chip.rows, 1 << rows))

    def elaborate(self, platform):
        m = Module()
        memory   = self._board.memories[self._memory]
        clock_hz = self._board.clock_of(self._memory)
        m.submodules.system = system = System(
            self._config, tape=memory.source(self._config, clock_hz, self._image),
            link=Uart(divisor=self._divisor), clock_hz=clock_hz)
        m.submodules.host = host = Uart(divisor=self._divisor)
        m.d.comb += [system.rx.eq(host.tx), host.rx.eq(system.tx), self.busy.eq(system.busy)]
        if isinstance(memory, Sdram):
            m.submodules.chip = chip = SdramModel(self.chip, clock_hz=clock_hz, outside=True)
            connect_chip(m, system.pins, chip, memory.flight)
        wiring.connect(m, wiring.flipped(self.link_i), host.i)
        wiring.connect(m, host.o, wiring.flipped(self.link_o))
        wiring.connect(m, system.trace, wiring.flipped(self.trace))
        return m


def compile_board(config: Config, spec: str, *, image: bytes = b"", real_time: bool = False,
                  waveform: bool = False, optimisation: str = verilate.OPTIMISATION) -> Library:
    """A board in native code, from the cache where nothing that it depends on has changed.

    Parameters
    ----------
    spec, image, real_time
        As of :func:`virtual_board`.
    waveform, optimisation
        As of :func:`~terngen.sim.compiled.compile_machine`.

    Raises
    ------
    ToolError
        If Verilator or a compiler is missing or fails.
    ValueError
        As :func:`virtual_board`.
    """
    # A board may be a file of the user's.
    own   = [Path(spec.partition(":")[0]), *sorted(Path(__file__).parent.glob("*.py"))]
    parts = [config.digest.hex(), spec, str(real_time), hashlib.sha256(image).hexdigest(),
             *(path.read_text() for path in own if path.is_file())]
    board = virtual_board(config, spec, image=image, real_time=real_time)
    text  = cached_verilog(lambda: board, *parts)
    if board.chip is not None:
        lines = lines_file(board.chip, image)

        def write(folder: Path) -> Path:
            (folder / "lines.hex").write_text(lines)
            return folder / "lines.hex"

        text += lines_module(board.chip, verilate.cached("lines", ".hex", [lines], write))
    return compile_machine(text, config=config, waveform=waveform, optimisation=optimisation)


def virtual_board(config: Config, spec: str, *, image: bytes = b"", real_time: bool = False) -> VirtualBoard:
    """A board by its name, see :func:`terngen.hw.boards.find`.

    Parameters
    ----------
    image
        What the memory holds; a memory chip is as large as this.
    real_time
        Whether bits take as many cycles as on the board, instead of :data:`DIVISOR`.

    Raises
    ------
    ValueError
        If there is no such board, or the machine does not suit it.
    """
    board, memory = find(spec)
    return VirtualBoard(board, config, memory=memory, image=image,
                        divisor=divisor(board.clock_of(memory), board.link.baud) if real_time else DIVISOR)
