"""The tape behind AXI4 ports as Verilog."""

import json

import pytest

from terngen.hw.contract.config import Config
from terngen.hw.tape.axi import AxiTape
from terngen.hw.tape.striped import StripedTape
from terngen.sim.verilog import run_bench


def run(component, config, **env):
    bases = " ".join(map(str, env["bases"]))
    run_bench(component, "bench_striped", env={
        "CONFIG": json.dumps(config.to_dict()), "CHANNELS": env["channels"], "BURST": env["burst"],
        "BURSTS": env["bursts"], "BASES": bases})


@pytest.mark.parametrize("beat_bits, channels, burst, bursts", [(512, 4, 16, 8), (64, 2, 64, 4)])
def test_striped(beat_bits, channels, burst, bursts):
    config  = Config(beat_bits=beat_bits)
    options = {"channels": channels, "burst": burst, "bursts": bursts,
               "bases": [0x1000 * (3 * channel + 2) for channel in range(channels)]}
    run(StripedTape(config, **options), config, **options)


def test_one_memory():
    run(AxiTape(data_width=64, burst=32, bursts=8, base=0x2000), Config(beat_bits=64),
        channels=1, burst=32, bursts=8, bases=[0x2000])
