"""What approximate products cost a model: machines with other multipliers beside the one of exact products."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from terngen.host.text import Encoded
from terngen.hw.contract import formats
from terngen.hw.contract.config import Sites
from terngen.hw.contract.tape import Tape
from terngen.sim.drawing import pyplot, save
from terngen.sim.fidelity import log_softmax
from terngen.sim.golden.sequence import Sequence as GoldenSequence

__all__ = ["PARTS", "Trace", "choices", "figures", "measure", "plot"]

#: Parts of a sequence that are told apart, to see drift.
PARTS = 8
#: Tokens at a time.
_CHUNK = 64


@dataclasses.dataclass(frozen=True)
class Trace:
    """A machine on a text, by position.

    Parameters
    ----------
    nats : ``(tokens,)``
        Cost of the token that follows.
    divergence : ``(tokens,)``
        Kullback-Leibler divergence from the machine with exact products, in nats.
    same : ``(tokens,)``
        Whether both find the same token best.
    state : ``(tokens,)``
        Largest magnitude in the recurrent state; the same for the tokens that were computed at a time.
    finite : :class:`bool`
        Whether all logits are.
    """

    nats:       np.ndarray
    divergence: np.ndarray
    same:       np.ndarray
    state:      np.ndarray
    finite:     bool


def choices(multipliers: Iterable[str], *, alone: bool) -> dict[str, Sites]:
    """Choices of products by name: each multiplier everywhere, and with `alone` at each site by itself."""
    found = {}
    for multiplier in multipliers:
        names = [multiplier]
        if alone:
            names += [f"{field.name}={multiplier}" for field in dataclasses.fields(Sites)]
        found |= {name: Sites.parse(name) for name in names}
    return found


def _play(tape: Tape, sites: Sites, tokens: Sequence[int]) -> Iterator[tuple[np.ndarray, float]]:
    """Logits of the next tokens, and the largest magnitude of the state behind them."""
    # A tape has no products in it, so it is that of every choice.
    config   = dataclasses.replace(tape.config, sites=sites)
    sequence = GoldenSequence(dataclasses.replace(tape, config=config), chunk=_CHUNK)
    for start in range(0, len(tokens), _CHUNK):
        logits = sequence.advance(tokens[start:start + _CHUNK])
        yield logits, float(np.abs(formats.to_float(config.path, sequence.machine.h[0])).max())


def measure(tape: Tape, text: Encoded, sites: Mapping[str, Sites],
            progress: Callable[[str, int, int], None] = lambda what, done, total: None) -> dict[str, Trace]:
    """Play a text on machines that differ in their products; the first is that of exact ones.

    Parameters
    ----------
    tape : :class:`Tape`
        The model.
    text : :class:`Encoded`
        Its last token is foretold only.
    sites : mapping to :class:`Sites`
        Products by name.
    """
    tokens, follow = text.tokens[:-1], np.array(text.tokens[1:])
    expected = np.empty((0, 0), np.float32)
    traces   = {}
    for name, chosen in {"exact": Sites(), **sites}.items():
        states: list[np.ndarray] = []
        kept = np.empty((len(tokens), tape.model["vocab_size"]), np.float32) if not traces else expected
        columns: dict[str, list[np.ndarray]] = {"nats": [], "divergence": [], "same": []}
        finite, done = True, 0
        for logits, state in _play(tape, chosen, tokens):
            place = slice(done, done + len(logits))
            if not traces:
                kept[place] = logits
            p, q   = log_softmax(kept[place].astype(np.float64)), log_softmax(logits.astype(np.float64))
            columns["nats"].append(-q[np.arange(len(q)), follow[place]])
            columns["divergence"].append((np.exp(p) * (p - q)).sum(axis=1))
            columns["same"].append(kept[place].argmax(axis=1) == logits.argmax(axis=1))
            states.append(np.full(len(logits), state))
            finite &= bool(np.isfinite(logits).all())
            done   += len(logits)
            progress(name, done, len(tokens))
        expected = kept
        traces[name] = Trace(*map(np.concatenate, columns.values()), np.concatenate(states), finite)
    return traces


def figures(traces: Mapping[str, Trace], octets: int) -> dict[str, dict[str, Any]]:
    """Figures of each machine on a text of so many octets."""
    exact = traces["exact"].nats.sum()
    found = {}
    for name, trace in traces.items():
        parts = [slice(int(part[0]), int(part[-1]) + 1)
                 for part in np.array_split(np.arange(len(trace.nats)), PARTS) if len(part)]
        found[name] = {
            "bits_per_byte": float(trace.nats.sum() / math.log(2) / octets),
            "more":          float((trace.nats.sum() - exact) / math.log(2) / octets),
            "divergence":    float(trace.divergence.mean()),
            "worst":         float(trace.divergence.max()),
            "agreement":     float(trace.same.mean()),
            "finite":        trace.finite,
            "state":         float(trace.state.max()),
            "by_position":   [{"first": part.start, "divergence": float(trace.divergence[part].mean()),
                               "agreement": float(trace.same[part].mean()),
                               "more_per_token": float((trace.nats - traces["exact"].nats)[part].mean() / math.log(2)),
                               "state": float(trace.state[part].max())} for part in parts],
        }
    return found


def plot(found: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw what each choice costs, and the drift of those that are everywhere.

    Raises
    ------
    ToolError
        If matplotlib is not installed.
    """
    names = [name for name in found if name != "exact"]
    size = 10, max(4, 0.28 * len(names))
    figure, (cost, drift, state) = pyplot().subplots(1, 3, figsize=size, layout="constrained")
    cost.barh(names, [found[name]["more"] for name in names])
    cost.invert_yaxis()
    cost.tick_params(labelsize=7)
    cost.set_xlabel("bits per byte more than exact")
    for name in ("exact", *(name for name in names if "=" not in name)):
        parts = found[name]["by_position"]
        first = [part["first"] for part in parts]
        if name != "exact":
            drift.semilogy(first, [part["divergence"] for part in parts], "o-", label=name)
        state.plot(first, [part["state"] for part in parts], "o-", label=name)
    drift.set_ylabel("KL from exact, nats")
    state.set_ylabel("largest magnitude of the state")
    state.set_ylim(bottom=0)
    for axes in (drift, state):
        axes.set_xlabel("position")
        axes.legend(fontsize=7)
    save(figure, path)
