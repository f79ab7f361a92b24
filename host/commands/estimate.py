"""``terngen estimate``."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from terngen.host.commands.options import config_option, json_option, slots_option
from terngen.host.convert.geometry import PUBLISHED

__all__ = ["estimate"]

#: Bits of a weight that are worth more rows in a beat.
_BITS_PER_WEIGHT = 1.63
#: Attainment that is worth more lanes.
_ATTAINMENT = 0.97


@click.command()
@click.argument("model", metavar="[CKPT_OR_TAPE]", type=click.Path(path_type=Path), required=False)
@click.option("--geometry", type=click.Choice(list(PUBLISHED)),
              help="A published size instead of a model. Without --config, --row-lanes and --lanes are what the "
                   "tape and the memory need.")
@config_option
@click.option("--beat-bits", type=click.IntRange(min=1),
              help="Width of the tape, instead of what the configuration says.")
@click.option("--row-lanes", type=click.IntRange(min=1), help="Rows of a matrix in a beat, in the same way.")
@click.option("--lanes", type=click.IntRange(min=1), help="Lanes of the vector unit, in the same way.")
@click.option("--prefetch", type=click.IntRange(min=1), help="Beats that may be read ahead, in the same way.")
@slots_option
@click.option("--memory", metavar="LIST", default="",
              help="Timing of the tape memory, as for bench; without jitter, stalls and channels.")
@click.option("--clock", metavar="MHZ", type=click.FloatRange(min=0, min_open=True), default=100.0,
              show_default=True, help="Clock of the machine.")
@json_option
def estimate(model: Path | None, geometry: str | None, config: str | None, beat_bits: int | None,
             row_lanes: int | None, lanes: int | None, prefetch: int | None, slots: int | None, memory: str,
             clock: float, as_json: bool) -> None:
    """Tell what a token will take, without a machine and without weights.

    Cycles are exact: those of a step with the last token of the vocabulary in every slot, whose row takes
    longest to find.
    """
    from terngen.host.commands.console import emit

    if (model is None) == (geometry is None):
        raise click.UsageError("Either a model or --geometry must be given.")
    source  = _source(memory)
    changes = {"beat_bits": beat_bits, "row_lanes": row_lanes, "lanes": lanes, "prefetch": prefetch, "slots": slots}
    if model is not None:
        figures = _of_model(model, config, changes, source, clock)
    else:
        figures = _of_geometry(geometry, config, changes, source, clock)
    emit(as_json, figures, _lines(figures))


def _source(memory: str) -> Any:
    """Timing of a memory that is described as for the simulation.

    Raises
    ------
    ConfigError
        If it is refused, or depends on chance.
    """
    import dataclasses

    from terngen.host.errors import ConfigError
    from terngen.hw.estimate import Source
    from terngen.sim.memory import MemoryModel

    try:
        given = MemoryModel.parse(memory)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    plain = MemoryModel()
    for name in ("jitter", "stall", "channels"):
        if (value := getattr(given, name)) != getattr(plain, name):
            raise ConfigError(f"Memory {name} cannot be estimated, so it must be left out, not {value}")
    values = dataclasses.asdict(given)
    return Source(**{field.name: values[field.name] for field in dataclasses.fields(Source)
                     if field.name in values})


def _of_model(model: Path, config: str | None, changes: dict[str, int | None], source: Any,
              clock: float) -> dict[str, Any]:
    from terngen.host import configs
    from terngen.host.convert.checkpoint import Checkpoint
    from terngen.host.errors import ConfigError, InputError
    from terngen.host.models import open_model
    from terngen.hw.contract.tape import walk

    if not model.exists():
        raise InputError(f"There is no tape and no checkpoint folder at {model}")
    if model.is_dir():
        geometry = Checkpoint.open(model).geometry
        machine  = configs.model_config(geometry, config or configs.DEFAULT, **changes)
        return _of_layout(geometry, machine, source, clock)
    for name in ("beat_bits", "row_lanes", "lanes", "prefetch"):
        if changes[name] is not None:
            raise ConfigError(f"A tape is made for one machine, so {name} cannot be changed; "
                              f"give the checkpoint instead")
    tape  = open_model(model, config=config, slots=changes["slots"])
    parts = [tape.marks[name] for name in ("layers", "head")]
    descriptors = [fields for mark in parts for _, fields, _ in walk(tape.config, tape.image, mark)]
    facts = tape.model
    return _figures(tape.config, descriptors, start=parts[0].start, count=sum(mark.count for mark in parts),
                    vocab=facts["vocab_size"], hidden=facts["hidden_size"], weights=facts["ternary_weights"],
                    embedding=(facts["embedding_start"], facts["embedding_beats"]), source=source, clock=clock)


def _of_geometry(name: str | None, config: str | None, changes: dict[str, int | None], source: Any,
                 clock: float) -> dict[str, Any]:
    """A published size. On the machine with the fewest rows of a beat that pad the tape little, and the
    fewest lanes that keep the memory busy."""
    from terngen.host import configs
    from terngen.host.convert.geometry import Geometry

    assert name is not None
    values   = {"model_type": "hgrn_bit", **PUBLISHED[name]}
    geometry = Geometry.from_config(values)
    if config is None and changes["row_lanes"] is None:
        bits    = [(rows, _bits_per_weight(geometry, machine))
                   for rows, machine in _machines(geometry, "row_lanes", changes)]
        changes = {**changes, "row_lanes": _first_or_best(bits, lambda value: -value, -_BITS_PER_WEIGHT)}
    if config is None and changes["lanes"] is None:
        # Two layers are like all of them, and the head is played faster.
        part    = Geometry.from_config({**values, "num_hidden_layers": 2})
        reached = ((lanes, _of_layout(part, machine, source, clock, ("layers",))["attainment"])
                   for lanes, machine in _machines(part, "lanes", changes))
        changes = {**changes, "lanes": _first_or_best(reached, lambda value: value, _ATTAINMENT)}
    machine = configs.model_config(geometry, config or configs.DEFAULT, **changes)
    return _of_layout(geometry, machine, source, clock)


def _machines(geometry: Any, name: str, changes: dict[str, int | None]) -> Iterator[tuple[int, Any]]:
    """Machines with 1, 2, 4 ... of something, as far as they are possible."""
    from terngen.host import configs
    from terngen.host.errors import ConfigError

    count = 1
    while True:
        try:
            yield count, configs.model_config(geometry, configs.DEFAULT, **{**changes, name: count})
        except ConfigError:
            return
        count *= 2


def _first_or_best(choices: Iterable[tuple[int, float]], worth: Callable[[float], float],
                   enough: float) -> int | None:
    """The first choice that is worth enough, else the one that is worth most."""
    best: tuple[float, int] | None = None
    for choice, value in choices:
        if worth(value) >= enough:
            return choice
        best = max(best or (worth(value), choice), (worth(value), choice))
    return best and best[1]


def _bits_per_weight(geometry: Any, machine: Any) -> float:
    from terngen.host.layout import Layout

    marks = Layout(geometry, machine).marks
    beats = marks["layers"].count + marks["head"].count
    return float(beats * machine.beat_bits / geometry.ternary_weights)


def _of_layout(geometry: Any, machine: Any, source: Any, clock: float,
               names: Sequence[str] = ("layers", "head")) -> dict[str, Any]:
    """The figures of some marks that follow each other."""
    from terngen.host.layout import Layout

    layout = Layout(geometry, machine)
    parts  = [layout.marks[name] for name in names]
    items  = [item for name in names for item in layout.items[name]]
    return _figures(machine, [item.fields for item in items], start=parts[0].start,
                    count=sum(mark.count for mark in parts), vocab=geometry.vocab_size,
                    hidden=geometry.hidden_size, weights=geometry.ternary_weights,
                    embedding=(0, layout.row_beats), source=source, clock=clock)


def _figures(machine: Any, descriptors: list[dict[str, Any]], *, start: int, count: int, vocab: int, hidden: int,
             weights: int, embedding: tuple[int, int], source: Any, clock: float) -> dict[str, Any]:
    from terngen.hw.area import area
    from terngen.hw.estimate import step

    taken = step(machine, descriptors, active=machine.slots, tokens=dict.fromkeys(range(machine.slots), vocab - 1),
                 hidden=hidden, embedding=embedding, start=start, count=count, source=source)
    return {
        "beat_bits":            machine.beat_bits,
        "row_lanes":            machine.row_lanes,
        "lanes":                machine.lanes,
        "slots":                machine.slots,
        "cycles_per_token":     taken.cycles,
        "beats":                taken.beats,
        "tape_bytes_per_token": taken.beats * machine.beat_bytes,
        "bits_per_weight":      count * machine.beat_bits / weights,
        "peak_bytes_per_cycle": float(machine.beat_bytes * source.rate),
        "attainment":           taken.beats / float(taken.cycles * source.rate),
        "clock_mhz":            clock,
        "tokens_per_second":    machine.slots * clock * 1e6 / taken.cycles,
        **area(machine),
    }


def _lines(figures: dict[str, Any]) -> Iterator[str]:
    """Figures for people."""
    from terngen.host.commands.console import plural

    rows = [
        ("machine", f"{figures['beat_bits']}-bit beats, {plural(figures['lanes'], 'lane')}, "
                    f"{plural(figures['slots'], 'slot')}"),
        ("cycles", f"{figures['cycles_per_token']:,} for a token"),
        ("tape", f"{figures['tape_bytes_per_token']:,} bytes for a token, "
                 f"{figures['bits_per_weight']:.4f} bits per weight"),
        ("attainment", f"{100 * figures['attainment']:.2f} % of the memory's peak"),
        ("speed", f"{figures['tokens_per_second']:,.2f} tokens per second at {figures['clock_mhz']:g} MHz"),
    ]
    parts = [("LUT4", figures["lut"]), ("flip-flops", figures["ff"]), ("block RAMs", figures["bram"]),
             ("multipliers", figures["dsp"])]
    rows.append(("ECP5", ", ".join(f"{count:,} {name}" for name, count in parts if count is not None)))
    for name, value in rows:
        yield f"{name:11} {value}"
