"""The plot of ``terngen explore``: speed against what it costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from terngen.sim.drawing import pyplot, save

__all__ = ["draw", "figure", "staircase"]

#: What speed is held against: the figure, and what the axis says.
_COSTS   = {"lut": "LUT", "bram": "block RAMs", "power_mw": "power by published energies, mW"}
_COLOURS = {"tree": "tab:blue", "table": "tab:orange", "triples": "tab:green"}


def staircase(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Pairs of cost and speed than which none is cheaper and as fast, the cheapest first."""
    kept: list[tuple[float, float]] = []
    for cost, speed in sorted(points, key=lambda pair: (pair[0], -pair[1])):
        if not kept or speed > kept[-1][1]:
            kept.append((cost, speed))
    return kept


def figure(kept: Sequence[Mapping[str, Any]], best: Sequence[Mapping[str, Any]],
           built: Sequence[Mapping[str, Any]] = ()) -> Any:
    """Machines that fit, those of the front by their array, and what the tools made of some."""
    plt = pyplot()
    from matplotlib.ticker import LogFormatter
    plain = LogFormatter(minor_thresholds=(2, 0.5))
    speeds = [point["tokens_per_second"] for point in kept] or [1.0]
    slowest, fastest = min(speeds), max(speeds)
    made, panels = plt.subplots(1, len(_COSTS), figsize=(12, 4.2), layout="constrained", sharey=True)
    sound = [entry for entry in built if entry.get("result", {}).get("fits")]
    for axes, (cost, title) in zip(panels, _COSTS.items()):
        axes.plot([point[cost] for point in kept], [point["tokens_per_second"] for point in kept], ".", color="0.85",
                  markersize=3)
        for variant, colour in _COLOURS.items():
            chosen = [point for point in best if point["variant"] == variant]
            axes.plot([point[cost] for point in chosen], [point["tokens_per_second"] for point in chosen], ".",
                      color=colour, label=variant)
        steps = staircase([(point[cost], point["tokens_per_second"]) for point in best])
        if steps:
            axes.step(*zip(*steps), where="post", color="0.4", linewidth=0.8)
        if cost in ("lut", "bram") and sound:
            axes.plot([entry["result"][cost] for entry in sound], [entry["tokens_per_second"] for entry in sound], "kx",
                      label="synthesised")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(plain)
        axes.yaxis.set_minor_formatter(plain)
        axes.set_ylim(0.8 * slowest, 1.2 * fastest)
        axes.set_xlabel(title)
    panels[0].set_ylabel("tokens per second")
    panels[0].legend(fontsize=8)
    return made


def draw(kept: Sequence[Mapping[str, Any]], best: Sequence[Mapping[str, Any]], built: Sequence[Mapping[str, Any]],
         path: Path) -> None:
    """Draw them into a file.

    Raises
    ------
    ToolError
        If matplotlib is not installed.
    OutputError
        If the file cannot be written.
    """
    save(figure(kept, best, built), path)
