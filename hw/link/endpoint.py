"""The device's end of the link: frames in, accesses to the machine, frames out."""

from amaranth import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from terngen.hw.bus import BusSignature
from terngen.hw.contract.wire import HEADER_BYTES, IDLE_CYCLES, MAX_PAYLOAD, VERSION, Fault, Header, Type
from terngen.hw.link.cobs import CobsDecoder, CobsEncoder, Symbol
from terngen.hw.link.receiver import Receiver
from terngen.hw.stream import Relay, delay

__all__ = ["Endpoint"]


#: What an answer adds to the type of its request.
ANSWER = Type.READ_REPLY.value - Type.READ.value


class Executor(wiring.Component):
    """Judges requests, makes their accesses, and says how they are to be answered.

    It starts without a session: reset is what a new ``HELLO`` does to it.

    Members
    -------
    requests : ``In(stream.Signature(8))``
        Headers and payloads, as the :class:`Receiver` gives them.
    accesses : ``Out(...)``
        As in :class:`BusSignature`.
    replies : ``Out(stream.Signature(Header))``
        Headers of answers. That of a ``READ`` comes before its accesses, that of a ``WRITE`` after
        them.
    """

    #: Cycles of a request beside those for the octets of its payload.
    OVERHEAD_CYCLES = HEADER_BYTES + 5

    def __init__(self):
        super().__init__({
            "requests": In(stream.Signature(8)),
            "accesses": BusSignature().members["accesses"],
            "replies":  Out(stream.Signature(Header)),
        })

    def elaborate(self, platform):
        m = Module()
        octets = self.requests

        header = Signal(Header)
        taken  = Signal(range(HEADER_BYTES))        # octets of the header
        live   = Signal()                           # there is a session
        due    = Signal(16)                         # sequence number of the next request
        generation = Signal(8)
        fault  = Signal(Fault)
        ahead  = delay(m, (header.sequence - due)[:16], name="ahead")
        repeat = delay(m, ahead != 0, name="repeat")        # the request has been executed before
        # What is wrong with a request if it is one of a session.
        foreign   = delay(m, ~live | (header.generation != generation), name="foreign")
        unaligned = delay(m, header.address[:2] != 0, name="unaligned")
        misfit    = delay(m, (header.length == 0) | (header.length[:2] != 0) | (header.length > MAX_PAYLOAD),
                          name="misfit")

        def judge():
            """The first fault that applies."""
            hello = header.type == Type.HELLO
            with m.If(header.version != VERSION):
                m.d.sync += fault.eq(Fault.VERSION)
            with m.Elif(~hello & (header.type != Type.READ) & (header.type != Type.WRITE)):
                m.d.sync += fault.eq(Fault.TYPE)
            with m.Elif(hello):
                m.d.sync += fault.eq(Fault.NONE)
            with m.Elif(foreign):
                m.d.sync += fault.eq(Fault.GENERATION)
            with m.Elif((ahead != 0) & ~ahead[-1]):
                m.d.sync += fault.eq(Fault.SEQUENCE)
            with m.Elif(unaligned):
                m.d.sync += fault.eq(Fault.ADDRESS)
            with m.Elif(misfit):
                m.d.sync += fault.eq(Fault.LENGTH)
            with m.Else():
                m.d.sync += fault.eq(Fault.NONE)

        left    = Signal(range(MAX_PAYLOAD + 1))    # octets of the payload to come, or words to read
        address = Signal(30)
        word    = Signal(32)
        parts   = Signal(24)                        # octets of the word that is not complete
        place   = Signal(range(4))                  # octet of the word that comes next
        full    = Signal()                          # there is a word
        access  = self.accesses
        m.d.comb += [
            self.replies.payload.eq(header),
            access.payload.address.eq(address << 2),
            access.payload.data.eq(word),
        ]
        with m.If(access.valid & access.ready):
            m.d.sync += address.eq(address + 1)

        with m.FSM():
            with m.State("Header"):
                m.d.comb += octets.ready.eq(1)
                with m.If(octets.valid):
                    m.d.sync += header.eq(Cat(header.as_value()[8:], octets.payload))
                    m.d.sync += taken.eq(taken + 1)
                    with m.If(taken == HEADER_BYTES - 1):
                        m.d.sync += taken.eq(0)
                        m.next = "Look"
            with m.State("Look"):
                m.next = "Judge"
            with m.State("Judge"):
                judge()
                m.d.sync += [
                    address.eq(header.address[2:]),
                    left.eq(header.length),
                ]
                m.next = "Accept"
            with m.State("Accept"):
                read  = header.type == Type.READ
                write = (header.type == Type.WRITE) & (fault != Fault.VERSION)
                m.next = "Reply"
                with m.If((fault == Fault.NONE) | (fault == Fault.ADDRESS) | (fault == Fault.LENGTH)):
                    with m.If(read | write):
                        with m.If(~repeat):
                            m.d.sync += due.eq(due + 1)
                    with m.Elif(~live):
                        # Another HELLO in the same session is answered and changes nothing.
                        m.d.sync += [live.eq(1), generation.eq(header.generation),
                                     due.eq(header.sequence + 1)]
                with m.If(write & (left != 0)):
                    m.next = "Skip"
                    with m.If((fault == Fault.NONE) & ~repeat):
                        m.next = "Write"
                # From here on it is the header of the answer.
                m.d.sync += [
                    header.version.eq(VERSION),
                    header.type.eq(header.type.as_value() | ANSWER),
                    header.length.eq(Mux(read, header.length, 0)),
                    header.fault.eq(fault),
                    header.reserved.eq(0),
                ]
                with m.If(fault != Fault.NONE):
                    m.d.sync += [header.type.eq(Type.ERROR), header.length.eq(0)]
            with m.State("Skip"):
                m.d.comb += octets.ready.eq(1)
                with m.If(octets.valid):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "Reply"
            with m.State("Write"):
                m.d.comb += [
                    access.valid.eq(full),
                    access.payload.write.eq(1),
                    # Whether the word is taken in this cycle comes from too far to count.
                    octets.ready.eq((~full | (place != 3)) & (left != 0)),
                ]
                with m.If(full & access.ready):
                    m.d.sync += full.eq(0)
                    with m.If(left == 0):
                        m.next = "Reply"
                with m.If(octets.valid & octets.ready):
                    m.d.sync += [
                        parts.eq(Cat(parts[8:], octets.payload)),
                        place.eq(place + 1),
                        left.eq(left - 1),
                    ]
                    with m.If(place == 3):
                        m.d.sync += [word.eq(Cat(parts, octets.payload)), full.eq(1)]
            with m.State("Reply"):
                m.d.comb += self.replies.valid.eq(1)
                m.d.sync += left.eq(header.length >> 2)
                with m.If(self.replies.ready):
                    m.next = "Header"
                    with m.If(header.length != 0):
                        m.next = "Read"
            with m.State("Read"):
                m.d.comb += access.valid.eq(1)
                with m.If(access.ready):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "Header"
        return m


