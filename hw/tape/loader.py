"""The way into the tape memory: words of the bus become beats."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.config import Config
from terngen.hw.contract.regs import TAPE_BYTES, Access

__all__ = ["Loader", "load_layout"]

WORD_BITS = 32


def load_layout(config: Config) -> data.StructLayout:
    """A beat to write into the tape memory, and its number."""
    return data.StructLayout({"address": 32, "data": config.beat_bits})


class Loader(wiring.Component):
    """Puts words together to beats, or cuts them into beats.

    A beat of more than one word is written when its last word comes, so all of its words must come, in
    any order before the last, and nothing of another beat between them: a host writes whole beats.
    Latency is one cycle. Throughput is one word per cycle, of 16-bit beats one word in two cycles.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    i : ``In(stream.Signature(Access))``
        Writes at ``TAPE_BASE`` and above.
    o : ``Out(stream.Signature(load_layout(config)))``
        Beats to write.
    """

    LATENCY_CYCLES = 1

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "i": In(stream.Signature(Access)),
            "o": Out(stream.Signature(load_layout(config))),
        })

    def elaborate(self, platform):
        m = Module()
        width  = self._config.beat_bits
        octet  = self.i.payload.address[:(TAPE_BYTES - 1).bit_length()]
        word   = self.i.payload.data
        taken  = self.i.valid & self.i.ready

        if width >= WORD_BITS:
            words    = width // WORD_BITS
            select   = (words - 1).bit_length()
            position = octet[2:2 + select]
            m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
            with m.If(self.i.ready):
                m.d.sync += self.o.valid.eq(self.i.valid & (position == words - 1))
            with m.If(taken):
                m.d.sync += self.o.payload.address.eq(octet[2 + select:])
                for index in range(words):
                    with m.If(position == index):
                        m.d.sync += self.o.payload.data.word_select(index, WORD_BITS).eq(word)
        else:
            parts = WORD_BITS // width
            rest  = Signal(WORD_BITS - width)
            left  = Signal(range(parts + 1))        # beats of the word to be written
            m.d.comb += [
                self.o.valid.eq(left != 0),
                self.i.ready.eq((left == 0) | ((left == 1) & self.o.ready)),
            ]
            with m.If(self.o.valid & self.o.ready):
                m.d.sync += [left.eq(left - 1), rest.eq(rest >> width), self.o.payload.data.eq(rest),
                             self.o.payload.address.eq(self.o.payload.address + 1)]
            # Whether there is a word is known late, and only this hangs on it.
            with m.If(self.i.ready):
                m.d.sync += [left.eq(Mux(self.i.valid, parts, 0)), Cat(self.o.payload.data, rest).eq(word),
                             self.o.payload.address.eq(octet >> (width // 8 - 1).bit_length())]
        return m
