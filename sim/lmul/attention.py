"""The error of an attention head with L-Mul products against float32."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from terngen.hw.contract import formats
from terngen.hw.contract.formats import EXACT, Codes, FloatFormat, Multiplier
from terngen.sim.golden.attention import attend, attend_float

__all__ = ["FORMATS", "MULTIPLIERS", "measure"]

FORMATS     = tuple(FloatFormat.parse(name) for name in ("e4m3", "e5m2", "e8m7"))
MULTIPLIERS = (EXACT, *(Multiplier(name) for name in ("lmul", "lmul-unbiased", "lmul-mitchell")))


def _dot(fmt: FloatFormat, a: Codes, b: Codes, multiplier: Multiplier) -> Any:
    """Dot products; those of exact products are exact as well."""
    if multiplier.is_exact:
        return (formats.to_float(fmt, a) * formats.to_float(fmt, b)).sum(-1) * 2.0**-formats.dot_format(fmt)[1]
    return formats.dot(fmt, a, b, multiplier)


def measure(*, heads: int = 4, tokens: int = 64, width: int = 64, sharpness: Iterable[float] = (1.0, 3.0),
            seed: int = 0) -> list[dict[str, Any]]:
    """Errors of causal heads whose queries, keys and values are normal.

    ``error`` is the root mean square of the difference of results from float32 by that of the results, ``moved`` the
    mean share of the weight of a query that lies on other keys, ``best`` the share of queries with the same best key.
    ``exact`` rounds operands and weights to the format but no product: that error is due to the format alone.

    Parameters
    ----------
    sharpness
        Standard deviation of the scores: 1 spreads the weights over many keys, 3 gives most to a few.
    """
    rows = []
    for sharp in sharpness:
        rng     = np.random.default_rng(seed)
        drawn   = rng.normal(size=(3, heads, tokens, width)) * np.sqrt([sharp, sharp, 1.0])[:, None, None, None]
        truth   = [attend_float(*(each[head] for each in drawn)) for head in range(heads)]
        results = np.stack([result for result, _ in truth])
        wanted  = np.stack([weights for _, weights in truth])
        for fmt in FORMATS:
            for multiplier in MULTIPLIERS:
                found   = [attend(fmt, *(each[head] for each in drawn), multiplier, dot=_dot) for head in range(heads)]
                error   = np.stack([result for result, _ in found]) - results
                weights = np.stack([weights for _, weights in found])
                rows.append({"sharpness": sharp, "format": str(fmt), "multiplier": str(multiplier),
                             "error": float(np.sqrt((error**2).mean() / (results**2).mean())),
                             "moved": float(np.abs(weights - wanted).sum(-1).mean() / 2),
                             "best": float((weights.argmax(-1) == wanted.argmax(-1)).mean())})
    return rows
