"""Fuzzing of all parsers, part by part, with a memory: ``python -m terngen.sim.fuzz.record``.

How many inputs each parser has taken stands in ``docs/fuzz.json``, with a digest of its sources. The next run goes on
from there with new seeds; a parser that has changed begins anew.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import re
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from terngen.host.commands.console import note
from terngen.host.files import replacing
from terngen.sim.fuzz.targets import LOOPS, TARGETS
from terngen.sim.performance import fill

__all__ = ["digest", "main", "page", "source_digest"]

#: Inputs of one process, which has one seed.
PART = 250_000
#: Of so many parts of parsers in :data:`LOOPS` one looks at counts of branches.
COUNTED = 10


def source_digest(text: str) -> str:
    """Of what Python does: comments and docstrings do not belong to it."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        match node:
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef() if ast.get_docstring(node):
                del node.body[0]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def digest(target: str, begin: Path) -> str:
    """Of the sources of a parser: all modules of the project whose functions its committed inputs call."""
    words = [sys.executable, "-m", "terngen.sim.fuzz", target, "--sources", "--begin", str(begin)]
    names = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    parts = []
    for name in names:
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None
        parts.append(name + source_digest(Path(spec.origin).read_text("utf-8")))
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def _part(target: str, runs: int, seed: int, begin: Path, corpus: Path) -> tuple[int, float, int]:
    """Executions, seconds of the processor, and the exit code of one part."""
    counts = target not in LOOPS or seed % COUNTED == 0
    words  = [sys.executable, "-m", "terngen.sim.fuzz", target, "--runs", str(runs), "--seed", str(seed),
              "--begin", str(begin), "--corpus", str(corpus / target), "--quiet",
              "--counts" if counts else "--no-counts"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done   = subprocess.run(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, errors="replace",
                            check=False)
    after  = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.stderr.write(done.stderr[-4000:])
    told = re.search(r"^Done (\d+) runs", done.stderr, re.MULTILINE)
    return (int(told[1]) if told else 0,
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.returncode)


def page(text: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A page whose table says what is stored."""
    return fill(text, "fuzz", ["| parser | inputs | seeds | seconds of a core | found |", "|---|---:|---|---:|---:|", *(
        f"| {row['target']} | {row['executions']:,} | {row['seeds'][0]} to {row['seeds'][1]} | {row['seconds']:,.0f} | "
        f"{row['findings']} |" for row in rows)])


@click.command()
@click.argument("targets", nargs=-1)
@click.option("--runs", type=click.IntRange(min=1), default=10_000_000, show_default=True, help="For each parser.")
@click.option("--part", type=click.IntRange(min=1), default=PART, show_default=True, help="Inputs of one process.")
@click.option("--store", type=click.Path(path_type=Path), default=Path("docs/fuzz.json"), show_default=True,
              help="What has been tried; the page trust.md beside it is rewritten.")
@click.option("--inputs", type=click.Path(path_type=Path), default=Path("tests/data/fuzz"), show_default=True,
              help="Folder of the inputs to begin with.")
@click.option("--corpus", type=click.Path(path_type=Path), default=Path("build/fuzz"), show_default=True,
              help="Folder for inputs that reach something new.")
def main(targets: tuple[str, ...], runs: int, part: int, store: Path, inputs: Path, corpus: Path) -> None:
    """Try inputs on all parsers, or some, until each has taken so many."""
    if unknown := sorted(set(targets) - TARGETS.keys()):
        raise click.UsageError(f"There is no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    rows = {row["target"]: row for row in json.loads(store.read_text())} if store.exists() else {}
    for target in targets or TARGETS:
        begin  = inputs / f"{target}.txt"
        known  = {"digest": digest(target, begin), "atheris": importlib.metadata.version("atheris")}
        stored = rows.get(target, {"findings": 0})
        if stored.get("digest") != known["digest"]:
            stored = {"executions": 0, "seeds": [1, 0], "seconds": 0.0, "findings": stored["findings"]}
        code = 0
        while stored["executions"] < runs and not code:
            seed = stored["seeds"][1] + 1
            note(f"{target}: {stored['executions']:,} of {runs:,}, seed {seed}")
            done, seconds, code = _part(target, min(part, runs - stored["executions"]), seed, begin, corpus)
            stored = {"target": target, **known, "executions": stored["executions"] + done,
                      "seeds": [stored["seeds"][0], seed], "seconds": round(stored["seconds"] + seconds, 1),
                      "findings": stored["findings"] + (code != 0)}
            rows[target] = stored
            _write(store, [rows[name] for name in TARGETS if name in rows])
        if code:
            raise click.ClickException(f"Parser of {target} did not take an input well; it lies here as {target}-*")


def _write(store: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The file, and the page beside it."""
    written = store.with_name("trust.md")
    text    = page(written.read_text(), rows)
    for path, octets in ((store, (json.dumps(rows, indent=1) + "\n").encode()), (written, text.encode())):
        with replacing(path) as file:
            file.write(octets)


if __name__ == "__main__":
    main(prog_name="python -m terngen.sim.fuzz.record")
