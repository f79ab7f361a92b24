"""Sums: row sums of every slot, from the ternary array to the vector unit."""

from amaranth import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.config import Config
from terngen.hw.stream import delay
from terngen.hw.units.accumulator import LEAD_CYCLES, REUSE_CYCLES, SUM_CYCLES, Accumulator
from terngen.hw.units.partials import partial_width

__all__ = ["LEAD_CYCLES", "PUSH_CYCLES", "READ_LATENCY", "REUSE_CYCLES", "Sums", "SumsSignature"]

#: Cycles from an address on :class:`SumsSignature` to its sums.
READ_LATENCY = 3
#: Cycles from the announcement of the last row group to :attr:`SumsSignature.ready`.
PUSH_CYCLES = SUM_CYCLES + 1


class SumsSignature(wiring.Signature):
    """Port of the consumer of sums.

    Members
    -------
    ready : ``In(1)``
        The bank in front is complete. Stays so until `pop`.
    tags : ``In(ArrayLayout(path.width, slots))``
        What came with the codes that were multiplied, while `ready`.
    slot : ``Out(slot_bits)``, group : ``Out(group_bits)``
        What to read of the bank in front.
    last : ``Out(1)``
        Read the bank that was popped last instead. It is intact while nothing is multiplied.
    sums : ``In(ArrayLayout(signed(acc_width), lanes))``
        The sums of `slot` and `group`, ``READ_LATENCY`` cycles later.
    pop : ``Out(1)``
        The bank in front is not needed again; an address of the same cycle is still answered. Must
        only be asserted while `ready`.
    """

    def __init__(self, config: Config):
        super().__init__({
            "ready": In(1),
            "tags":  In(data.ArrayLayout(config.path.width, config.slots)),
            "slot":  Out(config.slot_bits),
            "group": Out(config.group_bits),
            "last":  Out(1),
            "sums":  In(data.ArrayLayout(signed(config.acc_width), config.lanes)),
            "pop":   Out(1),
        })


class Sums(wiring.Component):
    """Queue of two banks of sums, behind an accumulator.

    A bank is opened, row groups are added up, and after the last one it is pushed. Adding takes a
    row group (``row_lanes`` rows) of all slots in every cycle, without flow control. All sums so far go into the bank
    as well, where those of later column blocks overwrite them: so the consumer, who reads ``lanes`` rows at a time, has
    a memory of its own, and neither waits for the other's address.

    ::

        cycle    0           1        2           3        4
        group -> read        wait     add         write
                             partials -^                   ready

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    free : ``Out(1)``
        There is a bank to be opened.
    open : ``In(1)``
        Opens it. Must only be asserted while `free`.
    tags : ``In(ArrayLayout(path.width, slots))``
        Goes with the bank. Sampled with `open`.
    valid : ``In(1)``
        Announces partial sums of a row group. A group must not come again within ``REUSE_CYCLES``,
        except in another bank.
    group : ``In(row_group_bits)``
        That row group.
    first : ``In(1)``
        With `valid`: the partial sums overwrite.
    last : ``In(1)``
        With `valid`: the bank is complete with them.
    partials : ``In(signed(partial_width)).array(slots, row_lanes)``
        The partial sums, ``LEAD_CYCLES`` after `valid`.
    carries : ``In(1).array(row_lanes)``
        As in :class:`~terngen.hw.units.accumulator.Accumulator`.
    idle : ``Out(1)``
        No bank is open.
    drain : ``In(SumsSignature)``
        Where the sums go.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "free":     Out(1),
            "open":     In(1),
            "tags":     In(data.ArrayLayout(config.path.width, config.slots)),
            "valid":    In(1),
            "group":    In(config.row_group_bits),
            "first":    In(1),
            "last":     In(1),
            "partials": In(signed(partial_width(config))).array(config.slots, config.row_lanes),
            "carries":  In(1).array(config.row_lanes),
            "idle":     Out(1),
            "drain":    In(SumsSignature(config)),
        })

    def elaborate(self, platform):
        m      = Module()
        config = self._config
        m.submodules.accumulator = accumulator = Accumulator(config)
        m.d.comb += [
            accumulator.valid.eq(self.valid),
            accumulator.group.eq(self.group),
            accumulator.first.eq(self.first),
        ]
        for slot, partials in enumerate(self.partials):
            m.d.comb += [target.eq(partial) for target, partial in zip(accumulator.partials[slot], partials)]
        m.d.comb += [target.eq(carry) for target, carry in zip(accumulator.carries, self.carries)]

        current = Signal()                                      # the bank that is added to
        m.d.sync += current.eq(current ^ (self.valid & self.last))
        bank    = delay(m, current, SUM_CYCLES, name="bank")
        push    = delay(m, self.valid & self.last, SUM_CYCLES, reset=True, name="push")

        used  = Signal(range(3))                                # banks, open or full
        full  = Signal(range(3))                                # banks
        back  = Signal()                                        # the bank to be opened
        front = Signal()                                        # the bank to be drained
        tags  = [Signal.like(self.tags.as_value(), name=f"tags_{index}") for index in range(2)]
        drain = self.drain
        m.d.comb += [
            self.free.eq(~used[1]),
            self.idle.eq(used == full),
            drain.ready.eq(full != 0),
            drain.tags.eq(Mux(front, tags[1], tags[0])),
        ]
        m.d.sync += [
            used.eq(used + self.open - drain.pop),
            full.eq(full + push - drain.pop),
            back.eq(back ^ self.open),
            front.eq(front ^ drain.pop),
        ]
        for index in range(2):
            with m.If(self.open & (back == index)):
                m.d.sync += tags[index].eq(self.tags)

        # A lane group is a part of a row group, or several row groups, each in a memory of its own.
        part_bits = max(0, config.row_lanes.bit_length() - config.lanes.bit_length())
        side_bits = max(0, config.lanes.bit_length() - config.row_lanes.bit_length())
        depth     = -(-config.rows // max(config.lanes, config.row_lanes))
        side      = accumulator.sums_group[:side_bits]
        slot      = delay(m, drain.slot, 2, name="slot")
        part      = delay(m, drain.group[:part_bits], 2, name="part")
        shown     = front ^ drain.last
        answers   = []                                          # of each slot, in the order of rows
        for number in range(config.slots):
            words = []
            for place in range(1 << side_bits):
                # The consumer's bank is written by nobody, so no word is needed that is being written.
                rows = memory.Memory(shape=config.acc_width * config.row_lanes, depth=2 * depth, init=[],
                                     attrs={"no_rw_check": 1})
                m.submodules[f"rows_{number}_{place}"] = rows
                write_port, read_port = rows.write_port(), rows.read_port()
                m.d.comb += [
                    write_port.addr.eq(Cat(bank, accumulator.sums_group[side_bits:])),
                    write_port.data.eq(Cat(accumulator.sums[number])),
                    write_port.en.eq(accumulator.written & (side == place)),
                    read_port.addr.eq(Cat(shown, drain.group[part_bits:])),
                ]
                # A block RAM is slow to answer: its word meets a register before it goes anywhere.
                words.append(delay(m, read_port.data, name=f"answer_{number}_{place}"))
            answers.append(Cat(words).word_select(part, config.acc_width * config.lanes))
        m.d.comb += drain.sums.eq(delay(m, Array(answers)[slot], name="sums"))
        return m
