"""``terngen demo``."""

from pathlib import Path

import click

from terngen.host.commands.options import (
    Multipliers,
    config_option,
    json_option,
    multiplier_option,
    seed_option,
    slots_option,
    temperature_option,
)
from terngen.hw.contract.config import Sites

__all__ = ["demo"]

#: Model that comes with the repository.
_MODEL  = "fairy-1m"
_PROMPT = "Once upon a time"


def _shipped() -> Path:
    """The folder of the model in this checkout."""
    import terngen.host
    from terngen.host.errors import InputError
    folder = Path(terngen.host.__file__).resolve().parent.parent / "models" / _MODEL
    if not folder.is_dir():
        raise InputError(f"The model {_MODEL} comes with the repository and is not at {folder}; "
                         f"name another one with --model")
    return folder


def _products(sites: Sites) -> str:
    """What multiplies element by element, in words."""
    chosen = sites.to_dict()
    if set(chosen.values()) == {"exact"}:
        return "exact, in multipliers"
    if "exact" not in chosen.values():
        return f"{', '.join(sorted(set(chosen.values())))}: additions, and no multiplier in the whole machine"
    return ", ".join(f"{site} {multiplier}" for site, multiplier in chosen.items())


@click.command()
@click.option("--model", type=click.Path(path_type=Path), metavar="CKPT_OR_TAPE",
              help=f"[default: {_MODEL} of the repository]")
@click.option("--prompt", default=_PROMPT, show_default=True, help="What the story begins with.")
@click.option("--tokens", type=click.IntRange(min=1), default=120, show_default=True,
              help="Tokens to make; where a story ends early, another one follows.")
@temperature_option(0.7)
@seed_option(1)
@config_option
@slots_option
@multiplier_option
@json_option
def demo(model: Path | None, prompt: str, tokens: int, temperature: float, seed: int,
         config: str | None, slots: int | None, sites: Multipliers | None, as_json: bool) -> None:
    """A story, told by hardware that is generated now and simulated cycle by cycle.

    While it is told, every value inside the machine is compared with the golden machine.
    """
    import time

    from terngen.host.commands.bench import figure_lines
    from terngen.host.commands.console import emit, plural
    from terngen.host.commands.devices import benched, load, tape_of
    from terngen.host.errors import GateError
    from terngen.host.sampling import Sampling
    from terngen.host.text import Language, Story

    def say(line: str = "", nl: bool = True) -> None:
        if not as_json:
            click.echo(line, nl=nl)

    begin = time.monotonic()
    path  = model or _shipped()
    tape  = tape_of(path, config=config, slots=slots, sites=sites)
    Language.of_tape(tape).prompt(prompt)       # what is wrong is said before anything that takes long
    Sampling(temperature=temperature).check(tape.config)
    say(f"Model      {path}")
    say("Machine    generating Verilog, compiling it to native code (from the cache if it is there)")
    with benched(tape, "sim") as machine:
        say(f"           {tape.config.beat_bits} bits of tape in a cycle, {plural(tape.config.slots, 'slot')}, "
            f"digest {tape.config.digest.hex()}; ready after {time.monotonic() - begin:.1f} s")
        say(f"Products   {_products(tape.config.sites)}")
        say(f"Tape       {len(tape.image):,} bytes for {tape.model['ternary_weights']:,} ternary "
            f"weights, loaded through the link")
        load(machine.device)
        machine.start()
        say("Story      as it comes out of the machine, every value compared with the golden "
            "machine:")
        say()
        stories, runs, pieces = 0, [], []
        made = passes = 0
        try:
            # A short story is followed by another one.
            while made < tokens:
                story = Story(machine.device, prompt,
                              Sampling(temperature=temperature, seed=seed + stories))
                pieces.append(prompt)
                say(prompt, nl=False)
                for piece in story.pieces(tokens - made):
                    pieces.append(piece)
                    say(piece, nl=False)
                made    += len(story.tokens)
                passes  += len(story.tokens) + story.ended
                stories += 1
                runs    += story.making
                pieces.append("\n\n")
                say("\n")
        except GateError:
            say("\n")
            emit(as_json, machine.gate(), [])
            raise
        figures = {**machine.gate(), **machine.figures(runs, passes)}
    seconds = time.monotonic() - begin
    emit(as_json, {"text": "".join(pieces).strip(), "made": made, "seconds": round(seconds, 1),
                   **figures}, [*figure_lines(figures), f"time        {seconds:.1f} s"])
