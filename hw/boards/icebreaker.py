"""1BitSquared iCEBreaker with an iCE40UP5K."""

import dataclasses
from typing import Any

from amaranth import ClockDomain, Module
from amaranth.hdl import Elaboratable
from amaranth.lib import io

from terngen.hw.boards.board import Board, Serial, TapeMemory, open_fpga_loader
from terngen.hw.contract.config import PRESETS, Config
from terngen.hw.estimate import Source
from terngen.hw.vendor.pll import Ice40Pll
from terngen.hw.vendor.spram import WORDS

__all__ = ["BOARD"]

#: Memories of the device that hold the tape; the last one is that of the processor.
_BLOCKS = 3


def platform():
    from amaranth_boards.icebreaker import ICEBreakerPlatform
    return ICEBreakerPlatform()


@dataclasses.dataclass(frozen=True)
class Spram(TapeMemory):
    """Single-port memories, which a host loads."""

    title  = "single-port RAM"
    octets = 2 * _BLOCKS * WORDS
    bits   = 16
    config = PRESETS["processor"].choices

    def source(self, config: Config, clock_hz: int, image: bytes) -> Any:
        from terngen.hw.tape.spram import SpramTape
        return SpramTape(config, depth=_BLOCKS * WORDS)

    def timing(self, clock_hz: int) -> Source:
        from terngen.hw.tape.spram import SpramTape
        return Source(latency=SpramTape.LATENCY_CYCLES, requests=1)


class IcebreakerTop(Elaboratable):
    """A system with the clock, the serial port and a light of the board, which is on while it is busy."""

    def __init__(self, board, system):
        self._system = system

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()
        clock = platform.request(platform.default_clk, dir="-")
        m.submodules.system = system = self._system
        m.submodules.pll = Ice40Pll(clock.io, input_hz=int(platform.default_clk_frequency), output_hz=system.clock_hz)
        uart = platform.request("uart", dir="-")
        m.submodules.rx  = rx    = io.Buffer("i", uart.rx)
        m.submodules.tx  = tx    = io.FFBuffer("o", uart.tx)
        m.submodules.led = light = io.FFBuffer("o", platform.request("led_g", dir="-"))
        m.d.comb += [system.rx.eq(rx.i), tx.o.eq(system.tx), light.o.eq(system.busy)]
        return m


BOARD = Board(
    name     = "icebreaker",
    title    = "1BitSquared iCEBreaker",
    device   = "iCE40UP5K-SG48",
    # Lattice FPGA-DS-02008, product selection; block RAMs of 4 kbit.
    cells    = {"lut": 5280, "ff": 5280, "bram": 30, "dsp": 8},
    family   = "ice40",
    tier     = 1,
    # That of its crystal. Routed for it, a design reached 18.9 MHz.
    clock_hz = 12_000_000,
    memories = {"spram": Spram()},
    link     = Serial(1_000_000, "FT2232H"),
    platform = platform,
    top      = IcebreakerTop,
    remarks  = "Not tried on silicon.",

    programmer = open_fpga_loader("ice40_generic"),
)
