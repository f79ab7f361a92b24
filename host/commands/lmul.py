"""``terngen lmul``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from terngen.host.commands.options import json_option, plot_option

__all__ = ["lmul"]


@click.group()
def lmul() -> None:
    """Measure L-Mul, the multiplication by an addition: errors, attention, area and clock.

    Each part prints a table, or with --json one JSON object on stdout.
    """


@lmul.command()
@click.option("--policy", "policies", multiple=True, metavar="NAME",
              help="Offsets to try, like lmul-unbiased or lmul-3; may be given several times.  "
                   "[default: lmul, lmul-unbiased, lmul-mitchell]")
@click.option("--model", type=click.Path(path_type=Path), metavar="CKPT",
              help="Compare with 8-bit products on its embedding as well.")
@plot_option
@json_option
def errors(policies: tuple[str, ...], model: Path | None, plot_file: Path | None, as_json: bool) -> None:
    """Relative errors of both functions for 2 to 10 bits of mantissa, and the comparison with 8-bit products.

    The comparison is that of the paper: products whose operands were cut or rounded to e5m2 and e4m3 beside L-Mul whose
    operands were cut or rounded to 2 to 6 bits of mantissa, all of them without an end to their exponents.
    """
    from terngen.host.commands.console import emit, table, working
    from terngen.hw.contract.formats import Multiplier
    from terngen.sim.lmul import errors as measured

    try:
        chosen = tuple(map(Multiplier.parse, policies)) or measured.POLICIES
        if any(policy.is_exact for policy in chosen):
            raise ValueError("Policies must be offsets of L-Mul; the exact product is in the table anyway")
        with working("Measuring"):
            rows     = measured.table(chosen)
            compared = measured.compare(_weights(model) if model is not None else None)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="--policy") from error
    if plot_file is not None:
        measured.draw(rows, plot_file)
    estimates = [{"bits": bits, "product": product, "lmul": lmul_}
                 for bits in measured.BITS for product, lmul_ in [measured.estimates(bits)]]
    emit(as_json, {"errors": rows, "comparison": compared, "estimates": estimates}, [
        *table([("bits", "function", "multiplier", "mean", "bias", "rms", "from", "to"), *(
            (row["bits"], row["form"], row["policy"], *_percent(row, ("mean", "bias", "rms", "low", "high")))
            for row in rows)]),
        "",
        *table([("operands", "how", "product", "bits", "mean", "rms"), *(
            (row["operands"], row["how"], row["product"], row["bits"], *_percent(row, ("mean", "rms")))
            for row in compared)])])


@lmul.command()
@click.option("--heads", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--length", type=click.IntRange(min=1), default=64, show_default=True, help="Tokens.")
@click.option("--width", type=click.IntRange(min=1), default=64, show_default=True, help="Of queries, keys and values.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of queries, keys and values.")
@json_option
def attention(heads: int, length: int, width: int, seed: int, as_json: bool) -> None:
    """Error of attention with L-Mul products against float32, with random queries, keys and values."""
    from terngen.host.commands.console import emit, table, working
    from terngen.sim.lmul import attention as measured

    with working("Measuring"):
        rows = measured.measure(heads=heads, tokens=length, width=width, seed=seed)
    emit(as_json, {"heads": heads, "length": length, "width": width, "seed": seed, "rows": rows}, table([
        ("scores", "format", "multiplier", "error", "moved", "best key"),
        *((row["sharpness"], row["format"], row["multiplier"], *_percent(row, ("error", "moved", "best")))
          for row in rows)]))


@lmul.command()
@click.option("--format", "names", multiple=True, metavar="NAME",
              help="Formats to try, like e4m3; may be given several times.  [default: all of the page]")
@click.option("--pnr/--no-pnr", default=True, show_default=True, help="Place and route on an ECP5, and tell the clock.")
@json_option
def area(names: tuple[str, ...], pnr: bool, as_json: bool) -> None:
    """Area and clock of L-Mul beside an exact multiplier without DSP blocks, and the gates of the paper.

    Gates are told as a product and an L-Mul: as the paper states them, by what gives these figures, by its text, with a
    complete array multiplier, and as Yosys makes them, without and with what the paper leaves out; a weighted count has
    a XOR as four gates, as the paper does.
    """
    from terngen.host.commands.console import emit, table, working
    from terngen.host.errors import ToolError
    from terngen.host.files import cache_dir
    from terngen.hw import build
    from terngen.hw.contract.formats import FloatFormat
    from terngen.sim.lmul import area as measured

    try:
        chosen = tuple(map(FloatFormat.parse, names)) or measured.FORMATS
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="--format") from error
    try:
        with working("Synthesising"):
            rows  = measured.measure(chosen, pnr=pnr, cache=cache_dir())
            gates = measured.gates(chosen)
    except build.BuildError as error:
        raise ToolError(str(error)) from error
    shown = ("latency", "ecp5_luts", "ecp5_ffs", *(["ecp5_mhz"] if pnr else []), "xc7_luts", "gates")
    ways  = [way for way in gates[0] if way != "format"]
    emit(as_json, {"rows": rows, "gates": gates, "device": build.DEVICE, "versions": build.versions()}, [
        *table([("format", "unit", *(key.replace("_", " ") for key in shown)),
                *((row["format"], row["unit"], *(row[key] for key in shown)) for row in rows)]),
        "",
        *table([("gates", *(way.replace("_", " ") for way in ways)),
                *((row["format"], *(_pair(row[way]) for way in ways)) for row in gates)])])


def _weights(model: Path) -> Any:
    """What a checkpoint has of weights that are no trits and not zero: its embedding."""
    from terngen.host.convert.checkpoint import Checkpoint

    values = Checkpoint.open(model).tensor("model.embeddings.weight").astype(float).ravel()
    return values[values != 0]


def _percent(row: dict[str, Any], keys: Sequence[str]) -> list[str]:
    return [f"{100 * row[key]:.2f} %" for key in keys]


def _pair(counts: Sequence[int] | None) -> str:
    return "" if counts is None else "{}, {}".format(*counts)
