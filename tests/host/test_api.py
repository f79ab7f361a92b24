"""Models, designs and devices from Python, beside what the command line says."""

import json
import re

import pytest
from click.testing import CliRunner

from terngen.host.api import Design, Device, Model
from terngen.host.cli import cli
from terngen.host.errors import CheckpointError, ConfigError


@pytest.fixture(scope="module")
def model(root):
    return Model.from_pretrained(root / "models" / "fairy-1m")


def told(*words):
    """What a command prints as JSON."""
    done = CliRunner().invoke(cli, [*map(str, words), "--json"], prog_name="terngen")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_estimate(model):
    """Figures are those of the command."""
    assert Design(model, slots=2).estimate(50) == told("estimate", model.path, "--slots", 2, "--clock", 50)
    lmul = Design(model, multiplier="lmul").estimate()
    assert lmul["dsp"] == 0
    assert lmul == told("estimate", model.path, "--multiplier", "lmul")
    some = Design(model, multiplier={"gate": "lmul", "glu": "lmul"})
    assert str(some.config.sites.gate) == "lmul"
    assert some.config.sites.norm.is_exact


def test_board(model):
    design = Design(model, board="ulx3s-85f:sdram")
    listed = told("boards", "--fits", model.path)["boards"]
    [board] = [board for board in listed if board["name"] == "ulx3s-85f:sdram"]
    assert design.estimate()["tokens_per_second"] == pytest.approx(board["tokens_per_second"])


def test_generate(model):
    """The same text as that of the command, at once and in pieces."""
    design = Design(model)
    with Device.open("golden", design.tape()) as device:
        assert device.complete()
        text = device.generate("Once upon a time", tokens=8)
        assert "".join(device.generate("Once upon a time", tokens=8, stream=True)) == text
        drawn = device.generate("Once upon a time", tokens=8, temperature=1.0, seed=3)
    assert text == told("run", model.path, "--prompt", "Once upon a time", "--tokens", 8, "--temperature", 0)["text"]
    assert drawn != text


@pytest.mark.parametrize("make, error, message", [
    (lambda model: Model.from_pretrained("nowhere"), CheckpointError, "nowhere"),
    (lambda model: Design(model, board="no-board"), ConfigError, "no-board"),
    (lambda model: Design(model, wings=2), ConfigError, "no field 'wings'"),
    (lambda model: Design(model, slots=0), ConfigError, "[Ss]lots"),
    (lambda model: Design(model, multiplier="magic"), ConfigError, "magic"),
    (lambda model: Design(model).build("folder"), ConfigError, "made for a board"),
    (lambda model: Design(model, board="arty-a7-100").build("folder"), ConfigError, "maker's tools"),
])
def test_refused(model, make, error, message):
    with pytest.raises(error, match=message):
        make(model)


def test_page(root, monkeypatch, capsys):
    """The page runs."""
    monkeypatch.chdir(root)
    page = (root / "docs" / "python.md").read_text()
    for block in (scope := {}, *re.findall(r"```python\n(.*?)```", page, re.DOTALL))[1:]:
        exec(compile(block, "docs/python.md", "exec"), scope)
    assert "tokens per second" in capsys.readouterr().out
