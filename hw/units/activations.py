"""Activations: int8 codes of every slot, from the vector unit to the ternary array."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.config import Config
from terngen.hw.stream import delay

__all__ = ["Activations", "CodesSignature", "load_cycles"]


def load_cycles(config: Config) -> int:
    """Cycles from one :attr:`Activations.take` to the next, at least: the loading of a block."""
    return config.block_cols // _step(config) + 2


def _step(config: Config) -> int:
    """Codes that are loaded in one cycle: those of a lane group that lie in one block."""
    return min(config.lanes, config.lane_bytes)


class CodesSignature(wiring.Signature):
    """Port of the producer of codes.

    Members
    -------
    free : ``In(1)``
        There is a bank to be filled. Stays so until `push`.
    valid : ``Out(1)``
        Write a lane group of one slot into that bank. Must only be asserted while `free`.
    slot : ``Out(slot_bits)``, group : ``Out(group_bits)``, codes : ``Out(ArrayLayout(signed(8), lanes))``
        What is written, from -127 to 127.
    push : ``Out(1)``
        The bank is complete; the last group may be written in the same cycle. Must only be asserted
        while `free`.
    tags : ``Out(ArrayLayout(path.width, slots))``
        Goes with the bank, and later with the sums: the peak of each slot. Sampled with `push`.
    """

    def __init__(self, config: Config):
        super().__init__({
            "free":  In(1),
            "valid": Out(1),
            "slot":  Out(config.slot_bits),
            "group": Out(config.group_bits),
            "codes": Out(data.ArrayLayout(signed(8), config.lanes)),
            "push":  Out(1),
            "tags":  Out(data.ArrayLayout(config.path.width, config.slots)),
        })


class Activations(wiring.Component):
    """Queue of two banks of codes, and registers with the column block that the array works on.

    The banks are filled in turn and used in turn. While the array works on one block the next one is
    loaded into a second set of registers; after the last one that is the first block of the bank that
    comes then, as soon as there is one.

    ::

        fill -> bank 0 | bank 1 -> next block -> block -> codes

    Codes beyond the columns of a matrix are whatever was there before; their trits are zero.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    fill : ``In(CodesSignature)``
        Where the codes come from.
    loaded : ``Out(1)``
        The next block can be taken: at the earliest :func:`load_cycles` after the last one.
    take : ``In(1)``
        Takes it: `codes` change two cycles later. Must only be asserted while `loaded`.
    rewind : ``In(1)``
        With `take`: this is the last block of a matrix, so the next one is the first.
    pop : ``In(1)``
        With `take` and `rewind`: the bank is free from now on.
    tags : ``Out(ArrayLayout(path.width, slots))``
        Tags of the bank in use, while `loaded`.
    codes : ``Out(signed(8)).array(slots, block_cols)``
        Codes of the current block.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "fill":    In(CodesSignature(config)),
            "loaded":  Out(1),
            "take":    In(1),
            "rewind":  In(1),
            "pop":     In(1),
            "tags":    Out(data.ArrayLayout(config.path.width, config.slots)),
            "codes":   Out(signed(8)).array(config.slots, config.block_cols),
        })

    def elaborate(self, platform):
        m      = Module()
        config = self._config
        full   = Signal(range(3))           # banks
        back   = Signal()                   # the bank to be filled
        front  = Signal()                   # the bank in use
        frees  = Signal()
        tags   = [Signal.like(self.tags.as_value(), name=f"tags_{bank}") for bank in range(2)]
        m.d.comb += [
            self.fill.free.eq(full != 2),
            self.tags.eq(Mux(front, tags[1], tags[0])),
            frees.eq(self.take & self.rewind & self.pop),
        ]
        m.d.sync += [
            full.eq(full + self.fill.push - frees),
            back.eq(back ^ self.fill.push),
            front.eq(front ^ frees),
        ]
        for bank in range(2):
            with m.If(self.fill.push & (back == bank)):
                m.d.sync += tags[bank].eq(self.fill.tags)

        step  = _step(config)
        words = config.block_cols // step                           # of a block
        parts = config.lanes // step                                # of a lane group
        place = Signal(range(config.blocks(config.wide) * words))   # in the matrix
        index = Signal(range(words))                                # in the block
        read  = Signal()
        done  = Signal()                                            # all words of the block are read
        m.d.comb += read.eq(~done & (full != 0))
        with m.If(read):
            m.d.sync += [place.eq(place + 1), index.eq(index + 1)]
            with m.If(index == words - 1):
                m.d.sync += [index.eq(0), done.eq(1)]

        # A block RAM is slow to answer: its word meets a register before it goes anywhere. Front and
        # back are different banks whenever there is something to read, so no word is read while it
        # is written.
        part_bits = parts.bit_length() - 1
        part      = delay(m, place[:part_bits], 2, name="part")
        answers   = []
        for slot in range(config.slots):
            bank = memory.Memory(shape=8 * config.lanes, init=[], attrs={"no_rw_check": 1},
                                 depth=2 * config.groups(config.blocks(config.wide) * config.block_cols))
            m.submodules[f"bank_{slot}"] = bank
            write_port, read_port = bank.write_port(), bank.read_port()
            m.d.comb += [
                write_port.addr.eq(Cat(back, self.fill.group)),
                write_port.data.eq(self.fill.codes),
                write_port.en.eq(self.fill.valid & (self.fill.slot == slot)),
                read_port.addr.eq(Cat(front, place[part_bits:])),
                read_port.en.eq(read),
            ]
            answers.append(delay(m, read_port.data, name=f"answer_{slot}").word_select(part, 8 * step))

        valid      = Signal(2)                                      # read one and two cycles ago
        last_index = delay(m, index, name="index")
        this_index = delay(m, last_index, name="index")
        m.d.sync += valid.eq(Cat(read, valid))
        with m.If(self.take):
            m.d.sync += [done.eq(0), self.loaded.eq(0)]
            with m.If(self.rewind):
                m.d.sync += place.eq(0)
        # The last word is still on its way, but the block is copied a cycle after it was taken.
        with m.Elif(valid[0] & (last_index == words - 1)):
            m.d.sync += self.loaded.eq(1)

        copy = Signal()
        m.d.sync += copy.eq(self.take)
        for slot, answer in enumerate(answers):
            following = [Signal(8, name=f"following_{slot}_{col}", reset_less=True)
                         for col in range(config.block_cols)]
            with m.If(valid[1]), m.Switch(this_index):
                for word in range(words):
                    with m.Case(word):
                        for col in range(step):
                            m.d.sync += following[word * step + col].eq(answer.word_select(col, 8))
            for col, code in enumerate(following):
                current = Signal(8, name=f"current_{slot}_{col}", reset_less=True)
                with m.If(copy):
                    m.d.sync += current.eq(code)
                m.d.comb += self.codes[slot][col].eq(current)
        return m
