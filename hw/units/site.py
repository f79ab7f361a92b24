"""Multiplication at a site whose multiplier the configuration chooses."""

from amaranth import Array, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from terngen.hw.stream import delay
from terngen.hw.units.multiply import Multiply

__all__ = ["SiteMultiply"]


class SiteMultiply(wiring.Component):
    """Multiplies floats for several products that share the place, each with its own multiplier.

    Each different multiplier is built once. Provides no flow control: a pair is taken and a result
    given on every cycle. Latency is ``LATENCY`` cycles, that of the slowest, and one to choose between several.

    Parameters
    ----------
    fmt : :class:`FloatFormat`
        Format of operands and result.
    multipliers : sequence of :class:`Multiplier`
        Multiplier of each product, by its number.

    Members
    -------
    product : ``In(range(len(multipliers)))``
        Product to compute. Must not change while one is in flight.
    a, b : ``In(fmt.width)``
        Factors.
    o : ``Out(fmt.width)``
        Product.
    """

    def __init__(self, *, fmt, multipliers):
        self._multipliers = list(multipliers)
        self._units = {multiplier: Multiply(fmt=fmt, multiplier=multiplier)
                       for multiplier in dict.fromkeys(self._multipliers)}
        self._slowest = max(unit.LATENCY for unit in self._units.values())
        self.LATENCY  = self._slowest + (len(self._units) > 1)
        super().__init__({
            "product": In(max(1, ceil_log2(len(self._multipliers)))),
            "a":       In(fmt.width),
            "b":       In(fmt.width),
            "o":       Out(fmt.width),
        })

    def elaborate(self, platform):
        m = Module()
        outputs = {}
        for multiplier, unit in self._units.items():
            m.submodules[str(multiplier)] = unit
            m.d.comb += unit.a.eq(self.a)
            m.d.comb += unit.b.eq(self.b)
            outputs[multiplier] = delay(m, unit.o, self._slowest - unit.LATENCY)
        if len(outputs) == 1:
            m.d.comb += self.o.eq(next(iter(outputs.values())))
        else:
            chosen = Array(outputs[multiplier] for multiplier in self._multipliers)[self.product]
            m.d.comb += self.o.eq(delay(m, chosen, name="chosen"))
        return m
