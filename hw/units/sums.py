"""Sums: row sums of every slot, from the ternary array to the vector unit."""

from functools import reduce
from operator import or_

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.config import Config
from terngen.hw.stream import delay
from terngen.hw.units.partials import partial_width

__all__ = ["LEAD_CYCLES", "PUSH_CYCLES", "READ_LATENCY", "REUSE_CYCLES", "Sums", "SumsSignature"]

#: Cycles from an address on :class:`SumsSignature` to its sums.
READ_LATENCY = 3
#: Cycles from the announcement of a row group to its partial sums.
LEAD_CYCLES = 2
#: Cycles from the announcement of a row group to the next one of the same group, at least.
REUSE_CYCLES = 4
#: Cycles from the announcement of the last row group to :attr:`SumsSignature.ready`.
PUSH_CYCLES = 4


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
    """Queue of two banks of sums, with an accumulator in front.

    A bank is opened, row groups are added to it, and after the last one it is pushed. Adding takes a
    row group (``row_lanes`` rows) of all slots in every cycle, without flow control; a bank is never
    cleared, because the first column block overwrites what is there. The consumer reads ``lanes`` rows
    at a time.

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
            "idle":     Out(1),
            "drain":    In(SumsSignature(config)),
        })

    def elaborate(self, platform):
        m      = Module()
        config = self._config
        width  = config.acc_width

        # What happens 0 to 3 cycles after the announcement.
        valid   = [self.valid, *(Signal(name=f"valid_{cycle}") for cycle in (1, 2, 3))]
        for now, then in zip(valid, valid[1:]):
            m.d.sync += then.eq(now)
        current = Signal()                                      # the bank that is added to
        m.d.sync += current.eq(current ^ (self.valid & self.last))
        bank    = delay(m, current, 2, name="bank")
        first   = delay(m, self.first, 2, name="first")
        group   = delay(m, self.group, 3, name="group")
        push    = Signal()
        m.d.comb += push.eq(valid[3] & delay(m, self.last, 3, name="last"))

        used  = Signal(range(3))                                # banks, open or full
        full  = Signal(range(3))                                # banks
        back  = Signal()                                        # the bank to be opened
        front = Signal()                                        # the bank to be drained
        tags  = [Signal.like(self.tags.as_value(), name=f"tags_{index}") for index in range(2)]
        drain = self.drain
        m.d.comb += [
            self.free.eq(used != 2),
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
        sides     = range(1 << side_bits)
        side      = delay(m, self.group[:side_bits], LEAD_CYCLES, name="side")

        # The bank that is added to gives its read port to the adders, the other one to the consumer.
        # What the adders read was written REUSE_CYCLES ago, or is overwritten; what the consumer reads
        # is written by nobody. So no word is needed that is being written.
        shown   = delay(m, front ^ drain.last, 2, name="shown")
        slot    = delay(m, drain.slot, 2, name="slot")
        part    = delay(m, drain.group[:part_bits], 2, name="part")
        adds    = [self.valid & (current == index) for index in range(2)]
        chosen  = [[Signal(name=f"chosen_{index}_{place}") for place in sides] for index in range(2)]
        written = [[Signal(name=f"written_{index}_{place}") for place in sides] for index in range(2)]
        for index in range(2):
            for place in sides:
                here = (bank == index) & (side == place)
                # In the first block none is chosen, which makes a zero.
                m.d.comb += chosen[index][place].eq(~first & here)
                m.d.sync += written[index][place].eq(valid[2] & here)
        for number, partials in enumerate(self.partials):
            new     = [Signal(signed(width), name=f"new_{number}_{lane}", reset_less=True)
                       for lane in range(config.row_lanes)]
            answers = []
            for index in range(2):
                answers.append([])
                for place in sides:
                    rows = memory.Memory(shape=width * config.row_lanes, depth=depth, init=[],
                                         attrs={"no_rw_check": 1})
                    m.submodules[f"rows_{number}_{index}_{place}"] = rows
                    write_port, read_port = rows.write_port(), rows.read_port()
                    m.d.comb += [
                        read_port.addr.eq(Mux(adds[index], self.group[side_bits:], drain.group[part_bits:])),
                        write_port.addr.eq(group[side_bits:]),
                        write_port.data.eq(Cat(new)),
                        write_port.en.eq(written[index][place]),
                    ]
                    # A block RAM is slow to answer: its word meets a register before it goes anywhere.
                    answers[-1].append(delay(m, read_port.data, name=f"answer_{number}_{index}_{place}"))
            for lane, partial in enumerate(partials):
                old = [answer.word_select(lane, width) & choice.replicate(width)
                       for index in range(2) for answer, choice in zip(answers[index], chosen[index])]
                m.d.sync += new[lane].eq(reduce(or_, old).as_signed() + partial)
            # In the order of rows, as many as a lane group has.
            words = [Cat(answer).word_select(part, width * config.lanes) for answer in answers]
            with m.If(slot == number):
                m.d.sync += drain.sums.eq(Mux(shown, words[1], words[0]))
        return m
