"""Ternary array of tables: an octet of five trits is the address of its sum.

Five activations have 243 signed sums. They stand in a block RAM in the order of a reflected ternary
Gray walk, whose step is the octet on the tape (:attr:`TritCode.GRAY`). So a weight octet needs
no decoder, and a table is filled by a shift register, a program and one adder: each entry differs from
the one before by one activation. T-MAC (arXiv 2407.00088) does the same with binary planes on a CPU.
"""

from amaranth import C, Cat, Module, Signal, signed
from amaranth.hdl import Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from terngen.hw.contract.config import Config
from terngen.hw.contract.trits import GRAY_FIRST, GRAY_STEPS, GRAY_TAPS, TRITS_PER_BYTE, TritCode, trit_table
from terngen.hw.stream import delay
from terngen.hw.units.activations import READ_LATENCY, Activations
from terngen.hw.units.partials import ArraySignature, sum_width
from terngen.hw.vendor.adder import add, add_subtract, add_three, has_three

__all__ = ["ENTRIES", "ENTRY_BITS", "SHARE", "STEP_BITS", "TableArray", "Tables"]

#: Entries of a table, with those that no octet selects.
ENTRIES = 256
#: Bits of a sum of five activations.
ENTRY_BITS = sum_width(TRITS_PER_BYTE)
#: What an entry is more than its sum, so that it is never negative: sums need no sign then, and a carry is
#: their highest bit.
BIAS = 1 << ENTRY_BITS - 1
#: Slots whose entries share a word: a block RAM of 512 words has 36 bits.
SHARE = 36 // ENTRY_BITS
#: Cycles from a step of the walk to what the program says.
ROM_LATENCY = 2
#: Cycles from a digit of a block to its place.
PLACE_LATENCY = 2
#: Cycles from the place of a code to the entry that it gives.
FILL_LATENCY = READ_LATENCY + 1


class _Step(data.Struct):
    """What happens ``ROM_LATENCY`` after a step of the walk. What is said of the activation of an entry is said
    earlier by the cycles that it takes to be read."""

    minus: 1            # subtract the activation
    clear: 1            # start anew from zero
    digit: signed(4)    # whose activation is needed; where there is no memory of places, how many further it is
    end:   1            # with the next step the next tables take their turn
    full:  1            # with the next step all tables are full


#: Bits of what happens in a step.
STEP_BITS = _Step.as_shape().size


def _program(*, relative: bool) -> list[dict[str, int]]:
    """The steps of a walk, and then those of the last walk of a block: afterwards the next block follows."""
    operations = {}                                     # number of a step: digit, minus
    for digit in range(TRITS_PER_BYTE):                 # to the first entry
        operations[GRAY_FIRST - TRITS_PER_BYTE + 1 + digit] = digit, 1
    trits = trit_table(TritCode.GRAY)[list(GRAY_STEPS)].astype(int)
    count = len(GRAY_STEPS)
    for number in range(GRAY_FIRST + 1, count):
        change = trits[number] - trits[number - 1]
        digit, = change.nonzero()[0].tolist()
        operations[number] = digit, int(change[digit] < 0)

    program = []                                        # by the octets of steps
    ahead   = ROM_LATENCY + FILL_LATENCY + (1 if relative else PLACE_LATENCY)
    assert GRAY_FIRST - TRITS_PER_BYTE + 1 > ahead      # a step in which it waits, and then the first activation
    for last in range(2):
        steps = [{"minus": 0, "clear": 0, "digit": 0, "end": 0, "full": 0} for _ in range(ENTRIES)]
        place = 0
        for number in range(count):
            digit, minus = operations.get(number, (0, 0))
            steps[GRAY_STEPS[number - ROM_LATENCY - 1]] |= {"minus": minus, "clear": int(number not in operations)}
            if number in operations:
                steps[GRAY_STEPS[number - ahead]]["digit"] = digit - place * relative
                place = digit
        if relative:
            steps[GRAY_STEPS[count - ahead]]["digit"] = TRITS_PER_BYTE * last - place
        steps[GRAY_STEPS[count - ROM_LATENCY - 1]] |= {"end": 1, "full": last}
        program += steps
    return program


