"""Defects in a netlist are what they say, and are noticed."""

import pytest

from terngen.sim.compiled import compile_machine
from terngen.sim.device import machine_verilog
from terngen.sim.mutants import mutated, survives

pytestmark = pytest.mark.long

COUNT = 12


def test_mutants(make_tape):
    """Without a defect the machine passes; of some, most are noticed, whatever stage it is."""
    tape = make_tape("tests/data/reference/tiny", slots=2)
    text, mutants = mutated(machine_verilog(tape.config), COUNT, 3)
    assert len(mutants) == COUNT
    assert all(mutant["mode"] in ("inv", "const0", "const1", "cnot0", "cnot1") for mutant in mutants)
    library = compile_machine(text, config=tape.config, optimisation="-O1")
    assert survives(library, tape, 0) is None
    reasons = [survives(library, tape, number) for number in range(1, COUNT + 1)]
    assert sum(reason is not None for reason in reasons) >= COUNT // 2
