"""A tape behind an AXI4 port.

Names and rules are those of the AMBA AXI protocol specification, Arm IHI 0022.
"""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.tape import Play
from terngen.hw.memory import Queue

__all__ = ["AxiSignature", "AxiTape"]

#: Octets that a burst must not run over a multiple of.
PAGE_BYTES = 4096
#: Beats of the longest incrementing burst.
BURST_BEATS = 256


class AxiSignature(wiring.Signature):
    """AXI4 port of a manager. All transactions have the same ID, so that they are answered in order.

    Parameters
    ----------
    addr_width : :class:`int`
        Bits of an address, which counts octets: 12 to 64.
    data_width : :class:`int`
        Bits of a transfer: a power of two from 8 to 1024.
    """

    def __init__(self, *, addr_width: int, data_width: int):
        if not 12 <= addr_width <= 64:
            raise ValueError(f"AXI4 address width must be from 12 to 64, not {addr_width!r}")
        if data_width not in (8, 16, 32, 64, 128, 256, 512, 1024):
            raise ValueError(f"AXI4 data width must be a power of two from 8 to 1024, not {data_width!r}")
        self.addr_width, self.data_width = addr_width, data_width

        def address(name):
            return {f"a{name}id": Out(1), f"a{name}addr": Out(addr_width), f"a{name}len": Out(8),
                    f"a{name}size": Out(3), f"a{name}burst": Out(2), f"a{name}valid": Out(1),
                    f"a{name}ready": In(1)}

        super().__init__({
            **address("w"),
            "wdata": Out(data_width), "wstrb": Out(data_width // 8), "wlast": Out(1), "wvalid": Out(1),
            "wready": In(1),
            "bid": In(1), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            **address("r"),
            "rid": In(1), "rdata": In(data_width), "rresp": In(2), "rlast": In(1), "rvalid": In(1),
            "rready": Out(1),
        })


class AxiTape(wiring.Component):
    """Plays a tape out of a memory behind an AXI4 port::

        play --> bursts --> AR      R --> queue --> beats
        load --> AW, W              B --> writes under way

    A beat is one transfer of the port. Bursts are aligned to their longest length, so none runs over 4
    KiB, and a burst is asked for when there is room for it in the queue, so the memory is never kept
    waiting. Requests are cut into bursts one after the other: the first burst of one may be under way
    before the last beat of the one before it has come. Throughput is one beat per cycle if the memory
    answers within ``burst * (bursts - 1) - 8`` cycles.

    A request waits until everything written before it has arrived. A beat that is written while it is
    played has no meaning.

    Parameters
    ----------
    addr_width, data_width : :class:`int`
        Of the port.
    burst : :class:`int`
        Beats of the longest burst, a power of two up to 256, at most 4 KiB.
    bursts : :class:`int`
        Bursts of that length under way, a power of two; the queue has room for so many.
    base : :class:`int`
        Address of the first beat, a multiple of the longest burst.

    Members
    -------
    play : ``In(stream.Signature(Play))``
        Requests.
    beats : ``Out(stream.Signature(data_width))``
        What was asked for, in order.
    load : ``In(stream.Signature(...))``
        Writes: ``address``, a beat, and ``data``.
    axi : ``Out(AxiSignature(...))``
        The memory. It must have been reset when this is, since answers to what was asked for earlier would be taken
        for others.
    error : ``Out(1)``
        The memory has answered with an error since the reset.
    """

    #: Writes under way.
    WRITES = 15

    def __init__(self, *, data_width: int, addr_width: int = 32, burst: int = 16, bursts: int = 16, base: int = 0):
        port = AxiSignature(addr_width=addr_width, data_width=data_width)
        beat_bytes = data_width // 8
        if not (0 < burst <= BURST_BEATS and burst & burst - 1 == 0 and burst * beat_bytes <= PAGE_BYTES):
            raise ValueError(f"AXI4 burst must be a power of two up to {min(BURST_BEATS, PAGE_BYTES // beat_bytes)} "
                             f"beats of {beat_bytes} octets, not {burst!r}")
        if not (bursts > 0 and bursts & bursts - 1 == 0):
            raise ValueError(f"AXI4 bursts under way must be a power of two, not {bursts!r}")
        if base % (burst * beat_bytes) or not 0 <= base < 1 << addr_width:
            raise ValueError(f"AXI4 base must be a multiple of {burst * beat_bytes} of {addr_width} bits, not {base!r}")
        self._burst, self._depth, self._base = burst, burst * bursts, base
        self._shift = beat_bytes.bit_length() - 1
        super().__init__({
            "play":  In(stream.Signature(Play)),
            "beats": Out(stream.Signature(data_width)),
            "load":  In(stream.Signature(data.StructLayout({"address": 32, "data": data_width}))),
            "axi":   Out(port),
            "error": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        axi = self.axi
        m.submodules.queue = queue = Queue(shape=axi.signature.data_width, depth=self._depth)
        wiring.connect(m, queue.o, wiring.flipped(self.beats))
        for name in ("aw", "ar"):
            m.d.comb += [getattr(axi, f"{name}size").eq(self._shift), getattr(axi, f"{name}burst").eq(1)]

        # Writes, one beat each: a host has slower links than any memory.
        writes = Signal(range(self.WRITES + 1))         # under way
        load   = self.load.valid & self.load.ready
        m.d.comb += [
            self.load.ready.eq((~axi.awvalid | axi.awready) & (~axi.wvalid | axi.wready)
                               & (writes != self.WRITES)),
            axi.wstrb.eq(~0),
            axi.wlast.eq(1),
            axi.bready.eq(1),
        ]
        m.d.sync += writes.eq(writes + load - axi.bvalid)
        with m.If(axi.awready):
            m.d.sync += axi.awvalid.eq(0)
        with m.If(axi.wready):
            m.d.sync += axi.wvalid.eq(0)
        with m.If(load):
            m.d.sync += [
                axi.awvalid.eq(1),
                axi.awaddr.eq(self._base + (self.load.payload.address << self._shift)),
                axi.wvalid.eq(1),
                axi.wdata.eq(self.load.payload.data),
            ]

        # Bursts.
        place  = Signal(32)
        left   = Signal(32)
        room   = Signal(range(self._depth + 1), init=self._depth)      # in the queue, not asked for
        whole  = Signal(range(self._burst + 1))                        # up to the next aligned burst
        length = Signal(range(self._burst + 1))
        last   = Signal()
        ask    = Signal()
        m.d.comb += [
            whole.eq(self._burst - (place & self._burst - 1)),
            last.eq(left <= whole),
            length.eq(Mux(last, left, whole)),
            ask.eq((left != 0) & (room >= self._burst) & (writes == 0) & (~axi.arvalid | axi.arready)),
            self.play.ready.eq(((left == 0) | (ask & last)) & ~self.load.valid),
        ]
        with m.If(axi.arready):
            m.d.sync += axi.arvalid.eq(0)
        with m.If(ask):
            m.d.sync += [
                axi.arvalid.eq(1),
                axi.araddr.eq(self._base + (place << self._shift)),
                axi.arlen.eq(length - 1),
                place.eq(place + length),
                left.eq(left - length),
            ]
        with m.If(self.play.valid & self.play.ready):
            m.d.sync += [place.eq(self.play.payload.start), left.eq(self.play.payload.count)]
        m.d.sync += room.eq(room - Mux(ask, length, 0) + (self.beats.valid & self.beats.ready))

        # There is room for all that comes.
        m.d.comb += [
            axi.rready.eq(queue.i.ready),
            queue.i.valid.eq(axi.rvalid),
            queue.i.payload.eq(axi.rdata),
        ]
        with m.If((axi.rvalid & (axi.rresp != 0)) | (axi.bvalid & (axi.bresp != 0))):
            m.d.sync += self.error.eq(1)
        return m
