"""The wires of an asynchronous serial port: eight bits, no parity, one stop bit."""

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["Uart", "UartReceiver", "UartTransmitter", "divisor"]

#: Bits of an octet on the wire: start, eight of data, stop.
FRAME_BITS = 10
#: Share of a bit by which the rate may be off. Two ends that are off by twice this, in opposite directions,
#: are four tenths of a bit apart at the end of a frame.
TOLERANCE = 0.02


def divisor(clock_hz: int, baud: int) -> int:
    """Cycles of a bit.

    Raises
    ------
    ValueError
        If no whole number of cycles, at least four, comes within :data:`TOLERANCE` of the rate.
    """
    cycles = round(clock_hz / baud)
    if cycles < 4 or abs(clock_hz / cycles / baud - 1) > TOLERANCE:
        raise ValueError(f"Clock must be within {100 * TOLERANCE:g} % of a multiple, at least four, of {baud} baud, "
                         f"which {clock_hz} Hz is not")
    return cycles


def _check(cycles: int) -> None:
    if not isinstance(cycles, int) or cycles < 4:
        raise ValueError(f"Bits of a serial port must have at least four cycles, not {cycles!r}")


class UartReceiver(wiring.Component):
    """Takes octets from a wire.

    An octet is there half a bit into its stop bit. Nothing can be held back on a wire: what comes while the octet
    before it has not been taken is dropped, and so is an octet without a stop bit.

    Parameters
    ----------
    divisor : :class:`int`
        Cycles of a bit, at least four.

    Members
    -------
    rx : ``In(1)``
        The wire, in its own time; high between octets.
    o : ``Out(stream.Signature(8))``
        Octets.
    """

    def __init__(self, *, divisor: int):
        _check(divisor)
        self._divisor = divisor
        super().__init__({"rx": In(1, init=1), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        rx = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, rx, init=1)

        timer = Signal(range(self._divisor + 1))    # cycles to the middle of the next bit
        left  = Signal(range(FRAME_BITS + 1))       # bits to come
        bits  = Signal(FRAME_BITS - 1)              # start bit and data
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(left == 0):
            m.d.sync += timer.eq(self._divisor // 2 - 1)
            with m.If(~rx):
                m.d.sync += left.eq(FRAME_BITS)
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self._divisor - 1), left.eq(left - 1), bits.eq(Cat(bits[1:], rx))]
            with m.If((left == FRAME_BITS) & rx):       # a spike
                m.d.sync += left.eq(0)
            with m.If((left == 1) & rx & (~self.o.valid | self.o.ready)):
                m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(bits[1:])]
        return m


class UartTransmitter(wiring.Component):
    """Puts octets on a wire; one takes :data:`FRAME_BITS` times `divisor` cycles.

    Parameters
    ----------
    divisor : :class:`int`
        Cycles of a bit, at least four.

    Members
    -------
    i : ``In(stream.Signature(8))``
        Octets.
    tx : ``Out(1)``
        The wire, out of a flip-flop.
    """

    def __init__(self, *, divisor: int):
        _check(divisor)
        self._divisor = divisor
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        timer = Signal(range(self._divisor))
        left  = Signal(range(FRAME_BITS + 1))
        bits  = Signal(FRAME_BITS, init=-1)
        free  = Signal(init=1)                      # the last bit ends; from a register, as the octet comes from far
        m.d.comb += self.i.ready.eq(free)
        m.d.sync += free.eq(~(self.i.valid & free) & ((left == 0) | (left == 1) & (timer <= 1)))
        m.d.sync += self.tx.eq(bits[0])
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Elif(left != 0):
            m.d.sync += [timer.eq(self._divisor - 1), left.eq(left - 1), bits.eq(Cat(bits[1:], 1))]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [timer.eq(self._divisor - 1), left.eq(FRAME_BITS), bits.eq(Cat(0, self.i.payload, 1))]
        return m


class Uart(wiring.Component):
    """A serial port as the link of a machine.

    Parameters
    ----------
    divisor : :class:`int`
        Cycles of a bit, at least four, see :func:`divisor`.

    Members
    -------
    i, o : ``In(stream.Signature(8))``, ``Out(stream.Signature(8))``
        Octets to and from the host.
    rx, tx : ``In(1)``, ``Out(1)``
        The wires.
    """

    def __init__(self, *, divisor: int):
        _check(divisor)
        self._receiver    = UartReceiver(divisor=divisor)
        self._transmitter = UartTransmitter(divisor=divisor)
        super().__init__({
            "i":  In(stream.Signature(8)),
            "o":  Out(stream.Signature(8)),
            "rx": In(1, init=1),
            "tx": Out(1, init=1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver    = receiver    = self._receiver
        m.submodules.transmitter = transmitter = self._transmitter
        wiring.connect(m, wiring.flipped(self.i), transmitter.i)
        wiring.connect(m, receiver.o, wiring.flipped(self.o))
        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx)]
        return m
