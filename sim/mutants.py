"""Mutation testing of the gateware: of many small defects, how many does nobody notice?

``python -m terngen.sim.mutants CHECKPOINT`` lets Yosys put defects into the netlist of a whole machine, evenly over its
cells, each behind a number, so that one simulation has them all: an inverted bit, one that is stuck, one that another
bit inverts. Then each is switched on, and the machine does what the machine without a defect has done, beside the
golden machine: plays the model and tapes that no model would make, answers what is asked right and wrong, through a
sound line and through one with faults. What differs, in a value or in a cycle, is noticed. Of the mutants that nobody
notices those that cannot be told from the machine are proven so (:mod:`terngen.sim.equivalence`); the others survive.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from terngen.host import configs
from terngen.host.commands.console import Progress, emit, table
from terngen.host.compile import compile_tape
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.errors import DeviceError
from terngen.host.files import replacing
from terngen.hw import build
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Tape
from terngen.hw.top import Machine
from terngen.sim import equivalence, verilate
from terngen.sim.compiled import Library, compile_machine
from terngen.sim.hostile import hostile_tapes
from terngen.sim.performance import fill
from terngen.sim.stimuli import Observation, observed
from terngen.sim.verilog import verilog

__all__ = ["Mutants", "keep", "known", "mutants", "noticed", "page", "report"]

#: Environment variable that says which mutant a machine is; zero is none.
_CHOICE = "TERNGEN_MUTANT"
_BITS   = 16
#: Observation after which a mutant is proven, if it can be, before it is put through the rest.
_EARLY  = "cycles of hostile"
#: Tapes that no model would make.
HOSTILE = 5

@dataclasses.dataclass(frozen=True)
class Mutants:
    """A machine with defects.

    Parameters
    ----------
    verilog : :class:`str`
        All of them in one machine.
    netlist : :class:`str`
        The machine without them, in RTLIL.
    commands : sequence of :class:`str`
        Commands of Yosys that make them, in order.
    """

    verilog:  str
    netlist:  str
    commands: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Of the machine and its defects: what is known of them holds as long as it is the same."""
        return hashlib.sha256(self.verilog.encode()).hexdigest()[:16]

    def describe(self, number: int) -> dict[str, str]:
        """What a mutant is: ``mode``, ``cell``, ``port``, and ``line``, that of our source which made it."""
        command = self.commands[number - 1]
        found   = dict(re.findall(r"-(mode|cell|port|portbit|wire|wirebit) (\S+)", command))
        lines   = re.findall(r"-src ((?:hw|amaranth)/\S+)", command)
        # What helpers make stands where they are used as well.
        found["line"] = next((line for line in lines if line.startswith("hw/") and not line.startswith("hw/stream.py")),
                             lines[0] if lines else "")
        return found


def mutants(config: Config, count: int, seed: int) -> Mutants:
    """So many mutants of a machine.

    Raises
    ------
    BuildError
        If there is no Yosys, or it fails.
    """
    text = verilog(Machine(config), sources=True)
    flat = ("read_verilog -sv top.v\nprep -flatten -top top\nopt -full\nwreduce\nopt -full\nopt_clean -purge\n"
            "write_rtlil flat.il\n")
    pick = f"mutate -list {count} -seed {seed} -ctrl mutant {_BITS} 1 -o mutate.ys\n"

    def make(target: Path) -> Path:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "top.v").write_text(text)
            (folder / "list.ys").write_text(flat + pick)
            build.run_tool(build.YOSYS, ["list.ys"], folder)
            chosen = (folder / "mutate.ys").read_text()
            (folder / "apply.ys").write_text(f"read_rtlil flat.il\n{chosen}\nclean\nwrite_verilog -noattr mutants.v\n")
            build.run_tool(build.YOSYS, ["apply.ys"], folder)
            made = [(folder / "mutants.v").read_text(), (folder / "flat.il").read_text(), chosen]
        (target / "mutants").write_text(json.dumps(made))
        return target / "mutants"

    made, netlist, chosen = json.loads(verilate.cached("mutants", ".json", [
        text, flat, pick, str(build.versions())], make).read_text())
    # Not a port that somebody has to drive, but what the environment says when the machine is made.
    made = re.sub(r"^(module top\(.*?), mutant\b", r"\1", made, count=1, flags=re.MULTILINE | re.DOTALL)
    made = re.sub(r"^  input (\[\d+:0\]) mutant;\n  wire \[\d+:0\] mutant;\n",
                  rf'  reg \1 mutant;\n  initial mutant = $c32("std::atoi(std::getenv(\\"{_CHOICE}\\"))");\n',
                  made, count=1, flags=re.MULTILINE)
    return Mutants(made, netlist, tuple(line for line in chosen.splitlines() if line.startswith("mutate ")))


def noticed(expected: Sequence[Observation], library: Library, tapes: Sequence[Tape], number: int) -> str | None:
    """Where a mutant first differs from what is expected, or nothing if it does not."""
    os.environ[_CHOICE] = str(number)
    made = itertools.islice(observed(library, tapes), len(expected))
    for wanted, other in itertools.zip_longest(expected, made):
        if wanted != other:
            return str(other[0] if other else "end")
    return None


