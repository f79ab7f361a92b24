"""A CRC-32 of a part of the tape, as the memory gives it back."""

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Play
from terngen.hw.stream import SkidBuffer, delay

__all__ = ["TapeCheck"]

#: Bits that are taken in a cycle, those of the narrowest beat. More need more gates, and reading back is done once.
WORD_BITS = 16


class TapeCheck(wiring.Component):
    """Reads a part of the tape, and tells its CRC-32: that of ``binascii.crc32``, and of sections of a tape.

    It stands between the machine and the reader, and lets everything pass while it is idle::

        i -----+--> play        beats --+--> o
        start -'                        '--> CRC

    Latency of what passes is zero. A part takes a cycle for each 16 bits, and the CRC is there when `busy` falls.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    start : ``In(1)``; part : ``In(Play)``
        Read a part. Ignored while `busy`; until that falls the part must not change, and the machine must be idle.
    busy : ``Out(1)``; crc : ``Out(32)``
        A part is being read; CRC-32 of the last one, zero of no beats.
    i, o : ``In(stream.Signature(Play))``, ``Out(stream.Signature(config.beat_bits))``
        The machine.
    play, beats : ``Out(stream.Signature(Play))``, ``In(stream.Signature(config.beat_bits))``
        The reader.
    """

    def __init__(self, config: Config):
        self._width = config.beat_bits
        super().__init__({
            "start": In(1),
            "part":  In(Play),
            "busy":  Out(1),
            "crc":   Out(32),
            "i":     In(stream.Signature(Play)),
            "o":     Out(stream.Signature(config.beat_bits)),
            "play":  Out(stream.Signature(Play)),
            "beats": In(stream.Signature(config.beat_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        words = self._width // WORD_BITS
        m.submodules.crc  = crc  = CRC32_ISO_HDLC(WORD_BITS).create()
        # The reader is where the block RAM is, so what it is told comes from a register.
        m.submodules.skid = skid = SkidBuffer(self._width)
        wiring.connect(m, wiring.flipped(self.beats), skid.i)
        beats = skid.o

        asked = Signal()
        left  = Signal(32)                          # beats
        due   = Signal()                            # there are some; from a register, as the reader waits for it
        word  = Signal(range(max(2, words)))
        taken = Signal()                            # a word
        begin = self.start & ~self.busy
        with m.If(begin):
            m.d.sync += [left.eq(self.part.count), due.eq(self.part.count != 0)]
            m.d.sync += [asked.eq(0), word.eq(0), self.busy.eq(1)]

        m.d.comb += [
            self.crc.eq(crc.crc),
            self.o.payload.eq(beats.payload),
            self.play.payload.eq(self.i.payload),
            # A cycle later, because it is far.
            crc.start.eq(delay(m, begin, reset=True, name="begins")),
            crc.data.eq(delay(m, beats.payload.word_select(word, WORD_BITS), name="data")),
            crc.valid.eq(delay(m, taken, reset=True, name="taken")),
        ]
        with m.If(~self.busy):
            m.d.comb += [
                self.play.valid.eq(self.i.valid),
                self.i.ready.eq(self.play.ready),
                self.o.valid.eq(beats.valid),
                beats.ready.eq(self.o.ready),
            ]
        with m.Else():
            m.d.comb += [
                self.play.valid.eq(~asked),
                self.play.payload.eq(self.part),
                taken.eq(beats.valid & due),
                beats.ready.eq((word == words - 1) & due),
            ]
            with m.If(self.play.ready):
                m.d.sync += asked.eq(1)
            with m.If(taken):
                m.d.sync += word.eq(word + 1)
            with m.If(taken & (word == words - 1)):
                m.d.sync += [word.eq(0), left.eq(left - 1), due.eq(left != 1)]
            with m.If(asked & ~due):
                m.d.sync += self.busy.eq(0)
        return m
