"""The plots of ``docs/performance.md``, from its stored figures.

``python -m terngen.sim.plots`` draws them; matplotlib comes with the extra ``[plot]``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from terngen.host import configs
from terngen.host.commands.machines import published, source_of, step_of
from terngen.host.convert.checkpoint import Checkpoint
from terngen.sim.drawing import pyplot, save

__all__ = ["PUBLISHED_ATTAINMENT", "PUBLISHED_LUTS", "draw"]

#: Share of the memory's peak that others have reached, lowest and highest, and where that is said.
PUBLISHED_ATTAINMENT = {
    "ternip":      (0.31, 0.47),
    "bitnet-kv260": (0.42, 0.47),
    "TerEffic (without the head)": (0.80, 0.80),
}
#: Measurements of ours that stand beside them: what was played on the RTL, and compared.
_OURS = {
    "16 bits":                       "rtl.370m.16",
    "16-bit SDR SDRAM":              "rtl.370m.16.sdr",
    "64 bits":                       "rtl.370m.64",
    "64 bits, slower memory":        "rtl.370m.64.slower",
    "512 bits":                      "rtl.370m.512",
    "512 bits, slower memory":       "rtl.370m.512.slower",
    "four striped, 128 bits each":   "rtl.370m.512.striped",
}


#: Of arrays of others: weights in a cycle, and LUTs for each of them, lowest and highest. LUT6 are from their own
#: reports; LUT4 are what our Yosys makes of their sources, but for KRIA, whose lanes were written again.
PUBLISHED_LUTS = {
    "ecp5": {"ternip": (64, 56.6, 56.6), "matmulfree_KRIA": (64, 60, 60), "rejunity": (15, 144, 144),
             "tt09-tiny-ternary": (10, 38, 38)},
    "xc7":  {"ternfpga": (8, 18.6, 18.6), "bitnet-kv260": (80, 21, 26), "matmulfree_KRIA": (1536, 58.7, 58.7)},
}
#: Measurements of ours: what they are called, and their widths.
_ARRAYS = {
    "block RAM, 5 weights":        ("table-core.geometry-370m.beat-bits-{}.row-lanes-1.slots-1", (16, 64)),
    "block RAM, 4 rows in a beat": ("table-core.geometry-370m.beat-bits-{}.row-lanes-4.slots-1", (64, 512)),
    "distributed RAM, 3 weights":  ("table-core.config-compact.geometry-370m.beat-bits-{}.slots-1", (16, 64, 512)),
    "adders, with queues":         ("matvec.config-small.geometry-370m.beat-bits-{}.slots-1", (16, 64)),
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


def _luts(axes: Any, values: Mapping[str, Any]) -> None:
    for side, target, unit in zip(axes, ("ecp5", "xc7"), ("LUT4, ECP5", "LUT6, Xilinx")):
        for name, (pattern, widths) in _ARRAYS.items():
            points = [(bits // 8 * 5, values[key]) for bits in widths
                      if (key := f"array.{target}.{pattern.format(bits)}.luts_per_weight") in values]
            side.plot(*zip(*points), "o-", label=f"terngen, {name}")
        for name, (weights, low, high) in PUBLISHED_LUTS[target].items():
            side.plot([weights] * 2, [low, high], "x-", color="0.5")
            side.annotate(name, (weights, high), textcoords="offset points", xytext=(4, 4), fontsize=8)
        side.set_xscale("log")
        side.set_yscale("log")
        side.set_xlabel("weights in a cycle")
        side.set_ylabel(f"{unit}, for each")
    axes[0].legend(fontsize=7)


def _descriptors(axes: Any, model: Path) -> None:
    source   = source_of("")
    machines = {"370M, 64 bits": published("370m", None, {"beat_bits": 64}, source)}
    geometry = Checkpoint.open(model).geometry
    machines[f"{model.name}, 64 bits"] = geometry, configs.model_config(geometry, "small")
    for place, (geometry, machine) in enumerate(machines.values()):
        step  = step_of(geometry, machine, source)
        parts = {f"{op.name}, {what}": cycles for op, both in step.spent.items()
                 for what, cycles in zip(("beats", "waiting"), both)}
        parts["before and after"] = step.cycles - sum(parts.values())
        left  = 0.0
        for index, (name, cycles) in enumerate(sorted(parts.items(), key=lambda each: -each[1])):
            share = 100 * cycles / step.cycles
            axes.barh(place, share, left=left, color=f"C{index % 10}")
            if share > 5:
                axes.text(left + share / 2, place, f"{name}\n{share:.1f} %", ha="center", va="center", fontsize=7)
            left += share
    axes.set_yticks(range(len(machines)), list(machines))
    axes.set_xlabel("cycles of the sequencer in a token, %")


def draw(figures: Path, folder: Path) -> list[Path]:
    """Draw all plots into a folder.

    Raises
    ------
    ToolError
        If matplotlib is missing.
    """
    values = _values(figures)
    drawn  = []
    model  = figures.parent.parent / "models/fairy-1m"
    for name, plot, size, sides in (("attainment", lambda axes: _attainment(axes, values), (8, 4), 1),
                                    ("slots", lambda axes: _slots(axes, values), (5, 4), 1),
                                    ("luts", lambda axes: _luts(axes, values), (9, 4), 2),
                                    ("descriptors", lambda axes: _descriptors(axes, model), (9, 2.5), 1)):
        figure, axes = pyplot().subplots(1, sides, figsize=size, layout="constrained")
        plot(axes)
        drawn.append(folder / f"{name}.svg")
        save(figure, drawn[-1])
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
