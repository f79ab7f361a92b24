"""What a worker of ``terngen explore`` computes, from octets that say everything.

A task is JSON: the sizes of a model, a board, one machine or many, and the program that has to compute it, by its
sources and the versions of its tools. So a result can be kept, and a worker with another program refuses.
"""

import collections
import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from terngen.host.convert.geometry import Geometry
from terngen.host.explore.cache import canonical
from terngen.host.explore.points import Point
from terngen.hw.contract.config import Config

__all__ = ["STAGES", "estimate_tasks", "measure_task", "perform", "program"]

#: How much is done for a machine: follow a token, synthesise, place and route.
STAGES = ("estimate", "synth", "route")
#: Machines in a task of the estimator: some tenths of a second.
_BATCH = 64


def estimate_tasks(geometry: Geometry, board: str, base: Mapping[str, Any], points: Sequence[Point]) -> Iterator[bytes]:
    """Tasks that estimate machines, many in each; a result is a list of what is known of each.

    Parameters
    ----------
    board
        As ``--board`` has it.
    base
        Fields of the configuration that are the same for all.
    """
    for start in range(0, len(points), _BATCH):
        yield _task("estimate", geometry, board, base, points=points[start:start + _BATCH])


def measure_task(stage: str, geometry: Geometry, board: str, base: Mapping[str, Any], point: Point, *,
                 component: str | None, seed: int) -> bytes:
    """A task that synthesises a machine, and for stage ``route`` places and routes it.

    Parameters
    ----------
    component
        A unit instead of everything that the board has behind its pins, see :data:`~terngen.hw.build.COMPONENTS`.
    seed
        Of placement.
    """
    placed = {"seed": seed} if stage == "route" else {}
    return _task(stage, geometry, board, base, point=point, component=component, **placed)


def _task(stage: str, geometry: Geometry, board: str, base: Mapping[str, Any], **others: Any) -> bytes:
    import dataclasses
    import hashlib

    place = Path(board.partition(":")[0])
    if place.suffix == ".py":
        others["board_sha256"] = hashlib.sha256(place.read_bytes()).hexdigest()
        board = board.replace(str(place), str(place.resolve()), 1)
    return canonical({"stage": stage, "program": program(stage), "geometry": dataclasses.asdict(geometry),
                      "board": board, "base": dict(base), **others})


@functools.cache
def program(stage: str) -> dict[str, Any]:
    """What decides about a result besides its task: sources by their digest, and versions of tools."""
    import hashlib
    import importlib.metadata

    from terngen import hw
    from terngen.hw import build

    gateware, host = Path(hw.__file__).parent, Path(__file__).parent.parent
    sources  = sorted([*gateware.rglob("*.py"), *gateware.rglob("*.json")])
    sources += [host / name for name in ("layout.py", "energy.py", "configs.py", "compile.py", "convert/geometry.py",
                                         "commands/building.py", "commands/exploring.py", "commands/machines.py")]
    digest   = hashlib.sha256()
    for path in sources:
        octets = path.read_bytes()
        digest.update(f"{path.name} {len(octets)}\n".encode() + octets)
    versions = {name: importlib.metadata.version(name) for name in ("terngen", "amaranth", "numpy")}
    return {"sources": digest.hexdigest(), "versions": versions | (build.versions() if stage != "estimate" else {})}


def perform(octets: bytes) -> bytes:
    """The result of a task, as JSON.

    Raises
    ------
    ToolError
        If this is another program than the task is for, or a tool fails.
    """
    from terngen.host.errors import ToolError

    task = json.loads(octets)
    if (ours := program(task["stage"])) != task["program"]:
        raise ToolError(f"Worker has another program: {ours}, not {task['program']}")
    if task["stage"] == "estimate":
        return canonical([_estimated(task, point) for point in task["points"]])
    return canonical(_measured(task))


def _machine(task: Mapping[str, Any], point: Point) -> tuple[Geometry, Config]:
    from terngen.host import configs
    from terngen.hw.contract.config import Sites

    geometry = Geometry(**task["geometry"])
    values   = {**task["base"], **point}
    if "multiplier" in values:
        values["sites"] = Sites.parse(values.pop("multiplier")).to_dict()
    return geometry, configs.model_config(geometry, configs.DEFAULT, **values)


