"""The root of a mean square: what a norm divides by."""

from amaranth import C, Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from terngen.hw.contract import formats
from terngen.hw.stream import delay
from terngen.hw.units.packing import rounded

__all__ = ["InverseRoot", "SquareSum"]

#: Bits of a bin; the contract promises that no sum is longer.
_BIN_BITS = 46
#: Bits below the unit of the highest bin that are kept of the lower bins.
_TAIL_BITS = 16
#: Cycles from a square to its place in the memory.
_ADD_CYCLES = 5
#: Bits of the combined bins, with one more for a carry and one for an even exponent.
_SUM_BITS = _BIN_BITS + 1 + _TAIL_BITS + 1
#: Places of a wide step of the normalisation.
_WIDE_STEP = 8


class SquareSum(wiring.Component):
    """Sums squares exactly, and gives the inverse of the root of the sum.

    Computes :func:`~terngen.hw.contract.formats.accumulate` and then
    :func:`~terngen.hw.contract.formats.inverse_root`. Each lane adds to bins of its own, in distributed
    RAM; when the last squares of a slot have come, the bins of all lanes are added and combined, from the
    lowest to the highest, and go through :class:`InverseRoot`.

    ::

        cycle  0      1       2        3         4        5
        term -> gate -> shift -> read -> + value -> write
                                  ^-------'-----------'    where the bin is that of the square before

    A bin is read, added to and written in a cycle each. What the two squares before have added to the same bin is
    not in the memory yet, and is taken from where it is.

    A group of squares is taken in every cycle. After the last one none is taken until the result has been,
    which comes ``LATENCY`` cycles later.

    Parameters
    ----------
    fmt : :class:`~terngen.hw.contract.formats.FloatFormat`
        Format of the result. Squares have the format ``fmt.wide``.
    lanes, slots : :class:`int`
        Squares in a transfer, and independent sums.

    Members
    -------
    i : ``In(stream.Signature(...))``
        ``terms``, squares of ``slot``; with ``first``, what was summed before for this slot is forgotten;
        with ``last``, the result is wanted.
    o : ``Out(stream.Signature(fmt.width))``
        ``1 / sqrt(sum)``.
    """

    def __init__(self, *, fmt, lanes: int, slots: int):
        self._fmt    = fmt
        self._lanes  = lanes
        self._slots  = slots
        self._bins   = formats.bins(fmt)
        self._levels = ceil_log2(lanes)
        self._root   = InverseRoot(fmt=fmt)
        self.LATENCY = _ADD_CYCLES + 4 + self._levels + self._bins + self._root.LATENCY
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({
                "terms": data.ArrayLayout(fmt.wide.width, lanes),
                "slot":  range(slots),
                "first": 1,
                "last":  1,
            }))),
            "o": Out(stream.Signature(fmt.width)),
        })

    def elaborate(self, platform):
        m     = Module()
        bits  = self._fmt.mantissa_bits
        names = ceil_log2(self._bins)                   # bits of the number of a bin
        taken = self.i.valid & self.i.ready
        given = self.i.payload

        walk  = Signal(range(self._bins + 1))           # bin that is read for the result
        asked = Signal()                                # a result is due
        adds  = Signal(_ADD_CYCLES)                     # bit k: squares that came k + 1 cycles ago
        slot  = delay(m, given.slot, en=taken, name="slot")
        first = delay(m, given.first & taken, reset=True, name="first")
        slot  = delay(m, slot, name="slot")
        first = delay(m, first, reset=True, name="first")
        m.d.sync += adds.eq(Cat(taken, adds))

        bins = []
        for lane in range(self._lanes):
            term     = delay(m, given.terms[lane], name="term")
            exponent = term[bits:-1]
            m.submodules[f"bins_{lane}"] = kept = memory.Memory(
                shape=_BIN_BITS, depth=self._slots * self._bins, init=[])
            write, read = kept.write_port(), kept.read_port(domain="comb")

            # A significand, at its place within the bin.
            present = exponent.any()
            value   = Cat(term[:bits], C(1, 1)) & present.replicate(bits + 1)
            value   = delay(m, value << exponent[:3], name="value")
            index   = delay(m, exponent[3:], name="index")

            # A bin whose flag is not set is zero, whatever the memory says.
            flags = Signal(self._slots * self._bins, name=f"flags_{lane}")
            place = Cat(Mux(adds[1], index, walk[:names]), slot)
            known = delay(m, ~first & flags.bit_select(place, 1), name="known")
            for each in range(self._slots):
                with m.If(first & (slot == each)):
                    m.d.sync += flags.word_select(each, self._bins).eq(0)
            with m.If(adds[1]):
                m.d.sync += flags.bit_select(place, 1).eq(1)

            # The memory; the sum of the square before the last is being written to it.
            places = [place]
            for _ in range(3):
                places.append(delay(m, places[-1], name="place"))
            total  = Signal(_BIN_BITS, name=f"total_{lane}", reset_less=True)
            recent = delay(m, adds[2] & (places[0] == places[1]), name="recent")        # one before
            older  = delay(m, adds[3] & (places[0] == places[2]), name="older")         # two before
            old    = delay(m, Mux(older, total, read.data) & known.replicate(_BIN_BITS), name="old")
            again  = delay(m, recent & known, name="again")
            value  = delay(m, value, 2, name="value")
            m.d.sync += total.eq(Mux(again, total, old) + value)
            m.d.comb += [
                read.addr.eq(places[1]),
                write.addr.eq(places[3]),
                write.data.eq(total),
                write.en.eq(adds[4]),
            ]
            bins.append(old)

        # All lanes, by a tree with a register behind each level.
        while len(bins) > 1:
            pairs = [delay(m, sum(bins[each:each + 2])[:_BIN_BITS], name="bins")
                     for each in range(0, len(bins), 2)]
            bins  = pairs

        # Bins are combined as they come.
        walking  = asked & ~adds.any() & (walk != self._bins)
        combine  = delay(m, walking, 3 + self._levels, reset=True, name="combine")
        number   = Signal(range(self._bins + 1))        # bins that have been combined
        acc      = Signal(_SUM_BITS - 1)
        present  = delay(m, bins[0].any(), name="present")
        total    = delay(m, bins[0], name="total")
        shifted  = Cat(acc[8:8 + _TAIL_BITS], acc[8 + _TAIL_BITS:] + total)[:len(acc)]
        combined = Signal(len(acc))
        highest  = Signal(names)
        m.submodules.root = root = self._root
        m.d.comb += [
            self.i.ready.eq(~asked),
            root.i.payload.sum.eq(combined),
            root.i.payload.highest.eq(highest),
            root.i.valid.eq(asked & (number == self._bins)),
        ]
        with m.If(walking):
            m.d.sync += walk.eq(walk + 1)
        with m.If(combine):
            m.d.sync += number.eq(number + 1)
            m.d.sync += acc.eq(shifted)
            with m.If(present):
                m.d.sync += combined.eq(shifted)
                m.d.sync += highest.eq(number)
        with m.If(root.i.valid & root.i.ready):
            m.d.sync += number.eq(0)
        wiring.connect(m, root.o, wiring.flipped(self.o))
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += asked.eq(0)
        with m.If(taken & given.last):
            m.d.sync += asked.eq(1)
        # Ever and again, and not by the decision that is made last: much hangs on it.
        with m.If(~asked):
            m.d.sync += [walk.eq(0), acc.eq(0), combined.eq(0), highest.eq(0)]
        return m


