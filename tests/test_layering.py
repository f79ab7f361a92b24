"""Imports flow one way."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: What each layer may import from this project, the more specific layer first.
LAYERS = {
    "hw.contract": {"hw.contract"},
    "hw":          {"hw"},
    "sim.golden":  {"hw.contract", "sim.golden"},
    "sim":         {"hw", "sim", "host"},
    "host":        {"hw.contract", "host"},
    "constraints": set(),
}

#: What the contract may import from others: no Module and no Signal, so that a host can read it
#: without gateware.
CONTRACT_IMPORTS = {"numpy", "amaranth.lib.data", "amaranth.lib.enum", "amaranth.utils"}
AMARANTH_SHAPES = {"Shape", "ShapeCastable", "ShapeLike", "signed", "unsigned"}

#: The command line, and what programs have instead of it, may import anything inside the command that needs it. Its
#: commands are in modules of their own, because together they are longer than a file should be.
LAZY = {"host.api", "host.cli", "host.commands"}


def inside(name: str, packages) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def layer_of(module: str) -> str:
    return next(layer for layer in LAYERS if inside(module, [layer]))


def imported(node) -> list[tuple[str, str]]:
    """Dotted path of each thing that a statement imports, and the module it comes from."""
    match node:
        case ast.Import():
            return [(alias.name, alias.name) for alias in node.names]
        case ast.ImportFrom(level=0):
            return [(f"{node.module}.{alias.name}", node.module) for alias in node.names]
        case ast.ImportFrom():
            return [("." * node.level + (node.module or ""), "")]
    return []


def is_lazy(function, node) -> bool:
    return function.lineno < node.lineno <= function.end_lineno


def violations(module: str, source: str) -> list[str]:
    """Sentences about the imports of `module` that its layer does not allow."""
    tree = ast.parse(source)
    layer = layer_of(module)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = []
    for node in ast.walk(tree):
        for name, origin in imported(node):
            top = name.split(".")[0]
            if top in ("", "hw", "sim", "host", "constraints"):
                found.append(f"{module}:{node.lineno} must import by the name terngen.*, not {name!r}")
            elif top == "terngen":
                lazy = inside(module, LAZY) and any(is_lazy(function, node) for function in functions)
                if not lazy and not inside(name.removeprefix("terngen."), LAYERS[layer]):
                    allowed = ", ".join(sorted(LAYERS[layer])) or "nothing"
                    found.append(f"{module}:{node.lineno} may import {allowed}, not {name!r}")
            elif layer == "hw.contract" and top not in sys.stdlib_module_names:
                shapes = origin in ("amaranth", "amaranth.hdl") and name.split(".")[-1] in AMARANTH_SHAPES
                if not shapes and not inside(name, CONTRACT_IMPORTS):
                    found.append(f"{module}:{node.lineno} is contract and may not import {name!r}")
    return found


def modules():
    for part in ("hw", "sim", "host", "constraints"):
        for path in sorted((ROOT / part).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def test_imports_flow_one_way():
    found = [line for module, path in modules() for line in violations(module, path.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("module, source", [
    ("hw.contract.bits",    "from terngen.hw.units import array"),
    ("hw.contract.bits",    "from amaranth import Signal"),
    ("hw.contract.bits",    "import amaranth"),
    ("hw.contract.bits",    "from amaranth.lib import wiring"),
    ("hw.contract.bits",    "import safetensors"),
    ("hw.units.array",      "from terngen.host import device"),
    ("hw.units.array",      "import terngen.sim.stream"),
    ("sim.golden.machine",  "from terngen.hw import top"),
    ("sim.golden.machine",  "from terngen.sim import stream"),
    ("host.device",         "from terngen.sim import device"),
    ("host.device",         "def f():\n    from terngen.sim import device"),
    ("host.device",         "from terngen.hw import top"),
    ("host.device",         "from terngen import sim"),
    ("host.device",         "from . import link"),
    ("host.device",         "from hw.contract import tape"),
    ("host.cli",            "from terngen.hw import build"),
    ("host.commands.bench", "from terngen.sim import device"),
    ("sim.verilog",         "import hw"),
])
def test_refused(module, source):
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize("module, source", [
    ("hw.contract.tape",    "from amaranth import signed, unsigned\nfrom amaranth.lib import data, enum"),
    ("hw.contract.formats", "import numpy as np\nfrom numpy.typing import NDArray\nimport zlib"),
    ("hw.contract.formats", "from terngen.hw.contract import bits"),
    ("hw.units.array",      "from amaranth import Module\nfrom terngen.hw import stream"),
    ("sim.golden.machine",  "from terngen.hw.contract.formats import SILU"),
    ("sim.device",          "from terngen.host.transport import Transport\nfrom terngen.hw import top"),
    ("host.device",         "from terngen.hw.contract import wire"),
    ("host.cli",            "def generate():\n    from terngen.hw import build\n    return build"),
    ("host.commands.bench", "def bench():\n    from terngen.sim import device\n    return device"),
])
def test_allowed(module, source):
    assert violations(module, source) == []
