"""Defects in a netlist are what they say, and are noticed."""

import json
import os

import pytest

from terngen.sim import equivalence
from terngen.sim.compiled import compile_machine
from terngen.sim.hostile import hostile_tape
from terngen.sim.mutants import mutants, noticed, page
from terngen.sim.stimuli import observed

COUNT = 12


@pytest.mark.long
def test_mutants(make_tape, monkeypatch):
    """Without a defect the machine passes; whatever differs is noticed, or proven to be no defect."""
    tape = make_tape("tests/data/reference/tiny", slots=2)
    made = mutants(tape.config, COUNT, 3)
    assert len(made.commands) == COUNT
    told = [made.describe(number) for number in range(1, COUNT + 1)]
    assert all(each["mode"] in ("inv", "const0", "const1", "cnot0", "cnot1") and each["line"] for each in told)
    library = compile_machine(made.verilog, config=tape.config, optimisation="-O1")
    tapes   = [tape, *(hostile_tape(tape.config, seed) for seed in range(2))]
    monkeypatch.setitem(os.environ, "TERNGEN_MUTANT", "0")
    expected = list(observed(library, tapes))
    assert not [what for what, _ in expected if what.startswith("error")]
    assert noticed(expected, library, tapes, 0) is None
    alive = [number for number in range(1, COUNT + 1) if noticed(expected, library, tapes, number) is None]
    alive = [number for number in alive if not equivalence.proof(made.netlist, made.commands[number - 1])]
    assert len(alive) <= 1


def test_page(root):
    """The page says what is stored."""
    stored = json.loads((root / "docs/mutants.json").read_text())
    text   = (root / "docs/trust.md").read_text()
    assert page(text, stored) == text
    assert len(stored["survivors"]) <= 0.02 * (stored["mutants"] - len(stored["equivalent"]))
    assert "Of 301 mutants" in page(text, {**stored, "mutants": 301})
