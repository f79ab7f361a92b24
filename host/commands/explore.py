"""``terngen explore``."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from terngen.host.commands.building import board_option
from terngen.host.commands.exploring import STAGES
from terngen.host.commands.options import config_option, json_option, plot_option
from terngen.host.explore.points import AXES
from terngen.hw.contract.config import ArrayVariant, Sites
from terngen.hw.contract.formats import FloatFormat

__all__ = ["explore"]

#: Machines of the front that people are shown.
_SHOWN = 24


class _Values(click.ParamType):
    """Values of an axis, with commas between them."""

    name = "list"

    def __init__(self, axis: str) -> None:
        self._axis = axis

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(dict.fromkeys(map(self._one, value.split(","))))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)

    def _one(self, text: str) -> Any:
        match self._axis:
            case "variant":
                if text not in (names := [variant.value for variant in ArrayVariant]):
                    raise ValueError(f"Variant must be one of {', '.join(names)}, not {text!r}")
                return text
            case "path":
                return str(FloatFormat.parse(text))
            case "multiplier":
                Sites.parse(text)
                return text
        if not text.isdecimal() or not int(text):
            raise ValueError(f"Values of {self._axis.replace('_', ' ')} must be whole numbers above zero, not {text!r}")
        return int(text)


def _axis(axis: str, what: str, option: str | None = None) -> Any:
    return click.option(option or f"--{axis.replace('_', '-')}", axis, type=_Values(axis), metavar="LIST",
                        default=AXES[axis], show_default=",".join(map(str, AXES[axis])), help=what)


@click.command()
@click.argument("model", metavar="CKPT_OR_SIZE")
@board_option(required=True, help="What the machines are for.")
@_axis("variant", "Structures of the array.")
@_axis("beat_bits", "Widths of the tape; a memory with a width of its own has only that.")
@_axis("row_lanes", "Rows of a matrix in a beat.")
@_axis("lanes", "Lanes of the vector unit.")
@_axis("slots", "Slots.")
@_axis("path", "Formats of element-wise values.", "--format")
@_axis("multiplier", "Multipliers of element-wise products.")
@_axis("prefetch", "Beats that may be read ahead.")
@config_option
@click.option("--stage", type=click.Choice(STAGES), default=STAGES[0], show_default=True,
              help="What is done with machines of the front: nothing, synthesis, or placement and routing as well.")
@click.option("--top", type=click.IntRange(min=1), default=8, show_default=True, metavar="N",
              help="Machines of the front that are built: the fastest, the smallest, and evenly between them.")
@click.option("--component", metavar="NAME",
              help="Build this unit of each machine, as `terngen synth` names them, instead of the whole board.")
@click.option("--seed", type=click.IntRange(min=1), default=1, show_default=True, help="Of placement.")
@click.option("--scheduler", metavar="WHERE", default="local", show_default=True,
              help="Where it is computed: local, slurm, or the address of a Dask scheduler like tcp://host:8786.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N",
              help="Processes, or jobs of SLURM.  [default: one for each core]")
@click.option("--slurm", multiple=True, metavar="NAME=VALUE",
              help="Said of the jobs, like queue=long, memory=8GB or walltime=04:00:00; may be repeated.")
@click.option("--trace", "trace_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Write who computed what, and when, to a JSON file.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Write all machines that fit to a CSV file.")
@plot_option
@json_option
def explore(model: str, board: str, config: str | None, stage: str, top: int, component: str | None, seed: int,
            scheduler: str, workers: int | None, slurm: tuple[str, ...], trace_file: Path | None, csv_file: Path | None,
            plot_file: Path | None, as_json: bool, **axes: tuple[Any, ...]) -> None:
    """Find the machines for a model on a board that are worth building.

    Every combination is followed for a token, and its area and energy are estimated; what does not fit is counted by
    reason. A machine is on the front if no other that computes the same numbers is as good in speed, look-up tables,
    block RAM and energy. Results are kept in the cache: a sweep that was interrupted goes on, and one that was finished
    is told at once.

    MODEL is a checkpoint folder or a published size, like 370m.
    """
    from terngen.host.commands.building import chosen
    from terngen.host.commands.console import emit, note
    from terngen.host.commands.machines import geometry_of
    from terngen.host.errors import ToolError
    from terngen.host.explore.points import front

    choice    = chosen(board)
    geometry  = geometry_of(model)
    component = _component(choice, stage, component)
    base      = _base(choice, config)
    if choice.tape_memory.bits is not None and axes["beat_bits"] == AXES["beat_bits"]:
        axes["beat_bits"] = (choice.tape_memory.bits,)
    spec      = f"{board.partition(':')[0]}:{choice.memory}"
    run       = _Runner(scheduler, workers, slurm)
    try:
        kept, dropped = _estimate(run, geometry, spec, base, axes)
        best          = front(kept)
        built: list[dict[str, Any]] = []
        if stage != "estimate":
            built = _build(run, stage, geometry, spec, base, best, top, component, seed)
    except KeyboardInterrupt:
        note("What was finished is kept; the same command goes on")
        raise
    finally:
        if trace_file is not None:
            run.write_trace(trace_file)
    found = {
        "model":     model,
        "board":     choice.name,
        "clock_mhz": choice.clock_hz / 1e6,
        "axes":      {name: list(values) for name, values in axes.items()},
        "points":    len(kept) + sum(dropped.values()),
        "dropped":   dropped,
        "front":     best,
        "stage":     stage,
        "component": component,
        "built":     built,
        "program":   _program(stage),
    }
    if csv_file is not None:
        _write_csv(csv_file, kept, best)
    if plot_file is not None:
        from terngen.sim.exploration import draw
        draw(kept, best, built, plot_file)
    emit(as_json, found, _lines(found))
    if failed := [entry["error"] for entry in built if "error" in entry]:
        raise ToolError(f"{len(failed)} of {len(built)} machines could not be built: {failed[0]}")


def _component(choice: Any, stage: str, component: str | None) -> str | None:
    """What is built: a unit, or None for the whole board."""
    from terngen.host.errors import ConfigError
    from terngen.hw.build import COMPONENTS

    if component is not None and component not in COMPONENTS:
        raise click.BadParameter(f"Component must be one of {', '.join(COMPONENTS)}, not {component!r}.",
                                 param_hint="--component")
    if stage == "route" and (choice.board.scripts is not None or component and choice.board.family != "ecp5"):
        what = "Board" if component is None else f"Component {component} on board"
        raise ConfigError(f"{what} {choice.board.name} cannot be placed and routed by open tools; `--stage synth` "
                          f"counts its cells")
    if stage == "synth" and component is None and choice.board.scripts is not None:
        return "machine"
    return component


def _base(choice: Any, config: str | None) -> dict[str, Any]:
    """What all machines have in common."""
    from terngen.host import configs
    return {**configs.read_config(config or configs.DEFAULT), **choice.tape_memory.config}


def _program(stage: str) -> dict[str, Any]:
    from terngen.host.commands.exploring import program
    return program(stage)


class _Runner:
    """Runs tasks where the command line says, and remembers who computed what."""

    def __init__(self, scheduler: str, workers: int | None, slurm: Sequence[str]) -> None:
        import os

        from terngen.host.explore.cache import Cache
        from terngen.host.files import cache_dir

        for text in slurm:
            if "=" not in text:
                raise click.BadParameter(f"Option of SLURM must be NAME=VALUE, not {text!r}.", param_hint="--slurm")
        if slurm and scheduler != "slurm":
            raise click.UsageError("Options of SLURM need --scheduler slurm.")
        self._scheduler = scheduler
        self._workers   = workers or len(os.sched_getaffinity(0))
        self._slurm     = dict(text.split("=", 1) for text in slurm)
        self._cache     = Cache(cache_dir() / "explore")
        self._spans: list[tuple[str, Any]] = []

    def __call__(self, what: str, tasks: Sequence[bytes]) -> list[Any]:
        """Outcome of each task."""
        from terngen.host.commands.console import Progress
        from terngen.host.commands.exploring import perform
        from terngen.host.explore.schedulers import Scheduler, open_scheduler
        from terngen.host.explore.sweep import sweep

        def opened() -> Scheduler:
            return open_scheduler(self._scheduler, self._workers, self._slurm)

        def seen(place: int, outcome: Any) -> None:
            if outcome.span is not None:
                self._spans.append((f"{what} {place}", outcome.span))

        with Progress() as progress:
            return sweep(tasks, perform, opened, self._cache, seen,
                         lambda done, total: progress(what, done, total))

    def write_trace(self, path: Path) -> None:
        """What was computed, and how it was shared."""
        import dataclasses

        from terngen.host.explore.schedulers import schedule
        from terngen.host.files import replacing

        spans = [span for _, span in self._spans]
        with replacing(path) as file:
            file.write(json.dumps({"schedule": schedule(spans),
                                   "spans": [{"task": name, **dataclasses.asdict(span)} for name, span in self._spans]},
                                  indent=1).encode() + b"\n")


def _estimate(run: Any, geometry: Any, board: str, base: Mapping[str, Any], axes: Mapping[str, Sequence[Any]]
              ) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Machines that fit, with what is known of each; the others by reason."""
    from terngen.host.commands.exploring import estimate_tasks
    from terngen.host.errors import ToolError
    from terngen.host.explore.points import grid

    points   = list(grid(axes))
    outcomes = run("Estimating", list(estimate_tasks(geometry, board, base, points)))
    for outcome in outcomes:
        if outcome.octets is None:
            raise ToolError(outcome.error)
    found   = [entry for outcome in outcomes for entry in json.loads(outcome.octets)]
    kept    = [{**point, **entry} for point, entry in zip(points, found) if "dropped" not in entry]
    dropped = Counter(entry["dropped"] for entry in found if "dropped" in entry)
    return kept, dict(dropped.most_common())


