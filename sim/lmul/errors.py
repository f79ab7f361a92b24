"""Errors of L-Mul, and the comparison with 8-bit products of Luo and Sun (arXiv 2410.00907, section 2.3.1)."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terngen.hw.contract import formats
from terngen.hw.contract.formats import EXACT, LMUL, FloatFormat, Multiplier
from terngen.sim.drawing import pyplot, save

__all__ = ["BITS", "FORMS", "POLICIES", "compare", "draw", "estimates", "table"]

#: Mantissas that are measured.
BITS = range(2, 11)
#: The two functions: packed fields are added, or the formula is computed as it is printed.
FORMS = {"added": formats.multiply, "printed": formats.multiply_literal}
POLICIES = tuple(Multiplier(name) for name in ("lmul", "lmul-unbiased", "lmul-mitchell"))

Floats = NDArray[np.float64]


def table(policies: Iterable[Multiplier] = POLICIES) -> list[dict[str, Any]]:
    """Relative errors over all pairs of mantissas: ``mean`` of their size, ``bias``, ``rms``, ``low`` and ``high``.

    Results are rounded to the format, as the units do. Among the rows is the exact product, which is rounded as well.

    Raises
    ------
    ValueError
        If the offset of a policy does not fit a mantissa.
    """
    rows = []
    for bits in BITS:
        fmt    = FloatFormat(5, bits)
        codes  = fmt.one + np.arange(1 << bits)
        values = formats.to_float(fmt, codes)
        for form, function in FORMS.items():
            for policy in [EXACT, *policies] if form == "added" else policies:
                products = formats.to_float(fmt, function(fmt, codes[:, None], codes, policy))
                error    = products / np.outer(values, values) - 1
                rows.append({"bits": bits, "form": form, "policy": str(policy), "mean": np.abs(error).mean(),
                             "bias": error.mean(), "rms": np.sqrt((error**2).mean()), "low": error.min(),
                             "high": error.max()})
    return [{key: float(value) if isinstance(value, np.floating) else value for key, value in row.items()}
            for row in rows]


# The paper's comparison. Numbers have as many bits as float64 here; operands are cut or rounded to a few bits, and
# nothing is done to the result.

#: Pairs of operands that are drawn.
_PAIRS = 1 << 20
#: Bits of the operands of L-Mul, and of those of the products: e5m2 has 2 of mantissa, e4m3 has 3.
_LMUL_BITS, _PRODUCT_BITS = (2, 3, 4, 5, 6), {"e5m2": 2, "e4m3": 3}


def estimates(bits: int, full: int = 52) -> tuple[float, float]:
    """The paper's f1 and f2: mean error of a product, and of an L-Mul, of operands cut from `full` to a few bits.

    For mantissas that are evenly distributed, in units of the product's power of two. The L-Mul is the printed one.
    """
    kept, rest = (1 - 2.0**-bits) / 2, (2.0**-bits - 2.0**-full) / 2
    product    = 2 * kept * rest + 2 * rest + rest**2
    return product, product + kept**2 - _offset(bits)


def compare(weights: Floats | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """Errors of products of 8-bit floats and of L-Mul with operands of a few bits, for some distributions of operands.

    ``even`` has mantissas that are evenly distributed, ``normal`` values that are; ``weights`` are drawn from what is
    given. ``mean`` is the mean error (not of its size) in units of the mean power of two, as in the paper, ``rms`` the
    root mean square in units of that of the exact products.
    """
    rng    = np.random.default_rng(seed)
    drawn: dict[str, Callable[[], Floats]] = {"even": lambda: 1 + rng.random(_PAIRS),
                                              "normal": lambda: rng.normal(size=_PAIRS)}
    if weights is not None:
        drawn["weights"] = lambda: rng.choice(weights, _PAIRS)
    rows = []
    for name, draw_ in drawn.items():
        x, y  = draw_(), draw_()
        exact = x * y
        scale = (_power(x) * _power(y)).mean()
        for how, narrow in (("cut", _cut), ("rounded", _round)):
            results = {(each, bits): narrow(x, bits) * narrow(y, bits) for each, bits in _PRODUCT_BITS.items()}
            for form, function in (("added", _added), ("printed", _printed)):
                results |= {(f"lmul, {form}", bits): function(narrow(x, bits), narrow(y, bits), _offset(bits))
                            for bits in _LMUL_BITS}
            for (product, bits), result in results.items():
                error = np.abs(exact) - np.abs(result)
                rows.append({"operands": name, "how": how, "product": product, "bits": bits,
                             "mean": float(error.mean() / scale),
                             "rms": float(np.sqrt((error**2).mean() / (exact**2).mean()))})
    return rows


def _offset(bits: int) -> float:
    """That of the paper."""
    return LMUL.offset(FloatFormat(5, bits)) / (1 << bits)


def _power(values: Floats) -> Floats:
    """The power of two at or below the size of each value."""
    return np.ldexp(0.5, np.frexp(values)[1])


def _cut(values: Floats, bits: int) -> Floats:
    step = _power(values) / (1 << bits)
    return np.trunc(values / step) * step


def _round(values: Floats, bits: int) -> Floats:
    step = _power(values) / (1 << bits)
    return np.rint(values / step) * step


def _printed(x: Floats, y: Floats, offset: float) -> Floats:
    a, b = _power(x), _power(y)
    return (np.abs(x) / a + np.abs(y) / b - 1 + offset) * a * b


def _added(x: Floats, y: Floats, offset: float) -> Floats:
    a, b  = _power(x), _power(y)
    total = np.abs(x) / a + np.abs(y) / b - 2 + offset
    whole = np.floor(total)
    return np.ldexp((1 + total - whole) * a * b, whole.astype(int))


def draw(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Plot a table of errors over the bits of the mantissa.

    Raises
    ------
    ToolError
        If matplotlib is missing.
    """
    lines: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault((row["form"], row["policy"]), []).append(row)
    figure, axes = pyplot().subplots(1, 3, figsize=(11, 4), layout="constrained", sharex=True)
    for side, (title, figure_of) in zip(axes, {
            "mean size": lambda row: row["mean"], "bias": lambda row: row["bias"],
            "largest":   lambda row: max(-row["low"], row["high"])}.items()):
        for place, ((form, policy), each) in enumerate(lines.items()):
            side.plot([row["bits"] for row in each], [100 * figure_of(row) for row in each],
                      "--" if form == "printed" else "-", marker=".", color=f"C{place % len(lines)}",
                      label=policy if policy == EXACT.policy else f"{policy}, {form}")
        side.set_title(f"{title}, %")
        side.set_xlabel("bits of mantissa")
    axes[0].legend(fontsize=7)
    save(figure, path)
