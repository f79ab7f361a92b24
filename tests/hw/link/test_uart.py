import pytest

from terngen.hw.link.uart import Uart, UartReceiver, UartTransmitter, divisor


@pytest.mark.parametrize("clock_hz, baud, cycles", [
    (120_000_000, 3_000_000, 40), (25_000_000, 115_200, 217), (130_000_000, 3_000_000, 43), (12_000_000, 3_000_000, 4)])
def test_divisor(clock_hz, baud, cycles):
    assert divisor(clock_hz, baud) == cycles


@pytest.mark.parametrize("clock_hz", [6_000_000, 13_500_000])
def test_divisor_wrong(clock_hz):
    with pytest.raises(ValueError, match=r"^Clock must be within 2 % of a multiple, at least four, of 3000000 baud, "
                                         rf"which {clock_hz} Hz is not$"):
        divisor(clock_hz, 3_000_000)


@pytest.mark.parametrize("component", [Uart, UartReceiver, UartTransmitter])
@pytest.mark.parametrize("cycles", [3, 4.0, -1])
def test_too_fast(component, cycles):
    with pytest.raises(ValueError, match=r"^Bits of a serial port must have at least four cycles, not "):
        component(divisor=cycles)
