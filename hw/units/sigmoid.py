"""Logistic function of floats, by table."""

from amaranth import C, Cat, Module, Mux, Signal
from amaranth.hdl import EnableInserter
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract import formats
from terngen.hw.stream import delay
from terngen.hw.units.packing import halve_even, shift_right

__all__ = ["Sigmoid"]


class Sigmoid(wiring.Component):
    """Computes the logistic function.

    Computes :func:`~terngen.hw.contract.formats.sigmoid` exactly. Provides no flow control: a value is taken
    and a result given on every enabled cycle. Latency is ``LATENCY`` cycles. Holds a table of 2048 codes in
    block RAM, with registers before and after it.

    Parameters
    ----------
    fmt : :class:`~terngen.hw.contract.formats.FloatFormat`
        Format of operand and result.
    partner : :class:`Sigmoid` or None
        Another one, for the same format and enabled in the same cycles, that has the table of both: a block RAM has
        two ports.

    Members
    -------
    en : ``In(1, init=1)``
        Clock enable.
    a : ``In(fmt.width)``
        Operand.
    o : ``Out(fmt.width)``
        Logistic function of the operand.
    """

    LATENCY = 7

    def __init__(self, *, fmt, partner=None):
        self._fmt      = fmt
        self._partner  = partner
        self._address  = Signal(range(formats.SIGMOID_ENTRIES))
        self._entry    = Signal(fmt.width - 2)
        self._sharers  = [self]
        if partner is not None:
            partner._sharers.append(self)
        super().__init__({
            "en": In(1, init=1),
            "a":  In(fmt.width),
            "o":  Out(fmt.width),
        })

    def elaborate(self, platform):
        m     = Module()
        bits  = self._fmt.mantissa_bits
        field = self._fmt.exponent_bits
        high  = bits + field

        # Decode. With an exponent field of 0111 for one, the inverted lower bits are the distance to it of
        # a field below, and the lower bits count the binades from two on.
        exponent  = self.a[bits:high]
        low, tall = exponent[:-1], exponent[-1]
        one       = ~tall & low.all()
        present   = exponent.any()
        # Cells of the binades from 1 and from 8 are twice as wide, in relation, as those of the others.
        base   = delay(m, Mux(tall, Mux(low == 0, 3, Mux(low == 1, 5, 6)), one), name="base")
        amount = delay(m, Mux(tall, low == 2, Mux(one, 1, ~low)), name="amount")
        inside = delay(m, ~tall | (low < 3), name="inside")
        cell   = Cat(C(0, max(0, 9 - bits)), self.a[:bits], C(1, 1))[-10:]
        cell   = delay(m, cell & present.replicate(10), name="cell")
        # Zero is positive, whatever its sign bit.
        negative = delay(m, self.a[high] & present, name="negative")

        # Address: blocks of 256 cells.
        cell, _ = shift_right(m, cell, amount)
        address = delay(m, Cat(cell[:8], (base + cell[8])[:3]), name="address")
        m.d.comb += self._address.eq(address)

        # Table of s = sigmoid(-|x|). It is at most 1/2: sign and highest bit of the exponent are zero.
        if self._partner is None:
            m.submodules.table = table = memory.Memory(
                shape=high - 1, depth=formats.SIGMOID_ENTRIES,
                init=[int(code) for code in formats.sigmoid_table(self._fmt)])
            for sharer in self._sharers:
                port = table.read_port()
                m.d.comb += [port.addr.eq(sharer._address), sharer._entry.eq(port.data)]
        tail = delay(m, self._entry, name="tail")

        # Align s to one: its exponent field, inverted, is the distance. Two bits are kept below the mantissa,
        # one because results below one are finer than one by a bit, and one to round by.
        inside     = delay(m, inside, 3, name="inside")
        distance   = delay(m, ~tail[bits:], name="distance")
        part       = Cat(C(0, 2), tail[:bits], tail[bits:].any())
        # A register with nearly nothing before it, because the block RAM may be far.
        part       = delay(m, part & inside.replicate(bits + 3), name="part")
        tail       = delay(m, tail & inside.replicate(high - 1), name="tail")
        part, lost = shift_right(m, part, distance)
        part, lost = delay(m, part, name="part"), delay(m, lost, name="lost")
        up         = halve_even(part[1:], part[0], lost.any())
        part       = part[1:bits + 2]
        tail       = delay(m, tail, name="tail")
        negative   = delay(m, negative, 5, name="negative")

        # Subtract: code of one, minus the rounded part. A borrow takes one from the exponent, whose other
        # bits are the same for one and for what lies between 1/2 and one.
        lower  = (~part ^ (1 << bits)) + ~up
        result = Cat(lower[:bits + 1], C(self._fmt.bias >> 1, field))
        result = Mux(negative, tail, result)
        m.d.comb += self.o.eq(delay(m, result, name="result"))

        return EnableInserter(self.en)(m)
