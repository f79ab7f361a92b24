"""DDR3 at an ECP5: LiteDRAM's controller, generated when a board is built, and what starts it.

LiteDRAM (enjoy-digital, BSD-2-Clause) is a package that builds depend on, ``pip install 'terngen[ddr3]'``. Of its three
ways to be started, this takes the one without a processor: :class:`LitedramStart` writes what LiteDRAM's firmware
writes, and finds the delays of the data pins as that does.
"""

import dataclasses
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.lib import data, enum, memory, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.build import BuildError

__all__ = ["CORE", "LitedramCore", "LitedramStart", "WishboneSignature", "generate"]

#: Name of the module that is generated, and of its port for the tape.
CORE = "litedram_core"
PORT = "tape"


@dataclasses.dataclass(frozen=True)
class LitedramCore:
    """A controller that was generated.

    Parameters
    ----------
    verilog : :class:`str`
        Its module, :data:`CORE`.
    registers : mapping
        Addresses of its registers, in octets.
    start : sequence
        What starts the chip: a register, or none to wait; and what is written, or cycles.
    lanes : :class:`int`
        Octets of a word of the chip, each with delays of its own.
    phases : mapping
        Phase of a clock of ours in which the chip gets a command: ``read``, ``write``.
    delays, slips : :class:`int`
        Settings of a lane: delays, and bits by which what it gives may be shifted.
    """

    verilog:   str
    registers: Mapping[str, int]
    start:     Sequence[tuple[str | None, int]]
    lanes:     int
    phases:    Mapping[str, int]
    delays:    int
    slips:     int


