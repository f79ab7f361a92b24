"""The bench of the player."""

import json

import pytest

from terngen.hw.contract.config import Config
from terngen.hw.control.player import Player
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("slots", [1, 3, 4])
def test_player(slots):
    config = Config(slots=slots)
    run_bench(Player(config), "bench_player", env={"CONFIG": json.dumps(config.to_dict())})
