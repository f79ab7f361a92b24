"""Accumulator: row sums of every slot, a column block after the other."""

from amaranth import Cat, Module, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from terngen.hw.contract.config import Config
from terngen.hw.stream import delay
from terngen.hw.units.partials import has_carries, partial_width
from terngen.hw.vendor.adder import add_kept

__all__ = ["LEAD_CYCLES", "REUSE_CYCLES", "SUM_CYCLES", "Accumulator"]

#: Cycles from the announcement of a row group to its partial sums.
LEAD_CYCLES = 2
#: Cycles from the announcement of a row group to its sums.
SUM_CYCLES = 3
#: Cycles from the announcement of a row group to the next one of the same group, at least.
REUSE_CYCLES = 4


def depth(config: Config) -> int:
    """Words of the memory: a power of two, because what lies behind each other in block RAMs is multiplexed."""
    return 1 << ceil_log2(config.row_groups(config.rows))


class Accumulator(wiring.Component):
    """Adds partial sums to those of the same rows.

    Takes a row group (``row_lanes`` rows) of all slots in every cycle, without flow control. Nothing is
    ever cleared, because the first column block overwrites what is there.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    valid : ``In(1)``
        Announces partial sums of a row group. A group must not come again within ``REUSE_CYCLES``, except as a
        `first` one.
    group : ``In(row_group_bits)``
        That row group.
    first : ``In(1)``
        With `valid`: the partial sums overwrite.
    partials : ``In(signed(partial_width)).array(slots, row_lanes)``
        The partial sums, ``LEAD_CYCLES`` after `valid`.
    carries : ``In(1).array(row_lanes)``
        With them: what else is to be added, as :func:`~terngen.hw.units.partials.has_carries` says.
    written, sums_group : ``Out(1)``, ``Out(row_group_bits)``
        `valid` and `group`, ``SUM_CYCLES`` later.
    sums : ``Out(signed(acc_width)).array(slots, row_lanes)``
        The sums so far, with `written`.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "valid":      In(1),
            "group":      In(config.row_group_bits),
            "first":      In(1),
            "partials":   In(signed(partial_width(config))).array(config.slots, config.row_lanes),
            "carries":    In(1).array(config.row_lanes),
            "written":    Out(1),
            "sums_group": Out(config.row_group_bits),
            "sums":       Out(signed(config.acc_width)).array(config.slots, config.row_lanes),
        })

    def elaborate(self, platform):
        m      = Module()
        config = self._config
        width  = config.acc_width
        keep   = ~delay(m, self.first, 1, name="first")
        keep   = delay(m, keep, LEAD_CYCLES - 1, name="keep")
        m.d.comb += [
            self.written.eq(delay(m, self.valid, SUM_CYCLES, reset=True, name="valid")),
            self.sums_group.eq(delay(m, self.group, SUM_CYCLES, name="group")),
        ]
        for slot, partials in enumerate(self.partials):
            # What is read was written REUSE_CYCLES ago, or is not needed; so no word is needed that is being written.
            rows = memory.Memory(shape=width * config.row_lanes, depth=depth(config), init=[],
                                 attrs={"no_rw_check": 1})
            m.submodules[f"rows_{slot}"] = rows
            write_port, read_port = rows.write_port(), rows.read_port()
            m.d.comb += [
                read_port.addr.eq(self.group),
                write_port.addr.eq(self.sums_group),
                write_port.data.eq(Cat(self.sums[slot])),
                write_port.en.eq(self.written),
            ]
            # A block RAM is slow to answer: its word meets a register before it goes anywhere.
            old = delay(m, read_port.data, name=f"old_{slot}")
            for lane, partial in enumerate(partials):
                sums = add_kept(m, platform, partial, old.word_select(lane, width), keep, name=f"add_{slot}_{lane}",
                                carry=self.carries[lane] if has_carries(config) else None)
                m.d.comb += self.sums[slot][lane].eq(delay(m, sums, name=f"sum_{slot}_{lane}").as_signed())
        return m
