"""The bench of the whole machine."""

import pytest

from terngen.host.compile import compile_tape, default_config
from terngen.host.convert.checkpoint import Checkpoint
from terngen.hw.contract.config import ArrayVariant
from terngen.hw.top import Machine
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("variant, slots, tokens", [
    (ArrayVariant.TREE, 1, 2),
    (ArrayVariant.TREE, 3, 1),
    (ArrayVariant.TABLE, 1, 1),
])
def test_machine(root, tmp_path, variant, slots, tokens):
    checkpoint = Checkpoint.open(root / "tests" / "data" / "reference" / "tiny")
    config     = default_config(checkpoint.geometry, variant=variant, slots=slots)
    compile_tape(checkpoint, config, tmp_path / "tiny.tape")
    run_bench(Machine(config), "bench_top", env={"TAPE": tmp_path / "tiny.tape", "TOKENS": tokens, "STALL": 0.15})
