"""``terngen run``."""

from pathlib import Path

import click

from terngen.host.commands.options import (
    Multipliers,
    config_option,
    devices_option,
    json_option,
    models_argument,
    multiplier_option,
    seed_option,
    simulation_options,
    slots_option,
    temperature_option,
)

__all__ = ["run"]


@click.command()
@models_argument
@click.option("--prompt", default="", help="What the text begins with.")
@click.option("--tokens", type=click.IntRange(min=1), default=100, show_default=True,
              help="Tokens to make at most; the model may end the text earlier.")
@devices_option("golden", "sim", "serial", "mmap")
@temperature_option(0.0)
@click.option("--top-k", type=click.IntRange(min=1), metavar="N",
              help="Choose from the N best, at most those that the machine keeps.  [default: all]")
@seed_option(0)
@config_option
@slots_option
@multiplier_option
@simulation_options
@json_option
def run(models: tuple[Path, ...], prompt: str, tokens: int, devices: tuple[str, ...], temperature: float,
        top_k: int | None, seed: int, config: str | None, slots: int | None, sites: Multipliers | None,
        memory: str | None, waveform: str | None, as_json: bool) -> None:
    """Continue a text. It appears on stdout as it is made, the prompt first.

    With several devices each has a piece of the model: give its tapes in their order, or the checkpoint, which is cut.
    """
    import dataclasses
    import time

    from terngen.host.commands.console import emit, note, plural
    from terngen.host.commands.devices import computing, named, tapes_of
    from terngen.host.device import Counters
    from terngen.host.errors import ConfigError
    from terngen.host.sampling import Sampling
    from terngen.host.text import Language, Story

    tapes = tapes_of(models, devices, config=config, slots=slots, sites=sites)
    tape  = tapes[-1]
    if top_k is not None and top_k > tape.config.top_k:
        raise ConfigError(f"Top-k must be at most {tape.config.top_k}, the candidates that this "
                          f"machine keeps, not {top_k}")
    # What is wrong is said before a machine is compiled.
    Language.of_tape(tape).prompt(prompt)
    sampling = Sampling(temperature=temperature, top_k=top_k, seed=seed)
    sampling.check(tape.config)
    with computing(tapes, devices, memory=memory, waveform=waveform) as machine:
        story = Story(machine, prompt, sampling)
        begin = time.monotonic()
        if not as_json:
            click.echo(prompt, nl=False)
        pieces = []
        for piece in story.pieces(tokens):
            pieces.append(piece)
            if not as_json:
                click.echo(piece, nl=False)
        seconds = time.monotonic() - begin
        if not as_json:
            click.echo()
            note(f"{plural(len(story.tokens), 'token')} in {seconds:.1f} s")
        counters = {name: dataclasses.asdict(Counters.total(steps)) for name, steps in
                    (("reading", story.reading), ("making", story.making))}
        emit(as_json, {
            "prompt": prompt, "text": "".join(pieces), "prompt_tokens": story.prompt,
            "tokens": story.tokens, "ended": story.ended, "device": named(devices),
            "seconds": round(seconds, 3), "counters": counters}, [])
