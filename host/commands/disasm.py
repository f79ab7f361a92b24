"""``terngen disasm``."""

from pathlib import Path

import click

from terngen.host.commands.options import (
    Multipliers,
    config_option,
    json_option,
    model_argument,
    multiplier_option,
    slots_option,
)

__all__ = ["disasm"]


@click.command()
@model_argument
@click.option("--mark", metavar="NAME", help="Only the part with this mark.")
@click.option("--octets", is_flag=True, help="With the octets of each descriptor.")
@config_option
@slots_option
@multiplier_option
@json_option
def disasm(model: Path, mark: str | None, octets: bool, config: str | None, slots: int | None,
           sites: Multipliers | None,
           as_json: bool) -> None:
    """Print a tape: its header, sections, marks, and every descriptor."""
    from terngen.host import disasm as source
    from terngen.host.commands.console import emit
    from terngen.host.commands.devices import tape_of

    tape = tape_of(model, piece=True, config=config, slots=slots, sites=sites)
    emit(as_json, source.to_dict(tape, mark) if as_json else None,
         source.lines(tape, mark, octets=octets))
