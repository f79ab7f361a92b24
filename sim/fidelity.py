"""How near a machine comes to the model in float32, on a text.

``python -m terngen.sim.fidelity CHECKPOINT --text FILE`` prints it; docs/numerics.md has tables that
were made so.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import click
import numpy as np

from terngen.host import configs
from terngen.host.commands.console import Progress, emit, table
from terngen.host.compile import compile_tape
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.errors import DeviceError, InputError
from terngen.host.text import Encoded, Language, Surprise, read_text
from terngen.hw.contract.config import Config, Sites
from terngen.hw.contract.formats import FloatFormat
from terngen.hw.contract.tape import Tape
from terngen.sim.golden.reference import Reference
from terngen.sim.golden.sequence import Sequence as GoldenSequence

__all__ = ["Fidelity", "encoded", "golden_logits", "log_softmax", "reference_logits"]

#: Tokens at a time.
_CHUNK = 64


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """Logits of a machine beside those of the reference.

    Parameters
    ----------
    positions : :class:`int`
        Tokens after which logits were compared.
    agreement : :class:`float`
        Share of the positions at which the best token is the same.
    divergence : :class:`float`
        Kullback-Leibler divergence of the machine from the reference in nats, mean over positions.
    worst : :class:`float`
        The largest of those.
    error : :class:`float`
        Root mean square of the difference of logits.
    gap : :class:`float`
        Where the best token is another one: by how much the reference prefers its own to its second at
        most; 0 if there is no such place.
    """

    positions:  int
    agreement:  float
    divergence: float
    worst:      float
    error:      float
    gap:        float

    @classmethod
    def of(cls, reference: np.ndarray, logits: np.ndarray) -> Self:
        """Compare logits, ``(positions, vocab)`` both."""
        reference, logits = reference.astype(np.float64), logits.astype(np.float64)
        p, q = log_softmax(reference), log_softmax(logits)
        divergences = (np.exp(p) * (p - q)).sum(axis=1)
        second, best = np.partition(reference, -2, axis=1)[:, -2:].T
        other = reference.argmax(axis=1) != logits.argmax(axis=1)
        return cls(positions  = len(reference),
                   agreement  = float(1 - other.mean()),
                   divergence = float(divergences.mean()),
                   worst      = float(divergences.max()),
                   error      = float(np.sqrt(((reference - logits)**2).mean())),
                   gap        = float((best - second)[other].max(initial=0)))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities, over the last axis of two."""
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def encoded(checkpoint: Checkpoint, text: str) -> Encoded:
    """A text as tokens; its octets where a checkpoint has no tokenizer.

    Octets that are not in the vocabulary are left out.
    """
    if checkpoint.tokenizer is not None:
        return Language.of_checkpoint(checkpoint).encode(text)
    tokens = [octet for octet in text.encode() if octet < checkpoint.geometry.vocab_size]
    return Encoded(tokens, list(range(1, len(tokens) + 1)))


def reference_logits(checkpoint: Checkpoint, tokens: Sequence[int]) -> np.ndarray:
    """Logits after each token in float32, ``(tokens, vocab)``."""
    return Reference(checkpoint).forward(np.asarray(tokens))


def golden_logits(checkpoint: Checkpoint, config: Config, tokens: Sequence[int],
                  progress: Callable[[int], None] = lambda done: None) -> np.ndarray:
    """Logits after each token on the golden machine, ``(tokens, vocab)``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tape")
        compile_tape(checkpoint, config, path)
        sequence = GoldenSequence(Tape.open(path), chunk=_CHUNK)
        parts    = []
        for start in range(0, len(tokens), _CHUNK):
            parts.append(sequence.advance(tokens[start:start + _CHUNK]))
            progress(start)
    return np.concatenate(parts)


def _bits_per_byte(text: Encoded, logits: np.ndarray) -> float:
    surprise = Surprise(text, limit=len(logits) - 1)
    while part := surprise.due(_CHUNK):
        surprise.add(logits[surprise.tokens:surprise.tokens + len(part)])
    return surprise.bits_per_byte


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--text", "text_file", type=click.Path(path_type=Path), required=True,
              help="Text in UTF-8, read as one sequence.")
@click.option("--tokens", type=click.IntRange(min=2), help="Stop after so many tokens.")
@click.option("--config", default=configs.DEFAULT, show_default=True, help="Machine.")
@click.option("--path", "paths", multiple=True, help="Format of the element-wise path; may be repeated.")
@click.option("--sites", "choices", multiple=True,
              help="Multipliers, like lmul or recurrence=lmul,gate=lmul; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def main(checkpoint: Path, text_file: Path, tokens: int | None, config: str, paths: tuple[str, ...],
         choices: tuple[str, ...], as_json: bool) -> None:
    """How near machines come to the model in float32, on a text."""
    try:
        model = Checkpoint.open(checkpoint)
        text  = encoded(model, read_text(text_file))
        if tokens is not None:
            text = Encoded(text.tokens[:tokens], text.octets[:tokens])
        if len(text.tokens) < 2:
            raise InputError(f"Text {text_file} must have at least two tokens")
        reference = reference_logits(model, text.tokens)
        plain     = configs.model_config(model.geometry, config)
        rows: dict[str, dict[str, Any]] = {}
        with Progress() as progress:
            for path in paths or [str(plain.path)]:
                for choice in choices or ["exact"]:
                    machine = dataclasses.replace(plain, path=FloatFormat.parse(path),
                                                  sites=Sites.parse(choice))
                    name    = f"{path} {choice}"
                    logits  = golden_logits(
                        model, machine, text.tokens,
                        lambda done, name=name: progress(name, done, len(text.tokens)))   # type: ignore[misc]
                    rows[name] = {
                        **dataclasses.asdict(Fidelity.of(reference, logits)),
                        "bits_per_byte": _bits_per_byte(text, logits)}
    except (DeviceError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    bits = _bits_per_byte(text, reference)
    emit(as_json, {"positions": len(text.tokens), "reference_bits_per_byte": bits, "machines": rows},
         _lines(len(text.tokens), bits, rows))


def _lines(positions: int, bits: float, rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield f"{positions} positions, reference {bits:.4f} bits per byte"
    yield ""
    yield from table([("machine", "best token", "KL", "worst KL", "error", "gap", "bits per byte"), *(
        (name, f"{100 * row['agreement']:.2f} %", f"{row['divergence']:.2e}", f"{row['worst']:.2e}",
         f"{row['error']:.4f}", f"{row['gap']:.3f}", f"{row['bits_per_byte']:.4f}")
        for name, row in rows.items())])


if __name__ == "__main__":
    main(prog_name="python -m terngen.sim.fidelity")
