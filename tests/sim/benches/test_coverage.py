"""Every component of the gateware has a bench."""

import ast
import importlib
import inspect

from amaranth.lib import wiring

#: Components without a bench of their own, and the component inside of which they are tried.
INSIDE = {
    "ExactMultiply":    "Multiply",
    "LMul":             "Multiply",
    "InverseRoot":      "SquareSum",
    "Queue":            "TapeReader",
    "SinglePortMemory": "SpramTape",
    "UartReceiver":     "Uart",
    "UartTransmitter":  "Uart",
    "_Part":            "OnChipTape",
}
#: Components that only connect others, or that another one makes, and the file where they are tried or measured.
ELSEWHERE = {
    "Core":           "tests/hw/program/test_core.py",
    "OnChipMachine":  "tests/sim/test_machine.py",
    "ProgramMachine": "tests/sim/test_machine.py",
    "StripedMachine": "tests/sim/test_machine.py",
    "SdramMachine":   "tests/sim/test_sdram.py",
    "System":         "tests/sim/test_board.py",
    "StreamMemory":   "tests/hw/test_memory.py",
    "Relay":          "tests/hw/test_stream.py",
    "SkidBuffer":     "tests/hw/test_stream.py",
    "TreeArray":      "tests/sim/benches/test_bench_array.py",
    "TableArray":     "tests/sim/benches/test_bench_array.py",
    "TriplesArray":   "tests/sim/benches/test_bench_array.py",
    "Triples":        "tests/sim/benches/test_bench_array.py",
    "Tables":         "tests/sim/benches/test_bench_array.py",
    "Accumulator":    "tests/sim/benches/test_bench_matvec.py",
    "Datapath":       "tests/hw/test_build.py",
    "TableCore":      "tests/hw/test_build.py",
    "LitedramStart":  "tests/hw/vendor/test_litedram.py",
}


def components(root) -> dict[str, type]:
    found = {}
    for path in sorted((root / "hw").rglob("*.py")):
        name   = ".".join(["terngen", *path.relative_to(root).with_suffix("").parts]).removesuffix(".__init__")
        module = importlib.import_module(name)
        found |= {each.__name__: each for each in vars(module).values()
                  if inspect.isclass(each) and issubclass(each, wiring.Component) and each.__module__ == name}
    return found


def benched(root) -> set[str]:
    """Names that the tests beside this one use, other than to import them."""
    trees = [ast.parse(path.read_text()) for path in (root / "tests/sim/benches").glob("test_bench_*.py")]
    return {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_every_component_has_a_bench(root):
    missing = set(components(root)) - benched(root) - set(INSIDE) - set(ELSEWHERE)
    assert not missing, f"No bench elaborates {', '.join(sorted(missing))}"


def test_exceptions_are_true(root):
    found, used = components(root), benched(root)
    for part, whole in INSIDE.items():
        assert part not in used, f"{part} has a bench"
        assert whole in used, f"{whole} has no bench, so {part} has none"
        assert f"{part}(" in inspect.getsource(found[whole]), f"{whole} has no {part}"
    assert not set(ELSEWHERE) & used
