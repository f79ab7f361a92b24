"""``python -m terngen.sim.fuzz TARGET``: coverage-guided fuzzing with atheris, until something is found or time is up.

An input takes at most two seconds, the whole process at most half a gibibyte; more is a finding, and is left in a file
of the working folder.
"""

import base64
import sys
import tempfile
from pathlib import Path

import click

_FILE   = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("target")
@click.option("--runs", type=click.IntRange(min=1), default=10_000, show_default=True, help="Inputs to try.")
@click.option("--seed", type=click.IntRange(min=1), default=1, show_default=True, help="Of all chance.")
@click.option("--seconds", type=click.IntRange(min=1), help="Stop after so long.")
@click.option("--begin", type=_FILE, help="Inputs to begin with, in base64, a line each.")
@click.option("--corpus", type=_FOLDER, help="Folder to which inputs come that reach something new.")
@click.option("--pack", type=_FILE, help="Instead write the inputs of the folder in base64 into this file.")
def main(target: str, runs: int, seed: int, seconds: int | None, begin: Path | None, corpus: Path | None,
         pack: Path | None) -> None:
    """Try inputs on a parser: frames, cobs, tape, tensors, checkpoint, config, tokenizer, bodies."""
    if pack is not None:
        if corpus is None or not corpus.is_dir():
            raise click.UsageError("Packing needs the folder of a --corpus")
        packed = sorted({base64.b64encode(path.read_bytes()).decode() for path in corpus.iterdir()},
                        key=lambda line: (len(line), line))
        pack.write_text("".join(f"{line}\n" for line in packed))
        return

    import atheris

    with atheris.instrument_imports(include=["terngen.host", "terngen.hw.contract", "tomllib", "json"]):
        from terngen.sim.fuzz import targets

    if target not in targets.TARGETS:
        raise click.UsageError(f"There is no target {target!r}; there are {', '.join(targets.TARGETS)}")
    inputs = targets.seeds(target)
    if begin is not None:
        inputs += [base64.b64decode(line) for line in begin.read_text().split()]
    with tempfile.TemporaryDirectory() as folder:
        for index, octets in enumerate(inputs):
            Path(folder, f"input-{index}").write_bytes(octets)
        flags = [f"-runs={runs}", f"-seed={seed}", "-timeout=2", "-rss_limit_mb=512", "-max_len=4096",
                 f"-artifact_prefix={target}-"]
        if seconds is not None:
            flags.append(f"-max_total_time={seconds}")
        folders = [folder]
        if corpus is not None:
            corpus.mkdir(parents=True, exist_ok=True)
            folders.insert(0, str(corpus))
        atheris.Setup([sys.argv[0], *flags, *folders], targets.TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main(prog_name="python -m terngen.sim.fuzz")
