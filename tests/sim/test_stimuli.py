"""All that a machine is put through, it stands."""

from terngen.sim.compiled import compile_machine
from terngen.sim.device import machine_verilog
from terngen.sim.hostile import hostile_tape
from terngen.sim.stimuli import observed


def test_observed(make_tape):
    tape    = make_tape("tests/data/reference/tiny", slots=2)
    library = compile_machine(machine_verilog(tape.config), config=tape.config)
    made    = list(observed(library, [tape, hostile_tape(tape.config, 0)]))
    assert not [each for each in made if each[0].startswith("error")]
    stages  = {name.removeprefix("cycles of ") for name, _ in made}
    assert stages == {"model", "hostile", "edges", "link", "headers", "faults", "registers", "senseless", "large",
                       "interrupted", "cut off", "draws", "bursts", "crowd", "squares", "gates", "twins", "waste"}
