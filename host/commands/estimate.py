"""``terngen estimate``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from terngen.host.commands.machines import geometry_options, published, source_of, step_of
from terngen.host.commands.options import (
    Multipliers,
    config_option,
    json_option,
    multiplier_option,
    slots_option,
    split_option,
)

__all__ = ["estimate", "of_layout"]


@click.command()
@click.argument("model", metavar="[CKPT_OR_TAPE]", type=click.Path(path_type=Path), required=False)
@config_option
@geometry_options
@slots_option
@multiplier_option
@split_option
@click.option("--link-rate", metavar="OCTETS", type=click.FloatRange(min=0, min_open=True), default=3e5,
              show_default=True, help="Octets per second on the link of each device, with --split.")
@click.option("--memory", metavar="LIST", default="",
              help="Timing of the tape memory, as for bench; without jitter, stalls and channels.")
@click.option("--clock", metavar="MHZ", type=click.FloatRange(min=0, min_open=True), default=100.0,
              show_default=True, help="Clock of the machine.")
@json_option
def estimate(model: Path | None, geometry: str | None, config: str | None, beat_bits: int | None,
             row_lanes: int | None, lanes: int | None, prefetch: int | None, slots: int | None,
             sites: Multipliers | None, split: int | list[int] | None, link_rate: float, memory: str,
             clock: float, as_json: bool) -> None:
    """Tell what a token will take, without a machine and without weights.

    Cycles are exact: those of a step with the last token of the vocabulary in every slot, whose row takes
    longest to find. With --split there is a device for each piece of the model, and the residual vector of each slot
    goes over the links of two of them.
    """
    from terngen.host.commands.console import emit

    if (model is None) == (geometry is None):
        raise click.UsageError("Either a model or --geometry must be given.")
    source  = source_of(memory)
    changes = {"beat_bits": beat_bits, "row_lanes": row_lanes, "lanes": lanes, "prefetch": prefetch, "slots": slots,
               "sites": sites}
    if split is not None:
        of_pieces = _of_pieces(*_sizes(model, geometry, config, changes, source), split, source, clock, link_rate)
        emit(as_json, of_pieces, _lines_of_pieces(of_pieces))
        return
    if model is not None:
        figures = _of_model(model, config, changes, source, clock)
    else:
        figures = _of_geometry(geometry, config, changes, source, clock)
    emit(as_json, figures, _lines(figures))


def _of_model(model: Path, config: str | None, changes: dict[str, Any], source: Any,
              clock: float) -> dict[str, Any]:
    from terngen.host import configs
    from terngen.host.convert.checkpoint import Checkpoint
    from terngen.host.errors import ConfigError, InputError
    from terngen.host.models import open_model
    from terngen.hw.contract.tape import walk
    from terngen.hw.estimate import step

    if not model.exists():
        raise InputError(f"There is no tape and no checkpoint folder at {model}")
    if model.is_dir():
        geometry = Checkpoint.open(model).geometry
        machine  = configs.model_config(geometry, config or configs.DEFAULT, **changes)
        return of_layout(geometry, machine, source, clock)
    for name in ("beat_bits", "row_lanes", "lanes", "prefetch"):
        if changes[name] is not None:
            raise ConfigError(f"A tape is made for one machine, so {name} cannot be changed; "
                              f"give the checkpoint instead")
    tape  = open_model(model, config=config, slots=changes["slots"], sites=changes["sites"])
    parts = [tape.marks[name] for name in ("layers", "head")]
    descriptors = [fields for mark in parts for _, fields, _ in walk(tape.config, tape.image, mark)]
    facts = tape.model
    machine = tape.config
    taken = step(machine, descriptors, active=machine.slots,
                 tokens=dict.fromkeys(range(machine.slots), tape.rows - 1), hidden=facts["hidden_size"],
                 embedding=(facts["embedding_start"], facts["embedding_beats"]), start=parts[0].start,
                 count=sum(mark.count for mark in parts), source=source)
    return _figures(machine, taken, weights=facts["ternary_weights"],
                    rows=machine.slots * facts["embedding_beats"], source=source, clock=clock)


def _of_geometry(name: str | None, config: str | None, changes: dict[str, Any], source: Any,
                 clock: float) -> dict[str, Any]:
    assert name is not None
    geometry, machine = published(name, config, changes, source)
    return of_layout(geometry, machine, source, clock)


def of_layout(geometry: Any, machine: Any, source: Any, clock: float) -> dict[str, Any]:
    """Figures of a machine for a model of some sizes; the clock in MHz."""
    return _figures(machine, step_of(geometry, machine, source), weights=geometry.ternary_weights,
                    rows=machine.slots * machine.embedding_beats(geometry.hidden_size), source=source, clock=clock)


def _figures(machine: Any, taken: Any, *, weights: int, rows: int, source: Any, clock: float) -> dict[str, Any]:
    """Figures of a step; `rows` are the beats of its embedding rows."""
    from terngen.hw.area import area
    from terngen.hw.contract.trits import TRITS_PER_BYTE

    return {
        "variant":              machine.variant.value,
        "beat_bits":            machine.beat_bits,
        "row_lanes":            machine.row_lanes,
        "lanes":                machine.lanes,
        "slots":                machine.slots,
        "digest":               machine.digest.hex(),
        "ternary_weights":      weights,
        "products_per_cycle":   machine.beat_bytes * TRITS_PER_BYTE * machine.slots,
        "cycles_per_token":     taken.cycles,
        "beats":                taken.beats,
        "tape_bytes_per_token": taken.beats * machine.beat_bytes,
        "bits_per_weight":      (taken.beats - rows) * machine.beat_bits / weights,
        "peak_bytes_per_cycle": float(machine.beat_bytes * source.rate),
        "attainment":           taken.beats / float(taken.cycles * source.rate),
        "clock_mhz":            clock,
        "tokens_per_second":    machine.slots * clock * 1e6 / taken.cycles,
        **area(machine),
        "descriptors":          {op.name: {"beats": beats, "waits": waits}
                                 for op, (beats, waits) in taken.spent.items()},
    }


def _sizes(model: Path | None, name: str | None, config: str | None, changes: dict[str, Any], source: Any
           ) -> tuple[Any, Any]:
    """Geometry of a checkpoint or of a published size, and the machine for all of it."""
    from terngen.host import configs
    from terngen.host.models import open_checkpoint

    if model is None:
        assert name is not None
        return published(name, config, changes, source)
    geometry = open_checkpoint(model, purpose="Cutting a model").geometry
    return geometry, configs.model_config(geometry, config or configs.DEFAULT, **changes)


def _of_pieces(geometry: Any, machine: Any, split: int | list[int], source: Any, clock: float, link_rate: float
               ) -> dict[str, Any]:
    """Figures of a model on several devices.

    Between two of them the driver reads a vector over the link of one and writes it over that of the other. A text
    alone has the devices one after the other. Slots take turns, in as many groups as there are devices: of those that
    work at the same time the slowest counts, and then the vectors are moved. Parts of a prompt follow each other like
    groups.
    """
    from terngen.host.layout import Layout, cut
    from terngen.hw.area import area
    from terngen.hw.contract.wire import octets_on_link

    pieces = cut(geometry, machine, split)
    count  = len(pieces)
    # Slots of each group, as the driver makes them.
    groups = [len(range(place, machine.slots, count)) for place in range(min(count, machine.slots))]
    told:  list[dict[str, Any]] = []
    turns: list[dict[int, int]] = []        # cycles of each piece, by the slots of a group
    for piece in pieces:
        own    = piece.machine(geometry, machine)
        layout = Layout(geometry, own, piece)
        taken  = {active: step_of(geometry, own, source, piece=piece, active=active)
                  for active in {1, *groups, own.slots}}
        turns.append({active: step.cycles for active, step in taken.items()})
        told.append({
            "layers":            [piece.layers.start, piece.layers.stop],
            "tape_bytes":        layout.beats * own.beat_bytes,
            "tape_bytes_per_token": taken[1].beats * own.beat_bytes,
            "cycles_alone":      turns[-1][1],
            "cycles_in_turns":   turns[-1][groups[0]],
            "cycles_with_all":   turns[-1][own.slots],
            **area(own),
        })
    hop     = 2 * octets_on_link(4 * geometry.hidden_size) / link_rate
    hops    = count - 1
    alone   = sum(piece["cycles_alone"] for piece in told)
    # Between two tokens of a group it is on each device once; the other groups are on those before.
    turn    = sum(max(turns[(time - place) % count][group] for place, group in enumerate(groups))
                  for time in range(count))
    chunk   = max(piece["cycles_with_all"] for piece in told)
    latency = alone / (clock * 1e6) + hops * hop
    return {
        "pieces":                   told,
        "slots":                    machine.slots,
        "clock_mhz":                clock,
        "link_rate":                link_rate,
        "hop_seconds":              hop,
        "cycles_per_token":         alone,
        "latency_seconds":          latency,
        "tokens_per_second_alone":  1 / latency,
        "tokens_per_second":        machine.slots / (turn / (clock * 1e6) + machine.slots * hops * hop),
        "prompt_tokens_per_second": machine.slots / (chunk / (clock * 1e6) + machine.slots * hops * hop),
    }


def _lines_of_pieces(figures: dict[str, Any]) -> Iterator[str]:
    from terngen.host.commands.console import plural, table

    yield from table([("piece", "layers", "tape", "cycles", "LUT4", "block RAMs"), *(
        (place, f"{piece['layers'][0]}-{piece['layers'][1] - 1}", f"{piece['tape_bytes']:,}",
         f"{piece['cycles_alone']:,}", "" if piece["lut"] is None else f"{piece['lut']:,}", f"{piece['bram']:,}")
        for place, piece in enumerate(figures["pieces"], 1))])
    yield ""
    yield (f"{'hop':11} {1e3 * figures['hop_seconds']:.3g} ms for a vector, at {figures['link_rate']:,.0f} octets per "
           f"second")
    yield (f"{'latency':11} {1e3 * figures['latency_seconds']:.4g} ms for a token at {figures['clock_mhz']:g} MHz, "
           f"{figures['tokens_per_second_alone']:,.2f} tokens per second of one text")
    yield (f"{'speed':11} {figures['tokens_per_second']:,.2f} tokens per second of texts on "
           f"{plural(figures['slots'], 'slot')}, {figures['prompt_tokens_per_second']:,.2f} of a prompt")


def _lines(figures: dict[str, Any]) -> Iterator[str]:
    """Figures for people."""
    from terngen.host.commands.console import plural

    rows = [
        ("machine", f"{figures['beat_bits']}-bit beats of {plural(figures['row_lanes'], 'row')}, array of variant "
                    f"{figures['variant']}, {plural(figures['lanes'], 'lane')}, "
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
