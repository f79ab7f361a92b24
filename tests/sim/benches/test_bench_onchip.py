"""The tape in block RAM as Verilog."""

import pytest

from terngen.hw.contract.config import PRESETS
from terngen.hw.tape.onchip import OnChipTape
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("preset, depth", [("small", 64), ("wide", 37)])
def test_onchip(preset, depth):
    run_bench(OnChipTape(PRESETS[preset], depth=depth), "bench_onchip",
              env={"CONFIG": preset, "DEPTH": depth})
