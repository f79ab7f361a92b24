"""The bench of the sequencer."""

import json

import pytest

from terngen.hw.contract.config import Config
from terngen.hw.control.sequencer import Sequencer
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("beat_bits, lanes, slots", [(16, 1, 3), (64, 2, 1), (256, 4, 3)])
def test_sequencer(beat_bits, lanes, slots):
    config = Config(beat_bits=beat_bits, lanes=lanes, slots=slots, hidden=16, wide=32, rows=32)
    run_bench(Sequencer(config), "bench_sequencer", env={"CONFIG": json.dumps(config.to_dict())})
