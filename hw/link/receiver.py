"""The way in: from octets of the link to sound frames."""

from amaranth import Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.wire import (
    CRC_BYTES,
    HEADER_BYTES,
    MAX_FRAME,
    MAX_PAYLOAD,
    VERSION,
    Header,
    Type,
)
from terngen.hw.link.cobs import Symbol
from terngen.hw.memory import StreamMemory
from terngen.hw.stream import Relay, delay

__all__ = ["Receiver"]


class Receiver(wiring.Component):
    """Keeps frames until their check sum is known, and passes on what is sound.

    Frames wait in a ring in block RAM that is twice as large as the longest payload: the next frame
    can arrive while the former is executed. A frame is dropped if it is broken, too long or too
    short, if its CRC-32 is wrong, or if its payload is not as long as its header says. What passes is
    the header, and the payload of a ``WRITE``; of frames that the device does not know (another
    version or type) the header alone, to be refused by it.

    A sound ``HELLO`` of another session than the present one is urgent: with :attr:`restart` all
    that waited before it is forgotten. It gets in even while nothing is taken from `o`, unless the
    ring is full.

    Latency from the last symbol of a frame to its first octet is :attr:`LATENCY_CYCLES`; throughput is one symbol
    per cycle, and after the end of a frame one cycle passes without, as in a
    :class:`~terngen.hw.link.cobs.CobsDecoder`, which has a code there.

    Members
    -------
    i : ``In(stream.Signature(Symbol))``
        Frames without their encoding.
    drop : ``In(1)``
        What has come of a frame is forgotten, as if it had ended too early.
    o : ``Out(stream.Signature(8))``
        Headers, each followed by the payload if there is one. Withdrawn by `restart`.
    restart : ``Out(1)``
        High for the cycle in which a session begins; the octets after it are those of its ``HELLO``.
    drops : ``Out(16)``
        Frames dropped, modulo 65536.
    """

    #: Octets of the ring.
    DEPTH = 2 * MAX_PAYLOAD
    LATENCY_CYCLES = 4 + StreamMemory.LATENCY_CYCLES

    i: In(stream.Signature(Symbol))
    drop: In(1)
    o: Out(stream.Signature(8))
    restart: Out(1)
    drops: Out(16)

    def elaborate(self, platform):
        m = Module()
        ring = StreamMemory(shape=8, depth=self.DEPTH)
        m.submodules.ring = ResetInserter(self.restart)(ring)
        m.submodules.crc = crc = CRC32_ISO_HDLC(8).create()

        # What waits lies from `read` to `start`, what arrives from `start` to `place`.
        read  = Signal(range(self.DEPTH))
        start = Signal(range(self.DEPTH))
        place = Signal(range(self.DEPTH))
        count = Signal(range(MAX_FRAME + 1))        # octets of the arriving frame that are kept
        open_ = Signal(init=1)                      # what comes finds a place, or is not kept
        room  = Signal(init=1)                      # the frame may still grow
        above = Signal()                            # it is too long
        heads = Signal(init=1)                      # octets are those of the header
        some  = Signal()                            # something waits
        fetch = ring.addresses.valid & ring.addresses.ready
        keep  = Signal()
        taken = Signal()
        finish = Signal()                           # the frame ends here
        ended  = Signal()                           # the frame has come, and is judged

        # What decides comes from registers: the symbol, and whether there is a place. That is known two octets late, so
        # three that are free may seem taken. Octets of a frame that is too long are not kept, so it cannot fill the
        # ring.
        free = delay(m, (read - place - 1)[2:len(place)].any(), name="free")
        m.d.sync += open_.eq(free | ~room)
        m.submodules.relay = relay = Relay(Symbol)
        wiring.connect(m, wiring.flipped(self.i), relay.i)
        symbol = relay.o.payload
        m.d.comb += [
            relay.o.ready.eq((symbol.end | open_) & ~ended),
            taken.eq(relay.o.valid & relay.o.ready),
            finish.eq(taken & symbol.end | self.drop),

            # The block RAM may be far: what goes there, and whether there is something to be read, from registers
            # as well.
            ring.writes.valid.eq(delay(m, keep, reset=True, name="written")),
            ring.writes.payload.address.eq(delay(m, place, name="write_place")),
            ring.writes.payload.data.eq(delay(m, symbol.octet, name="write_octet")),
            ring.addresses.payload.eq(read),
            ring.addresses.valid.eq(some),

            crc.start.eq(finish),
            crc.valid.eq(taken & ~symbol.end),
            crc.data.eq(symbol.octet),
        ]
        wiring.connect(m, ring.o, wiring.flipped(self.o))

        # The header as it arrives; what follows it is shifted past.
        header = Signal(Header)
        with m.If(taken & ~symbol.end):
            with m.If(room):
                m.d.comb += keep.eq(1)
                m.d.sync += [place.eq(place + 1), count.eq(count + 1), room.eq(count != MAX_FRAME - 1),
                             heads.eq(heads & (count != HEADER_BYTES - 1))]
            with m.Else():
                m.d.sync += above.eq(1)
            with m.If(heads):
                shifted = header.as_value().shift_right(8) | (symbol.octet << 8 * (HEADER_BYTES - 1))
                m.d.sync += header.as_value().eq(shifted)
        with m.If(fetch):
            m.d.sync += read.eq(read + 1)
        m.d.sync += some.eq(Mux(fetch, (read + 1)[:len(read)], read) != start)

        # The header is there for long when a frame ends that is sound, and so is what is found out about it here.
        live     = Signal()                         # there is a session
        session  = Signal(24)                       # generation and sequence number of its HELLO
        ours     = header.version == VERSION
        write    = ours & (header.type == Type.WRITE)
        opening  = header.as_value()[8:32]
        hello    = delay(m, ours & (header.type == Type.HELLO), name="hello")
        request  = delay(m, ours & (header.type == Type.READ), name="read") | delay(m, write, name="write") | hello
        payload  = delay(m, Mux(write, header.length, 0), name="payload")
        size     = delay(m, payload + (HEADER_BYTES + CRC_BYTES), name="size")
        after    = delay(m, (start + HEADER_BYTES + payload)[:len(start)], name="after")
        known    = delay(m, live & (session == opening), name="known")
        fits     = delay(m, ~above & Mux(request, count == size, count >= HEADER_BYTES + CRC_BYTES), name="fits")
        intact   = delay(m, crc.match_detected & ~symbol.broken, name="intact")
        noise    = delay(m, (count == 0) & ~symbol.broken, name="noise")
        # In a register, because it resets nearly all that there is.
        m.d.sync += self.restart.eq(0)
        m.d.sync += ended.eq(finish)
        with m.If(finish):
            m.d.sync += [count.eq(0), room.eq(1), above.eq(0), heads.eq(1)]
        with m.If(ended):
            m.d.sync += place.eq(start)
            with m.If(fits & intact):
                m.d.sync += [start.eq(after), place.eq(after)]
                with m.If(hello & ~known):
                    m.d.sync += [self.restart.eq(1), some.eq(0)]
                    m.d.sync += [read.eq(start), live.eq(1), session.eq(opening)]
            with m.Elif(~noise):
                m.d.sync += self.drops.eq(self.drops + 1)
        return m
