"""What a machine has to know of a board."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from terngen.hw.contract.config import Config
from terngen.hw.estimate import Source
from terngen.hw.tape.chips import CHIPS, SdramChip

__all__ = ["Board", "OnChip", "Sdram", "Serial", "TapeMemory", "open_fpga_loader"]


class TapeMemory(ABC):
    """Where a board keeps the tape."""

    #: What it is, in a few words.
    title: str
    #: Octets that a tape may have; those of block RAM are all of the device's, which the machine needs as well.
    octets: int
    #: Width of a beat that it gives in each of its cycles; ``None`` if every width will do.
    bits: int | None
    #: Fields of :class:`Config` that suit it.
    config: Mapping[str, Any] = {}

    #: Whether the bitstream holds the tape.
    preloaded: bool = False
    #: Memories of the machine of up to so many words are built without block RAM.
    distributed: int = 0
    #: Clock of a machine with it, in Hz, if that is not the board's.
    clock_hz: int | None = None
    #: Of placement: what is tried first, because `make boards` met timing with it.
    seed: int = 1

    def used(self, config: Config, octets: int) -> dict[str, int]:
        """What a tape of so many octets takes of the cells of the device: names as of :attr:`Board.cells`."""
        return {}

    @abstractmethod
    def source(self, config: Config, clock_hz: int, image: bytes) -> Any:
        """The tape source. What it keeps without power is `image`, if it keeps anything."""

    @abstractmethod
    def timing(self, clock_hz: int) -> Source:
        """What the estimator needs to know."""

    def peak(self, config: Config, clock_hz: int) -> float:
        """Octets in a second, at most."""
        return config.beat_bytes * clock_hz * float(self.timing(clock_hz).rate)


@dataclasses.dataclass(frozen=True)
class OnChip(TapeMemory):
    """Block RAM. The bitstream holds the tape, so nothing has to be loaded."""

    octets:   int
    config:   Mapping[str, Any] = dataclasses.field(default_factory=dict)
    clock_hz: int | None = None
    seed:     int = 1
    title       = "block RAM"
    bits        = None
    preloaded   = True
    distributed = 64

    def used(self, config: Config, octets: int) -> dict[str, int]:
        from terngen.hw.area import tape_block_rams
        return {"bram": tape_block_rams(config, -(-octets // config.beat_bytes))}

    def source(self, config: Config, clock_hz: int, image: bytes) -> Any:
        from terngen.hw.tape.onchip import OnChipTape
        size  = config.beat_bytes
        beats = [int.from_bytes(image[place:place + size], "little") for place in range(0, len(image), size)]
        return OnChipTape(config, depth=max(1, len(beats)), init=beats)

    def timing(self, clock_hz: int) -> Source:
        from terngen.hw.tape.onchip import OnChipTape
        return Source(latency=OnChipTape.LATENCY_CYCLES, rate=Fraction(1))


@dataclasses.dataclass(frozen=True)
class Sdram(TapeMemory):
    """An SDR SDRAM chip, whose clock is the machine's and whose words are the beats.

    Parameters
    ----------
    part : :class:`str`
        Name in :data:`~terngen.hw.tape.chips.CHIPS`.
    delay_ns : :class:`float`
        Time from an edge of the machine's clock to that of the chip's.
    flight : :class:`int`
        Cycles by which data come later than the controller would have them, see
        :class:`~terngen.hw.tape.sdram.SdramTape`.
    """

    part:     str
    delay_ns: float
    flight:   int
    config:   Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed:     int = 1

    @property
    def chip(self) -> SdramChip:
        return CHIPS[self.part]

    @property
    def title(self) -> str:
        return f"SDR SDRAM {self.part}, x{self.chip.width}"

    @property
    def octets(self) -> int:
        return self.chip.words * self.chip.width // 8

    @property
    def bits(self) -> int:
        return self.chip.width

    def source(self, config: Config, clock_hz: int, image: bytes) -> Any:
        from terngen.hw.tape.sdram import SdramTape
        return SdramTape(config, chip=self.chip, clock_hz=clock_hz, flight=self.flight)

    def timing(self, clock_hz: int) -> Source:
        from terngen.hw.tape.sdram import REGISTERS, REQUEST_CYCLES
        times = self.chip.timing(clock_hz)
        return Source(latency=REQUEST_CYCLES + times.rcd + times.cas + REGISTERS + self.flight,
                      refresh_period=times.postponed * times.interval, refresh_pause=times.pause)


@dataclasses.dataclass(frozen=True)
class Serial:
    """A serial port."""

    baud: int
    #: What turns it into USB, or whatever the host has.
    bridge: str

    @property
    def title(self) -> str:
        return f"{self.bridge}, {self.baud / 1e6:g} Mbaud"

    @property
    def rate(self) -> float:
        """Octets in a second, on the wire."""
        from terngen.hw.link.uart import FRAME_BITS
        return self.baud / FRAME_BITS

    def component(self, clock_hz: int) -> Any:
        """The device's end."""
        from terngen.hw.link.uart import Uart, divisor
        return Uart(divisor=divisor(clock_hz, self.baud))


