"""Coverage of the gateware: what of it has been tried by nobody?

``python -m terngen.sim.coverage`` compiles machines of several kinds so that they count which lines and branches of
their Verilog are executed and which bits change (with Verilator), and puts each through :mod:`terngen.sim.stimuli`.
What is counted is told by unit, where it stands in the sources, and together for all machines: a point counts as
covered if one of them has covered it. Exclusions stand in ``coverage.toml``, each with its reason. What was counted of
a machine is kept, so that one who is interrupted goes on with the next.
"""

import dataclasses
import json
import re
import tempfile
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from terngen import host, hw, sim
from terngen.host.commands.console import Progress, emit, table
from terngen.host.compile import compile_tape
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.errors import DeviceError
from terngen.host.files import replacing
from terngen.hw.contract.config import PRESETS, ArrayVariant, Config, Sites
from terngen.hw.contract.formats import FloatFormat, Multiplier
from terngen.hw.contract.tape import Tape
from terngen.hw.top import Machine
from terngen.sim import verilate
from terngen.sim.compiled import CompiledModel, compile_machine, loops
from terngen.sim.hostile import hostile_tapes
from terngen.sim.performance import fill
from terngen.sim.stimuli import observed
from terngen.sim.verilog import verilog

__all__ = ["MACHINES", "Listing", "Point", "excluded", "measure", "page", "points", "report", "unit_of"]

#: What is excluded, and why.
EXCLUSIONS = Path(__file__).with_name("coverage.toml")

#: Machines that are covered, as presets and changes: of every kind of array, multiplier and format.
MACHINES: dict[str, tuple[str, dict[str, Any]]] = {
    "tree":    ("small", {"slots": 2}),
    "table":   ("small", {"variant": ArrayVariant.TABLE, "row_lanes": 1, "slots": 3, "lanes": 4}),
    "triples": ("small", {"variant": ArrayVariant.TRIPLES, "row_lanes": 1, "slots": 2}),
    "lmul":    ("small", {"sites": Sites.all(Multiplier("lmul-unbiased")), "top_k": 1, "lanes": 1, "slots": 2}),
    "bfloat":  ("small", {"path": FloatFormat(8, 7), "slots": 2, "embedding": FloatFormat(4, 3),
                          "sites": Sites(gate=Multiplier("lmul"), square=Multiplier("lmul"))}),
}

#: Parts of a machine, and the modules in them.
PARTS = {
    "datapath": ("matvec", "vector", "parameters", "draw"),
    "link":     ("endpoint",),
    "control":  ("registers", "decode", "player", "sequencer"),
    "tape":     ("reader", "check", "loader"),
    "top":      ("",),
}

#: What is counted: lines, branches, and bits that change: of signals, and of words in memories.
KINDS = ("line", "branch", "toggle", "memory")

#: What is aimed at, in percent, in these parts.
AIMS  = {"line": 95.0, "branch": 95.0, "toggle": 90.0, "memory": 90.0}
AIMED = ("datapath", "link")


@dataclasses.dataclass(frozen=True, order=True)
class Point:
    """Something that is covered or not.

    Parameters
    ----------
    module : :class:`str`
        Path of the module, without the top.
    kind : :class:`str`
        One of :data:`KINDS`.
    source : :class:`str`
        Line of Python.
    what : :class:`str`
        Signal and bit and which way it changes, or what the branch is taken for.
    """

    module: str
    kind:   str
    source: str
    what:   str


def part_of(module: str) -> str:
    """The part of a machine in which a module is."""
    first = module.split(".")[0]
    return next(part for part, modules in PARTS.items() if first in modules)


def unit_of(module: str) -> str:
    """A module without numbers of lanes: `vector.glu.unit` for `vector.glu_0.unit`."""
    return re.sub(r"_\d+\b", "", module)


_NET      = r"(\\\S+|\w+)"
_DECLARED = re.compile(rf"  (input|output|wire|reg) (?:\[\d+:0\] )?{_NET} ?(?: = .*)?;")
_ASSIGN   = re.compile(rf"  assign {_NET} +(?:\[[\d:]+\] )?= (.*);")
_PROCESS  = re.compile(rf" +{_NET} *(?:\[[\d:]+\])? <?= (.*);")
_ASKED    = re.compile(rf" +(?:end else )?if \({_NET} *(?:\[\d+\])? *\)")
_SOURCE   = re.compile(r'\(\* src = "([^"]*)" \*\) ?')


