"""``terngen perplexity``."""

from pathlib import Path

import click

from terngen.host.commands.options import (
    Multipliers,
    config_option,
    device_option,
    json_option,
    model_argument,
    multiplier_option,
    slots_option,
    text_option,
)

__all__ = ["perplexity"]


@click.command()
@model_argument
@text_option(required=True, help="Text in UTF-8.")
@device_option("golden", "reference", "sim")
@click.option("--limit-tokens", type=click.IntRange(min=1), metavar="N",
              help="Stop after N tokens of the text.")
@config_option
@slots_option
@multiplier_option
@json_option
def perplexity(model: Path, text_file: Path, device: str, limit_tokens: int | None,
               config: str | None, slots: int | None, sites: Multipliers | None, as_json: bool) -> None:
    """How well a model foretells a text, read as one stream.

    The token that begins a text comes first, then the whole text; the state is never reset. Every
    token of the text is foretold; if the model has no token that begins a text, all but the first
    are.
    """
    from terngen.host.commands.console import Progress, emit
    from terngen.host.commands.scoring import scorer
    from terngen.host.text import Surprise, read_text

    text = read_text(text_file)
    source   = scorer([model], [device], config=config, slots=slots, sites=sites)
    surprise = Surprise(source.language().encode(text), limit=limit_tokens)
    with source, Progress() as progress:
        source.reset()
        while part := surprise.due(source.chunk):
            surprise.add(source.advance(part))
            progress("Reading the text", surprise.tokens, surprise.total)
    emit(as_json, {"bits_per_byte": surprise.bits_per_byte, "nats_per_token": surprise.nats_per_token,
                   "tokens": surprise.tokens, "bytes": surprise.octets, "device": device},
         [f"{surprise.bits_per_byte:.4f} bits per byte, {surprise.nats_per_token:.4f} nats per token, "
          f"{surprise.tokens} tokens, {surprise.octets} bytes"])
