"""COBS, one octet per cycle.

Stuart Cheshire and Mary Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM Transactions on
Networking 7(2), 1999; what it does to octets stands in :mod:`~terngen.hw.contract.wire`.
"""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.wire import BLOCK, DELIMITER
from terngen.hw.memory import StreamMemory
from terngen.hw.stream import Relay, delay

__all__ = ["Symbol", "CobsDecoder", "CobsEncoder"]


class Symbol(data.Struct):
    """An octet of a frame, or the end of the frame."""

    octet:  8
    end:    1
    broken: 1       # with end, from a decoder: the frame ends within a block


class CobsDecoder(wiring.Component):
    """Removes the encoding from frames.

    Every zero on `i` gives one end on `o`, also where there was nothing since the last. An output is
    offered in the cycle of the octet that it comes from: latency is zero cycles, throughput one octet
    per cycle.

    Members
    -------
    i : ``In(stream.Signature(8))``
        Encoded frames, each ended by a zero.
    o : ``Out(stream.Signature(Symbol))``
        Frames.
    """

    LATENCY_CYCLES = 0

    i: In(stream.Signature(8))
    o: Out(stream.Signature(Symbol))

    def elaborate(self, platform):
        m = Module()
        left = Signal(8)                # octets until the next code
        full = Signal(init=1)           # the last code stands for no zero: a full block, or none yet
        says = Signal()                 # this octet gives a symbol
        zero = self.i.payload == DELIMITER
        m.d.comb += [
            says.eq(zero | (left != 0) | ~full),
            self.o.valid.eq(self.i.valid & says),
            self.i.ready.eq(self.o.ready | ~says),
        ]
        with m.If(zero):
            m.d.comb += [self.o.payload.end.eq(1), self.o.payload.broken.eq(left != 0)]
        with m.Elif(left != 0):
            m.d.comb += self.o.payload.octet.eq(self.i.payload)
        with m.If(self.i.valid & self.i.ready):
            with m.If(zero):
                m.d.sync += [left.eq(0), full.eq(1)]
            with m.Elif(left != 0):
                m.d.sync += left.eq(left - 1)
            with m.Else():
                m.d.sync += [left.eq(self.i.payload - 1), full.eq(self.i.payload == BLOCK + 1)]
        return m


class CobsEncoder(wiring.Component):
    """Encodes frames, and ends each with a zero.

    Octets are put in order into a ring in block RAM, where each zero is left out until the distance
    to the next is known; that distance is then written in its place. So a block leaves once its end
    is known, and from then on one octet per cycle. Of the input, an octet takes one cycle and the end
    of a frame two; another one is taken when a run without a zero exceeds 254 octets
    (:meth:`cycles`). After a reset a zero comes first, which ends what the reset has cut off.

    Members
    -------
    i : ``In(stream.Signature(Symbol))``
        Frames; ``broken`` has no meaning.
    o : ``Out(stream.Signature(8))``
        Encoded frames.
    """

    #: Octets of the ring: a block that grows and one that leaves.
    DEPTH = 2 * (BLOCK + 2)
    #: Cycles from the end of a block to its first octet.
    LATENCY_CYCLES = 3 + StreamMemory.LATENCY_CYCLES

    i: In(stream.Signature(Symbol))
    o: Out(stream.Signature(8))

    @staticmethod
    def cycles(octets: int) -> int:
        """Most cycles in which a frame of that many octets is taken, when the output never waits."""
        return octets + max(0, octets - 1) // BLOCK + 2

    def elaborate(self, platform):
        m = Module()
        m.submodules.ring = ring = StreamMemory(shape=8, depth=self.DEPTH)

        place = Signal(range(self.DEPTH), init=1)   # where the next octet goes
        code  = Signal(range(self.DEPTH))           # where the code of the growing block goes
        read  = Signal(range(self.DEPTH))           # what leaves next: everything before `code`
        count = Signal(range(BLOCK + 1))            # octets in the growing block
        long  = Signal()                            # it has no room for another one
        free  = Signal(init=1)
        write = Signal()
        # What decides comes from registers: the symbol, and whether there is a place, so that one that is free
        # may seem taken.
        m.submodules.relay = relay = Relay(data.StructLayout({"symbol": Symbol, "zero": 1}))
        symbol, zero = relay.o.payload.symbol, relay.o.payload.zero
        m.d.comb += [
            relay.i.valid.eq(self.i.valid),
            relay.i.payload.symbol.eq(self.i.payload),
            relay.i.payload.zero.eq(self.i.payload.octet == 0),
            self.i.ready.eq(relay.i.ready),
        ]
        m.d.sync += free.eq((read - place - 1)[1:len(place)].any())
        # The block RAM may be far: what goes there, and whether there is something to be read, from registers as well.
        put   = Signal.like(ring.writes.payload)
        some  = Signal()
        fetch = ring.addresses.valid & ring.addresses.ready
        m.d.sync += some.eq(Mux(fetch, (read + 1)[:len(read)], read) != code)
        m.d.comb += [
            ring.addresses.valid.eq(some),
            ring.addresses.payload.eq(read),
            ring.writes.valid.eq(delay(m, write, reset=True, name="written")),
            ring.writes.payload.eq(delay(m, put, name="put")),
        ]
        with m.If(fetch):
            m.d.sync += read.eq(read + 1)
        wiring.connect(m, ring.o, wiring.flipped(self.o))

        def store(address, octet):
            m.d.comb += [write.eq(1), put.address.eq(address), put.data.eq(octet)]

        def close_block():
            store(code, count + 1)
            m.d.sync += [code.eq(place), place.eq(place + 1), count.eq(0), long.eq(0)]

        with m.FSM():
            with m.State("Delimiter"):
                # The place of the code is still free; the delimiter takes it.
                with m.If(free):
                    store(code, DELIMITER)
                    m.d.sync += [code.eq(place), place.eq(place + 1)]
                    m.next = "Octets"
            with m.State("Octets"):
                with m.If(relay.o.valid & free):
                    m.d.comb += relay.o.ready.eq(symbol.end | ~long)
                    with m.If(symbol.end | long | zero):
                        close_block()
                    with m.Else():
                        store(place, symbol.octet)
                        m.d.sync += [place.eq(place + 1), count.eq(count + 1), long.eq(count == BLOCK - 1)]
                    with m.If(symbol.end):
                        m.next = "Delimiter"
        return m
