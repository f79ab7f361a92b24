"""The tables of ``docs/lmul.md`` that tell of products, from its stored figures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from terngen.sim.lmul.area import NAMES, UNITS
from terngen.sim.lmul.errors import BITS, FORMS, POLICIES
from terngen.sim.performance import fill

__all__ = ["COMMANDS", "page"]

#: Commands whose figures the page has, by name.
COMMANDS = {
    "errors":    "lmul errors --model models/fairy-5m",
    "attention": "lmul attention",
    "area":      "lmul area",
}


def page(text: str, stored: Mapping[str, Any]) -> str:
    """A page whose tables say what the figures say."""
    for form in FORMS:
        text = fill(text, f"errors {form}", _errors(stored["errors"]["errors"], form))
    text = fill(text, "estimates", _estimates(stored["errors"]))
    text = fill(text, "comparison", _comparison(stored["errors"]["comparison"]))
    text = fill(text, "attention", _attention(stored["attention"]["rows"]))
    text = fill(text, "area", _area(stored["area"]["rows"]))
    return fill(text, "gates", _gates(stored["area"]["gates"]))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}",
            *(f"| {' | '.join(row)} |" for row in rows)]


def _percent(value: float, digits: int = 1, sign: str = "") -> str:
    # Without a zero that has a sign.
    return f"{round(100 * value, digits) + 0.0:{sign}.{digits}f} %"


def _errors(rows: Iterable[Mapping[str, Any]], form: str) -> list[str]:
    found    = {(row["bits"], row["policy"]): row for row in rows if row["form"] == form}
    policies = [str(policy) for policy in POLICIES]
    exact    = form == "added"
    head     = ["bits", *(f"`{policy}`: {what}" for policy in policies for what in ("mean", "bias", "largest")),
                *(["`exact`: mean"] if exact else [])]
    return _table(head, (
        [str(bits), *(cell for policy in policies for row in [found[bits, policy]] for cell in (
            _percent(row["mean"]), _percent(row["bias"], sign="+"), _percent(max(-row["low"], row["high"])))),
         *([_percent(found[bits, "exact"]["mean"])] if exact else [])] for bits in BITS))


def _estimates(stored: Mapping[str, Any]) -> list[str]:
    drawn = {(row["product"], row["bits"]): row["mean"] for row in stored["comparison"]
             if row["operands"] == "even" and row["how"] == "cut"}
    names = {2: "e5m2", 3: "e4m3"}
    head  = ["bits kept", "product, f1", "drawn", "L-Mul as printed, f2", "drawn", "L-Mul as an addition, drawn"]
    return _table(head, (
        [str(bits), f"{row['product']:.3f}", f"{drawn[names[bits], bits]:.3f}" if bits in names else "",
         f"{row['lmul']:.3f}", f"{drawn['lmul, printed', bits]:.3f}", f"{drawn['lmul, added', bits]:.3f}"]
        for row in stored["estimates"] for bits in [row["bits"]] if ("lmul, added", bits) in drawn))


def _comparison(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    found    = {(row["product"], row["bits"], row["operands"], row["how"]): row["rms"] for row in rows}
    products = list(dict.fromkeys((product, bits) for product, bits, _, _ in found))
    columns  = list(dict.fromkeys((operands, how) for _, _, operands, how in found))
    return _table(["product", "bits", *(f"{operands}, {how}" for operands, how in columns)], (
        [product if product.startswith("lmul") else f"**{product}**", str(bits),
         *(_percent(found[product, bits, *column]) for column in columns)] for product, bits in products))


def _attention(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    found  = {(row["format"], row["multiplier"], row["sharpness"]): row for row in rows}
    sharps = list(dict.fromkeys(sharp for *_, sharp in found))
    what   = {"error": "error", "moved": "weight moved", "best": "same best key"}
    head   = ["format", "products", *(f"{shown}, scores ± {sharp:g}" for sharp in sharps for shown in what.values())]
    return _table(head, (
        [fmt, f"`{multiplier}`", *(_percent(found[fmt, multiplier, sharp][key]) for sharp in sharps for key in what)]
        for fmt, multiplier in dict.fromkeys((fmt, multiplier) for fmt, multiplier, _ in found)))


def _area(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    found = {(row["format"], row["unit"]): row for row in rows}
    return _table(["format", "unit", "cycles", "LUT4", "exact by it", "flip-flops", "MHz", "LUT6", "exact by it",
                   "gates", "exact by it"], (
        [f"{fmt} ({NAMES[fmt]})" if fmt in NAMES else fmt, f"`{unit}`", str(row["latency"]),
         str(row["ecp5_luts"]), _ratio(found, fmt, unit, "ecp5_luts"), str(row["ecp5_ffs"]), f"{row['ecp5_mhz']:.0f}",
         str(row["xc7_luts"]), _ratio(found, fmt, unit, "xc7_luts"), str(row["gates"]),
         _ratio(found, fmt, unit, "gates")]
        for fmt in dict.fromkeys(fmt for fmt, _ in found) for unit in UNITS for row in [found[fmt, unit]]))


def _ratio(found: Mapping[tuple[str, str], Mapping[str, Any]], fmt: str, unit: str, key: str) -> str:
    return "" if unit in ("exact", "dot") else f"{found[fmt, 'exact'][key] / found[fmt, unit][key]:.1f}"


def _gates(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    ways = {"stated": "stated", "rules": "what gives it", "text": "by its text", "array": "whole array",
            "bare_weighted": "Yosys, as little", "full_weighted": "Yosys, whole unit"}
    return _table(["format", *ways.values()], (
        [row["format"], *(f"{pair[0]} : {pair[1]} = {pair[0] / pair[1]:.1f}" if (pair := row[way]) else ""
                          for way in ways)] for row in rows))