class Replier(wiring.Component):
    """Puts answers together: header, words that were read, CRC-32.

    Throughput is one octet per cycle; a frame takes :meth:`cycles`.

    Members
    -------
    replies : ``In(stream.Signature(Header))``
        Headers; ``length`` octets of words follow each.
    answers : ``In(...)``
        As in :class:`BusSignature`: the words.
    o : ``Out(stream.Signature(Symbol))``
        Frames.
    """

    replies: In(stream.Signature(Header))
    answers: In(stream.Signature(32))
    o: Out(stream.Signature(Symbol))

    @staticmethod
    def cycles(octets: int) -> int:
        """Cycles of an answer with that many octets of payload, when nothing waits."""
        return 1 + HEADER_BYTES + octets + 4 + 1

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = CRC32_ISO_HDLC(8).create()

        rest   = Signal(8 * HEADER_BYTES)           # of the header or of a word, the next octet first
        full   = Signal()                           # there is an octet; from a register, as all waits for it
        ends   = Signal()                           # it is the last one before a word
        load   = Signal()                           # there may be a word
        due    = Signal()                           # ... and there is; from a register, as it comes from far
        left   = Signal(range(MAX_PAYLOAD + 1))     # octets of the present part
        last   = Signal()                           # there is one; from a register, as much hangs on it
        length = Signal.like(left)
        worded = Signal()                           # words follow
        place  = Signal(range(4))
        octet  = Signal(8)                          # that is given, or
        end    = Signal()                           # ... the end of the frame
        given  = self.o.valid & self.o.ready
        m.d.comb += [
            octet.eq(rest[:8]),
            crc.data.eq(rest[:8]),
            self.o.payload.as_value().eq(Cat(octet, end)),      # whole: `broken` is zero
            self.o.valid.eq(full),
            self.answers.ready.eq(load & due),
        ]
        with m.If(given):
            m.d.sync += [rest.eq(rest >> 8), left.eq(left - 1), last.eq(left == 2), ends.eq(0)]
            with m.If(ends):
                m.d.sync += full.eq(0)

        with m.FSM() as fsm:
            m.d.comb += load.eq(~fsm.ongoing("Idle") & (~full | given & ends))
            with m.State("Idle"):
                m.d.comb += [self.replies.ready.eq(1), crc.start.eq(1)]
                m.d.sync += [rest.eq(self.replies.payload), length.eq(self.replies.payload.length),
                             worded.eq(self.replies.payload.length != 0), left.eq(HEADER_BYTES)]
                with m.If(self.replies.valid):
                    m.d.sync += full.eq(1)
                    m.next = "Header"
            with m.State("Header"):
                m.d.comb += crc.valid.eq(given)
                with m.If(given):
                    m.d.sync += ends.eq((left == 2) & worded)
                    with m.If(last):
                        m.d.sync += left.eq(length)
                        m.next = "Check"
                        with m.If(worded):
                            m.next = "Payload"
            with m.State("Payload"):
                m.d.comb += crc.valid.eq(given)
                with m.If(given):
                    m.d.sync += [place.eq(place + 1), ends.eq((place == 2) & (left != 2))]
                    with m.If(last):
                        m.next = "Check"
            with m.State("Check"):
                m.d.comb += octet.eq(crc.crc.word_select(place, 8))
                with m.If(given):
                    m.d.sync += place.eq(place + 1)
                    with m.If(place == 3):
                        m.next = "End"
            with m.State("End"):
                m.d.comb += end.eq(1)
                with m.If(given):
                    m.d.sync += full.eq(0)
                    m.next = "Idle"
        m.d.sync += due.eq(self.answers.valid & ~self.answers.ready)
        with m.If(load & due):
            m.d.sync += [rest[:32].eq(self.answers.payload), full.eq(1)]
        return m


