"""Gates of components: their number, and what they compute."""

import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.stream import delay
from terngen.sim.gates import Gates


class Sum(wiring.Component):
    """A sum behind a register, that and its inverse."""

    def __init__(self, width):
        super().__init__({"a": In(width), "b": In(width), "en": In(1, init=1), "o": Out(width), "inverse": Out(width)})

    def elaborate(self, platform):
        m = Module()
        total = delay(m, (self.a + self.b)[:len(self.a)], en=self.en)
        m.d.comb += [self.o.eq(total), self.inverse.eq(~total)]
        return m


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_sum(width):
    """A half adder without its carry, full adders, and one without its carry."""
    gates = Gates(Sum(width))
    assert gates.counts["ff"] == width
    assert gates.counts["xor"] == 2 * width - 1
    assert gates.total == 1 if width == 1 else gates.total == 2 + 5 * (width - 2) + 2
    a, b  = (values.ravel() for values in np.meshgrid(np.arange(1 << width), np.arange(1 << width)))
    found = gates.evaluate({"a": a, "b": b})
    assert np.array_equal(found["o"], a + b & (1 << width) - 1)
    assert np.array_equal(found["inverse"], ~(a + b) & (1 << width) - 1)
