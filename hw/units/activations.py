"""Activations: int8 codes of every slot, from the vector unit to the ternary array."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.config import Config
from terngen.hw.stream import delay

__all__ = ["Activations", "CodesSignature", "READ_LATENCY"]

#: Cycles from an address to its codes.
READ_LATENCY = 2


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
    """Queue of two banks of codes.

    The banks are filled in turn and used in turn. What is read of a bank beyond the codes that were
    written is whatever was there before.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.
    width : :class:`int`
        Codes that are read at a time: a power of two, at most ``lane_bytes``.

    Members
    -------
    fill : ``In(CodesSignature)``
        Where the codes come from.
    ready : ``Out(1)``
        There is a bank in front.
    pop : ``In(1)``
        That bank is free from now on. Must only be asserted while `ready`.
    tags : ``Out(ArrayLayout(path.width, slots))``
        Its tags.
    address : ``In(range(...))``
        What to read of it: the place of the first code, divided by `width`.
    codes : ``Out(signed(8)).array(slots, width)``
        The codes of every slot, ``READ_LATENCY`` cycles later.
    """

    def __init__(self, config: Config, *, width: int):
        if not (0 < width <= config.lane_bytes and width & width - 1 == 0):
            raise ValueError(f"Width must be a power of two and at most the octets of a row in a beat "
                             f"({config.lane_bytes}), not {width!r}")
        self._config = config
        self._width  = width
        self._length = config.blocks(config.wide) * config.block_cols
        super().__init__({
            "fill":    In(CodesSignature(config)),
            "ready":   Out(1),
            "pop":     In(1),
            "tags":    Out(data.ArrayLayout(config.path.width, config.slots)),
            "address": In(range(self._length // width)),
            "codes":   Out(signed(8)).array(config.slots, width),
        })

    def elaborate(self, platform):
        m      = Module()
        config = self._config
        full   = Signal(range(3))           # banks
        back   = Signal()                   # the bank to be filled
        front  = Signal()                   # the bank in use
        tags   = [Signal.like(self.tags.as_value(), name=f"tags_{bank}") for bank in range(2)]
        m.d.comb += [
            self.fill.free.eq(~full[1]),
            self.ready.eq(full != 0),
            self.tags.eq(Mux(front, tags[1], tags[0])),
        ]
        m.d.sync += [
            full.eq(full + self.fill.push - self.pop),
            back.eq(back ^ self.fill.push),
            front.eq(front ^ self.pop),
        ]
        for bank in range(2):
            with m.If(self.fill.push & (back == bank)):
                m.d.sync += tags[bank].eq(self.fill.tags)

        # A lane group has several parts that are read one by one, or several lane groups are read at
        # a time, each from a memory of its own.
        part_bits = max(0, config.lanes.bit_length() - self._width.bit_length())
        side_bits = max(0, self._width.bit_length() - config.lanes.bit_length())
        depth     = -(-self._length // max(config.lanes, self._width))
        part      = delay(m, self.address[:part_bits], READ_LATENCY, name="part")
        group     = self.fill.group
        for slot in range(config.slots):
            for side in range(1 << side_bits):
                # Front and back are different banks whenever there is something to read, so no word is
                # read while it is written.
                words = memory.Memory(shape=8 * config.lanes, depth=2 * depth, init=[],
                                      attrs={"no_rw_check": 1})
                m.submodules[f"words_{slot}_{side}"] = words
                write_port, read_port = words.write_port(), words.read_port()
                m.d.comb += [
                    write_port.addr.eq(Cat(back, group[side_bits:])),
                    write_port.data.eq(self.fill.codes),
                    write_port.en.eq(self.fill.valid & (self.fill.slot == slot) & (group[:side_bits] == side)),
                    read_port.addr.eq(Cat(front, self.address[part_bits:])),
                ]
                # A block RAM is slow to answer: its word meets a register before it goes anywhere.
                answer = delay(m, read_port.data, name=f"answer_{slot}_{side}")
                answer = answer.word_select(part, 8 * config.lanes >> part_bits)
                m.d.comb += [self.codes[slot][side * config.lanes + place].eq(answer.word_select(place, 8))
                             for place in range(min(config.lanes, self._width))]
        return m
