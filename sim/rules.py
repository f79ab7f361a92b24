"""Rules of single units, for :mod:`~terngen.sim.formal`: what is assumed of who is on the other side, what is claimed,
and what induction has to know of the registers inside."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from amaranth import Array, Const, Module, Mux, Signal
from amaranth.hdl import Assert, Assume
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from terngen.hw.contract.config import Config
from terngen.hw.contract.trits import GRAY_FIRST, GRAY_STEPS, TRITS_PER_BYTE, TritCode, trit_table
from terngen.hw.stream import delay
from terngen.hw.tape.chips import BURST, CHIPS, FIRST_REFRESHES, RETENTION_MS, SdramChip
from terngen.hw.tape.sdram import CLOSE_AT, OPEN_AT, Command, SdramTape
from terngen.hw.units.activations import READ_LATENCY
from terngen.hw.units.table import BIAS, ENTRIES
from terngen.sim.sdram import LINE, SdramModel, Violation, connect_chip

__all__ = ["CHIP", "GRAY", "JudgedSdram", "gray_filling", "sdram_rules"]

#: Trits of each octet of a table, by what the contract says.
GRAY = {octet: trit_table(TritCode.GRAY)[octet].tolist() for octet in GRAY_STEPS}
#: Place in the walk where an entry is zero; in the next ones activations are subtracted, until it is that of all minus.
ZERO = GRAY_FIRST - TRITS_PER_BYTE


def _changes(trits: Mapping[int, Sequence[int]]) -> dict[int, tuple[int, int]]:
    """By place in the walk: which digit is another one in the next entry, and whether it is less."""
    entries = {ZERO + count: [-1] * count + [0] * (TRITS_PER_BYTE - count) for count in range(TRITS_PER_BYTE)}
    entries |= {number: list(trits[GRAY_STEPS[number]]) for number in range(GRAY_FIRST, len(GRAY_STEPS))}
    changes = {}
    for number in range(ZERO, len(GRAY_STEPS) - 1):
        [(digit, change)] = [(digit, new - old) for digit, (old, new)
                             in enumerate(zip(entries[number], entries[number + 1])) if new != old]
        changes[number] = digit, int(change < 0)
    return changes


def gray_filling(config: Config, trits: Mapping[int, Sequence[int]] = GRAY) -> Any:
    """Tables are filled one after the other, each octet of each, in the bank that is not read. The first entry is zero;
    each is the one before, more or less the activation that makes the difference between their octets. So each is the
    sum that its octet says.

    One octet is watched, whichever, so it stands for all.

    Parameters
    ----------
    config
        Has one slot, and fills one table after the other.
    trits
        Of each octet. From one to the next, in the order of the walk, one of them changes, by one.
    """
    assert config.slots == config.table_builders == 1
    blocks, sides = config.blocks(config.wide), config.lane_bytes

    def more(m: Module, unit: Any, claim: Any) -> None:
        # There are codes until the bank is given back; blocks come in order, and the last one ends any matrix.
        rewound, was_ready, block = Signal(init=1), Signal(), Signal(range(blocks))
        m.d.sync += [rewound.eq(unit.take & unit.rewind), was_ready.eq(unit.ready)]
        with m.If(unit.take):
            m.d.sync += block.eq(Mux(unit.rewind, 0, block + 1))
        m.d.comb += [
            Assume(unit.loaded | ~unit.take), Assume(~unit.take | unit.rewind | (block != blocks - 1)),
            Assume(rewound | ~was_ready | unit.ready), Assert(claim.inner("block") == block),
        ]

        # Where the walk is. It stands still at one of two places: full, and without codes.
        walk, turn, read = claim.inner("walk"), claim.inner("turn"), claim.inner("read")
        number, side     = Signal(range(len(GRAY_STEPS))), Signal(range(sides))
        m.d.comb += number.eq(_place(walk))
        with m.Switch(turn):
            for place in range(sides):
                with m.Case(1 << place):
                    m.d.comb += side.eq(place)
        m.d.comb += [
            Assert(walk != 0), Assert(turn != 0), Assert((turn & (turn - 1)) == 0),
            Assert(~unit.loaded | (number == 0) & turn[0]),
            Assert(unit.ready | (number == 1) & turn[0] & ~unit.loaded), Assert(claim.inner("fill") != read),
        ]
        for bit in range(len(side)):
            ring = claim.inner(f"side_{bit}")
            m.d.comb += [Assert(ring[place] == (side + place)[bit]) for place in range(len(ring))]

        # What comes to the entry, and the entry.
        entry, asked = claim.inner("entry_0_0"), delay(m, unit.address, READ_LATENCY, name="asked")
        digit, minus, adds = Signal(range(TRITS_PER_BYTE)), Signal(), Signal()
        with m.Switch(number):
            for place, change in _changes(trits).items():
                with m.Case(place):
                    m.d.comb += [digit.eq(change[0]), minus.eq(change[1]), adds.eq(1)]
        was, code, less, added = Signal.like(entry), Signal.like(unit.codes[0][0]), Signal(), Signal()
        m.d.sync += [was.eq(entry), code.eq(unit.codes[0][0]), less.eq(minus), added.eq(adds)]
        m.d.comb += Assert((number != ZERO) | (entry == BIAS))
        with m.If(adds):
            m.d.comb += Assert(asked == (block * TRITS_PER_BYTE + digit) * sides + side)
        with m.If(added):
            m.d.comb += Assert(entry == (was + Mux(less, -code, code))[:len(entry)])

        # What is written of the octet that is watched, since the last block was taken.
        watched, before, begun = claim.free(8, "watched"), Signal(8), Signal()
        m.d.sync += [before.eq(watched), begun.eq(1)]
        m.d.comb += [Assume(~begun | (watched == before)), Assume(_place(watched) >= GRAY_FIRST)]
        for place in range(sides):
            address, written, enable = claim.write_port(f"table_0_{place}_0")
            there = Signal(name=f"there_{place}")
            m.d.sync += there.eq(~unit.take & (there | enable.any() & (address[:8] == watched)))
            m.d.comb += Assert(there | ~(unit.loaded | (side > place) | (side == place) & (number > _place(watched))))
            with m.If(enable.any()):
                m.d.comb += Assert((side == place) & (address[:8] == walk) & (address[8] != read) & (written == entry))
    return more


def _place(octet: Any) -> Any:
    """Where in the walk it is."""
    return Array(GRAY_STEPS.index(each) if each else 0 for each in range(ENTRIES))[octet]


#: A chip like others, but small, and it forgets fast, so that all that it counts is in few bits.
CHIP = dataclasses.replace(CHIPS["AS4C32M16SB-7"], width=8, rows=2, cols=32, refreshes=80_000, ras_max=2600,
                           power_up=100)


class _Judge(SdramModel):
    """The chip without what it holds, which no rule is about."""

    def _lines(self, m: Module) -> tuple[Any, Any]:
        width = ceil_log2(self._chip.words // LINE)
        shape = self._chip.width * LINE
        return (memory.WritePort.Signature(addr_width=width, shape=shape, granularity=self._chip.width).create(),
                memory.ReadPort.Signature(addr_width=width, shape=shape).create())


class JudgedSdram(wiring.Component):
    """A tape in an SDRAM, and the chip, which judges it by its own counts.

    Members
    -------
    play, load
        As of :class:`SdramTape`.
    taken : ``In(1)``
        Beats are taken.
    violation : ``Out(Violation)``
        As of :class:`SdramModel`.
    """

    def __init__(self, config: Config, clock_hz: int, sheet: SdramChip = CHIP) -> None:
        self.clock_hz = clock_hz
        self.tape     = SdramTape(config, chip=CHIP, clock_hz=clock_hz)
        self.judge    = _Judge(sheet, clock_hz=clock_hz)
        members       = self.tape.signature.members
        super().__init__({"play": members["play"], "load": members["load"], "taken": In(1),
                          "violation": Out(Violation)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.tape, m.submodules.chip = self.tape, self.judge
        connect_chip(m, self.tape.pins, self.judge)
        wiring.connect(m, wiring.flipped(self.play), self.tape.play)
        wiring.connect(m, wiring.flipped(self.load), self.tape.load)
        m.d.comb += [self.tape.beats.ready.eq(self.taken), self.violation.eq(self.judge.violation)]
        return m


def sdram_rules(m: Module, unit: JudgedSdram, claim: Any) -> None:
    """No rule of the data sheet is ever broken: :class:`Violation` names them.

    What is claimed beside is how controller and chip stand to each other, with the command on the pins executed.
    """
    timing = CHIP.timing(unit.clock_hz)
    pins   = unit.tape.pins

    def tape(name: str) -> Any:
        return claim.inner(f"tape.{name}")

    def chip(name: str) -> Any:
        return claim.inner(f"chip.{name}")

    def state(*names: str) -> Any:
        return claim.state(*names, path="tape.fsm_state")

    def bank_of(place: Any) -> Any:
        return Const(1, CHIP.banks) << place[:ceil_log2(CHIP.banks)]

    begins = state("Power-up", "Prepare")
    is_a   = {each: pins.command == each for each in Command}
    m.d.comb += Assert(unit.violation == Violation.NONE)

    # The start.
    prepared = state("Prepare")
    refreshed, runs = chip("refreshed") + is_a[Command.REFRESH], tape("runs")
    m.d.comb += [
        Assert(tape("starting") == begins), Assert(tape("fsm_state") < 6),
        Assert(tape("done") == (tape("wait") == 0)),
        Assert(tape("wait") < Mux(state("Power-up"), timing.power_up, Mux(state("Prepare", "Idle"), timing.rfc, Mux(
            state("Close"), timing.wr, timing.rcd)))),
        Assert(~state("Power-up") | (chip("up") + tape("wait") == timing.power_up - 1)
               & (is_a[Command.NOP]) & ~chip("precharged") & ~chip("moded") & (chip("refreshed") == 0) & (runs == 0)),
        Assert(state("Power-up") | (chip("up") == timing.power_up)),
        Assert(state("Power-up") | chip("precharged") | is_a[Command.PRECHARGE] & pins.a[10]),
        Assert(~prepared | (refreshed == runs) & ~chip("moded") & ~is_a[Command.MODE] & (runs <= FIRST_REFRESHES)),
        Assert(begins | (runs == FIRST_REFRESHES) & (chip("refreshed") == FIRST_REFRESHES)
               & (chip("moded") | is_a[Command.MODE])),
        Assert(~chip("moded") | (chip("length") == 3) & (chip("latency") == timing.cas)),
    ]

    # Which banks are open: those of the next burst, of the row after it, and of the row before.
    opened, row = Signal(CHIP.banks), tape("row")
    for bank in range(CHIP.banks):
        this = pins.ba == bank
        m.d.comb += opened[bank].eq(is_a[Command.ACTIVATE] & this | chip("opened")[bank] & ~(
            is_a[Command.PRECHARGE] & (pins.a[10] | this)))
    is_open, ahead, crossing, behind = map(tape, ("is_open", "ahead", "crossing", "behind"))
    wanted = (Mux(is_open, bank_of(row), 0) | Mux(ahead, bank_of(row + 1), 0)
              | Mux(crossing | behind, bank_of(row - 1), 0))
    words  = tape("word")[ceil_log2(CHIP.cols):]
    m.d.comb += [
        Assert(~state("Power-up", "Prepare", "Idle") | (opened == 0) & (chip("left") == 0)
               | is_a[Command.PRECHARGE] & pins.a[10]),
        Assert(~state("Write") | (opened == bank_of(words)) & (chip("left") == 0) & tape("writing")),
        Assert(~state("Read") | (opened == wanted)),
        Assert(state("Read") | ~(is_open | ahead | crossing | behind)),
        Assert(~ahead | is_open), Assert(~crossing | (tape("burst") == 0)), Assert(~(crossing & behind)),
        Assert(~behind | (tape("phase") != 0) & (tape("phase") <= CLOSE_AT)), Assert(chip("left") <= BURST),
        Assert(state("Read") | (tape("phase") == 0)),
        Assert(~state("Read") | is_open | ~tape("busy") | (tape("phase") != 0) & (tape("phase") <= OPEN_AT)),
    ]

    # Ages are counted up to a limit.
    ages = ["since_refresh", "since_mode", *(f"since_{what}_{bank}" for what in ("open", "close", "write")
                                             for bank in range(CHIP.banks))]
    m.d.comb += [Assert(chip(age) <= int(CHIP.ras_max * unit.clock_hz / 10**9) + 1) for age in ages]

    # Refreshes: what is owed here and there, in cycles, grows by one in each.
    owes  = tape("owed") * timing.interval + tape("tick")
    sheet = RETENTION_MS * unit.clock_hz // 1000 // CHIP.refreshes
    m.d.comb += [
        Assert(tape("tick") < timing.interval), Assert(chip("tick") < sheet), Assert(~begins | (tape("owed") == 0)),
        Assert(chip("moded") | (chip("late") == 0) & (chip("tick") == 0)),
        Assert(chip("late") * sheet + chip("tick") <= owes + sheet),
        Assert(tape("owed") <= timing.postponed),
        *(Assert(~chip("opened")[bank] | (chip(f"since_open_{bank}") <= owes + 2)) for bank in range(CHIP.banks)),
    ]
    with m.If(tape("owed") == timing.postponed):
        m.d.comb += Assert(tape("tick") < Mux(state("Read", "Write"), 14, Mux(state("Close"), 28, 42)))
