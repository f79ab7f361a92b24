"""The tape behind AXI4 ports as Verilog."""

import pytest

from terngen.hw.contract.config import PRESETS
from terngen.hw.tape.axi import AxiTape
from terngen.hw.tape.striped import StripedTape
from terngen.sim.verilog import run_bench


def run(component, preset, channels, burst, bursts, bases):
    run_bench(component, "bench_striped", env={
        "CONFIG": preset, "CHANNELS": channels, "BURST": burst, "BURSTS": bursts, "BASES": " ".join(map(str, bases))})


@pytest.mark.parametrize("preset, channels, burst, bursts", [("wide", 4, 16, 8), ("small", 2, 64, 4)])
def test_striped(preset, channels, burst, bursts):
    bases = [0x1000 * (3 * channel + 2) for channel in range(channels)]
    run(StripedTape(PRESETS[preset], channels=channels, burst=burst, bursts=bursts, bases=bases),
        preset, channels, burst, bursts, bases)


def test_one_memory():
    run(AxiTape(data_width=64, burst=32, bursts=8, base=0x2000), "small", 1, 32, 8, [0x2000])
