"""Descriptions of a tape memory, and what they refuse."""

from fractions import Fraction

import pytest

from terngen.hw.boards import find
from terngen.sim.memory import PRESETS, MemoryModel


def test_parse():
    assert MemoryModel.parse("") == MemoryModel()
    assert MemoryModel.parse("latency=20,rate=15/16,stall=0.25") == MemoryModel(
        latency=20, rate=Fraction(15, 16), stall=0.25)
    assert MemoryModel.parse("rate=0.75").rate == Fraction(3, 4)
    assert MemoryModel.parse("channels=4,jitter=9") == MemoryModel(channels=4, jitter=9)


def test_presets():
    assert MemoryModel.parse("sdr") == PRESETS["sdr"]
    opened = MemoryModel.parse("sdr,row_pause=0,rate=15/16")
    assert (opened.row_beats, opened.row_pause, opened.rate) == (512, 0, Fraction(15, 16))
    assert opened.refresh_period == PRESETS["sdr"].refresh_period


def test_chip():
    """What is estimated with a chip is what is estimated of a board with it."""
    board, memory = find("ulx3s-85f:sdram")
    expected = board.memories[memory].timing(board.clock_of(memory))
    found    = MemoryModel.parse(f"sdram:{board.memories[memory].part}@{board.clock_of(memory) / 1e6:g},stall=0.5")
    assert (found.latency, found.refresh_period, found.refresh_pause, found.stall) == (
        expected.latency, expected.refresh_period, expected.refresh_pause, 0.5)


@pytest.mark.parametrize("memory, share", [
    (MemoryModel(), 1),
    (MemoryModel(refresh_period=10, refresh_pause=3), 0.7),
    (MemoryModel(row_beats=12, row_pause=4, refresh_period=10, refresh_pause=1), 0.75 * 0.9),
])
def test_share(memory, share):
    assert memory.share == pytest.approx(share)


@pytest.mark.parametrize("text, message", [
    ("speed=1",          r"^Memory has no 'speed'; it has latency, jitter, .*channels, and may begin with sdr or "
                         r"sdram:CHIP@MHZ$"),
    ("sdram:X@80",       r"^There is no SDRAM 'X'; there are IS42S16160G-7, "),
    ("sdram:EM638325-6", r"^SDRAM EM638325-6 must have a clock in MHz, like sdram:EM638325-6@80, not ''$"),
    ("sdram:EM638325-6@900", r"^SDRAM clock must be at most 166666667 Hz, not 900000000$"),
    ("latency=1,sdr",    r"^Memory has no 'sdr'; it has "),
    ("rate=x",           r"^Memory rate must be a number, not 'x'$"),
    ("rate=1/0",         r"^Memory rate must be a number, not '1/0'$"),
    ("rate=17/16",       r"^Memory rate must be more than 0 and at most 1, with a denominator .*, not 17/16$"),
    ("rate=0",           r"^Memory rate must be more than 0 and at most 1, with a denominator .*, not 0$"),
    ("rate=1/4294967296", r"^Memory rate must be more than 0 and at most 1, .* of at most 2147483647, "),
    ("row_beats=-1",     r"^Memory row_beats must be from 0 to 4294967295 beats, not -1$"),
    ("row_pause=3",      r"^Memory row_pause \(3\) needs rows; give row_beats as well$"),
    ("jitter=1.5",       r"^Memory jitter must be a number, not '1\.5'$"),
    ("channels=3",       r"^Memory channels must be a power of two up to 16, not 3$"),
    ("channels=0",       r"^Memory channels must be from 1 to 4294967295 memories, not 0$"),
    ("refresh_period=5,refresh_pause=5", r"^Memory refresh_pause must be less than the period \(5\), not 5$"),
])
def test_refused(text, message):
    with pytest.raises(ValueError, match=message):
        MemoryModel.parse(text)


def test_rate_is_exact():
    with pytest.raises(TypeError, match=r"^Memory rate must be a fraction, not 0\.9$"):
        MemoryModel(rate=0.9)