class Listing:
    """Verilog with attributes ``src``, and where its lines come from.

    A bit is counted where it is made: not in the ports and other names through which it goes, and not inside of an
    expression.
    """

    def __init__(self, text: str) -> None:
        self._lines = [_SOURCE.sub("", line).strip() for line in text.splitlines()]
        self._sources: list[str] = []
        self._modules: list[str] = []
        marked = []
        for module in re.split(r"(?<=endmodule\n)", text):
            marked += self._module(module.splitlines())
        #: What is to be compiled: line for line the same.
        self.text = "\n".join(marked) + "\n"

    def _module(self, lines: list[str]) -> Iterator[str]:
        sources, made, source, name = {}, set(), "", ""
        for line in lines:
            here = _SOURCE.findall(line)
            if line.startswith("module "):
                name = re.sub(r"\$\d+", "", re.match(r"module \\?([^\s(]+)", line)[1])
            elif declared := _DECLARED.match(line):
                sources.setdefault(declared[2], source)
            elif assigned := _ASSIGN.match(line):
                if re.search(r"[-~!&|^+*<>=?]", _SOURCE.sub("", assigned[2])):
                    made.add(assigned[1])
                    if here:
                        sources[assigned[1]] = here[0]
            elif written := _PROCESS.match(line):
                made.add(written[1])
            source = here[0] if here else ""
        inner, last = name.removeprefix("top").removeprefix("."), ""
        for line in lines:
            here = _SOURCE.findall(line)
            if here:
                last = here[-1]
            elif asked := _ASKED.match(line):
                last = _ours(sources.get(asked[1]), last)
            elif written := _PROCESS.match(line):
                last = _ours(sources.get(re.split(r"[ \[]", written[2])[0]), sources.get(written[1]), last)
            elif line == "endmodule":
                last = ""
            declared = _DECLARED.match(line)
            self._modules.append(inner)
            self._sources.append(sources[declared[2]] if declared else last)
            hidden = declared and name != "top" and (declared[2] not in made or declared[2].startswith("\\$"))
            yield f"/*verilator coverage_off*/ {line} /*verilator coverage_on*/" if hidden else line

    def point(self, kind: str, line: int, what: str) -> Point | None:
        """What is counted at a line, from one; nothing where Verilog has only what its simulators want."""
        text = self._lines[line - 1]
        if kind == "toggle" and re.search(r" \[\d+:\d+\];$", text):
            kind = "memory"
        if not self._modules[line - 1] and kind not in ("toggle", "memory") or "$auto$" in text or "$auto$" in what:
            return None
        if kind in ("toggle", "memory"):
            # As Verilator writes what C++ has no letters for.
            what = re.sub("__0([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), what, flags=re.IGNORECASE)
            what = re.sub(r"\$\d+", "", what)           # a number that depends on the machine
        else:
            what = re.sub(r"\\?\$[\d$]+", "_", f"{what}: {text}")
        return Point(re.sub(r"\.$", "", self._modules[line - 1]), kind, self._sources[line - 1], what)


def _ours(*sources: str | None) -> str:
    """The first of some sources that is one of ours, or the last."""
    return next((source for source in sources if source and source.startswith("hw/")), sources[-1] or "")


def points(listing: Listing, written: str) -> Counter[Point]:
    """How often each point was covered, of what Verilator has written."""
    counts: Counter[Point] = Counter()
    again:  Counter[Point] = Counter()
    for line in written.splitlines():
        if not line.startswith("C "):
            continue
        key, _, count = line[3:].rpartition("' ")
        fields = dict(field.split("\2", 1) for field in key.split("\1")[1:])
        kind   = fields["page"].split("/")[0].removeprefix("v_")
        if "/shell" in fields["page"] or kind not in KINDS:
            continue
        point = listing.point(kind, int(fields["l"]), fields["o"])
        if point is not None:
            again[point] += 1
            number = f" #{again[point]}" if again[point] > 1 else ""
            counts[dataclasses.replace(point, what=point.what + number)] += int(count)
    return counts


# Measuring.

def measure(config: Config, tapes: list[Tape], say: Callable[[str], None] = lambda what: None) -> Counter[Point]:
    """How often each point of a machine was covered by all stimuli.

    Parameters
    ----------
    say : callable
        Gets what is being done.

    Raises
    ------
    DeviceError
        If the machine fails.
    """
    say("Verilog")
    listing = Listing(loops(verilog(Machine(config), sources=True)))
    say("compiling")
    library = compile_machine(listing.text, config=config, coverage=True, optimisation="-O1")
    written: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "coverage.dat")

        def end(model: CompiledModel) -> None:
            model.coverage(path)
            for line in path.read_text().splitlines():
                if line.startswith("C "):
                    key, _, count = line.rpartition(" ")
                    written[key] += int(count)

        for what, made in observed(library, tapes, end):
            if what.startswith("error"):
                raise DeviceError(f"Machine must do what is asked, but there is an {what}: {made}")
            say(what)
    return points(listing, "\n".join(f"{key} {count}" for key, count in written.items()))