def place_bits(config: Config) -> tuple[int, int]:
    """Bits of the number of a block, and of the place of one of its digits among all digits."""
    blocks = config.blocks(config.wide)
    return ceil_log2(blocks + 1), ceil_log2(TRITS_PER_BYTE * blocks)


def has_places(config: Config) -> bool:
    """Whether a memory knows the places of digits: if it fits a block RAM, or else it is cheaper to add."""
    return sum(place_bits(config)) <= 18 and 8 * config.blocks(config.wide) <= 1024


def _places(config: Config) -> list[int]:
    """The place of each digit of each block, and above it the next block."""
    _, bits = place_bits(config)
    return [block + 1 << bits | (TRITS_PER_BYTE * block + digit) * (digit < TRITS_PER_BYTE)
            for block in range(config.blocks(config.wide)) for digit in range(8)]


class Tables(wiring.Component):
    """Tables of the sums of codes, their filling, and the adders behind them: :class:`TableArray` without its codes.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    ready : ``In(1)``
        There are codes. Stays so until `take` and `rewind`.
    address : ``Out(range(...))``
        Place of the codes that are needed, divided by their number.
    codes : ``In(signed(8)).array(slots, table_builders)``
        They, ``READ_LATENCY`` cycles later.
    loaded, take, rewind, beat, partials
        As in :class:`~terngen.hw.units.partials.ArraySignature`, from the other side.
    """

    def __init__(self, config: Config):
        self._config = config
        ports = ArraySignature(config).members
        places = TRITS_PER_BYTE * config.blocks(config.wide) * config.lane_bytes // config.table_builders
        super().__init__({
            "ready":   In(1),
            "address": Out(range(places)),
            "codes":   In(signed(8)).array(config.slots, config.table_builders),
            **{name: ports[name].flip() for name in ("loaded", "take", "rewind", "beat", "partials")},
        })

    def elaborate(self, platform):
        m      = Module()
        config = self._config
        read   = Signal()                               # the bank of the current block
        fill   = Signal(init=1)                         # the bank of the next one
        with m.If(self.take):
            m.d.sync += [read.eq(fill), fill.eq(read)]
        address, turns, builders = self._builders(m, platform)

        rows = [[] for _ in range(config.slots)]        # the entries of each row
        for row in range(config.row_lanes):
            entries = []                                # of each octet, for all slots
            for place in range(config.lane_bytes):
                octet  = self.beat.word_select(row * config.lane_bytes + place, 8)
                turn, builder = divmod(place, config.table_builders)
                values = []
                for first in range(0, config.slots, SHARE):
                    sums  = [entry[builder] for entry in builders[first:first + SHARE]]
                    # The bank that is filled is not the one that is read.
                    table = memory.Memory(shape=ENTRY_BITS * len(sums), depth=2 * ENTRIES, init=[],
                                          attrs={"no_rw_check": 1})
                    m.submodules[f"table_{row}_{place}_{first}"] = table
                    write_port, read_port = table.write_port(), table.read_port()
                    m.d.comb += [
                        # What is written while nothing is filled has the address of no octet.
                        write_port.addr.eq(Cat(address, fill)),
                        write_port.data.eq(Cat(sums)),
                        write_port.en.eq(turns[turn]),
                        read_port.addr.eq(Cat(octet, read)),
                    ]
                    # A block RAM is slow to answer: its word meets a register before it goes anywhere.
                    word    = delay(m, read_port.data, name=f"word_{row}_{place}_{first}")
                    values += [word.word_select(index, ENTRY_BITS) for index in range(len(sums))]
                entries.append(values)
            for slot, values in enumerate(zip(*entries)):
                rows[slot].append(list(values))

        sums = _sums(m, platform, [row for slot in rows for row in slot])
        for index, value in enumerate(sums):
            slot, row = divmod(index, config.row_lanes)
            m.d.comb += self.partials[slot][row].eq(value.as_signed())
        return m

    def _builders(self, m: Module, platform) -> tuple[Value, Value, list[list[Signal]]]:
        """The filling: an address in every table, which tables take their turn, and for each slot the
        entries that belong there."""
        config = self._config
        turns  = config.lane_bytes // config.table_builders

        # A walk for each of the turns. After the last one it waits for the block to be taken.
        walk = Signal(range(ENTRIES), init=GRAY_STEPS[1])        # as after a block was taken
        turn = Signal(turns, init=1)                    # one-hot
        with m.If(self.ready & (~self.loaded | self.take)):
            m.d.sync += walk.eq(Cat((walk & GRAY_TAPS).xor(), walk))

        # What happens depends on the step alone.
        m.submodules.program = program = memory.Memory(shape=_Step, depth=2 * ENTRIES,
                                                        init=_program(relative=not has_places(config)),
                                                        attrs={"rom_style": "block"})
        program_port = program.read_port()
        m.d.comb += program_port.addr.eq(Cat(walk, turn[-1]))
        step = data.View(_Step, delay(m, program_port.data.as_value(), ROM_LATENCY - 1, name="step"))
        # After a reset what comes out of the memory is still that of before.
        settled = delay(m, C(1, 1), ROM_LATENCY, reset=True, name="settled")
        end     = Signal()
        m.d.comb += end.eq(step.end & settled)

        with m.If(end):
            m.d.sync += turn.eq(turn.rotate_left(1))
        with m.If(step.full & settled):
            m.d.sync += self.loaded.eq(1)
        with m.If(self.take):
            m.d.sync += self.loaded.eq(0)

        # The codes of a digit stand side by side, those of the digits one after the other.
        m.d.comb += self.address.eq(Cat(self._sides(m, turns, end), self._digit(m, step.digit, settled)))

        builders = []
        for slot, codes in enumerate(self.codes):
            entries = []
            for place, code in enumerate(codes):
                entry = Signal(ENTRY_BITS, name=f"entry_{slot}_{place}", init=BIAS, reset_less=True)
                m.d.sync += entry.eq(add_subtract(m, platform, entry, code, step.minus, name=f"build_{slot}_{place}"))
                with m.If(step.clear):
                    m.d.sync += entry.eq(BIAS)
                entries.append(entry)
            builders.append(entries)
        return walk, turn, builders

    def _digit(self, m: Module, digit: Value, settled: Value) -> Value:
        """The place among all digits of one of the block, or of one that is so far from the one before."""
        config = self._config
        if not has_places(config):
            place = Signal(range(TRITS_PER_BYTE * config.blocks(config.wide)))
            m.d.sync += place.eq(place + digit)
            with m.If(self.take & self.rewind | ~settled):
                m.d.sync += place.eq(0)
            return place
        block_bits, bits = place_bits(config)
        block = Signal(block_bits)
        m.submodules.places = places = memory.Memory(shape=block_bits + bits, depth=8 * config.blocks(config.wide),
                                                     init=_places(config), attrs={"rom_style": "block"})
        places_port = places.read_port()
        word = delay(m, places_port.data, PLACE_LATENCY - 1, name="place")
        m.d.comb += places_port.addr.eq(Cat(digit[:3], block))
        with m.If(self.take):
            m.d.sync += block.eq(word[bits:])
        with m.If(self.take & self.rewind):
            m.d.sync += block.eq(0)
        return word[:bits]

    @staticmethod
    def _sides(m: Module, turns: int, step: Value) -> Value:
        """The number of the turn, for a number of turns that is a power of two."""
        bits = []
        for bit in range(ceil_log2(turns)):
            # What it will be, in a circle: flip-flops are there, and an adder would be logic.
            ring = Signal(2 << bit, name=f"side_{bit}", init=(1 << (2 << bit)) - (1 << (1 << bit)))
            with m.If(step):
                m.d.sync += ring.eq(ring.rotate_right(1))
            bits.append(ring[0])
        return Cat(bits)


