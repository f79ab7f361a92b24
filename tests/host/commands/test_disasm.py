"""Tapes as text from `terngen disasm`."""

import re

from terngen.hw.contract.tape import Tape


def test_disasm(terngen, tiny_tape, tiny):
    lines = terngen("disasm", tiny_tape).stdout.splitlines()
    assert lines[0].startswith("tape tiny: 6754 beats of 64 bits, 139264 ternary weights")
    assert sum("MATVEC" in line for line in lines) == 2 * 7 + 1
    assert terngen("disasm", tiny, "--json").values["digest"] == Tape.open(tiny_tape).config.digest.hex()
    head = terngen("disasm", tiny_tape, "--mark", "head", "--octets").stdout.splitlines()
    assert re.fullmatch(r" +\d+  LOGITS    128 rows, scale 0\.\d+, first    [0-9a-f ]{47}", head[-1])


def test_disasm_refused(refused, tiny_tape):
    refused("disasm", tiny_tape, "--mark", "tail", code=8, message=r"Tape has no mark 'tail'; it has head, head\.0, ")