def _estimated(task: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """What is known of a machine without building it, or why it is none for this board."""
    from terngen.host import energy
    from terngen.host.commands.building import chosen, lacking
    from terngen.host.commands.machines import step_of
    from terngen.host.errors import ConfigError
    from terngen.host.layout import layout_of
    from terngen.hw.area import area

    choice = chosen(task["board"])
    memory = choice.tape_memory
    try:
        geometry, machine = _machine(task, point)
    except ConfigError as error:
        # The same rule is the same reason, whatever the numbers.
        return {"dropped": re.sub(r"\d[\d,]*", "N", str(error))}
    if memory.bits not in (None, machine.beat_bits):
        return {"dropped": f"The memory has beats of {memory.bits} bits"}
    octets = layout_of(geometry, machine).beats * machine.beat_bytes
    if octets > memory.octets:
        return {"dropped": "The tape does not fit the memory"}
    if short := lacking(choice, machine, octets):
        return {"dropped": f"The device has too few of {', '.join(short)}"}
    step  = step_of(geometry, machine, source := memory.timing(choice.clock_hz))
    speed = machine.slots * choice.clock_hz / step.cycles
    cost  = energy.of_machine(geometry, machine, bits=step.beats * machine.beat_bits / machine.slots,
                              on_chip=memory.preloaded)
    cells = collections.Counter(area(machine, distributed=memory.distributed))
    cells.update(memory.used(machine, octets))
    return {
        "digest":            machine.digest.hex(),
        "cycles_per_token":  step.cycles,
        "tokens_per_second": speed,
        "attainment":        step.beats / float(step.cycles * source.rate),
        **cells,
        "energy_uj":         cost * 1e-6,
        "power_mw":          cost * speed * 1e-9,
    }


def _measured(task: Mapping[str, Any]) -> dict[str, Any]:
    """Cells of a machine, and with stage ``route`` its clock."""
    from terngen.host.commands.building import chosen, tool_errors
    from terngen.hw import bitstream

    choice, (_, machine) = chosen(task["board"]), _machine(task, task["point"])
    with tool_errors():
        try:
            found = _component(task, choice, machine) if task["component"] else _system(task, choice, machine)
        except bitstream.FitError as error:
            return {"fits": False, "why": str(error)}
    short = [name for name, there in choice.board.cells.items() if found.get(name, 0) > there]
    why   = None
    if short:
        why = f"The device has too few of {', '.join(short)}"
    elif not found.get("met", True):
        why = f"A clock is missed; the machine's reaches {found['mhz']:.1f} MHz of {choice.clock_hz / 1e6:g}"
    return {"fits": not short, "why": why, **found}


def _component(task: Mapping[str, Any], choice: Any, machine: Config) -> dict[str, Any]:
    from terngen.hw import bitstream, build

    make, family, words = build.COMPONENTS[task["component"]], choice.board.family, choice.tape_memory.distributed
    if family in bitstream.BITSTREAM:
        text  = build.distribute(build.convert(make(machine), family), words)
        found: dict[str, Any] = dict(_cells(build.netlist(text, family)))
    else:
        area  = build.synthesise(make(machine), family, distributed=words)
        found = {"lut": area.luts, "ff": area.ffs, "bram": area.block_rams, "dsp": area.dsps}
    if task["stage"] == "route":
        timing = build.place(make(machine), distributed=words, seed=task["seed"])
        found |= {"mhz": timing.mhz, "met": timing.mhz * 1e6 >= choice.clock_hz}
    return found


def _system(task: Mapping[str, Any], choice: Any, machine: Config) -> dict[str, Any]:
    """Everything that the board has behind its pins."""
    import tempfile

    import numpy as np

    from terngen.host.layout import layout_of
    from terngen.hw import bitstream, build

    # A memory that is made with the bitstream has something in it, of which nothing can be left out.
    octets = layout_of(Geometry(**task["geometry"]), machine).beats * machine.beat_bytes
    image  = np.random.default_rng(0).bytes(octets) if choice.tape_memory.preloaded else b""
    design = bitstream.design(choice.board, choice.board.system(machine, choice.memory, image),
                              distributed=choice.tape_memory.distributed)
    if task["stage"] == "synth":
        return _cells(build.netlist(design.rtlil, choice.board.family, sources=design.sources))
    with tempfile.TemporaryDirectory(prefix="terngen-") as folder:
        built = bitstream.build_bitstream(choice.board, design, Path(folder), seed=task["seed"], digest=machine.digest)
    worst = min(built.clocks, key=lambda clock: clock.achieved / clock.wanted)
    sync  = next((clock for clock in built.clocks if clock.name == "sync"), worst)
    cells: dict[str, Any] = {name: built.cells.get(name, 0) for name in ("lut", "ff", "bram", "dsp")}
    return {**cells, "mhz": sync.achieved, "met": built.met}


def _cells(netlist: dict[str, Any]) -> dict[str, int]:
    from terngen.hw import bitstream
    total: collections.Counter[str] = collections.Counter()
    for part in bitstream.by_module(netlist).values():
        total.update(part)
    return {name: total[name] for name in ("lut", "ff", "bram", "dsp")}