def machine_of(name: str, model: Checkpoint) -> Config:
    """One of :data:`MACHINES`, with buffers just large enough for a model."""
    preset, changes = MACHINES[name]
    geometry = model.geometry
    return dataclasses.replace(PRESETS[preset], **changes).sized(
        hidden=geometry.hidden_size, state=geometry.state_size, intermediate=geometry.intermediate_size,
        layers=geometry.num_hidden_layers)


def kept(name: str, model: Checkpoint, hostile: int, say: Callable[[str], None]) -> Counter[Point]:
    """As :func:`measure`, of one of :data:`MACHINES` with a model and so many hostile tapes; from the cache where no
    source has changed."""
    config = machine_of(name, model)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "model.tape")
        compile_tape(model, config, path)
        tape = Tape.open(path)

        def make(folder: Path) -> Path:
            counts = measure(config, [tape, *hostile_tapes(config, hostile)], say)
            file = folder / "counts"
            file.write_text(json.dumps([[*dataclasses.astuple(point), count] for point, count in counts.items()]))
            return file

        programs = [program.identity for program in (verilate.find_verilator()[0], verilate.find_compiler())]
        file = verilate.cached("coverage", ".json", [
            *programs, *_sources(), json.dumps(config.to_dict()), tape.image.tobytes().hex(), str(hostile)], make)
    return Counter({Point(*fields): count for *fields, count in json.loads(file.read_text())})


def _sources() -> Iterator[str]:
    """All that decides what is counted: the gateware, the simulator, and those who drive it."""
    for package in (hw, host, sim):
        for path in sorted(Path(package.__path__[0]).rglob("*")):
            if path.suffix in (".py", ".cc", ".h"):
                yield path.read_text()


def excluded(counts: Mapping[Point, int], rules: list[dict[str, str]]) -> dict[Point, str]:
    """Points that nobody covers, and why that is no fault.

    Raises
    ------
    ValueError
        If a rule excludes nothing, or what somebody has covered.
    """
    reasons: dict[Point, str] = {}
    for rule in rules:
        found = [point for point in counts if all(re.fullmatch(rule.get(name, ".*"), getattr(point, name))
                                                  for name in ("module", "kind", "source", "what"))]
        if not found:
            raise ValueError(f"Exclusion of {rule} excludes nothing")
        covered = [point for point in found if counts[point]]
        if covered:
            raise ValueError(f"Exclusion of {rule} excludes what is covered: {covered[0].module} {covered[0].what}")
        reasons |= dict.fromkeys(found, rule["reason"])
    return reasons


def summary(counts: Mapping[Point, int], reasons: Mapping[Point, str]) -> list[dict[str, Any]]:
    """Points and covered points, by part and unit, and of whole parts."""
    tallies: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for point, count in counts.items():
        part = part_of(point.module)
        for unit in (unit_of(point.module), ""):
            tally = tallies[part, unit, point.kind]
            tally[0] += 1
            tally[1] += count > 0
            tally[2] += point in reasons
    rows = []
    for part in PARTS:
        for unit in sorted({unit for each, unit, _ in tallies if each == part}):
            row: dict[str, Any] = {"part": part, "unit": unit}
            for kind in KINDS:
                total, covered, away = tallies[part, unit, kind]
                row[kind] = {"points": total, "covered": covered, "excluded": away}
            rows.append(row)
    return rows


def report(counts: Mapping[Point, int], rules: list[dict[str, str]], machines: Sequence[str] = ()) -> dict[str, Any]:
    """What is stored: machines, units, points that are excluded, by reason, and those that are missing."""
    reasons = excluded(counts, rules)
    return {"machines": list(machines), "units": summary(counts, reasons), "excluded": Counter(reasons.values()),
            "missing": [dataclasses.astuple(point) for point in sorted(counts) if not counts[point]
                        and point not in reasons]}


