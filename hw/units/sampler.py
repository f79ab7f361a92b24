"""The best candidates among the logits."""

from amaranth import Array, C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from terngen.hw.contract.config import Config
from terngen.hw.stream import delay

__all__ = ["PLACE_LATENCY", "SHOW_LATENCY", "Sampler", "cycles", "list_latency"]

#: Cycles from the choice of a candidate to that candidate.
SHOW_LATENCY = 2
#: The same of the place, which has a long way to all the multiplexers.
PLACE_LATENCY = SHOW_LATENCY + 1


def cycles(config: Config) -> int:
    """Cycles from one transfer to the next."""
    return 1 if config.top_k == 1 else config.lanes


def list_latency(config: Config) -> int:
    """Cycles from the last one of a transfer to when the lists have its sums."""
    return 3 + ceil_log2(config.lanes) if config.top_k == 1 else 2


class Sampler(wiring.Component):
    """Keeps the ``top_k`` largest sums of each slot, with the numbers of their rows.

    Larger sums stand first; equal sums stand in the order in which they came, so that the first
    candidate is the one with the lowest row, as :mod:`terngen.sim.golden.machine` has it. A list
    starts with empty places: the smallest sum and row ``NO_CANDIDATE``.

    A transfer takes :func:`cycles`, one for each sum; the lists have its sums :func:`list_latency` cycles later. All
    places of a list compare at once. Where a list has one place only the best of a transfer can come in, so it takes
    one cycle, and its sums are compared in a tree.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    i : ``In(stream.Signature(...))``
        Sums of a lane group of one slot: ``slot``, ``row`` of the first lane, ``sums``.
    vocab : ``In(32)``
        Rows from this one on are padding.
    clear : ``In(config.slots)``
        Empties the lists of these slots. Must be zero while not idle.
    slot : ``In(config.slot_bits)``, place : ``In(range(16))``
        Candidate to show, one that exists.
    row : ``Out(32)``, sum : ``Out(signed(config.acc_width))``
        That candidate, ``PLACE_LATENCY`` cycles after the place and ``SHOW_LATENCY`` after the slot.
    idle : ``Out(1)``
        The lists have all sums that were taken.
    """

    def __init__(self, config: Config):
        self._config = config
        self._follow = Signal()             # in the next cycle there are sums that have not been compared
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({
                "slot": config.slot_bits,
                "row":  32,
                "sums": data.ArrayLayout(signed(config.acc_width), config.lanes),
            }))),
            "vocab": In(32),
            "clear": In(config.slots),
            "slot":  In(config.slot_bits),
            "place": In(4),
            "row":   Out(32),
            "sum":   Out(signed(config.acc_width)),
            "idle":  Out(1, init=1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        width  = config.acc_width

        busy, slot, row, value = (self._best if config.top_k == 1 else self._one_by_one)(m)

        # A sum is compared with all places at once, and moves them one cycle later. Then the next one has been
        # compared with the places as they were: it stands behind those that were moved if it did before, and the
        # place of its predecessor is compared here.
        is_token  = delay(m, _larger(self.vocab, row), name="is_token")
        new_value = delay(m, value, name="new_value")
        new_row   = delay(m, row, name="new_row")
        beats     = delay(m, _larger(value, new_value), name="beats")
        m.d.sync += self.idle.eq(~self._follow & ~busy)         # from a register, because much hangs on it

        # Lists of all slots; every place takes its neighbour's candidate, the new one, or stays.
        # A reset empties them by way of a register, because it comes from far.
        rows = []
        sums = []
        emptied = Signal(config.slots, init=-1)
        m.d.sync += emptied.eq(self.clear)
        for index in range(config.slots):
            kept_rows = [Signal(32, name=f"row_{index}_{place}", init=0xFFFF_FFFF, reset_less=True)
                         for place in range(config.top_k)]
            kept_sums = [Signal(signed(width), name=f"sum_{index}_{place}",
                                init=-(1 << width - 1), reset_less=True) for place in range(config.top_k)]
            rows.append(kept_rows)
            sums.append(kept_sums)
            better = Signal(config.top_k, name=f"better_{index}")
            moved  = Signal(config.top_k, name=f"moved_{index}")
            mine   = delay(m, busy & (slot == index), reset=True, name="mine")
            was    = delay(m, Cat(_larger(value, kept) for kept in kept_sums), name="was")
            before = delay(m, moved, reset=True, name="before")
            m.d.comb += moved.eq(better & (mine & is_token).replicate(config.top_k))
            for place in range(config.top_k):
                after = Mux(before[place - 1], was[place - 1], beats) if place else beats
                m.d.comb += better[place].eq(Mux(before[place], after, was[place]))
                first = ~moved[place - 1] if place else 1
                with m.If(moved[place]):
                    m.d.sync += kept_rows[place].eq(Mux(first, new_row, kept_rows[place - 1]))
                    m.d.sync += kept_sums[place].eq(Mux(first, new_value, kept_sums[place - 1]))
                with m.If(emptied[index]):
                    m.d.sync += kept_rows[place].eq(kept_rows[place].init)
                    m.d.sync += kept_sums[place].eq(kept_sums[place].init)

        # The place among four of every list, and then the four and the list.
        asked = delay(m, self.slot, name="asked")
        there = delay(m, self.place, name="there")
        fours = delay(m, there[2:], name="fours")
        found = {}
        for index, kept in enumerate(zip(rows, sums)):
            words = [Cat(pair) for pair in zip(*kept)]
            for start in range(0, config.top_k, 4):
                found[index << 2 | start >> 2] = delay(m, Array(words[start:start + 4])[there[:2]], name="shown")
        with m.Switch(Cat(fours, asked)):
            for number, shown in found.items():
                with m.Case(number):
                    m.d.sync += Cat(self.row, self.sum).eq(shown)
        return m

    def _one_by_one(self, m):
        """Whether there is a sum, its slot, row and value: one sum of a transfer after the other."""
        width, lanes = self._config.acc_width, self._config.lanes
        busy  = Signal()
        lane  = Signal(range(lanes))
        slot  = Signal(self._config.slot_bits)
        row   = Signal(32)
        queue = Signal(data.ArrayLayout(signed(width), lanes))
        last  = Signal()
        m.d.comb += [
            last.eq(lane == lanes - 1),
            self.i.ready.eq(~busy | last),
            self._follow.eq(self.i.valid | busy & ~last),
        ]
        with m.If(busy):
            m.d.sync += queue.as_value().eq(queue.as_value() >> width)
            m.d.sync += lane.eq(lane + 1)
            m.d.sync += row.eq(row + 1)
            with m.If(last):
                m.d.sync += busy.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                busy.eq(1),
                lane.eq(0),
                slot.eq(self.i.payload.slot),
                row.eq(self.i.payload.row),
                queue.eq(self.i.payload.sums),
            ]
        return busy, slot, row, queue[0]

    def _best(self, m):
        """The same, of the best token of a transfer, the first of equal ones."""
        width, bits = self._config.acc_width, ceil_log2(self._config.lanes)
        cycles  = list_latency(self._config) - 1
        payload = self.i.payload
        m.d.comb += self.i.ready.eq(1)

        # A transfer begins at a multiple of the lanes.
        sums  = delay(m, payload.sums, name="sums")
        whole = delay(m, _larger(self.vocab[bits:], payload.row[bits:]), name="whole")
        part  = delay(m, self.vocab[bits:] == payload.row[bits:], name="part")
        best  = [(delay(m, Mux(whole | (part & (lane < self.vocab[:bits])), sums[lane].as_unsigned(), 1 << width - 1),
                        name=f"token_{lane}").as_signed(), C(lane, bits)) for lane in range(self._config.lanes)]
        while len(best) > 1:
            best = [self._better(m, *pair) for pair in zip(best[::2], best[1::2])]
        [(value, lane)] = best

        coming = Signal(cycles)
        m.d.sync += coming.eq(Cat(self.i.valid, coming))
        m.d.comb += self._follow.eq(self.i.valid | coming[:-1].any())
        return (coming[-1], delay(m, payload.slot, cycles, name="slot"),
                Cat(lane, delay(m, payload.row[bits:], cycles, name="row")), value)

    @staticmethod
    def _better(m, first, second):
        """The larger of two values with their lanes, one cycle later; the first if they are equal."""
        (value, lane), (other, other_lane) = first, second
        larger = _larger(other, value)
        return (delay(m, Mux(larger, other, value), name="best"), delay(m, Mux(larger, other_lane, lane), name="lane"))


def _larger(a, b):
    """``a > b``, as the sign of a difference: a carry that leaves its chain by itself costs a nanosecond."""
    return (b - a)[-1]
