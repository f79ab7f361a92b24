"""``terngen convert``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from terngen.host.commands.options import (
    Multipliers,
    config_option,
    json_option,
    multiplier_option,
    slots_option,
    split_option,
    text_option,
)

__all__ = ["convert"]

#: What is counted at each site.
_COUNTS = ("values", "saturated", "zero")


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True,
              help="Tape file to write.")
@config_option
@slots_option
@multiplier_option
@split_option
@text_option(required=False, help="Text in UTF-8 to calibrate with.")
@click.option("--calibration-tokens", type=click.IntRange(min=0), default=32, show_default=True,
              metavar="N", help="Tokens of the text that the golden machine reads, to count what "
                                "saturates; 0 for none.")
@json_option
def convert(checkpoint: Path, output: Path, config: str | None, slots: int | None, sites: Multipliers | None,
            split: int | list[int] | None, text_file: Path | None, calibration_tokens: int, as_json: bool) -> None:
    """Turn a checkpoint folder into a tape, and report on it.

    With --split it becomes several, one for each device: of OUTPUT model.tape model.1of2.tape and model.2of2.tape.

    Without --text, a sentence or two that come with the program are read; a checkpoint without a
    tokenizer reads random tokens.
    """
    from terngen.host.commands.console import Progress, emit
    from terngen.host.compile import compile_pieces
    from terngen.host.configs import DEFAULT, model_config
    from terngen.host.layout import cut
    from terngen.host.models import open_checkpoint, open_tape, piece_path, tokenizer_of
    from terngen.host.text import read_text

    text   = read_text(text_file) if text_file is not None else None
    source = open_checkpoint(checkpoint, purpose="Conversion")
    # Everything that can be wrong is read before anything is written.
    machine      = model_config(source.geometry, config or DEFAULT, slots=slots, sites=sites)
    pieces       = cut(source.geometry, machine, 1 if split is None else split)
    what, tokens = _calibration_tokens(source, text, calibration_tokens if len(pieces) == 1 else 0)
    paths = {piece: piece_path(output, piece) for piece in pieces}
    with Progress() as progress:
        reports = compile_pieces(source, machine, paths, name=source.folder.resolve().name,
                                 tokenizer=tokenizer_of(source), progress=progress)
    reports = [{"tape": str(path), "digest": piece.machine(source.geometry, machine).digest.hex(), **report}
               for (piece, path), report in zip(paths.items(), reports, strict=True)]
    if tokens:
        reports[0]["calibration"] = {"source": what, **_calibrate(open_tape(output), tokens)}
    if split is None:
        emit(as_json, reports[0], _lines(reports[0]))
    else:
        emit(as_json, {"pieces": reports}, (line for report in reports for line in [*_lines(report), ""]))


def _calibration_tokens(checkpoint: Any, text: str | None, count: int) -> tuple[str, list[int]]:
    """Tokens to calibrate with, and what they are."""
    import numpy as np

    from terngen.host.convert.report import CALIBRATION_TEXT
    from terngen.host.text import Language

    if checkpoint.tokenizer is None and text is None:
        vocab = checkpoint.geometry.vocab_size
        return "random", np.random.default_rng(0).integers(0, vocab, count).tolist()
    language = Language.of_checkpoint(checkpoint)
    tokens   = language.encode(CALIBRATION_TEXT if text is None else text).tokens[:count]
    return "built-in text" if text is None else "text", tokens


def _calibrate(tape: Any, tokens: list[int]) -> dict[str, Any]:
    """Play tokens on the golden machine and count."""
    from terngen.host.commands.console import Progress
    from terngen.host.convert.report import Calibration
    from terngen.sim.golden.sequence import Sequence

    calibration = Calibration(tape)
    sequence    = Sequence(tape, chunk=16)
    sequence.machine.observe = calibration.add
    with Progress() as progress:
        for start in range(0, len(tokens), 16):
            progress("Calibrating", start, len(tokens))
            sequence.advance(tokens[start:start + 16])
    return {"tokens": len(tokens), **calibration.to_dict()}


def _lines(report: dict[str, Any]) -> Iterator[str]:
    from terngen.host.commands.console import table

    yield (f"{report['tape']}: {report['tape_bytes']:,} octets, of which {report['played_bytes']:,} "
           f"are played for a token; {report['ternary_weights']:,} ternary weights at "
           f"{report['bits_per_weight']:.4f} bits")
    yield f"machine {report['digest']}"
    yield ""
    yield from table([("tensor", "shape", "zero", "scale"), *(
        (name, "x".join(map(str, tensor["shape"])),
         f"{tensor['zero_fraction']:.4f}" if "zero_fraction" in tensor else "",
         f"{tensor['scale']:.6g}" if "scale" in tensor else "")
        for name, tensor in report["tensors"].items())])
    if (calibration := report.get("calibration")) is None:
        return
    yield ""
    yield f"calibration: {calibration['tokens']} tokens, {calibration['source']}"
    yield from table([("site", *_COUNTS, "largest"), *(
        (site, *(counts[name] for name in _COUNTS), f"{counts['largest']:.6g}")
        for site, counts in calibration["sites"].items())])
    yield ""
    for section, sites in calibration["saturated"].items():
        yield f"saturated in {section}: " + ", ".join(f"{site} {count} times"
                                                      for site, count in sites.items())
    if not calibration["saturated"]:
        yield "no float saturated"
