"""docs/adding-a-board.md, done."""

import json
import re

import pytest

from terngen.host import cli
from terngen.host.commands.building import chosen, tape_on
from terngen.sim.bench import Bench, greedy


@pytest.fixture
def board(root, tmp_path, monkeypatch):
    """The file of the page."""
    monkeypatch.chdir(tmp_path)
    page = (root / "docs/adding-a-board.md").read_text()
    (tmp_path / "mine.py").write_text("\n".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)))
    return "mine.py"


def test_generate(root, board, tmp_path):
    model = root / "tests/data/reference/tiny"
    with pytest.raises(SystemExit) as done:
        cli.cli.main(["generate", str(model), "--board", board, "-o", "mine"])
    assert done.value.code == 0
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "build.sh", "manifest.json", "terngen.lpf", "terngen.tape", "terngen.v"]
    assert 'LOCATE COMP "uart_0__rx__io" SITE "H18";' in (tmp_path / "mine/terngen.lpf").read_text()
    assert json.loads((tmp_path / "mine/manifest.json").read_text())["board"] == "mine:onchip"


def test_simulate(root, board):
    tape = tape_on(chosen(board), root / "tests/data/reference/tiny", None)
    with Bench(tape, board=board, onchip=tape.beats) as bench:
        bench.device.load()
        greedy(bench.device, 1, seed=1)
        assert bench.gate()["gate"] == "pass"