def generate(*, device: str, module: str, lanes: int, input_hz: int, clock_hz: int, **options: Any) -> LitedramCore:
    """Let LiteDRAM generate a controller for chips of DDR3 at an ECP5.

    Parameters
    ----------
    device
        The FPGA.
    module
        LiteDRAM's name of the chip.
    lanes
        Octets of its words.
    input_hz, clock_hz
        What comes in, and what the controller makes of it: a quarter of the rate of the data pins.
    options
        More of LiteDRAM's options.

    Raises
    ------
    BuildError
        If it is not installed, or it fails.
    """
    asked = {"device": device, "cpu": "None", "memtype": "DDR3", "sdram_module": module, "sdram_module_nb": lanes,
             "sdram_rank_nb": 1, "sdram_phy": "ECP5DDRPHY", "input_clk_freq": input_hz, "sys_clk_freq": clock_hz,
             "init_clk_freq": 25_000_000, "user_ports": {PORT: {"type": "axi", "id_width": 1}}, **options}
    with tempfile.TemporaryDirectory(prefix="terngen-") as scratch:
        folder = Path(scratch)
        (folder / "core.yml").write_text(json.dumps(asked))
        done = subprocess.run([sys.executable, "-W", "ignore", "-m", "litedram.gen", "core.yml", "--output-dir", "out",
                               "--name", CORE, "--no-compile-software"], cwd=folder, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            if re.search(r"No module named '?lite(dram|x)", done.stdout):
                raise BuildError("Package litedram is missing; install it with `pip install 'terngen[ddr3]'`")
            raise BuildError(f"LiteDRAM failed with status {done.returncode}: {done.stdout.strip().splitlines()[-1]}")
        verilog = (folder / f"out/gateware/{CORE}.v").read_text()
        found   = json.loads((folder / "out/csr.json").read_text())
        header  = (folder / "out/software/include/generated/sdram_phy.h").read_text()
    macros = {name: int(value, 0) for name, value in re.findall(r"#define (\w+) (0x[0-9a-fA-F]+|\d+)$", header, re.M)}
    return LitedramCore(
        verilog=_tidied(verilog), registers={name: each["addr"] for name, each in found["csr_registers"].items()},
        start=_sequence(header, macros), lanes=macros["SDRAM_PHY_MODULES"], delays=macros["SDRAM_PHY_DELAYS"],
        slips=macros["SDRAM_PHY_BITSLIPS"],
        phases={"read": macros["SDRAM_PHY_RDPHASE"], "write": macros["SDRAM_PHY_WRPHASE"]})


def _tidied(verilog: str) -> str:
    """Verilog without comments, in which dates and the order of sets are, and with pads that go both ways as ports
    that do."""
    verilog = re.sub(r"(?ms)^//.*?$|/\*.*?\*/", "", verilog)
    return re.sub(r"(?m)^    input ( wire .* ddram_(dq|dqs_p|dqs_n|clk_n),)$", r"    inout \1", verilog)


def _sequence(header: str, macros: Mapping[str, int]) -> list[tuple[str | None, int]]:
    """What the generated firmware does in ``init_sequence``."""
    def value(text: str) -> int:
        return sum(macros[word] if word in macros else int(word, 0) for word in text.split("|"))

    steps: list[tuple[str | None, int]] = []
    body = header[header.index("init_sequence(void)"):]
    for name, argument in re.findall(r"(\w+)\(([^()]+)\);", body):
        if name == "cdelay":
            steps.append((None, value(argument)))
        elif name == "command_p0":
            steps += [("sdram_dfii_pi0_command", value(argument)), ("sdram_dfii_pi0_command_issue", 1)]
        else:
            steps.append((name.removesuffix("_write"), value(argument)))
    return steps


# Commands of a chip, as LiteDRAM's registers have them.
_CS, _WE, _CAS, _RAS, _WRITES, _READS = (1 << bit for bit in range(6))
#: The controller, and not the registers, gives the commands.
_HARDWARE = 0x1 | 0x2 | 0x4 | 0x8

#: Cycles after a command, more than any time of a chip is.
_SETTLED = 64
#: Words that are written and read back, each bit of a lane low and high and unlike its neighbours in time.
_PATTERN = (0x5AA5_C33C, 0x0FF0_9669, 0xE718_42BD, 0x3C96_A5F0)


class WishboneSignature(wiring.Signature):
    """Wishbone bus of an initiator, with words of 32 bits; no bursts."""

    def __init__(self):
        super().__init__({"cyc": Out(1), "stb": Out(1), "we": Out(1), "adr": Out(30), "dat_w": Out(32),
                          "dat_r": In(32), "ack": In(1)})


class _Step(enum.Enum, shape=3):
    """A step of a program."""

    #: Write a value.
    WRITE  = 0
    #: Write a one in the place of the lane.
    LANE   = 1
    #: Read, and remember if the octets of the lane are not as they should be.
    EXPECT = 2
    #: Let cycles pass.
    WAIT   = 3
    #: The end.
    END    = 4


_LAYOUT = data.StructLayout({"step": _Step, "address": 14, "value": 32})


class LitedramStart(wiring.Component):
    """Starts a chip of DDR3 behind LiteDRAM's controller.

    It writes the sequence that LiteDRAM made for the chip. Then, for each octet of a word, it tries every delay with
    every shift, writing words and reading them back, and takes the middle of the longest run of delays that work. At
    last the controller takes over. Some milliseconds after the reset `done` rises, or `error`, if an octet has no
    delay that works.

    Parameters
    ----------
    core : :class:`LitedramCore`

    Members
    -------
    bus : ``Out(WishboneSignature())``
        Registers of the controller.
    done, error : ``Out(1)``
        The memory can be used; it cannot.
    """

    def __init__(self, core: LitedramCore):
        self._core = core
        super().__init__({"bus": Out(WishboneSignature()), "done": Out(1), "error": Out(1)})

    def _programs(self) -> dict[str, list[tuple[_Step, int, int]]]:
        core = self._core

        def write(name, value, place=0):
            return (_Step.WRITE, core.registers[name] // 4 + place, value)

        def wait(cycles=_SETTLED):
            return (_Step.WAIT, 0, cycles)

        def command(phase, value, bank=0, address=0):
            port = f"sdram_dfii_pi{phase}"
            return [write(f"{port}_address", address), write(f"{port}_baddress", bank), write(f"{port}_command", value),
                    write(f"{port}_command_issue", 1), wait()]

        def lane(name):
            # While a lane is chosen its strobe rests, and all of them must be in step afterwards.
            return [(_Step.LANE, core.registers["ddrphy_dly_sel"] // 4, 0), write(name, 1), write("ddrphy_dly_sel", 0),
                    write("ddrphy_dly_sel", (1 << core.lanes) - 1), write("ddrphy_dly_sel", 0), wait()]

        words = [(f"sdram_dfii_pi{phase}", place) for phase in range(2) for place in range(2)]
        test  = command(0, _RAS | _CS)
        test += [write(f"{port}_wrdata", value, place) for (port, place), value in zip(words, _PATTERN)]
        test += command(core.phases["write"], _CAS | _WE | _CS | _WRITES)
        test += command(core.phases["read"], _CAS | _CS | _READS)
        test += [(_Step.EXPECT, core.registers[f"{port}_rddata"] // 4 + place, value)
                 for (port, place), value in zip(words, _PATTERN)]
        test += command(0, _RAS | _WE | _CS)
        return {
            "chip":    [wait(cycles) if name is None else write(name, cycles) for name, cycles in core.start],
            "unslip":  lane("ddrphy_rdly_dq_bitslip_rst"),
            "slip":    lane("ddrphy_rdly_dq_bitslip"),
            "undelay": lane("ddrphy_rdly_dq_rst"),
            "delay":   lane("ddrphy_rdly_dq_inc"),
            "test":    test,
            "finish":  [write("sdram_dfii_control", _HARDWARE), wait(), write("ddrctrl_init_done", 1)],
            "fail":    [write("ddrctrl_init_error", 1), write("ddrctrl_init_done", 1)],
        }

    def elaborate(self, platform):
        m = Module()
        core, bus = self._core, self.bus
        places, steps = {}, []
        for name, program in self._programs().items():
            places[name] = len(steps)
            steps += [*program, (_Step.END, 0, 0)]
        m.submodules.program = program = memory.Memory(
            shape=_LAYOUT, depth=len(steps),
            init=[{"step": step, "address": address, "value": value} for step, address, value in steps])
        port = program.read_port()
        step = port.data

        # A program: the next step is there in the cycle after its place.
        place   = Signal(range(len(steps) + 1))
        running = Signal()
        fresh   = Signal()                              # the step that is shown is that of `place`
        wait    = Signal(range(max(value for kind, _, value in steps if kind == _Step.WAIT) + 1))
        lane    = Signal(range(max(2, core.lanes)))
        wrong   = Signal()
        chosen  = Signal(32)                            # bits of a word that are the lane's
        m.d.comb += [
            port.addr.eq(place),
            chosen.eq(sum(0xFF << start for start in range(0, 32, 8 * core.lanes)) << (lane << 3)),
            bus.cyc.eq(bus.stb),
            bus.stb.eq(running & fresh & ((step.step == _Step.WRITE) | (step.step == _Step.LANE)
                                          | (step.step == _Step.EXPECT))),
            bus.we.eq(step.step != _Step.EXPECT),
            bus.adr.eq(step.address),
            bus.dat_w.eq(Mux(step.step == _Step.LANE, 1 << lane, step.value)),
        ]
        m.d.sync += fresh.eq(running)
        advance = Signal()
        with m.If(running & fresh):
            with m.Switch(step.step):
                with m.Case(_Step.END):
                    m.d.sync += running.eq(0)
                with m.Case(_Step.WAIT):
                    m.d.sync += wait.eq(wait + 1)
                    m.d.comb += advance.eq(wait == step.value)
                with m.Default():
                    m.d.comb += advance.eq(bus.ack)
                    with m.If(bus.ack & (step.step == _Step.EXPECT) & (((bus.dat_r ^ step.value) & chosen) != 0)):
                        m.d.sync += wrong.eq(1)
        with m.If(advance):
            m.d.sync += [place.eq(place + 1), fresh.eq(0), wait.eq(0)]

        def run(name, then):
            m.d.sync += [place.eq(places[name]), running.eq(1), fresh.eq(0), wrong.eq(0)]
            m.next = then

        # The search: `length` delays up to this one work, and the longest run until now.
        slip   = Signal(range(core.slips))
        delay  = Signal(range(core.delays))
        length = Signal(range(core.delays + 1))
        best   = Signal(data.StructLayout({"slip": range(core.slips), "end": range(core.delays),
                                           "length": range(core.delays + 1)}))
        left   = Signal(range(max(core.slips, core.delays) + 1))
        longer = Signal.like(length)
        m.d.comb += longer.eq(Mux(wrong, 0, length + 1))
        with m.FSM():
            with m.State("Reset"):
                run("chip", "Lane")
            with m.State("Lane"):
                with m.If(~running):
                    m.d.sync += [slip.eq(0), best.eq(0)]
                    run("unslip", "Shift")
            with m.State("Shift"):
                with m.If(~running):
                    m.d.sync += [delay.eq(0), length.eq(0)]
                    run("undelay", "Try")
            with m.State("Try"):
                with m.If(~running):
                    run("test", "Judge")
            with m.State("Judge"):
                with m.If(~running):
                    m.d.sync += length.eq(longer)
                    with m.If(longer > best.length):
                        m.d.sync += [best.slip.eq(slip), best.end.eq(delay), best.length.eq(longer)]
                    with m.If(delay != core.delays - 1):
                        m.d.sync += delay.eq(delay + 1)
                        run("delay", "Try")
                    with m.Elif(slip != core.slips - 1):
                        m.d.sync += slip.eq(slip + 1)
                        run("slip", "Shift")
                    with m.Else():
                        run("unslip", "Choose")
            with m.State("Choose"):
                m.d.sync += left.eq(best.slip)
                with m.If(~running & (best.length == 0)):
                    run("fail", "Failed")
                with m.Elif(~running):
                    m.next = "Choose shift"
            with m.State("Choose shift"):
                with m.If(~running & (left != 0)):
                    m.d.sync += left.eq(left - 1)
                    run("slip", "Choose shift")
                with m.Elif(~running):
                    m.d.sync += left.eq(best.end - (best.length >> 1))
                    run("undelay", "Choose delay")
            with m.State("Choose delay"):
                with m.If(~running & (left != 0)):
                    m.d.sync += left.eq(left - 1)
                    run("delay", "Choose delay")
                with m.Elif(~running & (lane != core.lanes - 1)):
                    m.d.sync += lane.eq(lane + 1)
                    m.next = "Lane"
                with m.Elif(~running):
                    run("finish", "Finish")
            with m.State("Finish"):
                with m.If(~running):
                    m.d.sync += self.done.eq(1)
            with m.State("Failed"):
                with m.If(~running):
                    m.d.sync += self.error.eq(1)
        return m