class Endpoint(wiring.Component):
    """Executes the requests of a host as :mod:`~terngen.hw.contract.wire` says.

    ::

        link_i -> CobsDecoder -> Receiver -> Relay -> Executor -> accesses
                                    |                    | replies
                                 restart                 v
        link_o <-    Relay    <- CobsEncoder   <-     Replier  <- answers

    Everything takes one octet per cycle, and a frame is executed while the next arrives and the
    answer to the former leaves: writes are taken as fast as the link can bring them, if `accesses`
    take a word every four cycles (:meth:`write_cycles`). A read may wait for its answer as long as
    it likes; a ``HELLO`` gets in nevertheless. A frame that does not go on for `idle_cycles` is dropped.

    Parameters
    ----------
    idle_cycles : :class:`int`
        Cycles without an octet from the host after which a frame that has begun is dropped; a power of two.

    Members
    -------
    link_i, link_o : ``In(stream.Signature(8))``, ``Out(stream.Signature(8))``
        Octets from and to the host.
    bus : ``Out(BusSignature())``
        Accesses to the machine.
    restart : ``Out(1)``
        A session begins. Everything behind `bus` must be reset by the next clock edge: accesses that
        it has not taken are withdrawn, and answers that it owes must not come.
    drops : ``Out(16)``
        Frames that were not intact, modulo 65536.
    """

    def __init__(self, *, idle_cycles: int = IDLE_CYCLES):
        if idle_cycles < 2 or idle_cycles & (idle_cycles - 1):
            raise ValueError(f"Idle cycles must be a power of two from 2 on, not {idle_cycles!r}")
        self._idle_cycles = idle_cycles
        super().__init__({
            "link_i":  In(stream.Signature(8)),
            "link_o":  Out(stream.Signature(8)),
            "bus":     Out(BusSignature()),
            "restart": Out(1),
            "drops":   Out(16),
        })

    @staticmethod
    def write_cycles(octets: int) -> int:
        """Cycles from one ``WRITE`` of that many octets to the next that is ready, at most."""
        return octets + Executor.OVERHEAD_CYCLES

    def elaborate(self, platform):
        m = Module()
        # Silence drops what has begun. Where nothing has, that is nothing, so that it may come again and again.
        silence = Signal(self._idle_cycles.bit_length())
        drop    = silence[-1] & ~self.link_i.valid
        m.d.sync += silence.eq(silence + 1)
        with m.If(silence[-1] | self.link_i.valid):
            m.d.sync += silence.eq(0)
        decoder = CobsDecoder()
        m.submodules.decoder  = ResetInserter(drop)(decoder)
        m.submodules.receiver = receiver = Receiver()
        restarted = ResetInserter(receiver.restart)
        executor, replier, encoder = Executor(), Replier(), CobsEncoder()
        m.submodules.executor = restarted(executor)
        m.submodules.replier  = restarted(replier)
        m.submodules.encoder  = restarted(encoder)
        asked = Relay(8)
        m.submodules.asked    = restarted(asked)

        wiring.connect(m, wiring.flipped(self.link_i), decoder.i)
        wiring.connect(m, decoder.o, receiver.i)
        wiring.connect(m, receiver.o, asked.i)
        wiring.connect(m, asked.o, executor.requests)
        wiring.connect(m, executor.accesses, wiring.flipped(self.bus.accesses))
        wiring.connect(m, executor.replies, replier.replies)
        wiring.connect(m, wiring.flipped(self.bus.answers), replier.answers)
        wiring.connect(m, replier.o, encoder.i)

        # Not reset by a new session, so an octet on offer stays on offer.
        m.submodules.leaving = leaving = Relay(8)
        wiring.connect(m, encoder.o, leaving.i)
        wiring.connect(m, leaving.o, wiring.flipped(self.link_o))

        m.d.comb += receiver.drop.eq(drop)
        m.d.comb += [self.restart.eq(receiver.restart), self.drops.eq(receiver.drops)]
        return m
