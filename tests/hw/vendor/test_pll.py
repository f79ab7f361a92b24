import re

import pytest
from amaranth import ClockDomain, Module, Signal
from amaranth.back import rtlil

from terngen.hw.vendor.pll import Ecp5Pll, GowinPll, Ice40Pll, PllSettings, RpllSettings


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


@pytest.mark.parametrize("delay_ns, whole, eighths", [(0, 0, 0), (2.5, 1, 3), (12.3, 6, 7)])
def test_delay(delay_ns, whole, eighths):
    """An oscillator of 560 MHz: periods of 1.786 ns."""
    pll = Ecp5Pll(Signal(), input_hz=25_000_000, output_hz=80_000_000, delay_ns=delay_ns)
    assert (pll._settings.output_div, pll._late["p_CLKOS_DIV"]) == (7, 7)
    assert pll._late["p_CLKOS_CPHASE"] - 6 == whole
    assert pll._late["p_CLKOS_FPHASE"] == eighths


def test_gate():
    """The clock begins when the PLL has locked, seen through two flip-flops of the input's clock."""
    m = Module()
    m.domains.sync = ClockDomain(reset_less=Ecp5Pll.RESET_LESS)
    clock, counter = Signal(), Signal()
    m.submodules.pll = Ecp5Pll(clock, input_hz=25_000_000, output_hz=120_000_000)
    m.d.sync += counter.eq(~counter)
    cells = {}
    for kind, body in re.findall(r"cell (\S+) \S+\n(.*?)\n  end", rtlil.convert(m, ports=[clock, counter]), re.S):
        ports = {name: signal.removesuffix(" [0]") for name, signal in re.findall(r"connect \\(\S+) (.+)", body)}
        cells.setdefault(kind, []).append(ports)
    [pll], [gate] = cells["\\EHXPLLL"], cells["\\DCCA"]
    assert gate["CLKI"] == pll["CLKOP"] == pll["CLKFB"] != gate["CLKO"]
    [synchroniser] = [ports for kind, [ports, *_] in cells.items() if "pll.begun" in kind]
    assert pll["LOCK"] in synchroniser.values()
    assert gate["CE"] in synchroniser.values() and gate["CE"] != pll["LOCK"]
    assert [ports["CLK"] for ports in cells["$dff"]].count("\\input_clk") == 2


def test_delay_wrong():
    with pytest.raises(ValueError, match=r"^Delay of a clock must be less than its period, 12\.50 ns, not 12\.5 ns$"):
        Ecp5Pll(Signal(), input_hz=25_000_000, output_hz=80_000_000, delay_ns=12.5)


@pytest.mark.parametrize("input_hz, output_hz", [
    (27_000_000, 54_000_000), (27_000_000, 64_800_000), (27_000_000, 81_000_000), (25_000_000, 100_000_000)])
def test_gowin_limits(input_hz, output_hz):
    found = RpllSettings.find(input_hz, output_hz)
    comparator = input_hz / found.input_div
    assert comparator * found.feedback_div == output_hz
    assert 3e6 <= comparator <= 500e6
    assert 500e6 <= output_hz * found.output_div <= 1250e6
    assert max(found.input_div, found.feedback_div) <= 64


def test_gowin_known_answer():
    # A comparator of 27 MHz, an oscillator of 864 MHz; the later clock by two sixteenths of 18.5 ns.
    assert RpllSettings.find(27_000_000, 54_000_000) == RpllSettings(input_div=1, feedback_div=2, output_div=16)
    pll = GowinPll(Signal(), input_hz=27_000_000, output_hz=54_000_000, delay_ns=2.5, device="GW2AR-18C")
    assert pll._phase == 2


def test_gowin_impossible():
    with pytest.raises(ValueError, match=r"^PLL of a Gowin device cannot make 54000001 Hz of 27000000 Hz; "):
        RpllSettings.find(27_000_000, 54_000_001)
    with pytest.raises(ValueError, match=r"^Delay of a clock must be less than its period, 18\.52 ns, not 18\.6 ns$"):
        GowinPll(Signal(), input_hz=27_000_000, output_hz=54_000_000, delay_ns=18.6, device="GW2AR-18C")


@pytest.mark.parametrize("output_hz, factor, output_bits", [
    (18_000_000, 48, 5), (24_000_000, 64, 5), (21_000_000, 56, 5)])
def test_ice40(output_hz, factor, output_bits):
    """An oscillator from 533 to 1066 MHz."""
    assert Ice40Pll.settings(12_000_000, output_hz) == (factor, output_bits)


def test_ice40_impossible():
    with pytest.raises(ValueError, match=r"^PLL of an iCE40 cannot make 20000000 Hz of 12000000 Hz; "):
        Ice40Pll.settings(12_000_000, 20_000_000)
