"""The link of a machine as registers on a bus.

Names and rules are those of the AMBA AXI protocol specification, Arm IHI 0022: AXI4-Lite.
"""

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.mailbox import ADDRESS_BITS, DEPTH, Register
from terngen.hw.memory import Queue

__all__ = ["AxiLiteSignature", "Mailbox"]

#: Octets of a word of the bus.
WORD = 4


class AxiLiteSignature(wiring.Signature):
    """AXI4-Lite port of a manager, with words of 32 bits.

    Parameters
    ----------
    addr_width : :class:`int`
        Bits of an address, which counts octets.
    """

    def __init__(self, *, addr_width: int):
        self.addr_width = addr_width

        def address(name):
            return {f"a{name}addr": Out(addr_width), f"a{name}prot": Out(3), f"a{name}valid": Out(1),
                    f"a{name}ready": In(1)}

        super().__init__({
            **address("w"),
            "wdata": Out(8 * WORD), "wstrb": Out(WORD), "wvalid": Out(1), "wready": In(1),
            "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            **address("r"),
            "rdata": In(8 * WORD), "rresp": In(2), "rvalid": In(1), "rready": Out(1),
        })


class Mailbox(wiring.Component):
    """Carries the octets of the link through the registers of :mod:`~terngen.hw.contract.mailbox`::

        writes of DATA --> queue --> o
        reads of DATA  <-- queue <-- i

    An access is answered within eight cycles, whatever the machine does. Writes to other registers do nothing.

    Members
    -------
    i, o : ``In(stream.Signature(8))``, ``Out(stream.Signature(8))``
        Octets to and from the host.
    bus : ``In(AxiLiteSignature(...))``
        Where the host is.
    """

    def __init__(self):
        super().__init__({
            "i":   In(stream.Signature(8)),
            "o":   Out(stream.Signature(8)),
            "bus": In(AxiLiteSignature(addr_width=ADDRESS_BITS)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.incoming = incoming = Queue(shape=8, depth=DEPTH)
        m.submodules.outgoing = outgoing = Queue(shape=8, depth=DEPTH)
        wiring.connect(m, incoming.o, wiring.flipped(self.o))
        bus = self.bus

        # Each queue is as full as it may be known to be: an octet on its way out of it counts.
        room    = Signal(range(DEPTH + 1), init=DEPTH)
        waiting = Signal(range(DEPTH + 1))
        put, got     = incoming.i.valid & incoming.i.ready, incoming.o.valid & incoming.o.ready
        came, popped = self.i.valid & self.i.ready, outgoing.o.valid & outgoing.o.ready
        m.d.sync += [room.eq(room - put + got), waiting.eq(waiting + came - popped)]
        m.d.comb += [
            outgoing.i.payload.eq(self.i.payload),
            outgoing.i.valid.eq(self.i.valid & (waiting != DEPTH)),
            self.i.ready.eq(outgoing.i.ready & (waiting != DEPTH)),
        ]

        octets = Signal(8 * WORD)       # to be put, or got so far
        strobe = Signal(WORD)           # of those to be put
        left   = Signal(range(WORD + 1))
        place  = Signal(range(WORD))
        m.d.comb += incoming.i.payload.eq(octets[:8])
        with m.FSM():
            with m.State("Idle"):
                write = bus.awvalid & bus.wvalid
                m.d.comb += [bus.awready.eq(write), bus.wready.eq(write), bus.arready.eq(~write)]
                m.d.sync += [octets.eq(bus.wdata), strobe.eq(bus.wstrb), left.eq(WORD), place.eq(0)]
                with m.If(write):
                    m.next = "Put"
                    with m.If(bus.awaddr != Register.DATA):
                        m.d.sync += strobe.eq(0)
                with m.Elif(bus.arvalid):
                    m.next = "Answer read"
                    m.d.sync += octets.eq(0)
                    with m.Switch(bus.araddr):
                        with m.Case(Register.DATA):
                            m.next = "Get"
                        with m.Case(Register.OCTET):
                            m.d.sync += left.eq(1)
                            m.next = "Get"
                        with m.Case(Register.WAITING):
                            m.d.sync += octets.eq(waiting)
                        with m.Case(Register.ROOM):
                            m.d.sync += octets.eq(room)
            with m.State("Put"):
                m.d.comb += incoming.i.valid.eq(strobe[0] & (room != 0))
                m.d.sync += [octets.eq(octets >> 8), strobe.eq(strobe >> 1)]
                with m.If(strobe[1:] == 0):
                    m.next = "Answer write"
            with m.State("Answer write"):
                m.d.comb += bus.bvalid.eq(1)
                with m.If(bus.bready):
                    m.next = "Idle"
            with m.State("Get"):
                m.d.comb += outgoing.o.ready.eq(1)
                with m.If(popped):
                    m.d.sync += [octets.word_select(place, 8).eq(outgoing.o.payload), place.eq(place + 1),
                                 left.eq(left - 1)]
                with m.If((waiting == 0) | popped & ((left == 1) | (waiting == 1))):
                    m.next = "Answer read"
            with m.State("Answer read"):
                m.d.comb += [bus.rvalid.eq(1), bus.rdata.eq(octets)]
                with m.If(bus.rready):
                    m.next = "Idle"
        return m