def open_fpga_loader(board: str) -> Callable[[str, bool], list[str]]:
    """The command of openFPGALoader for a board, by its name there."""
    def command(bitstream: str, flash: bool) -> list[str]:
        return ["openFPGALoader", "-b", board, *(["-f"] if flash else []), bitstream]
    return command


@dataclasses.dataclass(frozen=True, kw_only=True)
class Board:
    """A board: its device, its clock, its memories, its link, and how their pins are joined to a machine.

    Parameters
    ----------
    name : :class:`str`
        As the command line has it.
    title : :class:`str`
        As its maker has it.
    device : :class:`str`
        The FPGA.
    cells : mapping of :class:`int`
        What it has: ``lut`` (places of a look-up table), ``ff``, ``bram``, ``dsp``.
    family : :class:`str`
        ``ecp5``, ``gowin``: those that become bitstreams with open tools; others get scripts.
    tier : :class:`int`
        1: the bitstream is built in our tests. 2: synthesised for its area. 3: Verilog, constraints and scripts.
    clock_hz : :class:`int`
        Of the machine.
    memories : mapping of :class:`TapeMemory`
        By name; the first is the default.
    link
        To the host: :class:`Serial`, or another with its ``title``, ``rate`` and ``component``.
    platform : callable
        Amaranth's platform of the board, with its resources.
    top : callable
        ``top(board, system)`` is what is built: the system with the board's clock and pins.
    scripts : callable
        Instead of the two, for the tools of a vendor: ``scripts(board, system)`` are files by name, Verilog,
        constraints and a script that runs unattended.
    programmer : callable
        ``programmer(bitstream, flash)`` is the command that programs the board; ``None`` if that is not one command.
    remarks : :class:`str`
        What a user must know. Nothing here has run on silicon unless it says so.
    """

    name:     str
    title:    str
    device:   str
    cells:    Mapping[str, int]
    family:   str
    tier:     int
    clock_hz: int
    memories: Mapping[str, TapeMemory]
    link:     Any
    platform: Callable[[], Any] | None = None
    top:      Callable[..., Any] | None = None
    scripts:  Callable[..., dict[str, str]] | None = None
    remarks:  str = ""

    programmer: Callable[[str, bool], list[str] | None] = lambda bitstream, flash: None

    def files(self, config: Config, memory: str, image: bytes = b"") -> dict[str, str]:
        """What its tools need, by name: Verilog, constraints, scripts."""
        from terngen.hw import bitstream
        system = self.system(config, memory, image)
        if self.scripts is not None:
            return self.scripts(self, system)
        design = bitstream.design(self, system, distributed=self.memories[memory].distributed)
        return bitstream.files(self, design, seed=self.memories[memory].seed, digest=config.digest)

    @property
    def result(self) -> str:
        """What `terngen build` makes."""
        return "bitstream" if self.scripts is None else "Verilog, constraints and scripts"

    @property
    def memory(self) -> str:
        """Name of the default memory."""
        return next(iter(self.memories))

    def clock_of(self, memory: str) -> int:
        """Clock of the machine with one of the memories, in Hz."""
        return self.memories[memory].clock_hz or self.clock_hz

    def system(self, config: Config, memory: str, image: bytes = b"") -> Any:
        """The machine with its tape source and its link, see :class:`~terngen.hw.boards.system.System`."""
        from terngen.hw.boards.system import System
        clock_hz = self.clock_of(memory)
        source   = self.memories[memory].source(config, clock_hz, image)
        return System(config, tape=source, link=self.link.component(clock_hz), clock_hz=clock_hz,
                      memory=self.memories[memory])
