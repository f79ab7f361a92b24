"""Boards with an ECP5, by the names that their resources have in Amaranth's platforms."""

from amaranth import Module
from amaranth.build import ResourceError
from amaranth.hdl import Elaboratable
from amaranth.lib import io

from terngen.hw.vendor.pll import Ecp5Pll

__all__ = ["BLOCK_RAM_OCTETS", "LFE5_45", "LFE5_85", "Ecp5Top"]

#: Cells of the devices (Lattice FPGA-DS-02012, product selection).
LFE5_85 = {"lut": 83640, "ff": 83640, "bram": 208, "dsp": 156}
LFE5_45 = {"lut": 43848, "ff": 43848, "bram": 108, "dsp": 72}

#: Octets of a block RAM that is 32 bits wide.
BLOCK_RAM_OCTETS = 2048


class Ecp5Top(Elaboratable):
    """A system on a board with an ECP5: its clock through a PLL, its serial port, and a light while it is busy.

    Parameters
    ----------
    board : :class:`~terngen.hw.boards.board.Board`
    system : :class:`~terngen.hw.boards.system.System`
    """

    def __init__(self, board, system):
        self._board  = board
        self._system = system

    def elaborate(self, platform):
        m = Module()
        clock = platform.request(platform.default_clk, dir="-")
        m.submodules.clock_buffer = buffer = io.Buffer("i", clock)
        platform.add_clock_constraint(buffer.i, platform.default_clk_frequency)
        m.submodules.pll = Ecp5Pll(buffer.i, input_hz=int(platform.default_clk_frequency),
                                   output_hz=self._board.clock_hz)
        m.submodules.system = system = self._system

        uart = platform.request("uart", dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.FFBuffer("o", uart.tx)
        m.d.comb += [system.rx.eq(rx.i), tx.o.eq(system.tx)]
        try:
            led = platform.request("led", dir="-")
        except ResourceError:
            return m
        m.submodules.led = light = io.FFBuffer("o", led)
        m.d.comb += light.o.eq(system.busy)
        return m
