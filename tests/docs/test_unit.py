"""docs/adding-a-unit.md, done."""

import importlib.util
import re
import sys

import pytest

from terngen.sim.verilog import run_bench


@pytest.fixture
def blocks(root):
    return re.findall(r"^```python\n(.*?)^```", (root / "docs/adding-a-unit.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def unit(blocks, tmp_path, monkeypatch):
    """The file of the page, imported from where it was written."""
    def unit(old="", new=""):
        text = "\n".join(blocks[:-1])
        assert old in text
        (tmp_path / "leaky.py").write_text(text.replace(old, new))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
        spec   = importlib.util.spec_from_file_location("leaky", tmp_path / "leaky.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "leaky", module)
        spec.loader.exec_module(module)
        return module.unit
    return unit


def test_page(blocks, unit):
    scope = {"unit": unit()}
    exec(blocks[-1], scope)                         # raises if the bench fails
    assert scope["run_bench"] is run_bench


@pytest.mark.parametrize("old, new", [
    ("self.a >> 3, self.a)", "(self.a + 7) >> 3, self.a)"),     # rounds towards zero
    ("LATENCY = 2", "LATENCY = 3"),                             # promises what it does not keep
])
def test_broken(unit, old, new):
    with pytest.raises(AssertionError, match="equals_contract"):
        run_bench(unit(old, new), "leaky", seed=1)
