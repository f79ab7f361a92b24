"""Synthesises the machines that the area model is fitted to.

``python -m terngen.sim.area`` writes :data:`~terngen.hw.area.BASELINES`. Results for the same gateware and tools are in
the cache, so that a run can be interrupted.
"""

import concurrent.futures
import json
import os
from pathlib import Path
from typing import Any

import click

from terngen.host.files import cache_dir, replacing
from terngen.hw import area, build
from terngen.hw.contract.config import ArrayVariant, Config, Sites
from terngen.hw.contract.formats import FloatFormat, Multiplier

__all__ = ["ARRAYS", "MACHINES", "UNIT", "UNITS", "measure"]

_BUFFERS: dict[str, Any] = {"hidden": 128, "wide": 512, "rows": 512, "state": 512}
_LMUL    = {"sites": Sites.all(Multiplier("lmul"))}
_SHORT   = {"path": FloatFormat(6, 7)}
_TABLE   = {"variant": ArrayVariant.TABLE}
_TRIPLES = {"variant": ArrayVariant.TRIPLES}

#: Units by themselves, in a machine of which there is a little of everything.
UNITS = ("add", "multiply", "lmul", "from-int", "to-int8", "sigmoid", "reciprocal", "parameters", "reader", "player",
         "sums", "array", "square-sum", "recurrence", "sampler", "draw", "sequencer", "registers", "endpoint", "vector")
UNIT  = Config(**_BUFFERS)
#: Arrays: every structure with little and much of each.
ARRAYS = [Config(**_BUFFERS, beat_bits=beat_bits, row_lanes=row_lanes, lanes=lanes, slots=slots, **variant)
          for beat_bits, row_lanes, lanes, slots in [
              (16, 1, 1, 1), (32, 1, 1, 1), (32, 2, 1, 2), (64, 1, 2, 1), (64, 2, 2, 1), (64, 4, 4, 1),
              (16, 1, 2, 4), (64, 2, 2, 3), (64, 4, 1, 2), (128, 4, 4, 1), (128, 8, 8, 2), (32, 2, 8, 3)]
          for variant in ({}, _TABLE, _TRIPLES)]
#: Machines: what is not in the array.
MACHINES = [Config(**_BUFFERS, **size) for size in [
    {"beat_bits": 16, "row_lanes": 1, "lanes": 1},
    {"beat_bits": 64, "row_lanes": 2, "lanes": 2, **_TABLE},
    {"beat_bits": 32, "row_lanes": 2, "lanes": 1, "slots": 3, "top_k": 2, **_TABLE},
    {"beat_bits": 128, "row_lanes": 4, "lanes": 1, "top_k": 4, **_TABLE, **_LMUL},
    {"beat_bits": 32, "row_lanes": 1, "lanes": 4, "slots": 2, **_LMUL},
    {"beat_bits": 64, "row_lanes": 1, "lanes": 2, "slots": 2, **_TRIPLES},
    {"beat_bits": 64, "row_lanes": 4, "lanes": 2, **_LMUL},
    {"beat_bits": 16, "row_lanes": 1, "lanes": 2, "slots": 2},
    {"beat_bits": 128, "row_lanes": 4, "lanes": 4, **_TABLE},
    {"beat_bits": 32, "row_lanes": 1, "lanes": 1, "slots": 6, **_TABLE},
    {"beat_bits": 64, "row_lanes": 2, "lanes": 4, "slots": 4, "top_k": 2, **_TABLE},
    {"beat_bits": 256, "row_lanes": 8, "lanes": 2, "slots": 2, **_TABLE},
    {"beat_bits": 64, "row_lanes": 2, "lanes": 8, **_LMUL, **_TABLE},
    {"beat_bits": 16, "row_lanes": 1, "lanes": 1, **_SHORT},
    {"beat_bits": 16, "row_lanes": 1, "lanes": 2, **_SHORT, **_LMUL},
    {"beat_bits": 32, "row_lanes": 1, "lanes": 4, "slots": 2, **_SHORT, **_LMUL},
]]


def measure(component: str, config: Config) -> dict[str, Any]:
    """A component of a machine, or a machine, as it stands in the file."""
    found = build.synthesise(build.COMPONENTS[component](config), "ecp5", cache=cache_dir())
    return {"config": config.to_dict(), "lut": found.luts, "ff": found.ffs, "bram": found.block_rams,
            "dsp": found.dsps}


@click.command()
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count(), show_default=True,
              help="Syntheses at a time.")
@click.option("--output", type=click.Path(path_type=Path), default=area.BASELINES, help="File to write.")
def main(jobs: int, output: Path) -> None:
    """Synthesise the units, arrays and machines of the baselines for ECP5."""
    wanted = [*((name, UNIT) for name in UNITS), *(("matvec", config) for config in ARRAYS),
              *(("machine", config) for config in MACHINES)]
    found: list[dict[str, Any]] = []
    with concurrent.futures.ProcessPoolExecutor(jobs) as pool:
        for (name, _), entry in zip(wanted, pool.map(measure, *zip(*wanted))):
            found.append(entry)
            click.echo(f"{len(found)} of {len(wanted)}: {name}, {entry['lut']} LUT4, {entry['ff']} FF, "
                       f"{entry['bram']} block RAM, {entry['dsp']} DSP", err=True)
    entries = iter(found)
    with replacing(output) as file:
        file.write(_text({name: next(entries) for name in UNITS}, [next(entries) for _ in ARRAYS],
                         [next(entries) for _ in MACHINES]).encode())


def _text(units: dict[str, Any], arrays: list[Any], machines: list[Any]) -> str:
    """The file, with a line for each synthesis."""
    parts  = [f'"target": "ecp5", "versions": {json.dumps(build.versions())}']
    lines  = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in units.items())
    parts += [f'"units": {{\n  {lines}}}']
    for name, entries in (("arrays", arrays), ("machines", machines)):
        lines  = ",\n  ".join(json.dumps(entry) for entry in entries)
        parts += [f'"{name}": [\n  {lines}]']
    return "{" + ",\n ".join(parts) + "}\n"


if __name__ == "__main__":
    main()
