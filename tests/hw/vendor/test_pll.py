import pytest

from terngen.hw.vendor.pll import PllSettings


@pytest.mark.parametrize("input_hz, output_hz", [
    (25_000_000, 120_000_000), (25_000_000, 130_000_000), (100_000_000, 150_000_000), (48_000_000, 96_000_000),
    (25_000_000, 137_500_000)])
def test_limits(input_hz, output_hz):
    found = PllSettings.find(input_hz, output_hz)
    comparator = input_hz / found.input_div
    assert comparator * found.feedback_div == output_hz
    assert 3.125e6 <= comparator <= 400e6
    assert 400e6 <= output_hz * found.output_div <= 800e6
    assert max(found.input_div, found.feedback_div, found.output_div) <= 128


def test_known_answer():
    # A comparator of 5 MHz, an oscillator of 600 MHz.
    assert PllSettings.find(25_000_000, 120_000_000) == PllSettings(input_div=5, feedback_div=24, output_div=5)


def test_impossible():
    with pytest.raises(ValueError, match=r"^PLL of an ECP5 cannot make 120000001 Hz of 25000000 Hz; "):
        PllSettings.find(25_000_000, 120_000_001)
