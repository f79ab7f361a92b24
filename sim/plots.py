"""The plots of ``docs/performance.md``, from its stored figures.

``python -m terngen.sim.plots`` draws them; matplotlib comes with the extra ``[plot]``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from terngen.host.errors import ToolError

__all__ = ["PUBLISHED_ATTAINMENT", "draw"]

#: Share of the memory's peak that others have reached, lowest and highest, and where that is said.
PUBLISHED_ATTAINMENT = {
    "ternip":      (0.31, 0.47),
    "bitnet-kv260": (0.42, 0.47),
    "TerEffic (without the head)": (0.80, 0.80),
}
#: Measurements of ours that stand beside them.
_OURS = {
    "64-bit, RTL":                     "rtl.370m.64",
    "64-bit, slower memory, RTL":      "rtl.370m.64.slower",
    "16-bit, estimate":                "estimate.370m.16",
    "16-bit SDR SDRAM, estimate":      "estimate.370m.16.sdr",
    "512-bit, estimate":               "estimate.370m.512",
    "512-bit, slower memory, estimate": "estimate.370m.512.slower",
}


def _values(figures: Path) -> dict[str, Any]:
    return {figure["name"]: figure["value"] for figure in json.loads(figures.read_text())["figures"]}


def _attainment(axes: Any, values: Mapping[str, Any]) -> None:
    rows = [(name, low, high, "0.6") for name, (low, high) in PUBLISHED_ATTAINMENT.items()]
    rows += [(f"terngen, {name}", share, share, "tab:blue") for name, measured in _OURS.items()
             if (share := values.get(f"{measured}.attainment")) is not None]
    for place, (_, low, high, colour) in enumerate(rows):
        axes.barh(place, 100 * high, color=colour, alpha=0.35 if low < high else 1)
        axes.barh(place, 100 * low, color=colour)
        axes.text(100 * high + 1, place, f"{100 * low:.1f}" + (f" - {100 * high:.1f}" if low < high else ""),
                  va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 112)
    axes.set_xlabel("share of the memory's peak, %")
    axes.set_title("One stream, 370M weights, whole token")


def _slots(axes: Any, values: Mapping[str, Any]) -> None:
    prefix = "estimate.370m.64.slots"
    counts = sorted(int(name.removeprefix(prefix).partition(".")[0]) for name in values
                    if name.startswith(prefix) and name.endswith(".cycles_per_token"))
    one    = values[f"{prefix}1.cycles_per_token"]
    axes.plot(counts, counts, color="0.7", label="as many times one slot")
    axes.plot(counts, [slots * one / values[f"{prefix}{slots}.cycles_per_token"] for slots in counts], "o-",
              label="370M, 64-bit memory")
    axes.set_xlabel("slots")
    axes.set_ylabel("throughput, one slot is 1")
    axes.legend()


def draw(figures: Path, folder: Path) -> list[Path]:
    """Draw all plots into a folder.

    Raises
    ------
    ToolError
        If matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ToolError("Plots need matplotlib, which is not installed; `pip install 'terngen[plot]'` installs "
                        "it") from error
    matplotlib.use("Agg")
    # The same figures give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "terngen"
    from matplotlib import pyplot

    values = _values(figures)
    drawn  = []
    for name, plot, size in (("attainment", _attainment, (8, 4)), ("slots", _slots, (5, 4))):
        figure, axes = pyplot.subplots(figsize=size, layout="constrained")
        plot(axes, values)
        drawn.append(folder / f"{name}.svg")
        figure.savefig(drawn[-1], metadata={"Date": None})
        pyplot.close(figure)
    return drawn


@click.command()
@click.option("--figures", type=click.Path(path_type=Path), default=Path("docs/performance.json"), show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("docs/images"), show_default=True)
def main(figures: Path, output: Path) -> None:
    """Draw the plots of docs/performance.md."""
    for path in draw(figures, output):
        click.echo(path)


if __name__ == "__main__":
    main(prog_name="python -m terngen.sim.plots")
