"""Ternary array of tables: an octet of five trits is the address of its sum.

Five activations have 243 signed sums. They stand in a block RAM in the order of a reflected ternary
Gray walk, whose step number is the octet on the tape (:attr:`TritCode.GRAY`). So a weight octet needs
no decoder, and a table is filled by a counter and one adder: each entry differs from the one before by
one activation. T-MAC (arXiv 2407.00088) does the same with binary planes on a CPU.
"""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.hdl import Value
from amaranth.lib import data, memory, wiring
from amaranth.utils import ceil_log2

from terngen.hw.contract.config import Config
from terngen.hw.contract.trits import GRAY_FIRST, TRITS_PER_BYTE, TritCode, trit_table
from terngen.hw.stream import delay
from terngen.hw.units.activations import READ_LATENCY, Activations
from terngen.hw.units.partials import ArraySignature, sum_width

__all__ = ["ENTRIES", "ENTRY_BITS", "SHARE", "TableArray"]

#: Entries of a table, with those that no octet selects.
ENTRIES = 256
#: Bits of a sum of five activations.
ENTRY_BITS = sum_width(TRITS_PER_BYTE)
#: Slots whose entries share a word: a block RAM of 512 words has 36 bits.
SHARE = 36 // ENTRY_BITS
#: Cycles from the number of a step of the walk to its operation.
ROM_LATENCY = 2
#: Cycles from the number of a step of the walk to the entry that it gives.
FILL_LATENCY = ROM_LATENCY + READ_LATENCY + 1


class _Step(data.Struct):
    """What a builder does in one step of the walk."""

    digit: 3        # the activation of the five
    minus: 1        # subtract it
    clear: 1        # start anew from zero


def _walk() -> list[dict[str, int]]:
    """Operation of each step. What a builder has ``FILL_LATENCY`` later belongs to that address."""
    steps = [{"digit": 0, "minus": 0, "clear": 1}] * ENTRIES
    first = GRAY_FIRST - FILL_LATENCY
    for digit in range(TRITS_PER_BYTE):
        steps[first - TRITS_PER_BYTE + 1 + digit] = {"digit": digit, "minus": 1, "clear": 0}
    assert first >= TRITS_PER_BYTE                      # a step to clear goes before them
    trits = trit_table(TritCode.GRAY).astype(int)
    for entry in range(GRAY_FIRST + 1, ENTRIES):
        change = trits[entry] - trits[entry - 1]
        digit, = change.nonzero()[0].tolist()
        steps[entry - FILL_LATENCY] = {"digit": digit, "minus": int(change[digit] < 0), "clear": 0}
    return steps