class InverseRoot(wiring.Component):
    """The inverse of a square root, one bit in two cycles.

    Computes steps 2 to 4 of :func:`~terngen.hw.contract.formats.inverse_root`. The operand x is shifted to
    the left, eight places at a time and then two at a time, in as many cycles whatever it is. Then r, the
    largest integer with ``r * r * x <= 2**(2 * p)``, grows bit by bit: with ``a = 4**k - r * r * x`` after
    k bits,

        ``a' = 4 * a - d * b``, ``b' = 2 * b + (4 * d - 1) * x``, where ``b = (4 * r + 1) * x``

    and the next bit d is whether the new a is not negative. The adders work side by side, and in a cycle of its own
    d decides between what they have found.

    Latency is ``LATENCY`` cycles, whatever the sum; the next one is taken when the result has been.

    Parameters
    ----------
    fmt : :class:`~terngen.hw.contract.formats.FloatFormat`
        Format of the result.

    Members
    -------
    i : ``In(stream.Signature(...))``
        ``sum`` of the bins and number of the ``highest`` that is not zero.
    o : ``Out(stream.Signature(fmt.width))``
    """

    def __init__(self, *, fmt):
        self._fmt    = fmt
        self._digits = fmt.mantissa_bits + 3
        # A bin that is not zero holds M + 1 bits, and as many as the sum has below the highest bin.
        skipped      = _SUM_BITS - (fmt.mantissa_bits + 1 + _TAIL_BITS)
        self._wide   = skipped // _WIDE_STEP            # steps of that many places
        self._narrow = _WIDE_STEP // 2 - 1              # steps of two places
        self.LATENCY = 1 + self._wide + self._narrow + 1 + 2 * self._digits + 2
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({
                "sum":     _SUM_BITS - 1,
                "highest": range(formats.bins(fmt)),
            }))),
            "o": Out(stream.Signature(fmt.width)),
        })

    def elaborate(self, platform):
        m    = Module()
        fmt  = self._fmt
        bits = fmt.mantissa_bits
        size = formats.root_bits(fmt)

        # The exponent of the sum is even when it counts in this unit.
        below = _TAIL_BITS + fmt.wide.bias + bits
        odd   = below & 1

        operand = Signal(_SUM_BITS)
        empty   = Signal()
        x       = operand[-size:]
        triple  = Signal(size + 2)
        field   = Signal(range(-(1 << fmt.exponent_bits + 1), 1 << fmt.exponent_bits + 1))
        a       = Signal(size + bits + 4)
        b       = Signal(size + bits + 4)
        root    = Signal(self._digits)
        left    = Signal(range(max(self._digits, self._wide + self._narrow) + 1))
        wide    = Signal()                  # the step that comes is a wide one
        vacant  = Signal()                  # ... and it has only zeros to shift out
        first   = Signal.like(operand)
        shifted = Signal.like(operand)
        ends    = Signal()                  # one is left
        last    = Signal()                  # in the cycle before, one was left
        significand = Signal(bits + 2)
        rest    = Signal(len(a) + 3)
        more    = Signal(len(b))            # b for each bit that may be next
        less    = Signal(len(b))
        chosen  = Signal()                  # the next bit is known
        m.d.sync += [
            rest.eq((a << 2) - b),
            more.eq((b << 1) + triple),
            less.eq((b << 1) - x),
            ends.eq(left == 2),
            last.eq(left == 1),
        ]
        m.d.comb += first.eq(self.i.payload.sum << odd)
        m.d.comb += shifted.eq(Mux(vacant, Mux(wide, operand << _WIDE_STEP, operand << 2), operand))
        # Zero outside the steps, so that nothing but itself says when to shift; in `Idle` it is overruled.
        m.d.sync += vacant.eq(0)
        with m.If(vacant):
            m.d.sync += [operand.eq(shifted), field.eq(field + Mux(wide, _WIDE_STEP // 2, 1))]
        with m.FSM():
            with m.State("Idle"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    operand.eq(first),
                    empty.eq(~self.i.payload.sum.any()),
                    # It is one less, which the hidden bit adds.
                    field.eq(fmt.bias - 1 + (below + odd - _SUM_BITS) // 2 - (self.i.payload.highest << 2)),
                    left.eq(self._wide + self._narrow),
                    wide.eq(1),
                    vacant.eq(~first[-_WIDE_STEP:].any()),
                ]
                with m.If(self.i.valid):
                    m.next = "Normalise"
            with m.State("Normalise"):
                m.d.sync += [
                    a.eq(1 << size - 4),
                    b.eq(x),
                    triple.eq(x + (x << 1)),
                    left.eq(left - 1),
                    wide.eq(left > self._narrow + 1),
                ]
                with m.If(last):
                    m.d.sync += left.eq(self._digits)
                    m.next = "Root"
                with m.If(~last & ~ends):
                    m.d.sync += vacant.eq(~Mux(left > self._narrow + 1, shifted[-_WIDE_STEP:], shifted[-2:]).any())
            with m.State("Root"):
                m.d.sync += chosen.eq(~chosen)
                with m.If(chosen):
                    m.d.sync += [
                        left.eq(left - 1),
                        root.eq(Cat(~rest[-1], root)),
                        a.eq(Mux(rest[-1], a << 2, rest)),
                        b.eq(Mux(rest[-1], less, more)),
                    ]
                    with m.If(last):
                        m.next = "Round"
            with m.State("Round"):
                m.d.sync += significand.eq((root + 1)[1:])
                m.next = "Pack"
            with m.State("Pack"):
                # The significand may be the next power of two, of which the last bits are those of all ones, and one.
                tall     = significand[-1]
                mantissa = significand[:bits] | tall.replicate(bits)
                m.d.sync += self.o.payload.eq(rounded(fmt, mantissa, field, tall, tall, sign=C(0, 1), zero=C(0, 1)))
                with m.If(empty):
                    m.d.sync += self.o.payload.eq(fmt.largest)
                m.next = "Done"
            with m.State("Done"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "Idle"
        return m
