"""``terngen accuracy``."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from terngen.host.commands.options import config_option, json_option, model_argument, plot_option, text_option

__all__ = ["accuracy"]


@click.command()
@model_argument
@text_option(required=True, help="Text in UTF-8, read as one sequence.")
@click.option("--tokens", type=click.IntRange(min=8), default=4096, show_default=True,
              help="Stop after so many tokens.")
@click.option("--multiplier", "multipliers", metavar="NAME", multiple=True, default=["lmul"], show_default=True,
              help="Multiplier that is measured; may be repeated.")
@click.option("--alone/--together", default=True, show_default=True,
              help="Measure it at each site by itself as well, or everywhere only.")
@plot_option
@config_option
@json_option
def accuracy(model: Path, text_file: Path, tokens: int, multipliers: tuple[str, ...], alone: bool,
             plot_file: Path | None, config: str | None, as_json: bool) -> None:
    """What approximate products cost a model, site by site, and whether it drifts.

    Golden machines with these products read a text beside one with exact products, token by token from a zero
    state that is never reset.
    """
    from terngen.host.commands.console import Progress, emit
    from terngen.host.commands.devices import tape_of
    from terngen.host.text import Encoded, Language, Surprise, read_text
    from terngen.sim.accuracy import choices, figures, measure, plot

    try:
        sites = choices(multipliers, alone=alone)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="--multiplier") from error
    tape  = tape_of(model, config=config)
    whole = Language.of_tape(tape).encode(read_text(text_file))
    count = Surprise(whole, limit=tokens).total
    text  = Encoded(whole.tokens[:count + 1], whole.octets[:count + 1])
    octets = text.octets[-1] - text.octets[0]
    with Progress() as progress:
        found = figures(measure(tape, text, sites, progress), max(1, octets))
    if plot_file is not None:
        plot(found, plot_file)
    emit(as_json, {"tokens": count, "bytes": octets, "machines": found}, _lines(count, octets, found))


def _lines(tokens: int, octets: int, found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    from terngen.host.commands.console import table

    yield f"{tokens} tokens, {octets} bytes"
    yield ""
    yield from table([("products", "bits per byte", "more", "KL", "worst KL", "best token", "state"), *(
        (name, f"{row['bits_per_byte']:.4f}", f"{row['more']:+.4f}", f"{row['divergence']:.2e}",
         f"{row['worst']:.2e}", f"{100 * row['agreement']:.2f} %", f"{row['state']:.2f}")
        for name, row in found.items())])
    yield ""
    everywhere = {name: row for name, row in found.items() if "=" not in name}
    yield from table([("from token", *(f"{what} {name}" for name in everywhere for what in ("KL", "state"))), *(
        (part["first"], *(text for row in everywhere.values() for text in (
            f"{row['by_position'][place]['divergence']:.2e}", f"{row['by_position'][place]['state']:.2f}")))
        for place, part in enumerate(found["exact"]["by_position"]))])
