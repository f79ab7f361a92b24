"""The tape in single-port memories as Verilog."""

from terngen.hw.contract.config import PRESETS
from terngen.hw.tape.spram import SpramTape
from terngen.sim.verilog import run_bench


def test_spram():
    run_bench(SpramTape(PRESETS["processor"], depth=100), "bench_spram", env={"DEPTH": 100})
