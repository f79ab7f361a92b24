"""Synthesises the machines that the area model is fitted to.

``python -m terngen.sim.area`` writes :data:`~terngen.hw.area.BASELINES`. What is kept of an earlier run of the same
gateware and tools is not done again, so that a run can be interrupted.
"""

import concurrent.futures
import json
import os
from pathlib import Path
from typing import Any

import click

from terngen.host.files import cache_dir
from terngen.hw import area, build
from terngen.hw.contract.config import ArrayVariant, Config, Sites
from terngen.hw.contract.formats import Multiplier
from terngen.hw.top import Machine

__all__ = ["MACHINES", "measure"]

_BUFFERS: dict[str, Any] = {"hidden": 128, "wide": 512, "rows": 512, "state": 512}
_LMUL   = {"sites": Sites.all(Multiplier("lmul"))}
_SIZES: list[dict[str, Any]] = [
    # Beats, rows of a beat, lanes and slots, one after the other and together.
    {"beat_bits": 16, "row_lanes": 1, "lanes": 1},
    {"beat_bits": 32, "row_lanes": 1, "lanes": 1},
    {"beat_bits": 32, "row_lanes": 2, "lanes": 2, "top_k": 1},
    {"beat_bits": 64, "row_lanes": 1, "lanes": 2},
    {"beat_bits": 64, "row_lanes": 2, "lanes": 2},
    {"beat_bits": 64, "row_lanes": 4, "lanes": 4},
    {"beat_bits": 128, "row_lanes": 4, "lanes": 4, **_LMUL},
    {"beat_bits": 16, "row_lanes": 1, "lanes": 1, "slots": 2},
    {"beat_bits": 16, "row_lanes": 1, "lanes": 2, "slots": 4, "top_k": 4},
    {"beat_bits": 32, "row_lanes": 2, "lanes": 1, "slots": 3},
    {"beat_bits": 64, "row_lanes": 2, "lanes": 2, "slots": 3},
    {"beat_bits": 64, "row_lanes": 2, "lanes": 2, **_LMUL},
    {"beat_bits": 32, "row_lanes": 1, "lanes": 4, "slots": 2, **_LMUL},
    {"beat_bits": 64, "row_lanes": 4, "lanes": 8, "slots": 4, "top_k": 2},
]
#: The machines, cheap ones first.
MACHINES = [Config(**_BUFFERS, **size, variant=variant) for size in _SIZES for variant in ArrayVariant]


def measure(config: Config) -> dict[str, Any]:
    """A machine as it stands in the file."""
    found = build.synthesise(Machine(config), "ecp5", cache=cache_dir())
    return {"config": config.to_dict(), "lut": found.luts, "ff": found.ffs, "bram": found.block_rams,
            "dsp": found.dsps}


@click.command()
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count(), show_default=True,
              help="Machines at a time.")
@click.option("--first", type=click.IntRange(min=1), default=len(MACHINES), show_default=True,
              help="Only so many of them.")
@click.option("--output", type=click.Path(path_type=Path), default=area.BASELINES, help="File to write.")
def main(jobs: int, first: int, output: Path) -> None:
    """Synthesise the machines of the baselines."""
    done = []
    with concurrent.futures.ProcessPoolExecutor(jobs) as pool:
        for config, entry in zip(MACHINES[:first], pool.map(measure, MACHINES[:first])):
            predicted = (area.block_rams(config), area.dsps(config))
            click.echo(f"{entry['lut']:6} LUT4 {entry['ff']:6} FF {entry['bram']:4} block RAM {entry['dsp']:4} DSP; "
                       f"counted {predicted[0]} and {predicted[1]}", err=True)
            done.append(json.dumps(entry))
            lines = ",\n  ".join(done)
            output.write_text(f'{{"versions": {json.dumps(build.versions())},\n "target": "ecp5",\n '
                              f'"machines": [\n  {lines}]}}\n')


if __name__ == "__main__":
    main()
