"""A large memory with one port.

On an iCE40 UltraPlus it is a single-port RAM of 256 kbit (Lattice FPGA-TN-02022, iCE40 SPRAM Usage Guide); elsewhere
block RAM.
"""

from amaranth import Array, C, Cat, ClockSignal, Instance, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.stream import delay
from terngen.hw.vendor.adder import family

__all__ = ["WORDS", "SinglePortMemory"]

_PLACE_BITS = 14
#: Words of 16 bits that one has.
WORDS = 1 << _PLACE_BITS


class SinglePortMemory(wiring.Component):
    """A memory that is read or written in each cycle. What it holds at first is zero in simulation, and else unknown.

    Parameters
    ----------
    width : :class:`int`
        Bits of a word: a multiple of 16 on an iCE40.
    words : :class:`int`
        Number of words. Those behind them have no meaning.

    Members
    -------
    address : ``In(range(words))``, data : ``In(width)``, write : ``In(1)``
        Write a word, or else read it.
    word : ``Out(width)``
        What was read in the cycle before; undefined if it was written.
    """

    def __init__(self, *, width: int, words: int):
        self._width = width
        self._words = words
        super().__init__({
            "address": In(range(words)),
            "data":    In(width),
            "write":   In(1),
            "word":    Out(width),
        })

    def elaborate(self, platform):
        m = Module()
        if family(platform) == "iCE40":
            self._blocks(m)
        else:
            m.submodules.words = words = memory.Memory(shape=self._width, depth=self._words, init=[])
            write, read = words.write_port(), words.read_port()
            m.d.comb += [
                write.addr.eq(self.address),
                write.data.eq(self.data),
                write.en.eq(self.write),
                read.addr.eq(self.address),
                read.en.eq(~self.write),
                self.word.eq(read.data),
            ]
        return m

    def _blocks(self, m):
        inner, outer = self.address[:_PLACE_BITS], self.address[_PLACE_BITS:]
        shown  = delay(m, outer, name="shown")
        words  = []
        for index in range(-(-self._words // WORDS)):
            parts = []
            for part in range(0, self._width, 16):
                read = Signal(16, name=f"read_{index}_{part}")
                m.submodules[f"block_{index}_{part}"] = Instance(
                    "SB_SPRAM256KA",
                    i_ADDRESS=Cat(inner, C(0, _PLACE_BITS - len(inner))), i_DATAIN=self.data[part:part + 16],
                    i_MASKWREN=C(0b1111, 4), i_WREN=self.write & (outer == index), i_CHIPSELECT=C(1, 1),
                    i_CLOCK=ClockSignal(), i_STANDBY=C(0, 1), i_SLEEP=C(0, 1), i_POWEROFF=C(1, 1), o_DATAOUT=read)
                parts.append(read)
            words.append(Cat(parts))
        m.d.comb += self.word.eq(Array(words)[shown])
