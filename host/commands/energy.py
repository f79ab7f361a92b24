"""``terngen energy``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from terngen.host.commands.options import config_option, json_option, text_option
from terngen.host.convert.geometry import PUBLISHED

__all__ = ["energy"]


@click.command()
@click.argument("model", metavar="[CKPT]", type=click.Path(path_type=Path), required=False)
@click.option("--geometry", type=click.Choice(list(PUBLISHED)), help="A published size instead of a model.")
@text_option(required=False, help="Count also how much the gates of products switch while the model reads this text.")
@click.option("--tokens", type=click.IntRange(min=1), default=16, show_default=True, help="Tokens of it.")
@click.option("--multiplier", metavar="NAME", default="lmul", show_default=True,
              help="What switches beside exact products.")
@config_option
@json_option
def energy(model: Path | None, geometry: str | None, text_file: Path | None, tokens: int, multiplier: str,
           config: str | None, as_json: bool) -> None:
    """Operations of a token by kind, and their energy by published figures: an estimate.

    A model in fp16, in int8 with exact products, and with ternary weights and L-Mul, by the energies of Horowitz (ISSCC
    2014, 45 nm), which are those of operations without wires, registers and control.
    """
    from terngen.host import configs
    from terngen.host import energy as figures
    from terngen.host.commands.console import Progress, emit
    from terngen.host.commands.devices import tape_of
    from terngen.host.convert.geometry import Geometry
    from terngen.host.errors import InputError, ToolError
    from terngen.host.models import open_geometry
    from terngen.host.text import Language, read_text
    from terngen.hw.contract.formats import Multiplier

    if (model is None) == (geometry is None):
        raise click.UsageError("Either a model or --geometry must be given.")
    try:
        chosen = Multiplier.parse(multiplier)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="--multiplier") from error
    if chosen.is_exact:
        raise click.BadParameter("Multiplier must be one of L-Mul, not exact.", param_hint="--multiplier")
    if model is not None:
        sizes, machine = open_geometry(model, config)
    else:
        assert geometry is not None
        sizes   = Geometry.from_config({"model_type": "hgrn_bit", **PUBLISHED[geometry]})
        machine = configs.model_config(sizes, config or configs.DEFAULT)
    values: dict[str, Any] = {
        "source":   "Horowitz, ISSCC 2014, 45 nm; an estimate",
        "weights":  sizes.ternary_weights,
        "products": figures.products(sizes, machine),
        "schemes":  figures.energy(sizes, machine),
        "claims":   {name: {"paper": figures.CLAIMS[name], **found} for name, found in figures.claims().items()},
    }
    if text_file is not None:
        if model is None:
            raise click.UsageError("What switches depends on weights, so --text needs a model.")
        from terngen.hw.build import BuildError
        from terngen.sim.switching import switching
        tape = tape_of(model, config=config)
        read = Language.of_tape(tape).encode(read_text(text_file)).tokens[:tokens]
        if not read:
            raise InputError(f"Text {text_file} must have at least one token")
        try:
            with Progress() as progress:
                values["switching"] = switching(tape, read, chosen, progress)
        except BuildError as error:
            raise ToolError(str(error)) from error
    emit(as_json, values, _lines(values))


def _lines(values: dict[str, Any]) -> Iterator[str]:
    from terngen.host.commands.console import table

    yield f"an estimate by operations alone: {values['source'].partition(';')[0]}"
    yield ""
    parts = ("matrices", "products", "additions", "compute")
    rows  = [("microjoules for a token", "matrices", "products", "additions", "together", "weights from DRAM")]
    for name, row in values["schemes"].items():
        low, high = row["dram_pj"]
        rows.append((name, *(f"{row[f'{part}_pj'] / 1e6:,.4g}" for part in parts),
                     f"{low / 1e6:,.4g} to {high / 1e6:,.4g}"))
    yield from table(rows)
    yield ""
    kinds = sorted({kind for row in values["schemes"].values() for kind in row["operations"]})
    yield from table([("operations of a token", *kinds), *(
        (name, *(f"{row['operations'].get(kind, 0):,}" for kind in kinds)) for name, row in values["schemes"].items())])
    yield ""
    yield from table([("saved by L-Mul", "paper", "fp16", "fp32"), *(
        (name, *(f"{100 * row[key]:.0f} %" for key in ("paper", "fp16", "fp32")))
        for name, row in values["claims"].items())])
    if "switching" in values:
        yield ""
        count = values["products"]
        total = {key: sum(row[key] * count[site] for site, row in values["switching"].items())
                 for key in ("exact", "lmul")}
        yield from table([("changes of gates for a product", "products", "exact", "L-Mul", "ratio"), *(
            (site, f"{count[site]:,}", f"{row['exact']:.1f}", f"{row['lmul']:.1f}", f"{row['ratio']:.2f}")
            for site, row in values["switching"].items()),
            ("a token", f"{sum(count.values()):,}", f"{total['exact']:,.0f}", f"{total['lmul']:,.0f}",
             f"{total['exact'] / total['lmul']:.2f}")])