def _build(run: Any, stage: str, geometry: Any, board: str, base: Mapping[str, Any], best: Sequence[dict[str, Any]],
           top: int, component: str | None, seed: int) -> list[dict[str, Any]]:
    """Machines of the front with what the tools make of them; the largest is begun first."""
    from terngen.host.commands.exploring import measure_task
    from terngen.host.explore.points import front, spread

    picked = sorted(spread(best, top), key=lambda point: -point["lut"])
    tasks  = [measure_task(stage, geometry, board, base, {name: point[name] for name in AXES}, component=component,
                           seed=seed) for point in picked]
    what   = {"synth": "Synthesising", "route": "Placing and routing"}[stage]
    built  = []
    for point, outcome in zip(picked, run(what, tasks)):
        result = {"error": outcome.error} if outcome.octets is None else {"result": json.loads(outcome.octets)}
        built.append({**point, **result})
    built.sort(key=lambda entry: -entry["tokens_per_second"])
    sound = [{**entry, **entry["result"], "place": place} for place, entry in enumerate(built)
             if "result" in entry and entry["result"]["fits"] and entry["result"].get("met", True)]
    first = {entry["place"] for entry in front(sound)}
    return [{**entry, "front": place in first} for place, entry in enumerate(built)]


def _write_csv(path: Path, kept: Sequence[dict[str, Any]], best: Sequence[dict[str, Any]]) -> None:
    import csv
    import io

    from terngen.host.files import replacing

    text   = io.StringIO()
    first  = {point["digest"] for point in best}
    fields = [*kept[0], "front"] if kept else [*AXES, "front"]
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**point, "front": int(point["digest"] in first)} for point in kept)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def _lines(found: dict[str, Any]) -> Iterator[str]:
    from terngen.host.commands.console import table

    dropped = sum(found["dropped"].values())
    yield (f"{found['points']:,} machines for {found['board']} at {found['clock_mhz']:g} MHz: "
           f"{found['points'] - dropped:,} fit, {len(found['front'])} on the front")
    for reason, count in found["dropped"].items():
        yield f"{count:8,} dropped: {reason}"
    if not found["front"]:
        return
    yield ""
    figures = ("tokens/s", "LUT", "block RAM", "mW")
    yield from table([("array", *_HEAD, *figures), *(
        (*_cells(point), *_figures(point)) for point in found["front"][:_SHOWN])])
    if len(found["front"]) > _SHOWN:
        yield f"and {len(found['front']) - _SHOWN} more; --csv, --plot and --json have all"
    if not found["built"]:
        return
    yield ""
    yield f"built: {found['component'] or 'the whole board'}, the estimate of the machine beside what the tools make"
    yield from table([("array", *_HEAD, *figures, "LUT", "block RAM", "MHz", "front"), *(
        (*_cells(entry), *_figures(entry), *_result(entry), "yes" if entry["front"] else "no")
        for entry in found["built"])])
    for entry in found["built"]:
        if why := entry.get("error") or entry["result"]["why"]:
            yield f"{entry['digest'][:8]}: {why}"


_HEAD = ("beat", "rows", "lanes", "slots", "format", "products", "prefetch")


def _cells(point: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(point[name] for name in AXES)


def _figures(point: Mapping[str, Any]) -> tuple[str, ...]:
    return (f"{point['tokens_per_second']:,.1f}", f"{point['lut']:,}", f"{point['bram']:,}",
            f"{point['power_mw']:.3g}")


def _result(entry: Mapping[str, Any]) -> tuple[str, ...]:
    result = entry.get("result", {})
    return tuple(f"{result[name]:,.{digits}f}" if name in result else ""
                 for name, digits in (("lut", 0), ("bram", 0), ("mhz", 1)))
