"""What the tape in an SDRAM promises and refuses; `tests/sim/benches/test_bench_sdram.py` plays it."""

import dataclasses
from fractions import Fraction

import pytest

from terngen.hw.contract.config import PRESETS
from terngen.hw.tape.chips import CHIPS, SdramTiming
from terngen.hw.tape.sdram import SdramTape, attainment

#: As fast as each chip may be, and what boards use.
CLOCKS = [(name, clock_hz) for name in CHIPS for clock_hz in (100_000_000, 120_000_000, 133_333_333, 142_857_142)]
CLOCKS += [("EM638325-6", 166_666_666)]


def test_known_answer():
    """Counted by hand."""
    assert CHIPS["IS42S16160G-7"].timing(133_333_333) == SdramTiming(
        cas=3, rcd=2, rp=2, ras=6, wr=2, rfc=8, mrd=2, power_up=26667, interval=1040, postponed=8)
    assert CHIPS["M12L64322A-7"].timing(100_000_000) == SdramTiming(
        cas=2, rcd=2, rp=2, ras=5, wr=2, rfc=7, mrd=2, power_up=20000, interval=1560, postponed=5)


@pytest.mark.parametrize("name, clock_hz", CLOCKS)
def test_within_the_data_sheet(name, clock_hz):
    """Times in cycles are as long as those in nanoseconds, and each row is refreshed in 64 ms."""
    chip, timing = CHIPS[name], CHIPS[name].timing(clock_hz)
    period = Fraction(10**9, clock_hz)
    for field in ("rcd", "rp", "ras", "wr", "rfc", "power_up"):
        assert getattr(timing, field) * period >= getattr(chip, field)
    assert (timing.ras + timing.rp) * period >= chip.rc
    assert period >= chip.cas[timing.cas]
    assert (chip.refreshes + timing.postponed) * timing.interval * period < 64_000_000
    assert (timing.postponed + 0.9) * timing.interval * period < chip.ras_max


@pytest.mark.parametrize("name, clock_hz", CLOCKS)
def test_attainment(name, clock_hz):
    """Of a tape that fills the chip, against what rows and refreshes of the chip allow."""
    chip, timing = CHIPS[name], CHIPS[name].timing(clock_hz)
    share = attainment(chip, clock_hz, chip.words * chip.width // 64)
    pause = timing.rp + timing.postponed * timing.rfc + timing.rcd
    bound = 1 - pause / (timing.postponed * 64e-3 * clock_hz / chip.refreshes)
    assert share == pytest.approx(timing.share, abs=2e-5)
    assert bound - 0.003 < share <= bound
    assert share >= 0.97


@pytest.mark.parametrize("clock_hz, message", [
    (143_000_000, r"^SDRAM clock must be at most 142857143 Hz, not 143000000$"),
    (2_000_000,   r"^SDRAM clock must leave time between refreshes, and 2000000 Hz is too slow$"),
])
def test_clock_wrong(clock_hz, message):
    with pytest.raises(ValueError, match=message):
        CHIPS["IS42S16160G-7"].timing(clock_hz)


@pytest.mark.parametrize("changes, message", [
    ({"rows": 100}, r"^SDRAM rows must be a power of two from 2, not 100$"),
    ({"banks": 2},  r"^SDRAM banks must be a power of two from 4, not 2$"),
    ({"cols": 16},  r"^SDRAM cols must be a power of two from 32, not 16$"),
    ({"cols": 2048}, r"^SDRAM cols must be at most 1024, which end below A10, not 2048$"),
    ({"width": 64}, r"^SDRAM width must be 8, 16 or 32 bits, not 64$"),
    ({"rcd": 60},   r"^SDRAM clock must leave 8 cycles for a row, and 100000000 Hz is too fast$"),
])
def test_chip_wrong(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CHIPS["IS42S16160G-7"], **changes).timing(100_000_000)


def test_narrow_beats():
    with pytest.raises(ValueError, match=r"^Beats must be at least as wide as the SDRAM, 32 bits, not 16; take "):
        SdramTape(PRESETS["tiny"], chip=CHIPS["M12L64322A-7"], clock_hz=100_000_000)


def test_flight_wrong():
    with pytest.raises(ValueError, match=r"^SDRAM flight must be from 0 to 3 cycles, not 4$"):
        SdramTape(PRESETS["small"], chip=CHIPS["M12L64322A-7"], clock_hz=100_000_000, flight=4)