def known(store: Path, told: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """What is stored of mutants, by number, if they are these: of the same seed, count and netlist."""
    stored = json.loads(store.read_text()) if store.exists() else {}
    if any(stored.get(name) != told[name] for name in ("seed", "count", "netlist")):
        return {}
    return {row["number"]: row for row in stored["mutants"]}


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(1, (1 << _BITS) - 1), default=300, show_default=True, help="Mutants.")
@click.option("--seed", type=click.IntRange(min=1), default=1, show_default=True, help="Of their choice.")
@click.option("--only", type=int, multiple=True, help="Try these mutants only, by number, whatever is stored of them.")
@click.option("--store", type=click.Path(path_type=Path),
              help="Write this JSON file, and its table in the page trust.md beside it, after each mutant. Those that "
                   "are noticed or proven there already are not tried again.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def main(checkpoint: Path, count: int, seed: int, only: tuple[int, ...], store: Path | None, as_json: bool) -> None:
    """Which defects of a machine nobody notices, and which of those are none."""
    try:
        model  = Checkpoint.open(checkpoint)
        config = configs.model_config(model.geometry, "small", slots=2)
        with tempfile.TemporaryDirectory() as folder, Progress() as progress:
            path = Path(folder, "model.tape")
            compile_tape(model, config, path)
            tapes = [Tape.open(path), *hostile_tapes(config, HOSTILE)]
            progress("netlist", 0, count)
            made    = mutants(config, count, seed)
            library = compile_machine(made.verilog, config=config, optimisation="-O1")
            os.environ[_CHOICE] = "0"
            expected = list(observed(library, tapes))
            if trouble := [what for what, _ in expected if what.startswith("error")]:
                raise click.ClickException(f"Without a defect the machine must pass, but there is an {trouble[0]}")
            early = expected[:1 + [what for what, _ in expected].index(_EARLY)]
            told  = {"seed": seed, "count": count, "netlist": made.digest}
            rows = known(store, told) if store is not None else {}
            numbers = only or [number for number in range(1, count + 1)
                               if number not in rows or report([rows[number]])["survivors"]]
            for index, number in enumerate(numbers):
                progress("mutants", index, len(numbers))
                reason = noticed(early, library, tapes, number)
                proof  = None if reason else equivalence.proof(made.netlist, made.commands[number - 1])
                if not reason and not proof:
                    reason = noticed(expected, library, tapes, number)
                rows[number] = {"number": number, "noticed": reason, "proof": proof, **made.describe(number)}
                if store is not None:
                    keep(store, told, rows)
    except (DeviceError, ValueError, build.BuildError) as error:
        raise click.ClickException(str(error)) from error
    found = report(rows.values())
    emit(as_json, {**told, **found}, [_sentence(found), "", *table([("noticed in", "mutants"), *(
        (name, str(number)) for name, number in found["noticed"].items())]), "",
        *table([("number", "mode", "port", "line", "where", "proof"),
                *map(_row, found["equivalent"] + found["survivors"])])])


def keep(store: Path, told: Mapping[str, Any], rows: Mapping[int, Mapping[str, Any]]) -> None:
    """The JSON file, with a line for each mutant, and the page beside it."""
    listed = [rows[number] for number in sorted(rows)]
    head   = json.dumps(told, indent=1).removesuffix("\n}")
    lines  = ",\n".join(json.dumps(row) for row in listed)
    with replacing(store) as file:
        file.write(f'{head},\n "mutants": [\n{lines}\n]}}\n'.encode())
    written = store.with_name("trust.md")
    with replacing(written) as file:
        file.write(page(written.read_text(), store.stem, listed).encode())


def report(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What came of mutants."""
    rows   = list(rows)
    stages = Counter(row["noticed"] for row in rows if row["noticed"])
    return {"mutants": len(rows), "noticed": dict(stages.most_common()),
            "equivalent": [row for row in rows if row["proof"]],
            "survivors":  [row for row in rows if not row["noticed"] and not row["proof"]]}


def _sentence(found: Mapping[str, Any]) -> str:
    alive, proven = len(found["survivors"]), len(found["equivalent"])
    others = found["mutants"] - proven
    return (f"Of {found['mutants']} mutants {sum(found['noticed'].values())} are noticed and {proven} are proven to be "
            f"the machine; of the other {others} there survive {alive} ({100 * alive / max(others, 1):.1f} %).")


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    where = row.get("wire") or row["cell"].replace("$flatten", "").replace("\\", "")
    return (str(row["number"]), row["mode"], f"{row['port']} {row.get('portbit', '')}", row["line"], where,
            row["proof"] or "none")


def page(text: str, name: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """A page whose table of that name says what is stored."""
    found = report(rows)
    return fill(text, name, [_sentence(found), "", "| noticed in | mutants |", "|---|---:|", *(
        f"| {name} | {number} |" for name, number in found["noticed"].items())])


if __name__ == "__main__":
    main(prog_name="python -m terngen.sim.mutants")
