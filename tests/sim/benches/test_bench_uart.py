"""The bench of the serial port. The rate of 3 Mbaud has 40 cycles of 120 MHz."""

import pytest

from terngen.hw.link.uart import Uart
from terngen.sim.verilog import run_bench


@pytest.mark.parametrize("divisor", [8, 40])
def test_uart(divisor):
    run_bench(Uart(divisor=divisor), "bench_uart", env={"DIVISOR": divisor})
