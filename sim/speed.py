"""How fast a model of a published size is converted and played by the golden machine, and in how much memory.

``python -m terngen.sim.speed --geometry 370m`` makes a checkpoint of random numbers, converts it and
plays a few tokens.
"""

import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from terngen.host.commands.console import emit, note
from terngen.host.convert.geometry import PUBLISHED
from terngen.hw.contract.tape import Mark, Tape
from terngen.sim.checkpoint import write_checkpoint
from terngen.sim.golden.machine import GoldenMachine

__all__ = ["Conversion", "convert", "peak_bytes"]


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What a conversion took."""

    seconds:           float
    #: Of the processor, all threads together.
    processor_seconds: float
    #: Largest resident memory.
    peak_bytes:        int


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    try:
        # Where it can be had: what `getrusage` says includes the process that started this one.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


#: What a process does that converts: the command, then a line about it.
_CONVERT = """
import contextlib, io, json, sys, time
from terngen.host.cli import cli
from terngen.sim.speed import peak_bytes
begin = time.monotonic()
with contextlib.redirect_stdout(io.StringIO()):
    cli.main(["convert", *sys.argv[1:], "--json"], standalone_mode=False)
print(json.dumps([time.monotonic() - begin, time.process_time(), peak_bytes()]))
"""


def convert(checkpoint: Path, tape: Path, *options: str) -> Conversion:
    """``terngen convert`` with some options, in a process of its own."""
    run = subprocess.run([sys.executable, "-c", _CONVERT, str(checkpoint), "-o", str(tape), *options],
                         stdout=subprocess.PIPE, text=True)
    if run.returncode:
        raise click.ClickException("Conversion failed")
    return Conversion(*json.loads(run.stdout))


def _play(tape: Tape, tokens: int) -> list[float]:
    """Seconds of each token."""
    machine = GoldenMachine(tape.config, tape.image, slots=1)
    model, layers, head = tape.model, tape.marks["layers"], tape.marks["head"]
    seconds = []
    for token in range(tokens):
        begin = time.monotonic()
        machine.embed({0: token}, model["embedding_start"], model["embedding_beats"], model["hidden_size"])
        machine.play(Mark(layers.start, layers.count + head.count), vocab=model["vocab_size"])
        seconds.append(time.monotonic() - begin)
    return seconds


@click.command()
@click.option("--geometry", type=click.Choice(list(PUBLISHED)), default="370m", show_default=True,
              help="Published size.")
@click.option("--layers", type=click.IntRange(min=1), help="Fewer layers than published.")
@click.option("--config", default="small", show_default=True, help="Machine.")
@click.option("--tokens", type=click.IntRange(min=2), default=8, show_default=True, help="Tokens to be played.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def main(geometry: str, layers: int | None, config: str, tokens: int, as_json: bool) -> None:
    """Convert and play a model of a published size with random weights."""
    sizes = PUBLISHED[geometry] | ({} if layers is None else {"num_hidden_layers": layers})
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        note("Making a checkpoint ...")
        model = write_checkpoint(place, sizes)
        note("Converting it ...")
        converted = convert(place, place / "model.tape", "--config", config, "--calibration-tokens", "0")
        note("Playing it ...")
        tape    = Tape.open(place / "model.tape")
        seconds = _play(tape, tokens)
        peak    = peak_bytes()
    played  = (tape.marks["layers"].count + tape.marks["head"].count) * tape.config.beat_bytes
    report  = {
        "ternary_weights":     model.ternary_weights,
        "tape_bytes":          len(tape.image),
        "bits_per_weight":     8 * played / model.ternary_weights,
        "convert_seconds":     converted.seconds,
        "convert_processor_seconds": converted.processor_seconds,
        "convert_peak_bytes":  converted.peak_bytes,
        "first_token_seconds": seconds[0],
        "tokens_per_second":   (tokens - 1) / sum(seconds[1:]),
        "play_peak_bytes":     peak,
    }
    emit(as_json, report, [
        f"{model.ternary_weights} ternary weights at {report['bits_per_weight']:.4f} bits, tape of "
        f"{report['tape_bytes']} octets",
        f"converted in {converted.seconds:.1f} s ({converted.processor_seconds:.1f} s of the processor) and "
        f"{converted.peak_bytes / 1e6:.0f} MB",
        f"first token in {seconds[0]:.1f} s, then {report['tokens_per_second']:.2f} tokens per second, in "
        f"{peak / 1e6:.0f} MB"])


if __name__ == "__main__":
    main(prog_name="python -m terngen.sim.speed")
