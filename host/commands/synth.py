"""``terngen synth``."""

from typing import Any

import click

from terngen.host.commands.machines import geometry_options, published, source_of
from terngen.host.commands.options import Multipliers, config_option, json_option, multiplier_option, slots_option

__all__ = ["synth"]


@click.command()
@click.argument("component")
@config_option
@geometry_options
@slots_option
@multiplier_option
@click.option("--model", metavar="CKPT_OR_TAPE", help="Make the buffers as large as this model needs.")
@click.option("--target", type=click.Choice(["ecp5", "xc7", "xcup"]), default="ecp5", show_default=True,
              help="Family whose cells are counted.")
@click.option("--dsp/--no-dsp", default=True, show_default=True, help="Whether products may go into DSP blocks.")
@click.option("--distributed", type=click.IntRange(min=0), default=0, show_default=True, metavar="WORDS",
              help="Put memories of up to so many words into distributed RAM, to spare block RAM.")
@click.option("--pnr", is_flag=True, help="Place and route on an ECP5, and tell the clock.")
@click.option("--trim/--no-trim", default=True, show_default=True,
              help="Cut off carries that nobody reads before placing.")
@click.option("--seed", type=click.IntRange(min=1), default=1, show_default=True, help="Of the placer.")
@click.option("--aim", type=click.IntRange(min=1), default=400, show_default=True, metavar="MHZ",
              help="Clock that placer and router work towards.")
@json_option
def synth(component: str, config: str | None, geometry: str | None, beat_bits: int | None, row_lanes: int | None,
          lanes: int | None, prefetch: int | None, slots: int | None, sites: Multipliers | None, model: str | None,
          target: str, dsp: bool,
          distributed: int, pnr: bool, trim: bool, seed: int, aim: int, as_json: bool) -> None:
    """Measure area and clock of a machine or one of its components with the open tools.

    COMPONENT is a unit, like `add` or `vector`; `datapath`, the array and the vector unit; `machine`; or `onchip`, a
    machine with its model in block RAM. Sizes come from a configuration, from a model, or from --geometry, and only
    with that can they be changed by options.
    """
    import dataclasses
    from pathlib import Path

    from terngen.host import configs
    from terngen.host.commands.console import emit, working
    from terngen.host.commands.devices import tape_of
    from terngen.host.convert.checkpoint import Checkpoint
    from terngen.host.errors import ToolError
    from terngen.host.files import cache_dir
    from terngen.host.models import open_tape
    from terngen.hw import build
    from terngen.hw.top import OnChipMachine

    names = [*build.COMPONENTS, "onchip"]
    if component not in names:
        raise click.BadParameter(f"Component must be one of {', '.join(names)}, not {component!r}.",
                                 param_hint="COMPONENT")
    if component == "onchip" and model is None:
        raise click.UsageError("Component onchip comes with a model; name it with --model.")
    if pnr and target != "ecp5":
        raise click.BadParameter(f"Only ecp5 can be placed and routed, not {target}.", param_hint="--pnr")
    changes = {"beat_bits": beat_bits, "row_lanes": row_lanes, "lanes": lanes, "prefetch": prefetch}
    if geometry is not None:
        if model is not None:
            raise click.UsageError("Either a model or --geometry can be given, not both.")
        _, machine = published(geometry, config, {**changes, "slots": slots, "sites": sites}, source_of(""))
    elif any(value is not None for value in changes.values()):
        raise click.UsageError("Beats, rows of a beat, lanes and prefetch can only be given with --geometry.")
    elif model is None:
        machine = configs.machine_config(config or configs.DEFAULT, slots=slots, sites=sites)
    elif Path(model).is_dir():
        machine = configs.model_config(Checkpoint.open(Path(model)).geometry, config or configs.DEFAULT, slots=slots,
                                       sites=sites)
    else:
        machine = configs.like(open_tape(Path(model)).config, config, slots=slots, sites=sites)

    if component == "onchip":
        tape    = tape_of(Path(str(model)), config=config, slots=slots, sites=sites)
        machine = tape.config

    def make() -> Any:
        return OnChipMachine.of(tape) if component == "onchip" else build.COMPONENTS[component](machine)

    try:
        with working("Synthesising"):
            area = build.synthesise(make(), target, dsp=dsp, distributed=distributed, cache=cache_dir())
        with working("Placing and routing"):
            timing = build.place(make(), dsp=dsp, distributed=distributed, trim=trim, seed=seed, aim=aim,
                                 cache=cache_dir()) if pnr else None
    except build.BuildError as error:
        raise ToolError(str(error)) from error

    # That the array multiplies in a cycle, for all slots.
    weights = machine.row_lanes * machine.block_cols * machine.slots
    values  = {"component": component, "digest": machine.digest.hex(), "target": target, "dsp": dsp,
               **dataclasses.asdict(area), "luts_per_weight": area.luts / weights, "versions": build.versions()}
    lut    = "LUT4" if target == "ecp5" else "LUT6"
    lines  = [f"{lut:12s}{area.luts:,}", f"flip-flops  {area.ffs:,}", f"block RAM   {area.block_rams:,}",
              f"DSP         {area.dsps:,}"]
    if timing is not None:
        values |= {"device": build.DEVICE, "seed": seed, "mhz": round(timing.mhz, 2), "path": timing.path,
                   "placed_luts": timing.area.luts}
        lines  += [f"clock       {timing.mhz:.1f} MHz on {build.DEVICE}, seed {seed}", "worst path"]
        lines  += [f"{ns:8.2f} ns {name}" for ns, name in timing.path]
    emit(as_json, values, lines)
