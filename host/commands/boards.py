"""``terngen boards``."""

from collections.abc import Iterator
from typing import Any

import click

from terngen.host.commands.options import json_option

__all__ = ["boards"]


@click.command()
@click.option("--fits", metavar="CKPT_OR_SIZE", help="Only for this model, a checkpoint folder or a published size: "
                                                      "whether it fits, and what it will do.")
@json_option
def boards(fits: str | None, as_json: bool) -> None:
    """List the boards, their memories, and what a model would do on each.

    The bound is what the memory could play in a second if it never paused; what is expected is the estimator's
    number for one stream of tokens, at the clock of the board.
    """
    from terngen.host.commands.building import Choice
    from terngen.host.commands.console import emit
    from terngen.host.commands.machines import geometry_of
    from terngen.hw.boards import MODULES, find

    geometry = None if fits is None else geometry_of(fits)
    found = []
    for name in MODULES:
        board, _ = find(name)
        for memory in board.memories:
            found.append(_entry(Choice(board, memory), geometry))
    emit(as_json, {"boards": found}, _lines(found, geometry is not None))


def _entry(choice: Any, geometry: Any) -> dict[str, Any]:
    """What is known of a board with one of its memories."""
    board, memory = choice.board, choice.tape_memory
    found: dict[str, Any] = {
        "name": choice.name, "title": board.title, "device": board.device, "tier": board.tier, "family": board.family,
        "memory": memory.title, "memory_bytes": memory.octets, "clock_mhz": choice.clock_hz / 1e6,
        "link": board.link.title, "result": board.result, "remarks": board.remarks,
    }
    return found if geometry is None else found | _fit(choice, geometry)


def _fit(choice: Any, geometry: Any) -> dict[str, Any]:
    """Whether a model fits, and what it does."""
    from terngen.host.commands.building import lacking, machine_on
    from terngen.host.commands.machines import step_of
    from terngen.host.errors import ConfigError
    from terngen.host.layout import Layout

    board, memory = choice.board, choice.tape_memory
    nothing = dict.fromkeys(("tape_bytes", "bound_tokens_per_second", "tokens_per_second", "load_seconds"))
    try:
        machine = machine_on(choice, geometry, None)
    except ConfigError as error:
        return {"fits": False, "why": str(error), **nothing}
    tape   = Layout(geometry, machine).beats * machine.beat_bytes
    source = memory.timing(choice.clock_hz)
    step   = step_of(geometry, machine, source)
    why    = None
    if tape > memory.octets:
        why = f"the tape has {tape:,} octets, {memory.title} {memory.octets:,}"
    else:
        over = [f"{needed:,} of {there:,} {name}" for name, (needed, there) in lacking(choice, machine, tape).items()]
        why  = f"machine and tape need {', '.join(over)}" if over else None
    return {
        "fits": why is None, "why": why, "tape_bytes": tape,
        "bound_tokens_per_second": memory.peak(machine, choice.clock_hz) / (step.beats * machine.beat_bytes),
        "tokens_per_second": choice.clock_hz / step.cycles,
        "load_seconds": 0.0 if memory.preloaded else tape / board.link.rate,
    }


def _lines(found: list[dict[str, Any]], fitted: bool) -> Iterator[str]:
    from terngen.host.commands.console import table

    head = ["board", "device", "memory", "size", "clock", "tier"]
    rows = [[each["name"], each["device"], each["memory"], _size(each["memory_bytes"]), f"{each['clock_mhz']:g} MHz",
             each["tier"]] for each in found]
    if fitted:
        head += ["fits", "bound", "tokens/s", "load"]
        for row, each in zip(rows, found, strict=True):
            row.append("yes" if each["fits"] else "no")
            row += ["", "", ""] if each["tape_bytes"] is None else [
                f"{each['bound_tokens_per_second']:,.1f}", f"{each['tokens_per_second']:,.1f}",
                f"{each['load_seconds']:,.0f} s"]
    yield from table([head, *rows])
    for each in found:
        if fitted and not each["fits"]:
            yield f"{each['name']}: {each['why']}"
    for each in found:
        if each["remarks"]:
            yield f"{each['name']}: {each['remarks']}"


def _size(octets: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if octets >= size:
            return f"{octets / size:.4g} {unit}"
    return f"{octets} B"