def share(row: Mapping[str, int]) -> float:
    """Covered points, in percent of those that are not excluded."""
    counted = row["points"] - row["excluded"]
    return 100 * row["covered"] / counted if counted else 100.0


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (row["part"], row["unit"] or "all of it",
            *(f"{share(row[kind]):.1f}" if row[kind]["points"] else "" for kind in KINDS),
            str(sum(row[kind]["points"] for kind in KINDS)), str(sum(row[kind]["excluded"] for kind in KINDS)))


_HEAD = ("part", "unit", *(f"{kind} %" for kind in KINDS), "points", "excluded")


def worst(made: Mapping[str, Any], count: int = 10) -> list[tuple[str, str, float, int]]:
    """Units of the parts that are aimed at, what of them is below the aim, its share, and points that are missing:
    first where most are."""
    rows = [(row["unit"], kind, share(row[kind]), row[kind]["points"] - row[kind]["excluded"] - row[kind]["covered"])
            for row in made["units"] if row["part"] in AIMED and row["unit"] for kind in KINDS]
    return sorted((row for row in rows if row[2] < AIMS[row[1]]), key=lambda row: -row[3])[:count]


def page(text: str, made: Mapping[str, Any]) -> str:
    """A page whose tables say what is stored."""
    def lines(head: Sequence[str], rows: Sequence[Sequence[object]], names: int) -> list[str]:
        return [f"| {' | '.join(head)} |", f"|{'---|' * names}{'---:|' * (len(head) - names)}",
                *(f"| {' | '.join(map(str, row))} |" for row in rows)]

    parts = [_cells(row) for row in made["units"] if not row["unit"]]
    units = [_cells(row) for row in made["units"] if row["unit"] and row["part"] in AIMED]
    text = fill(text, "coverage", [f"Machines: {', '.join(made['machines'])}.", "", *lines(_HEAD, parts, 2), "",
                                   "Units of datapath and link:", "", *lines(_HEAD, units, 2)])
    text = fill(text, "worst", lines(("unit", "what", "%", "missing"), [
        (unit, kind, f"{percent:.1f}", missing) for unit, kind, percent, missing in worst(made)], 2))
    return fill(text, "excluded", lines(("why", "points"), list(made["excluded"].items()), 1))


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path), default=Path("tests/data/reference/tiny"))
@click.option("--machine", "names", multiple=True, type=click.Choice([*MACHINES]), help="Only these machines.")
@click.option("--hostile", default=4, show_default=True, help="Tapes that no model would make, for each machine.")
@click.option("--missing", is_flag=True, help="Print the points that nobody covers.")
@click.option("--store", type=click.Path(path_type=Path), help="Write this JSON file, and the page trust.md beside it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def main(checkpoint: Path, names: tuple[str, ...], hostile: int, missing: bool, store: Path | None,
         as_json: bool) -> None:
    """What of the gateware is covered."""
    counts: Counter[Point] = Counter()
    chosen = names or tuple(MACHINES)
    try:
        model = Checkpoint.open(checkpoint)
        with Progress() as progress:
            for index, name in enumerate(chosen):
                progress(name, index, len(chosen))
                counts.update(kept(name, model, hostile, lambda what, name=name, index=index: progress(
                    f"{name}: {what}", index, len(chosen))))
        # A rule may be about another machine.
        rules = [] if names else tomllib.loads(EXCLUSIONS.read_text())["exclude"]
        made  = report(counts, rules, chosen)
    except (DeviceError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if store is not None:
        _store(store, made)
    emit(as_json, made, [
        *table([_HEAD, *map(_cells, made["units"])]), "",
        *table([("below the aim", "what", "%", "missing"), *(
            (unit, kind, f"{percent:.1f}", missing) for unit, kind, percent, missing in worst(made))]), "",
        *table([("why points are excluded", "points"), *made["excluded"].items()]),
        *(["", *table([("module", "kind", "source", "what nobody covers"), *made["missing"]])] if missing else [])])


def by_name(missing: Sequence[Sequence[str]]) -> list[list[str | int]]:
    """Points that are missing, the bits of a signal or a memory together: module, kind, source, what, how many."""
    counts = Counter((module, kind, source, what if kind in ("line", "branch") else re.split(r"[\[:]", what)[0])
                     for module, kind, source, what in missing)
    return [[*names, count] for names, count in sorted(counts.items())]


def _store(path: Path, made: Mapping[str, Any]) -> None:
    with replacing(path) as file:
        file.write((json.dumps({**made, "missing": by_name(made["missing"])}) + "\n").encode())
    written = path.with_name("trust.md")
    with replacing(written) as file:
        file.write(page(written.read_text(), made).encode())


if __name__ == "__main__":
    main(prog_name="python -m terngen.sim.coverage")