class TableArray(wiring.Component):
    """Multiplies a beat of ternary weights with the codes of every slot, by looking sums up.

    Each octet of a beat reads the sum of its five codes from its own table, and an adder tree sums
    the tables of a row. See :class:`~terngen.hw.units.partials.ArraySignature` for the ports. The
    latency is :meth:`latency` cycles, the throughput one beat per cycle.

    ::

        fill -> Activations -> builder (+-) -> tables of the next block
                    ^             ^
             digit  |             | minus      tables of the block
        count -> walk ------------'                   |
                                     beat -> address -' -> register + | + ... -> partials

    Tables are in two banks. While the array works on a block the other bank is filled for the next
    one: ``config.table_builders`` tables at a time, an entry in each cycle, so that it takes
    :meth:`load_cycles`. Entries of three slots share a word. All rows of a beat have the same tables,
    each a copy.

    Codes beyond the columns of a matrix are whatever was there before; their trits are zero.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({name: member.flip() for name, member in ArraySignature(config).members.items()})

    @staticmethod
    def latency(config: Config) -> int:
        """Cycles from a beat to its partial sums: two for the tables, one for each level of the tree."""
        return 2 + ceil_log2(config.lane_bytes)

    @staticmethod
    def load_cycles(config: Config) -> int:
        """Cycles from one ``take`` to the next, at least: the filling of all tables."""
        return ENTRIES * config.lane_bytes // config.table_builders

    def elaborate(self, platform):
        m      = Module()
        config = self._config
        use    = Signal()                               # the bank of the current block
        m.d.sync += use.eq(use ^ self.take)
        address, turn, builders = self._builders(m)

        for row in range(config.row_lanes):
            entries = []                                # of each octet, for all slots
            for place in range(config.lane_bytes):
                octet  = self.beat.word_select(row * config.lane_bytes + place, 8)
                chosen = turn == place // config.table_builders
                values = []
                for first in range(0, config.slots, SHARE):
                    sums  = [builder[place % config.table_builders] for builder in builders[first:first + SHARE]]
                    # The bank that is filled is not the one that is read.
                    table = memory.Memory(shape=ENTRY_BITS * len(sums), depth=2 * ENTRIES, init=[],
                                          attrs={"no_rw_check": 1})
                    m.submodules[f"table_{row}_{place}_{first}"] = table
                    write_port, read_port = table.write_port(), table.read_port()
                    m.d.comb += [
                        # What is written while nothing is filled has the address of no octet.
                        write_port.addr.eq(Cat(address, ~use)),
                        write_port.data.eq(Cat(sums)),
                        write_port.en.eq(chosen),
                        read_port.addr.eq(Cat(octet, use)),
                    ]
                    # A block RAM is slow to answer: its word meets a register before it goes anywhere.
                    word    = delay(m, read_port.data, name=f"word_{row}_{place}_{first}")
                    values += [word.word_select(index, ENTRY_BITS).as_signed() for index in range(len(sums))]
                entries.append(values)
            for slot, values in enumerate(zip(*entries)):
                m.d.comb += self.partials[slot][row].eq(_sum(m, list(values), f"sum_{slot}_{row}"))
        return m

    def _builders(self, m: Module) -> tuple[Value, Value, list[list[Signal]]]:
        """The filling: an address in every table, which tables take their turn, and for each slot the
        entries that belong there."""
        config = self._config
        count  = config.table_builders
        turns  = config.lane_bytes // count
        m.submodules.activations = activations = Activations(config, width=count)
        wiring.connect(m, wiring.flipped(self.fill), activations.fill)

        walk  = Signal(range(ENTRIES * turns))
        done  = Signal()
        going = Signal()
        step  = walk[:ceil_log2(ENTRIES)]
        turn  = walk[ceil_log2(ENTRIES):]
        m.d.comb += [
            going.eq(~done & activations.ready),
            activations.pop.eq(self.take & self.rewind & self.pop),
            self.tags.eq(activations.tags),
        ]
        # The last entry is written in the last step, and read two cycles after a block was taken.
        with m.If(going):
            m.d.sync += walk.eq(walk + 1)
            with m.If(walk == ENTRIES * turns - 2):
                m.d.sync += self.loaded.eq(1)
            with m.If(walk == ENTRIES * turns - 1):
                m.d.sync += done.eq(1)
        with m.If(self.take):
            m.d.sync += [self.loaded.eq(0), done.eq(0)]

        # Operations depend on the step alone.
        m.submodules.steps = steps = memory.Memory(shape=_Step, depth=ENTRIES, init=_walk())
        steps_port = steps.read_port()
        m.d.comb += steps_port.addr.eq(step)
        operation = data.View(_Step, delay(m, steps_port.data.as_value(), ROM_LATENCY - 1, name="operation"))

        # The codes of a digit stand side by side, those of the digits one after the other.
        digits = Signal(range(TRITS_PER_BYTE * config.blocks(config.wide)))     # before the block
        with m.If(self.take):
            m.d.sync += digits.eq(Mux(self.rewind, 0, digits + TRITS_PER_BYTE))
        m.d.comb += activations.address.eq(Cat(turn, (digits + operation.digit)[:len(digits)]))

        minus = delay(m, operation.minus, READ_LATENCY, name="minus")
        clear = delay(m, operation.clear, READ_LATENCY, name="clear")
        builders = []
        for slot, codes in enumerate(activations.codes):
            entries = []
            for place, code in enumerate(codes):
                entry = Signal(signed(ENTRY_BITS), name=f"entry_{slot}_{place}", reset_less=True)
                with m.If(clear):
                    m.d.sync += entry.eq(0)
                with m.Else():
                    m.d.sync += entry.eq(Mux(minus, entry - code, entry + code))
                entries.append(entry)
            builders.append(entries)
        return step, turn, builders


def _sum(m: Module, terms: list[Value], name: str) -> Value:
    """The sum of a power of two of terms, after a cycle for each level of adders."""
    level = 0
    while len(terms) > 1:
        terms = [delay(m, left + right, name=f"{name}_{level}_{place}")
                 for place, (left, right) in enumerate(zip(terms[::2], terms[1::2]))]
        level += 1
    return terms[0]
