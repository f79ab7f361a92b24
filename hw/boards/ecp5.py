"""Boards with an ECP5, by the names that their resources have in Amaranth's platforms."""

import contextlib

from amaranth import ClockDomain, Module
from amaranth.build import ResourceError
from amaranth.hdl import Elaboratable
from amaranth.lib import io

from terngen.hw.stream import delay
from terngen.hw.vendor.pll import Ecp5Pll

__all__ = ["BLOCK_RAM_OCTETS", "LFE5_45", "LFE5_85", "Ecp5Top"]

#: Cells of the devices (Lattice FPGA-DS-02012, product selection).
LFE5_85 = {"lut": 83640, "ff": 83640, "bram": 208, "dsp": 156}
LFE5_45 = {"lut": 43848, "ff": 43848, "bram": 108, "dsp": 72}

#: Octets of a block RAM that is 32 bits wide.
BLOCK_RAM_OCTETS = 2048


class Ecp5Top(Elaboratable):
    """A system on a board with an ECP5: clock through a PLL, serial port, SDRAM, and a light while it is busy.

    Parameters
    ----------
    board : :class:`~terngen.hw.boards.board.Board`
    system : :class:`~terngen.hw.boards.system.System`
    """

    def __init__(self, board, system):
        self._board  = board
        self._system = system

    @staticmethod
    def pll(platform, clock, **options):
        """What makes the clocks of that which comes in."""
        return Ecp5Pll(clock, **options)

    def elaborate(self, platform):
        m = Module()
        clock = platform.request(platform.default_clk, dir="-")
        m.submodules.clock_buffer = buffer = io.Buffer("i", clock)
        platform.add_clock_constraint(buffer.i, platform.default_clk_frequency)
        m.submodules.system = system = self._system
        has_sdram = "pins" in system.signature.members
        if has_sdram:
            m.domains.late = ClockDomain(reset_less=True)
        m.submodules.pll = pll = self.pll(platform, buffer.i, input_hz=int(platform.default_clk_frequency),
                                          output_hz=system.clock_hz,
                                          delay_ns=system.memory.delay_ns if has_sdram else None)
        m.domains.sync = ClockDomain(reset_less=pll.RESET_LESS)

        uart = platform.request("uart", dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.FFBuffer("o", uart.tx)
        m.d.comb += [system.rx.eq(rx.i), tx.o.eq(system.tx)]
        if has_sdram:
            self._sdram(m, platform.request("sdram", dir="-"), system.pins)
        with contextlib.suppress(ResourceError):
            m.submodules.led = light = io.FFBuffer("o", platform.request("led", dir="-"))
            m.d.comb += light.o.eq(delay(m, system.busy, name="busy"))
        return m

    @staticmethod
    def _sdram(m, chip, pins):
        """Join an SDRAM: all pins through flip-flops beside them.

        Its clock is late, so that what changes at an edge here is steady at the edge there: all of it leaves through
        the same pads, whose delay does not matter. What it gives changes tOH (2.7 ns) to tAC (5.4 ns) after its edge,
        and the way from an edge of the clock here through its pad to the chip, and from there through a pad to a
        flip-flop, takes some 2.5 ns. The board chooses the delay so that an edge here finds it steady, and tells
        between what times the way may be. **Not tried on silicon.**
        """
        m.submodules.sdram_clk = clock = io.DDRBuffer("o", chip.clk, o_domain="late")
        m.d.comb += [clock.o[0].eq(1), clock.o[1].eq(0)]
        command = pins.command.as_value()
        outputs = {"clk_en": pins.cke, "cs": 1, "ras": command[2], "cas": command[1], "we": command[0],
                   "a": pins.a, "ba": pins.ba, "dqm": pins.dqm}
        for name, value in outputs.items():
            if hasattr(chip, name):
                m.submodules[f"sdram_{name}"] = buffer = io.FFBuffer("o", getattr(chip, name))
                m.d.comb += buffer.o.eq(value)
        m.submodules.sdram_dq = data = io.FFBuffer("io", chip.dq)
        m.d.comb += [data.o.eq(pins.dq_o), data.oe.eq(pins.dq_oe), pins.dq_i.eq(data.i)]
