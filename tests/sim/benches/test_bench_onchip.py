"""The tape in block RAM as Verilog."""

import pytest

from terngen.hw.contract.config import PRESETS
from terngen.hw.tape.onchip import OnChipTape, banks, parts
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("preset, depth", [("small", 64), ("wide", 37), ("tiny", 3 * 512 + 1),
                                           ("tiny", 4 * 2048 + 5)])
def test_onchip(preset, depth):
    init = [7 * place % 251 for place in range(depth - 1)]
    run_bench(OnChipTape(PRESETS[preset], depth=depth, init=init), "bench_onchip",
              env={"CONFIG": preset, "DEPTH": depth})


def test_banks():
    """No block RAM is half empty: as many words as block RAMs of 9, 18 and 36 bits have."""
    assert banks(1) == [1]
    assert banks(512) == [512]
    assert banks(513) == [513]
    assert banks(1025) == [1024, 1]
    assert banks(1537) == [1537]
    assert banks(6339) == [2048, 2048, 2048, 195]


def test_parts():
    """All but the last are multiples of 36 bits, so that a word takes no more block RAMs than if it were not cut."""
    assert parts(16) == [16]
    assert parts(64) == [36, 28]
    assert parts(256) == [72, 72, 72, 40]
    assert parts(512) == [144, 144, 144, 80]


def test_init_too_long():
    with pytest.raises(ValueError, match=r"^Tape must have at most 2 beats, not 3$"):
        OnChipTape(PRESETS["small"], depth=2, init=[1, 2, 3])
