"""``terngen logits``."""

from pathlib import Path

import click

from terngen.host.commands.options import (
    Multipliers,
    config_option,
    devices_option,
    json_option,
    models_argument,
    multiplier_option,
    simulation_options,
    slots_option,
)

__all__ = ["logits"]


@click.command()
@models_argument
@click.option("--tokens", "tokens_file", type=click.Path(path_type=Path), required=True,
              help="A .npy file of int64, (T,) or (B, T).")
@click.option("--out", type=click.Path(path_type=Path), required=True,
              help="The .npy file to write: float32, (T, vocab) or (B, T, vocab).")
@devices_option("golden", "sim", "reference")
@config_option
@slots_option
@multiplier_option
@simulation_options
@json_option
def logits(models: tuple[Path, ...], tokens_file: Path, out: Path, devices: tuple[str, ...], config: str | None,
           slots: int | None, sites: Multipliers | None, memory: str | None, waveform: str | None,
           as_json: bool) -> None:
    """Logits after every token, each sequence from a zero state. Several devices are as for run."""
    import time

    from terngen.host.arrays import check_tokens, logits_file, read_tokens
    from terngen.host.commands.console import Progress, emit
    from terngen.host.commands.devices import named
    from terngen.host.commands.scoring import scorer

    tokens = read_tokens(tokens_file)
    source = scorer(models, devices, config=config, slots=slots, sites=sites, memory=memory, waveform=waveform)
    check_tokens(tokens, source.vocab)
    shape = (*tokens.shape, source.vocab)
    begin = time.monotonic()
    done  = 0
    with logits_file(out, shape) as write, source, Progress() as progress:
        for sequence in tokens.reshape(-1, tokens.shape[-1]).tolist():
            source.reset()
            for start in range(0, len(sequence), source.chunk):
                part = sequence[start:start + source.chunk]
                write(source.advance(part))
                done += len(part)
                progress("Computing logits", done, tokens.size)
    emit(as_json, {"out": str(out), "shape": list(shape), "dtype": "float32", "device": named(devices),
                   "tokens": tokens.size, "seconds": round(time.monotonic() - begin, 3)},
         [f"{out}: float32 {shape}"])