class TableArray(wiring.Component):
    """Multiplies a beat of ternary weights with the codes of every slot, by looking sums up.

    Each octet of a beat reads the sum of its five codes from its own table, and an adder tree sums
    the tables of a row. See :class:`~terngen.hw.units.partials.ArraySignature` for the ports. The
    latency is :meth:`latency` cycles, the throughput one beat per cycle.

    ::

        fill -> Activations -> builder (+-) -> tables of the next block
                    ^             ^
              digit |             | minus      tables of the block
           walk -> program -------'                   |
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
        return len(GRAY_STEPS) * config.lane_bytes // config.table_builders

    @staticmethod
    def settle_cycles(config: Config) -> int:
        """Cycles in which no beat is taken, after ``take``: none."""
        return 0

    def elaborate(self, platform):
        m      = Module()
        config = self._config
        m.submodules.activations = activations = Activations(config, width=config.table_builders)
        m.submodules.tables      = tables      = Tables(config)
        wiring.connect(m, wiring.flipped(self.fill), activations.fill)
        m.d.comb += [
            tables.ready.eq(activations.ready),
            activations.address.eq(tables.address),
            activations.pop.eq(self.take & self.rewind & self.pop),
            self.tags.eq(activations.tags),
            self.loaded.eq(tables.loaded),
            tables.take.eq(self.take),
            tables.rewind.eq(self.rewind),
            tables.beat.eq(self.beat),
        ]
        for slot in range(config.slots):
            m.d.comb += [code.eq(read) for code, read in zip(tables.codes[slot], activations.codes[slot])]
            m.d.comb += [self.partials[slot][row].eq(tables.partials[slot][row]) for row in range(config.row_lanes)]
        return m


def _sums(m: Module, platform, rows: list[list[Value]]) -> list[Value]:
    """The sum of each row, a power of two of entries, after a cycle for each level of a binary tree of adders.

    Without its bias, which is the highest bit of the sum.
    """
    levels = ceil_log2(len(rows[0]))
    if not levels:
        return [Cat(entry[:-1], ~entry[-1]) for entry, in rows]
    if has_three(platform):
        return [delay(m, sum_, name=f"sum_{index}") for index, sum_ in enumerate(_threes(m, platform, rows))]
    for level in range(levels):
        pairs = [pair for row in rows for pair in zip(row[::2], row[1::2])]
        sums  = [delay(m, sum_, name=f"sum_{level}_{place}") for place, sum_ in enumerate(
                     add(m, platform, pairs, invert=level == levels - 1, name=f"add_{level}"))]
        count = len(rows[0]) // 2
        rows  = [sums[place:place + count] for place in range(0, len(sums), count)]
    return [row[0] for row in rows]


def _threes(m: Module, platform, rows: list[list[Value]]) -> list[Value]:
    """The same, a cycle earlier, by adders of three operands."""
    levels = ceil_log2(len(rows[0]))
    width  = ENTRY_BITS + levels
    sums   = []
    for index, row in enumerate(rows):
        # Terms, and the greatest values that they can have.
        terms  = [(entry, 2 * BIAS - 1) for entry in row]
        cycles = 0
        while len(terms) > 1:
            cycles += 1
            added  = []
            for start in range(0, len(terms), 3):
                values, limits = zip(*terms[start:start + 3])
                bits = min(width, sum(limits).bit_length())
                name = f"sum_{index}_{cycles}_{start}"
                if len(values) == 3:
                    value = add_three(m, platform, values, bits, name=f"three_{name}")
                else:
                    value = sum(values[1:], values[0])[:bits]
                # The last one gets its register with the inversion.
                added.append((value if len(terms) <= 3 else delay(m, value, name=name), sum(limits)))
            terms = added
        value, _ = terms[0]
        sums.append(delay(m, Cat(value[:-1], ~value[-1]), levels - cycles, name=f"sum_{index}"))
    return sums
