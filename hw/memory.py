"""Block RAM that is read through streams."""

from amaranth import Module, Signal
from amaranth.hdl import Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.stream import delay

__all__ = ["StreamMemory", "Queue"]


class StreamMemory(wiring.Component):
    """A memory with one write port, read by a stream of addresses.

    What is read leaves in the order of the addresses. Latency is :attr:`LATENCY_CYCLES`: one for the
    block RAM and one for a register behind it, without which its slow output would be in everybody's
    critical path. Throughput is one element per cycle; up to :attr:`HELD` wait inside.

    An address must not be read in the cycle in which it is written, and what comes out then has no
    meaning: block RAMs differ there, and making them agree costs logic of the size of the word.

    Parameters
    ----------
    shape : shape-like
        Shape of the elements.
    depth : :class:`int`
        Number of elements. At least 1.
    init : iterable
        First contents; the rest is zero.

    Members
    -------
    writes : ``In(stream.Signature(..., always_ready=True))``
        ``address`` and ``data``, written at the end of the cycle.
    addresses : ``In(stream.Signature(range(depth)))``
    o : ``Out(stream.Signature(shape))``
    empty : ``Out(1)``
        Nothing waits inside.
    """

    LATENCY_CYCLES = 2
    #: Elements that may wait inside.
    HELD = 2

    def __init__(self, *, shape, depth: int, init=()):
        if not isinstance(depth, int) or depth < 1:
            raise ValueError(f"Memory depth must be a positive integer, not {depth!r}")
        self._shape, self._depth, self._init = shape, depth, init
        super().__init__({
            "writes":    In(stream.Signature(data.StructLayout({"address": range(depth), "data": shape}),
                                             always_ready=True)),
            "addresses": In(stream.Signature(range(depth))),
            "o":         Out(stream.Signature(shape)),
            "empty":     Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        # No address is read while it is written, so nobody sees what a collision gives.
        m.submodules.memory = store = memory.Memory(shape=self._shape, depth=self._depth,
                                                    init=self._init, attrs={"no_rw_check": 1})
        w_port, r_port = store.write_port(), store.read_port()
        m.d.comb += [
            w_port.addr.eq(self.writes.payload.address),
            w_port.data.eq(self.writes.payload.data),
            w_port.en.eq(self.writes.valid),
        ]

        fetched = Signal()          # the block RAM shows an element that is due
        step    = Signal()          # the register takes what the block RAM shows
        fetch   = Signal()          # the block RAM takes an address
        m.d.comb += [
            step.eq(~self.o.valid | self.o.ready),
            fetch.eq(~fetched | step),
            self.addresses.ready.eq(fetch),
            self.empty.eq(~fetched & ~self.o.valid),
            r_port.addr.eq(self.addresses.payload),
            r_port.en.eq(fetch),
        ]
        with m.If(fetch):
            m.d.sync += fetched.eq(self.addresses.valid)
        with m.If(step):
            m.d.sync += self.o.valid.eq(fetched)
        # Not reset, so that it can be the register of the block RAM itself.
        shown = delay(m, r_port.data, en=step, name="shown")
        m.d.comb += Value.cast(self.o.payload).eq(Value.cast(shown))
        return m


class Queue(wiring.Component):
    """A queue in block RAM.

    Latency is :attr:`LATENCY_CYCLES`; throughput is one element per cycle. It holds `depth` elements
    and up to two more on their way out (:meth:`capacity`).

    Parameters
    ----------
    shape : shape-like
        Shape of the elements.
    depth : :class:`int`
        Number of elements, a power of two.

    Members
    -------
    i : ``In(stream.Signature(shape))``
    o : ``Out(stream.Signature(shape))``
    empty : ``Out(1)``
        Nothing is held.
    """

    LATENCY_CYCLES = 1 + StreamMemory.LATENCY_CYCLES

    @staticmethod
    def capacity(depth: int) -> int:
        """Elements that it holds, with those on their way out."""
        return depth + StreamMemory.HELD

    def __init__(self, *, shape, depth: int):
        if not isinstance(depth, int) or depth < 1 or depth & depth - 1:
            raise ValueError(f"Queue depth must be a power of two, not {depth!r}")
        self._shape, self._depth = shape, depth
        super().__init__({
            "i":     In(stream.Signature(shape)),
            "o":     Out(stream.Signature(shape)),
            "empty": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = StreamMemory(shape=self._shape, depth=self._depth)

        # Places are counted modulo twice the depth, so that full and empty differ.
        written = Signal(range(2 * self._depth))
        read    = Signal(range(2 * self._depth))
        full    = Signal()
        some    = Signal()                              # there is something to be fetched
        put     = self.i.valid & self.i.ready
        fetch   = store.addresses.valid & store.addresses.ready
        held    = (written - read)[:len(read)]
        m.d.comb += [
            self.i.ready.eq(~full),
            store.writes.valid.eq(put),
            store.addresses.valid.eq(some),
            store.addresses.payload.eq(read),
            self.empty.eq(~some & store.empty),
        ]
        # From registers, because whoever gives or takes waits for them.
        m.d.sync += [
            full.eq(~fetch & (full | put & (held == self._depth - 1))),
            some.eq(put | some & ~(fetch & (held == 1))),
        ]
        wiring.connect(m, store.o, wiring.flipped(self.o))
        m.d.comb += [store.writes.payload.address.eq(written), store.writes.payload.data.eq(self.i.payload)]
        with m.If(put):
            m.d.sync += written.eq(written + 1)
        with m.If(fetch):
            m.d.sync += read.eq(read + 1)
        return m
