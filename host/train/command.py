"""``terngen train``; PyTorch is imported only when the command runs."""

from pathlib import Path

import click

__all__ = ["train"]

PATH = click.Path(path_type=Path)


@click.command()
@click.option("--text", "texts", type=PATH, required=True, multiple=True,
              help="Plain ASCII text, one paragraph a line; may be given several times.")
@click.option("--valid", type=PATH, required=True, help="Text of the same kind, measured only.")
@click.option("--hidden", type=int, required=True, help="Width of the model, a multiple of 16.")
@click.option("--layers", type=int, required=True)
@click.option("--intermediate", type=int, help="Width of the channel mixer.  [default: public rule]")
@click.option("--vocab", type=int, required=True,
              help="Tokens in the vocabulary, every ASCII octet among them.")
@click.option("--tokenizer", "tokenizer_file", type=PATH,
              help="Use this tokenizer.json; do not learn one.")
@click.option("--start", "start_folder", type=PATH, metavar="CKPT",
              help="Begin with the weights of this checkpoint, and use its tokenizer.")
@click.option("--steps", type=int, required=True)
@click.option("--batch", type=int, default=64, show_default=True, help="Streams a step.")
@click.option("--window", type=int, default=256, show_default=True, help="Tokens of a stream a step.")
@click.option("--rate", type=float, default=4e-3, show_default=True, help="Highest learning rate.")
@click.option("--weight-decay", type=float, default=0.1, show_default=True)
@click.option("--dropout", type=float, default=0.0, show_default=True)
@click.option("--multiplier", metavar="NAME",
              help="Compute the forward pass as a machine with this multiplier does: exact, lmul, lmul-mitchell, "
                   "lmul-unbiased or lmul-<offset>.  [default: in float32]")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--device", default="", help="PyTorch device.  [default: cuda where there is one]")
@click.option("--compile/--no-compile", "fused", default=None, help="[default: on a cuda device]")
@click.option("--every", type=click.IntRange(min=1), default=1000, show_default=True,
              help="Steps between lines of progress.")
@click.option("--state", type=PATH,
              help="Keep the run in this file at every line of progress, and go on from it if it exists; "
                   "it is removed at the end.")
@click.option("-o", "--output", type=PATH, required=True,
              help="Folder of the checkpoint; must not exist yet.")
@click.option("--json", "as_json", is_flag=True, help="Print the final report as JSON on stdout.")
def train(texts: tuple[Path, ...], valid: Path, hidden: int, layers: int, intermediate: int | None,
          vocab: int, tokenizer_file: Path | None, start_folder: Path | None, steps: int, batch: int, window: int,
          rate: float,
          weight_decay: float, dropout: float, multiplier: str | None, seed: int, device: str, fused: bool | None,
          every: int,
          state: Path | None, output: Path, as_json: bool) -> None:
    """Train a MatMul-free language model and save it in the public checkpoint format.

    The same seed gives the same model on the same CPU; a GPU adds in an order of its own.
    """
    from terngen.host.commands.console import emit, note
    from terngen.host.convert.checkpoint import Checkpoint
    from terngen.host.errors import OutputError, ToolError
    from terngen.host.files import output_folder, read_text
    from terngen.host.train import data
    from terngen.host.train.settings import ModelConfig, Recipe

    try:
        config = ModelConfig(vocab_size=vocab, hidden_size=hidden, num_hidden_layers=layers,
                             intermediate_size=intermediate)
        schedule = Recipe(steps=steps, batch=batch, window=window, rate=rate, dropout=dropout,
                          weight_decay=weight_decay, multiplier=multiplier, seed=seed)
        data.check_vocab(vocab)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if output.exists():
        raise OutputError(f"Output folder must not exist yet, but {output} does")

    parts = [read_text(path) for path in texts]
    for path, part in zip(texts, parts):
        data.check_text(part, f"Text {path}")
    whole = "".join(part if part.endswith("\n") else part + "\n" for part in parts)
    data.check_length(len(whole), batch, window, "octets")
    measured = read_text(valid)
    data.check_text(measured, f"Text {valid}")
    start     = Checkpoint.open(start_folder) if start_folder is not None else None
    if tokenizer_file is None and start is not None:
        tokenizer_file = start.tokenizer
    tokenizer = data.read_tokenizer(tokenizer_file) if tokenizer_file is not None else None

    try:
        import torch
    except ImportError as error:
        raise ToolError("Training needs PyTorch, which is not installed; "
                        "`pip install 'terngen[train]'` installs it") from error
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ToolError(f"PyTorch cannot compute on device {device!r}: "
                        f"{str(error).splitlines()[0]}") from error
    from terngen.host.train import recipe

    # Opened before the work, so that a place that cannot be written is known at once.
    with output_folder(output) as folder:
        model, tokenizer, report = recipe.train(
            whole, measured, config, schedule, tokenizer=tokenizer, start=start, device=device, every=every,
            fused=device.startswith("cuda") if fused is None else fused,
            state=state, say=note)
        complete = folder / "complete"
        complete.mkdir()
        recipe.save(complete, model, tokenizer, report)
        complete.rename(output)
    if state is not None:
        state.unlink(missing_ok=True)
    emit(as_json, report,
         [f"{report['bits_per_byte']:.4f} bits per byte on {valid.name}; wrote {output}"])
