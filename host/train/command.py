"""``terngen train``; PyTorch is imported only when the command runs."""

import json
from pathlib import Path

import click

__all__ = ["train"]

TEXT = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--text", type=TEXT, required=True, help="Plain ASCII text, one paragraph a line.")
@click.option("--valid", type=TEXT, required=True, help="Text of the same kind, measured only.")
@click.option("--hidden", type=int, required=True, help="Width of the model, a multiple of 16.")
@click.option("--layers", type=int, required=True)
@click.option("--intermediate", type=int, help="Width of the channel mixer.  [default: public rule]")
@click.option("--vocab", type=int, required=True, help="Tokens in the vocabulary.")
@click.option("--tokenizer", "tokenizer_file", type=TEXT, help="Use this tokenizer.json; do not learn one.")
@click.option("--steps", type=int, required=True)
@click.option("--batch", type=int, default=64, show_default=True, help="Streams a step.")
@click.option("--window", type=int, default=256, show_default=True, help="Tokens of a stream a step.")
@click.option("--rate", type=float, default=4e-3, show_default=True, help="Highest learning rate.")
@click.option("--weight-decay", type=float, default=0.1, show_default=True)
@click.option("--dropout", type=float, default=0.0, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="", help="PyTorch device.  [default: cuda where there is one]")
@click.option("--compile/--no-compile", "fused", default=None, help="[default: on a cuda device]")
@click.option("--every", type=click.IntRange(min=1), default=1000, show_default=True,
              help="Steps between lines of progress.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True,
              help="Folder of the checkpoint; must not exist yet.")
@click.option("--json", "as_json", is_flag=True, help="Print the final report as JSON on stdout.")
def train(text: Path, valid: Path, hidden: int, layers: int, intermediate: int | None, vocab: int,
          tokenizer_file: Path | None, steps: int, batch: int, window: int, rate: float,
          weight_decay: float, dropout: float, seed: int, device: str, fused: bool | None, every: int,
          output: Path, as_json: bool) -> None:
    """Train a MatMul-free language model and save it in the public checkpoint format.

    The same seed gives the same model on the same CPU; a GPU adds in an order of its own.
    """
    try:
        import torch
    except ImportError as error:
        raise click.ClickException("Training needs PyTorch, which is not installed; "
                                   "`pip install terngen[train]` installs it") from error
    from tokenizers import Tokenizer

    from terngen.host.train import recipe
    from terngen.host.train.model import ModelConfig

    if output.exists():
        raise click.ClickException(f"Output folder must not exist yet, but {output} does")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        config = ModelConfig(vocab_size=vocab, hidden_size=hidden, num_hidden_layers=layers,
                             intermediate_size=intermediate)
        schedule = recipe.Recipe(steps=steps, batch=batch, window=window, rate=rate,
                                 weight_decay=weight_decay, dropout=dropout, seed=seed)
        tokenizer = Tokenizer.from_file(str(tokenizer_file)) if tokenizer_file else None
        model, tokenizer, report = recipe.train(
            text.read_text("utf-8"), valid.read_text("utf-8"), config, schedule, tokenizer=tokenizer,
            device=device, fused=device.startswith("cuda") if fused is None else fused, every=every,
            say=lambda line: click.echo(line, err=True))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    recipe.save(output, model, tokenizer, report)
    click.echo(json.dumps(report) if as_json else
               f"{report['bits_per_byte']:.4f} bits per byte on {valid.name}; wrote {output}")


if __name__ == "__main__":
    train()
