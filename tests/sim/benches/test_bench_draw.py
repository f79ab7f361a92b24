"""The bench of drawing."""

import json

import pytest

from terngen.hw.contract.config import Config
from terngen.hw.contract.formats import FloatFormat
from terngen.hw.units.draw import Draw
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("options", [{"slots": 3}, {"top_k": 2}, {"top_k": 15, "path": FloatFormat(3, 4), "slots": 2},
                                     {"path": FloatFormat(8, 14), "wide": 1 << 15, "hidden": 256}], ids=str)
def test_draw(options):
    config = Config(**options)
    run_bench(Draw(config), "bench_draw", env={"CONFIG": json.dumps(config.to_dict())})
