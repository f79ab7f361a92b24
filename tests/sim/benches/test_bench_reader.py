"""The tape reader and the loader as Verilog."""

import dataclasses

import pytest

from terngen.hw.contract.config import PRESETS
from terngen.hw.tape.loader import Loader
from terngen.hw.tape.reader import TapeReader
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("preset, prefetch", [("small", 16), ("tiny", 2)])
def test_reader(preset, prefetch):
    config = dataclasses.replace(PRESETS[preset], prefetch=prefetch)
    run_bench(TapeReader(config), "bench_reader", env={"PREFETCH": prefetch}, tests="^(?!.*loads)")


@pytest.mark.parametrize("preset", ["tiny", "small", "wide"])
def test_loader(preset):
    run_bench(Loader(PRESETS[preset]), "bench_reader", env={"CONFIG": preset}, tests="loads")
