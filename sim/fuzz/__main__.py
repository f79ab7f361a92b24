"""``python -m terngen.sim.fuzz TARGET``: coverage-guided fuzzing with atheris, until something is found or time is up.

An input takes at most two seconds of the processor, the whole process at most half a gibibyte; more is a finding, and
is left in a file of the working folder. ``python -m terngen.sim.fuzz.record`` does it for all parsers, and remembers.
"""

import base64
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

#: Packages with what is tried.
PARSERS = ("terngen.host", "terngen.hw.contract")
#: Seconds of the processor that an input may take, and seconds after which it counts as hanging, beside other work.
SECONDS, HANGS = 2, 120

_FILE   = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("target")
@click.option("--runs", type=click.IntRange(min=1), default=10_000, show_default=True, help="Inputs to try.")
@click.option("--seed", type=click.IntRange(min=1), default=1, show_default=True, help="Of all chance.")
@click.option("--seconds", type=click.IntRange(min=1), help="Stop after so long.")
@click.option("--begin", type=_FILE, help="Inputs to begin with, in base64, a line each.")
@click.option("--corpus", type=_FOLDER, help="Folder to which inputs come that reach something new.")
@click.option("--counts/--no-counts", default=True, show_default=True,
              help="Whether it is new that a branch is taken more often; inputs get longer then.")
@click.option("--quiet", is_flag=True, help="What the parser itself prints is not shown.")
@click.option("--pack", type=_FILE, help="Instead write the inputs of the folder in base64 into this file.")
@click.option("--sources", is_flag=True, help="Instead list the modules that take part, as inputs to begin with show.")
def main(target: str, runs: int, seed: int, seconds: int | None, begin: Path | None, corpus: Path | None, counts: bool,
         quiet: bool, pack: Path | None, sources: bool) -> None:
    """Try inputs on a parser: frames, cobs, tape, tensors, checkpoint, config, tokenizer, bodies."""
    if pack is not None:
        if corpus is None or not corpus.is_dir():
            raise click.UsageError("Packing needs the folder of a --corpus")
        packed = sorted({base64.b64encode(path.read_bytes()).decode() for path in corpus.iterdir()},
                        key=lambda line: (len(line), line))
        pack.write_text("".join(f"{line}\n" for line in packed))
        return

    if sources:
        click.echo("\n".join(_modules(target, begin)))
        return

    # Libraries that tell where they gave up take longer for that than for the input.
    os.environ["RUST_BACKTRACE"] = "0"
    import atheris

    with atheris.instrument_imports(include=[*PARSERS, "tomllib", "json"]):
        from terngen.sim.fuzz import targets

    if target not in targets.TARGETS:
        raise click.UsageError(f"There is no target {target!r}; there are {', '.join(targets.TARGETS)}")
    inputs = _inputs(target, begin)
    with tempfile.TemporaryDirectory() as folder:
        for index, octets in enumerate(inputs):
            Path(folder, f"input-{index}").write_bytes(octets)
        longest = targets.LONGEST.get(target, targets.LONGEST_INPUT)
        flags = [f"-runs={runs}", f"-seed={seed}", f"-timeout={HANGS}", "-rss_limit_mb=512", f"-max_len={longest}",
                 f"-artifact_prefix={target}-", f"-use_counters={int(counts)}",
                 f"-close_fd_mask={3 * quiet}"]
        if seconds is not None:
            flags.append(f"-max_total_time={seconds}")
        folders = [folder]
        if corpus is not None:
            corpus.mkdir(parents=True, exist_ok=True)
            folders.insert(0, str(corpus))
        # Its process ends without a word, so whoever cleans up is another one.
        child = os.fork()
        if not child:
            gc.freeze()         # what is there stays, and is not looked at each time
            atheris.Setup([sys.argv[0], *flags, *folders], _limited(targets.TARGETS[target]))
            atheris.Fuzz()
        _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def _inputs(target: str, begin: Path | None) -> list[bytes]:
    from terngen.sim.fuzz import targets
    stored = begin.read_text().split() if begin else []
    return targets.seeds(target) + [base64.b64decode(line) for line in stored]


def _modules(target: str, begin: Path | None) -> list[str]:
    """Modules of the project whose functions are called."""
    from terngen.sim.fuzz import targets
    found  = set()
    inputs = _inputs(target, begin)
    sys.setprofile(lambda frame, event, argument: found.add(frame.f_globals.get("__name__", "")))
    try:
        for octets in inputs:
            targets.TARGETS[target](octets)
    finally:
        sys.setprofile(None)
    return sorted(name for name in found if name.startswith(PARSERS))


def _limited(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """A target for which it is an error to take long."""
    def run(octets: bytes) -> None:
        begun = time.process_time()
        target(octets)
        if (taken := time.process_time() - begun) > SECONDS:
            raise TimeoutError(f"Input must take at most {SECONDS} seconds, not {taken:.1f}")
    return run


if __name__ == "__main__":
    main(prog_name="python -m terngen.sim.fuzz")
