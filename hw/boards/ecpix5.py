"""LambdaConcept ECPIX-5 85F: DDR3 behind LiteDRAM's controller."""

import functools

from amaranth import ClockDomain, ClockSignal, Const, Instance, Module, ResetSignal
from amaranth.hdl import Elaboratable
from amaranth.lib import io, wiring

from terngen.hw.boards.board import Board, Serial, open_fpga_loader
from terngen.hw.boards.ecp5 import LFE5_85
from terngen.hw.boards.vivado import AxiMemory
from terngen.hw.vendor import litedram

__all__ = ["BOARD"]

#: A quarter of the rate of the data pins, which is what this controller is known to reach here.
CLOCK_HZ = 75_000_000

#: 16 bits at four times the clock.
_DDR = AxiMemory("DDR3 x16, 300 MT/s", 512 << 20, channels=1, width=128, peak_bytes=8 * CLOCK_HZ, addr_width=29,
                 config={"variant": "tree", "lanes": 2})


def platform():
    from amaranth_boards.ecpix5 import ECPIX585Platform
    return ECPIX585Platform()


@functools.cache
def core():
    """The controller of the chip, an MT41K256M16."""
    return litedram.generate(device="LFE5UM5G-85F-8BG554I", module="MT41K256M16", lanes=2, input_hz=100_000_000,
                             clock_hz=CLOCK_HZ, rtt_nom="disabled", rtt_wr="60ohm", ron="34ohm")


class Ecpix5Top(Elaboratable):
    """A system on the board: the controller makes the clock, and is started before the machine sees its memory.

    Parameters
    ----------
    board : :class:`~terngen.hw.boards.board.Board`
    system : :class:`~terngen.hw.boards.system.System`
    """

    def __init__(self, board, system):
        self._system = system

    def elaborate(self, platform):
        made = core()
        m = Module()
        m.domains.sync = ClockDomain()
        clock = platform.request(platform.default_clk, dir="-")
        m.submodules.clock_buffer = buffer = io.Buffer("i", clock)
        platform.add_clock_constraint(buffer.i, platform.default_clk_frequency)
        m.submodules.system = system = self._system
        platform.add_file(f"{litedram.CORE}.v", made.verilog)
        m.submodules.start = start = litedram.LitedramStart(made)

        chip  = platform.request("ddr3", dir="-")
        ports = {"i_clk": buffer.i, "i_rst": Const(0), "o_user_clk": ClockSignal("sync"),
                 "o_user_rst": ResetSignal("sync"), "io_ddram_dq": chip.dq.io, "io_ddram_dqs_p": chip.dqs.p}
        names = {"a": "a", "ba": "ba", "dm": "dm", "odt": "odt", "clk_en": "cke", "clk": "clk_p", "ras": "ras_n",
                 "cas": "cas_n", "we": "we_n"}
        for name, pin in names.items():
            # The controller's outputs are what the pads have to be, whatever the pins are called here.
            pads = getattr(chip, name)
            pads = ~pads if all(pads.invert) else pads
            m.submodules[f"ddr3_{name}"] = driver = io.Buffer("o", pads)
            ports[f"o_ddram_{pin}"] = driver.o
        for path, member, value in wiring.flipped(system.axi[0]).signature.flatten(system.axi[0]):
            letter = "o" if member.flow is wiring.Out else "i"
            ports[f"{letter}_user_port_{litedram.PORT}_{path[0]}"] = value
        for path, member, value in start.bus.signature.flatten(start.bus):
            letter = "i" if member.flow is wiring.Out else "o"
            ports[f"{letter}_wb_ctrl_{path[0]}"] = value
        ports |= {"i_wb_ctrl_sel": Const(0xF, 4), "i_wb_ctrl_bte": Const(0, 2), "i_wb_ctrl_cti": Const(0, 3)}
        m.submodules.memory = Instance(litedram.CORE, **ports)

        uart = platform.request("uart", dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.FFBuffer("o", uart.tx)
        m.d.comb += [system.rx.eq(rx.i), tx.o.eq(system.tx)]
        light = platform.request("rgb_led", 0, dir="-")
        for name, lit in (("r", start.error), ("g", start.done), ("b", system.busy)):
            m.submodules[f"led_{name}"] = led = io.FFBuffer("o", getattr(light, name))
            m.d.comb += led.o.eq(lit)
        return m


BOARD = Board(
    name     = "ecpix-5",
    title    = "LambdaConcept ECPIX-5 85F",
    device   = "LFE5UM5G-85F-8BG554I",
    cells    = LFE5_85,
    family   = "ecp5",
    tier     = 1,
    clock_hz = CLOCK_HZ,
    memories = {"ddr3": _DDR},
    link     = Serial(3_000_000, "FT2232H"),
    platform = platform,
    top      = Ecpix5Top,
    remarks  = "DDR3 by LiteDRAM, with an initialisation of our own; not tried on silicon.",

    programmer = open_fpga_loader("ecpix5"),
)
