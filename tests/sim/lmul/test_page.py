"""docs/lmul.md says of products what is stored, and what is stored comes from its commands."""

import copy
import json
import re

import pytest
from click.testing import CliRunner

from terngen.host.cli import cli
from terngen.sim.lmul.page import COMMANDS, page


@pytest.fixture(scope="module")
def text(root):
    return (root / "docs/lmul.md").read_text()


def test_page(text, stored):
    assert page(text, stored) == text
    for part, rows, key in (("errors", "errors", "bias"), ("errors", "comparison", "rms"),
                            ("errors", "estimates", "lmul"), ("attention", "rows", "moved"),
                            ("area", "rows", "xc7_luts")):
        changed = copy.deepcopy(stored)
        changed[part][rows][0][key] += 1
        assert page(text, changed) != text


def test_example(text, capsys):
    """The program on the page runs, and is as wrong as the page says."""
    [program] = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec(program, {})
    assert float(capsys.readouterr().out) == pytest.approx(0.027, abs=0.005)


def test_commands(text, stored):
    assert {name: each["command"] for name, each in stored.items()} == {
        name: f"terngen {command} --json" for name, command in COMMANDS.items()}
    for command in COMMANDS.values():
        assert f"terngen {command}" in text


def test_attention(stored, alike):
    """Errors of attention are those of today's functions."""
    result = CliRunner().invoke(cli, [*COMMANDS["attention"].split(), "--json"])
    assert result.exit_code == 0, result.output
    for row, expected in zip(json.loads(result.stdout)["rows"], stored["attention"]["rows"], strict=True):
        # Where a score lies at a border between two weights, another NumPy may take the other one.
        assert alike(row, expected, rel=0.02, abs=0.005)
