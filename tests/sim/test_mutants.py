"""Defects in a netlist are what they say, and are noticed."""

import json
import os
import re

import pytest

from terngen.sim import equivalence
from terngen.sim.compiled import compile_machine
from terngen.sim.hostile import hostile_tape
from terngen.sim.mutants import keep, known, mutants, noticed, page, report
from terngen.sim.stimuli import observed

COUNT = 12


@pytest.mark.long
def test_mutants(make_tape, monkeypatch):
    """Without a defect the machine passes; whatever differs is noticed, or proven to be no defect."""
    tape = make_tape("tests/data/reference/tiny", slots=2)
    made = mutants(tape.config, COUNT, 3)
    assert len(made.commands) == COUNT
    told = [made.describe(number) for number in range(1, COUNT + 1)]
    assert all(each["mode"] in ("inv", "const0", "const1", "cnot0", "cnot1") for each in told)
    # Multiplexers that Yosys makes of an `if` have no line of ours.
    assert all(each["line"] or re.search("proc|\\$auto", each["cell"]) for each in told)
    assert any(each["line"] for each in told)
    library = compile_machine(made.verilog, config=tape.config, optimisation="-O1")
    tapes   = [tape, *(hostile_tape(tape.config, seed) for seed in range(2))]
    monkeypatch.setitem(os.environ, "TERNGEN_MUTANT", "0")
    expected = list(observed(library, tapes))
    assert not [what for what, _ in expected if what.startswith("error")]
    assert noticed(expected, library, tapes, 0) is None
    alive = [number for number in range(1, COUNT + 1) if noticed(expected, library, tapes, number) is None]
    alive = [number for number in alive if not equivalence.proof(made.netlist, made.commands[number - 1])]
    assert len(alive) <= 1


def test_known(tmp_path):
    """What has been stored is known again; but of other mutants, or of another machine, it says nothing."""
    told  = {"seed": 1, "count": 2, "netlist": "abc"}
    rows  = {2: {"number": 2, "noticed": None, "proof": None}, 1: {"number": 1, "noticed": "model", "proof": None}}
    store = tmp_path / "mutants.json"
    assert known(store, told) == {}
    (tmp_path / "trust.md").write_text("Before\n<!-- mutants -->\n<!-- end -->\nafter\n")
    keep(store, told, rows)
    assert known(store, told) == rows
    assert "Of 2 mutants 1 are noticed" in (tmp_path / "trust.md").read_text()
    for name, other in ("seed", 2), ("count", 3), ("netlist", "abd"):
        assert known(store, {**told, name: other}) == {}


@pytest.mark.parametrize("name", ["mutants", "mutants-3", "mutants-4"])
def test_page(root, name):
    """The page says what is stored, and something of each survivor."""
    rows  = json.loads((root / f"docs/{name}.json").read_text())["mutants"]
    text  = (root / "docs/trust.md").read_text()
    found = report(rows)
    assert page(text, name, rows) == text
    table   = text.partition(f"<!-- {name} -->")[2].partition("\n<!-- mutants")[0]
    reasons = [re.search(rf"^\| {row['number']} \| .* \| (.*) \|$", table, re.MULTILINE)[1]
               for row in found["survivors"]]
    # Of the last sample benches of units find some, which a whole machine is not put through.
    others = len(rows) - len(found["equivalent"])
    if name == "mutants-4":
        benches = [re.match(r"`(test_bench_\w+\.py)`", reason) for reason in reasons]
        assert all((root / "tests/sim/benches" / bench[1]).exists() for bench in benches if bench)
        others -= sum(reason.startswith("None") for reason in reasons)
        reasons = [reason for reason, bench in zip(reasons, benches) if not bench and not reason.startswith("None")]
        assert f"one of the other {others} is left ({len(reasons) / others:.1%})".replace("%", " %") in table
    assert len(reasons) <= 0.02 * others
    other = {**rows[0], "noticed": "model", "proof": None}
    assert f"Of {len(rows) + 1} mutants" in page(text, name, [*rows, other])
