"""What each kind of result says on the page."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from terngen.host.report.svg import Bar, Panel, bars, plot

__all__ = ["KINDS", "OTHER", "Kind", "kind_of", "table"]

#: Rows of a table of something that has no section of its own.
_ROWS  = 100
_CELLS = {"lut": "look-up tables", "ff": "flip-flops", "bram": "block RAMs", "dsp": "multipliers"}


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A table; what is in it is text."""
    def row(tag: str, cells: Sequence[object]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"
    return (f'<div class="wide"><table><thead>{row("th", head)}</thead><tbody>'
            + "".join(row("td", cells) for cells in rows) + "</tbody></table></div>")


def _line(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _share(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


# Speed.

def _roofline(found: Mapping[str, Any], name: str) -> str:
    """Products against bytes of the tape: the machine under what memory and array could do."""
    weights, cycles, octets = found["ternary_weights"] * found["slots"], found["cycles_per_token"], \
        found["tape_bytes_per_token"]
    array, peak = found["products_per_cycle"], found["peak_bytes_per_cycle"]
    ridge, own  = array / peak, weights / octets
    low, high   = min(ridge, own) / 4, max(ridge, own) * 4
    roof        = [(low, low * peak), (ridge, array), (high, array)]
    return (plot("Roofline", [Panel("ternary products for a byte of the tape", "ternary products in a cycle",
                                    {name: [(own, weights / cycles)]}, [roof])])
            + _line(f"The memory gives {peak:g} bytes in a cycle, the array takes {array:,} products. "
                    f"{own:.2f} products for a byte allow {min(array, own * peak):,.1f} in a cycle; "
                    f"{weights / cycles:,.1f} were {name}, head and embedding included."))


def _bench(found: Mapping[str, Any]) -> Iterator[str]:
    yield _line(f"Gate: {found['gate']}, {found['values_compared']:,} values compared with the golden machine, "
                f"{found['mismatches']:,} differ.")
    if found["gate"] != "pass":
        first = found["first"]
        yield table(list(first), [list(first.values())])
        return
    if "pieces" in found:
        yield _line(f"{found['tokens']} tokens on {found['slots']} slots took {found['cycles_per_token']:,.0f} cycles "
                    f"each, on all machines together.")
        yield table(("piece", "cycles for a token", "bytes of tape", "attainment"), [
            (place, f"{piece['cycles_per_token']:,.0f}", f"{piece['tape_bytes_per_token']:,.0f}",
             _share(piece["attainment"], 2)) for place, piece in enumerate(found["pieces"], 1)])
        return
    yield table(("tokens", "slots", "cycles for a token", "bytes of tape", "attainment"), [
        (found["tokens"], found["slots"], f"{found['cycles_per_token']:,.0f}", f"{found['tape_bytes_per_token']:,.0f}",
         _share(found["attainment"], 2))])
    yield _roofline(found, "measured")
    cycles = found["cycles_per_token"]
    waits  = {"tape": "for the tape", "array": "for the array", "vector": "for the vector unit"}
    counts = {what: found[f"stall_{name}_per_token"] for name, what in waits.items()}
    counts = {"beats, and control": cycles - sum(counts.values()), **counts}
    yield bars("Cycles of a token, measured", ["cycles"], [
        Bar(what, [count], f"{count:,.0f}, {_share(count / cycles)}") for what, count in counts.items()])
    if "prompt_tokens" in found:
        yield _line(f"A prompt of {found['prompt_tokens']} tokens took {found['cycles_per_prompt_token']:,.0f} cycles "
                    f"for each, {found['prompt_speedup']:.2f} times as fast as one by one.")


def _estimate(found: Mapping[str, Any]) -> Iterator[str]:
    yield table(("array", "beat", "rows", "lanes", "slots", "cycles for a token", "attainment", "bits per weight",
                 "clock", "tokens per second"), [
        (found["variant"], found["beat_bits"], found["row_lanes"], found["lanes"], found["slots"],
         f"{found['cycles_per_token']:,}", _share(found["attainment"], 2), f"{found['bits_per_weight']:.4f}",
         f"{found['clock_mhz']:g} MHz", f"{found['tokens_per_second']:,.1f}")])
    yield _roofline(found, "estimated")
    spent = sorted(found["descriptors"].items(), key=lambda entry: -sum(entry[1].values()))
    total = sum(sum(row.values()) for _, row in spent)
    yield "<h3>Cycles by descriptor</h3>"
    yield bars("Cycles by descriptor", ["beats taken", "waiting"], [
        Bar(op, [row["beats"], row["waits"]], f"{sum(row.values()):,}, {_share(sum(row.values()) / total)}")
        for op, row in spent])
    yield table(list(_CELLS.values()), [[_count(found[name]) for name in _CELLS]])


def _estimate_pieces(found: Mapping[str, Any]) -> Iterator[str]:
    yield _line(f"{len(found['pieces'])} machines at {found['clock_mhz']:g} MHz, between two of which a hop takes "
                f"{found['hop_seconds'] * 1e3:.3g} ms. A text alone: {found['latency_seconds'] * 1e3:.4g} ms for a "
                f"token, {found['tokens_per_second_alone']:,.1f} tokens per second; on {found['slots']} slots "
                f"{found['tokens_per_second']:,.1f}; of a prompt {found['prompt_tokens_per_second']:,.1f}.")
    yield table(("piece", "layers", "bytes of tape", "cycles", *_CELLS.values()), [
        (place, f"{piece['layers'][0]} to {piece['layers'][1] - 1}", f"{piece['tape_bytes']:,}",
         f"{piece['cycles_alone']:,}", *(_count(piece[name]) for name in _CELLS))
        for place, piece in enumerate(found["pieces"], 1)])


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


# Resources.

def _build(found: Mapping[str, Any]) -> Iterator[str]:
    yield _line(f"{found['board']}, {found['device']}: timing is "
                f"{'met' if all(clock['met'] for clock in found['clocks']) else 'missed'}.")
    cells, there, guess = found["cells"], found["available"], found.get("estimated", {})
    yield bars("Cells of the device", ["used"], [
        Bar(what, [cells.get(name, 0) / there[name]], f"{_share(cells.get(name, 0) / there[name])} of {there[name]:,}")
        for name, what in _CELLS.items()], limit=1.0)
    kinds = [[what, f"{cells.get(name, 0):,}", f"{there[name]:,}", _count(guess.get(name)),
              f"{guess[name] / cells[name]:.3f}" if name in guess and cells.get(name) else ""]
             for name, what in _CELLS.items()]
    head  = ("cells", "used", "available", "estimated", "estimate by used")
    yield table(head, kinds) if guess else table(head[:3], [row[:3] for row in kinds])
    yield "<h3>Timing</h3>"
    yield table(("clock", "wanted, MHz", "achieved, MHz", ""), [
        (clock["name"], f"{clock['wanted']:.1f}", f"{clock['achieved']:.1f}", "met" if clock["met"] else "missed")
        for clock in found["clocks"]])
    if path := found.get("path"):
        yield bars("Worst path, nanoseconds", ["ns"], [Bar(str(name)[:28], [ns], f"{ns:.2f} ns") for ns, name in path])
    if modules := found.get("modules"):
        yield "<h3>Cells by part</h3>"
        rows = sorted(modules.items(), key=lambda entry: -entry[1].get("lut", 0))
        yield table(("part", *_CELLS.values()), [
            (part, *(f"{row.get(name, 0):,}" for name in _CELLS)) for part, row in rows])


def _synth(found: Mapping[str, Any]) -> Iterator[str]:
    yield table(("component", "target", "look-up tables", "flip-flops", "block RAMs", "multipliers", "clock"), [
        (found["component"], found["target"], *(f"{found[name]:,}" for name in ("luts", "ffs", "block_rams", "dsps")),
         f"{found['mhz']:.1f} MHz" if "mhz" in found else "")])


# The model.

def _layer(name: str) -> str:
    """Section of the tape in which a tensor is."""
    parts = name.split(".")
    return f"layer.{parts[2]}" if parts[:2] == ["model", "layers"] else "embedding" if "embed" in name else "head"


def _convert(found: Mapping[str, Any]) -> Iterator[str]:
    yield _line(f"{found['ternary_weights']:,} ternary weights in {found['tape_bytes']:,} bytes, "
                f"{found['bits_per_weight']:.4f} bits for each of what is played.")
    ternary = {name: row for name, row in found["tensors"].items() if "zero_fraction" in row}
    calibration = found.get("calibration", {})
    lost    = calibration.get("saturated", {})
    rows    = []
    for section in found["sections"]:
        zeros  = [row["zero_fraction"] for name, row in ternary.items() if _layer(name) == section]
        scales = [row["scale"] for name, row in ternary.items() if _layer(name) == section]
        counts = lost.get(section, {})
        rows.append((section, f"{found['sections'][section]:,}", len(zeros),
                     f"{_share(min(zeros))} to {_share(max(zeros))}" if zeros else "",
                     f"{min(scales):.4g} to {max(scales):.4g}" if scales else "",
                     (sum(counts.values()) if calibration else ""),
                     ", ".join(f"{site} {count:,} times" for site, count in counts.items())))
    yield "<h3>Quantisation and saturation by layer</h3>"
    yield table(("section", "bytes", "ternary matrices", "zeros", "scales", "floats saturated", "where"), rows)
    yield "<h3>Ternary matrices</h3>"
    yield table(("tensor", "shape", "zeros", "scale"), [
        (name, " x ".join(map(str, row["shape"])), _share(row["zero_fraction"], 2), f"{row['scale']:.6g}")
        for name, row in ternary.items()])
    if calibration:
        yield "<h3>Sites</h3>"
        yield _line(f"{calibration['tokens']} tokens of {calibration['source']}. Codes at the end of int8 count as "
                    f"saturated: one in each vector is there by design.")
        yield table(("site", "values", "saturated", "zero", "largest"), [
            (site, f"{row['values']:,}", f"{row['saturated']:,}", f"{row['zero']:,}", f"{row['largest']:.5g}")
            for site, row in calibration["sites"].items()])


def _convert_pieces(found: Mapping[str, Any]) -> Iterator[str]:
    for piece in found["pieces"]:
        yield f"<h3>{escape(piece['tape'])}</h3>"
        yield from _convert(piece)


def _perplexity(found: Mapping[str, Any]) -> Iterator[str]:
    yield table(("device", "bits per byte", "nats per token", "tokens", "bytes"), [
        (found["device"], f"{found['bits_per_byte']:.4f}", f"{found['nats_per_token']:.4f}", f"{found['tokens']:,}",
         f"{found['bytes']:,}")])


def _accuracy(found: Mapping[str, Any]) -> Iterator[str]:
    yield _line(f"{found['tokens']:,} tokens, {found['bytes']:,} bytes.")
    yield table(("products", "bits per byte", "more", "KL, mean", "KL, worst", "same best token", "largest state"), [
        (name, f"{row['bits_per_byte']:.4f}", f"{row['more']:+.4f}", f"{row['divergence']:.2e}", f"{row['worst']:.2e}",
         _share(row["agreement"], 2), f"{row['state']:.2f}") for name, row in found["machines"].items()])


def _energy(found: Mapping[str, Any]) -> Iterator[str]:
    yield _line(f"By published figures of operations alone: {found['source']}.")
    yield bars("Microjoules for a token, without memory", ["matrices", "products", "additions"], [
        Bar(name, [row["matrices_pj"] / 1e6, row["products_pj"] / 1e6, row["additions_pj"] / 1e6],
            f"{row['compute_pj'] / 1e6:.4g}") for name, row in found["schemes"].items()])
    yield table(("scheme", "computing, uJ", "weights from DRAM, uJ"), [
        (name, f"{row['compute_pj'] / 1e6:,.4g}", " to ".join(f"{each / 1e6:,.4g}" for each in row["dram_pj"]))
        for name, row in found["schemes"].items()])


def _lmul_errors(found: Mapping[str, Any]) -> Iterator[str]:
    yield table(("bits of mantissa", "function", "multiplier", "mean", "bias", "rms", "from", "to"), [
        (row["bits"], row["form"], row["policy"], *(_share(row[name], 2) for name in
                                                    ("mean", "bias", "rms", "low", "high")))
        for row in found["errors"]])


def _lmul_area(found: Mapping[str, Any]) -> Iterator[str]:
    names = list(found["rows"][0])
    yield table(names, [[row[name] for name in names] for row in found["rows"]])


# Sweeps and self-tests.

def _explore(found: Mapping[str, Any]) -> Iterator[str]:
    dropped = sum(found["dropped"].values())
    yield _line(f"{found['points']:,} machines for {found['model']} on {found['board']} at {found['clock_mhz']:g} MHz; "
                f"{found['points'] - dropped:,} fit, {len(found['front'])} are on the front.")
    if found["dropped"]:
        yield table(("dropped because", "machines"), [(why, f"{count:,}") for why, count in found["dropped"].items()])
    if not found["front"]:
        return
    costs = {"lut": "LUT", "bram": "block RAMs", "power_mw": "estimated power, mW"}
    kinds = list(dict.fromkeys(point["variant"] for point in found["front"]))
    yield plot("Machines on the front", [Panel(what, "tokens per second" if name == "lut" else "", {
        kind: [(point[name], point["tokens_per_second"]) for point in found["front"] if point["variant"] == kind]
        for kind in kinds}) for name, what in costs.items()])
    head = [*found["axes"], "tokens per second", *costs.values()]

    def cells(point: Mapping[str, Any]) -> list[object]:
        return [*(point[name] for name in found["axes"]), f"{point['tokens_per_second']:,.1f}", f"{point['lut']:,}",
                f"{point['bram']:,}", f"{point['power_mw']:.3g}"]

    if found["built"]:
        yield f"<h3>Built: {escape(found['component'] or 'the whole board')}</h3>"
        made = ("lut", "bram", "mhz")
        yield table([*head, "LUT, built", "block RAMs, built", "MHz", "front", ""], [
            [*cells(each), *(f"{each.get('result', {}).get(name, ''):,.5g}" if name in each.get("result", {}) else ""
                             for name in made), "yes" if each["front"] else "no",
             each.get("error") or each["result"]["why"] or ""] for each in found["built"]])
    yield "<h3>The front</h3>"
    yield table(head, [cells(point) for point in found["front"]])


def _selftest(found: Mapping[str, Any]) -> Iterator[str]:
    yield _line(f"Device {found['device']}: {'passed' if found['passed'] else 'failed'}.")
    yield table(("step", "", "detail"), [
        (step["name"], "passed" if step["passed"] else "failed", step["detail"]) for step in found["steps"]])


def _manifest(found: Mapping[str, Any]) -> Iterator[str]:
    yield table(("file", "octets", "SHA-256"), [
        (each["name"], f"{each['octets']:,}", each["sha256"]) for each in found["files"]])


# Everything else.

def _plain(value: object) -> bool:
    """Whether it is a value, or some of them."""
    if isinstance(value, list):
        return not any(isinstance(each, list | dict) for each in value)
    return not isinstance(value, dict)


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _values(found: Mapping[str, Any]) -> Iterator[str]:
    if values := [(name, _shown(value)) for name, value in found.items() if _plain(value)]:
        yield table(("what", "value"), values)


def _other(found: Mapping[str, Any]) -> Iterator[str]:
    """What a command without a section printed: its values, then its lists and groups as tables."""
    yield from _values(found)
    for name, value in found.items():
        if _plain(value):
            continue
        yield f"<h3>{escape(name)}</h3>"
        if isinstance(value, dict):
            yield from _values(value)
            rows = [{name: key, **row} for key, row in value.items() if isinstance(row, dict)]
        else:
            rows = [row for row in value if isinstance(row, dict)]
        head = list(dict.fromkeys(key for row in rows for key, each in row.items() if _plain(each)))
        if head:
            yield table(head, [[_shown(row.get(key, "")) for key in head] for row in rows[:_ROWS]])
        if len(rows) > _ROWS:
            yield _line(f"and {len(rows) - _ROWS:,} more")


@dataclass(frozen=True)
class Kind:
    """A kind of result: what makes it, how its section is called, by which keys it is known, and what it says."""

    command: str
    title:   str
    keys:    frozenset[str]
    section: Callable[[Mapping[str, Any]], Iterator[str]]


def _kind(command: str, title: str, keys: str, section: Callable[[Mapping[str, Any]], Iterator[str]]) -> Kind:
    return Kind(command, title, frozenset(keys.split()), section)


#: In the order of the page. A result is of the first kind whose keys it has.
KINDS = (
    _kind("bench",        "Speed, measured",               "gate values_compared mismatches",           _bench),
    _kind("estimate",     "Speed, estimated",              "cycles_per_token bits_per_weight variant",  _estimate),
    _kind("build",        "On the board",                  "board clocks cells available",              _build),
    _kind("synth",        "Synthesis",                     "component target luts",                     _synth),
    _kind("convert",      "Quantisation",                  "tensors sections ternary_weights",          _convert),
    _kind("perplexity",   "Perplexity",                    "bits_per_byte nats_per_token",              _perplexity),
    _kind("accuracy",     "Accuracy of products",          "machines tokens bytes",                     _accuracy),
    _kind("energy",       "Energy, estimated",             "schemes claims",                            _energy),
    _kind("explore",      "Machines that were looked at",  "axes front dropped",                        _explore),
    _kind("lmul errors",  "Errors of L-Mul",               "errors comparison",                         _lmul_errors),
    _kind("lmul area",    "Area of L-Mul",                 "rows gates",                                _lmul_area),
    _kind("selftest",     "Self-test",                     "passed steps device",                       _selftest),
    _kind("generate",     "Files",                         "files config digest",                       _manifest),
    _kind("estimate --split", "Speed of pieces, estimated", "pieces hop_seconds", _estimate_pieces),
    _kind("convert --split",  "Quantisation of pieces",     "pieces",             _convert_pieces),
)
#: Of any other command.
OTHER = _kind("other", "Other results", "", _other)


def kind_of(found: object) -> Kind | None:
    """What a result is; None if it is none of a command, which prints an object that has something in it."""
    if not isinstance(found, dict) or not found:
        return None
    return next((kind for kind in KINDS if kind.keys <= found.keys()), OTHER)
