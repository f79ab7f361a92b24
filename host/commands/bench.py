"""``terngen bench``."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from terngen.host.commands.machines import geometry_options
from terngen.host.commands.options import (
    Multipliers,
    config_option,
    devices_option,
    json_option,
    multiplier_option,
    simulation_options,
    slots_option,
)

__all__ = ["bench", "figure_lines"]


@click.command()
@click.argument("models", metavar="[CKPT_OR_TAPE...]", type=click.Path(path_type=Path), nargs=-1)
@geometry_options
@devices_option("sim")
@click.option("--tokens", type=click.IntRange(min=1), default=32, show_default=True,
              help="Passes of the tape; each gives a token to every slot.")
@click.option("--prompt", type=click.IntRange(min=1), metavar="COUNT",
              help="Let the first slot read a prompt of so many tokens before.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
              help="Of the first token of each slot.")
@config_option
@slots_option
@multiplier_option
@simulation_options
@json_option
def bench(models: tuple[Path, ...], geometry: str | None, devices: tuple[str, ...], tokens: int, prompt: int | None,
          seed: int, config: str | None, beat_bits: int | None, row_lanes: int | None, lanes: int | None,
          prefetch: int | None, slots: int | None, sites: Multipliers | None, memory: str | None, waveform: str | None,
          as_json: bool) -> None:
    """Compare every value of a machine with the golden machine, then tell its speed.

    If one value differs, the first is named, no speed is told, and the exit code is 6. Instead of a model a
    published size with random weights can be played, on the machine that `terngen estimate` describes. Several devices
    are as for run.
    """
    from terngen.host.commands.console import emit, working
    from terngen.host.commands.devices import benched, load, random_tape, tapes_of
    from terngen.host.errors import GateError
    from terngen.sim.bench import greedy

    if bool(models) == (geometry is not None):
        raise click.UsageError("Either a model or --geometry must be given.")
    changes = {"beat_bits": beat_bits, "row_lanes": row_lanes, "lanes": lanes, "prefetch": prefetch, "slots": slots,
               "sites": sites}
    if geometry is None:
        tape, *others = tapes = tapes_of(models, devices, config=config, **changes)
        if others:
            if prompt is not None or waveform is not None:
                raise click.UsageError("Options --prompt and --waveform are for one device, not for several.")
            _of_pieces(tapes, devices, tokens, seed, memory, as_json)
            return
    elif len(devices) > 1:
        raise click.UsageError("A published size is played on one device; make a checkpoint of it for several.")
    else:
        tape = random_tape(geometry, config, changes, memory or "")
    [device] = devices
    with benched(tape, device, memory=memory, waveform=waveform) as machine:
        try:
            load(machine.device)
            reading: dict[str, Any] = {}
            if prompt is not None:
                with working(f"Reading a prompt of {prompt} tokens on both machines"):
                    reading = machine.prefill(prompt, seed)
            machine.start()
            with working(f"Playing {tokens} tokens on both machines"):
                steps = greedy(machine.device, tokens, seed)
        except GateError:
            emit(as_json, machine.gate(), [])
            raise
        figures = {**machine.gate(), **machine.figures(steps), **reading}
    emit(as_json, figures, figure_lines(figures))


def _of_pieces(tapes: Sequence[Any], devices: Sequence[str], tokens: int, seed: int, memory: str | None, as_json: bool
               ) -> None:
    """Several machines, each with a piece of the model."""
    import contextlib

    from terngen.host.commands.console import emit, working
    from terngen.host.commands.devices import benched, load, one_each
    from terngen.host.errors import GateError
    from terngen.sim.bench import ChainBench

    with contextlib.ExitStack() as stack:
        chain = ChainBench([stack.enter_context(benched(tape, device, memory=memory, waveform=None))
                            for tape, device in zip(tapes, one_each(devices, tapes), strict=True)])
        try:
            for machine in chain.device.devices:
                load(machine)
            with working(f"Playing {tokens} tokens on all machines"):
                figures = chain.play(tokens, seed)
        except GateError:
            emit(as_json, chain.gate(), [])
            raise
    emit(as_json, figures, _lines_of_pieces(figures))


def _lines_of_pieces(figures: dict[str, Any]) -> Iterator[str]:
    from terngen.host.commands.console import plural, table

    yield (f"gate        {figures['gate']}: {figures['values_compared']:,} values compared, "
           f"{figures['mismatches']} differ")
    yield f"tokens      {figures['tokens']} on {plural(figures['slots'], 'slot')}"
    yield f"cycles      {figures['cycles_per_token']:,.0f} for a token, on all machines together"
    yield ""
    yield from table([("piece", "cycles", "tape", "attainment"), *(
        (place, f"{piece['cycles_per_token']:,.0f}", f"{piece['tape_bytes_per_token']:,.0f}",
         f"{100 * piece['attainment']:.1f} %") for place, piece in enumerate(figures["pieces"], 1))])


def figure_lines(figures: dict[str, Any]) -> Iterator[str]:
    """Figures of a machine that passed, for people."""
    from terngen.host.commands.console import plural

    cycles = figures["cycles_per_token"]
    yield (f"gate        {figures['gate']}: {figures['values_compared']:,} values compared, "
           f"{figures['mismatches']} differ")
    yield f"tokens      {figures['tokens']} on {plural(figures['slots'], 'slot')}"
    yield f"cycles      {cycles:,.0f} for a token"
    yield (f"waiting     {figures['stall_tape_per_token']:,.0f} cycles for the tape, "
           f"{figures['stall_array_per_token']:,.0f} for the array, "
           f"{figures['stall_vector_per_token']:,.0f} for the vector unit")
    yield (f"tape        {figures['tape_bytes_per_token']:,.0f} bytes for a token, at most "
           f"{figures['peak_bytes_per_cycle']:g} in a cycle")
    yield f"attainment  {100 * figures['attainment']:.1f} % of the memory's peak"
    if "prompt_tokens" in figures:
        yield (f"prompt      {figures['cycles_per_prompt_token']:,.0f} cycles for each of {figures['prompt_tokens']} "
               f"tokens, {figures['prompt_speedup']:.2f} times as fast as one by one with the head")
    yield (f"simulation  {figures['sim_cycles_per_second']:,.0f} cycles per second, "
           f"{figures['sim_tokens_per_second']:.4g} tokens per second of each slot")
