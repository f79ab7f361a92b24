"""An attention head whose products are all L-Mul, by the dot product of :mod:`terngen.hw.contract.formats`.

The main result of Luo and Sun, "Addition is All You Need for Energy-efficient Language Models", arXiv 2410.00907, is
about attention. No machine here has it; this is an example of what the dot product is for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from terngen.hw.contract import formats
from terngen.hw.contract.formats import Codes, FloatFormat, Multiplier

__all__ = ["attend", "attend_float"]

Floats: TypeAlias = NDArray[np.float64]
Float32s: TypeAlias = NDArray[np.float32]

#: Weight of the best key, before they are divided by their sum: an 8-bit format has most of its range below it.
_BEST = 128.0


def attend_float(queries: ArrayLike, keys: ArrayLike, values: ArrayLike) -> tuple[Float32s, Float32s]:
    """Results and weights of a causal head in float32."""
    q, k, v = (np.asarray(each, np.float32) for each in (queries, keys, values))
    scores  = np.where(_later(len(q)), -np.inf, q @ k.T / np.float32(np.sqrt(q.shape[1])))
    weights = np.exp(scores - scores.max(-1, keepdims=True), dtype=np.float32)
    weights /= weights.sum(-1, keepdims=True)
    return weights @ v, weights


def attend(fmt: FloatFormat, queries: ArrayLike, keys: ArrayLike, values: ArrayLike, multiplier: Multiplier, *,
           dot: Callable[[FloatFormat, Codes, Codes, Multiplier], Codes | Floats] = formats.dot) -> tuple[
               Floats, Floats]:
    """Results and weights of a causal head with dot products of codes.

    1. Queries, keys and values are rounded to the format.
    2. ``score = dot(query, key) / sqrt(width)``.
    3. ``weight = 128 * exp(score - largest score)``, in float64, is rounded to the format; 0 for later keys.
    4. ``result = dot(weights, values) / dot(weights, ones)``: what a multiplier adds to each weight cancels.

    Exponential and division are nobody's product; they are those of float64.

    Parameters
    ----------
    queries, keys, values : float (tokens, width)
    dot
        What computes dot products: :func:`~terngen.hw.contract.formats.dot`, or gateware.

    Returns
    -------
    float64 (tokens, width), float64 (tokens, tokens)
        Results; weights as they were rounded, divided by their sum.
    """
    unit    = 2.0**formats.dot_format(fmt)[1]
    q, k, v = (formats.from_float(fmt, each) for each in (queries, keys, values))
    count, width = q.shape
    scores  = dot(fmt, q[:, None], k, multiplier) * (unit / np.sqrt(width))
    scores  = np.where(_later(count), -np.inf, scores)
    weights = formats.from_float(fmt, _BEST * np.exp(scores - scores.max(-1, keepdims=True)))
    columns = np.concatenate([v.T, np.full((1, count), fmt.one)])
    sums    = dot(fmt, weights[:, None], columns, multiplier) * unit
    shares  = formats.to_float(fmt, weights)
    return sums[:, :-1] / sums[:, -1:], shares / shares.sum(-1, keepdims=True)


def _later(count: int) -> NDArray[np.bool_]:
    """Whether a key comes after a query."""
    return np.triu(np.ones((count, count), bool), 1)
