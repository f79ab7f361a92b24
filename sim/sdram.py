"""A model of an SDR SDRAM chip that checks every command against the data sheet.

It is a component, so it runs wherever the gateware does: in Amaranth's simulator, in cocotb benches and in
compiled machines. It knows the chip by its nanoseconds and counts for itself, not with what the controller
computes.
"""

from fractions import Fraction
from pathlib import Path

from amaranth import Array, Cat, ClockSignal, Instance, Module, Mux, Signal
from amaranth.lib import enum, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Play
from terngen.hw.stream import delay
from terngen.hw.tape.chips import RETENTION_MS, SdramChip
from terngen.hw.tape.loader import load_layout
from terngen.hw.tape.sdram import Command, SdramSignature, SdramTape
from terngen.hw.top import SdramMachine

__all__ = ["MachineOnChip", "SdramBoard", "SdramModel", "Violation", "lines_file", "lines_module"]

#: Refreshes that may be late: eight that were put off, and the one that is due.
LATE = 9
#: Words of a line of the memory inside. Simulators do with few long words what they cannot do with many short ones.
LINE = 32
#: Refreshes before the first access.
FIRST_REFRESHES = 8


class Violation(enum.Enum, shape=5):
    """What was done against the data sheet."""

    NONE      = 0
    #: A command before the supply is stable, with the clock disabled, or before all banks were closed and
    #: refreshed and the mode was set.
    START     = 1
    #: Access to a bank that is closed.
    CLOSED    = 2
    #: Activation of a bank that is open; refresh, or a mode, while one is.
    OPEN      = 3
    RCD       = 4
    RP        = 5
    RAS       = 6
    RAS_MAX   = 7
    RC        = 8
    RRD       = 9
    WR        = 10
    RFC       = 11
    MRD       = 12
    #: Refreshes are late.
    REFRESH   = 13
    #: A mode that the chip does not have at this clock, or that the model does not play.
    MODE      = 14
    #: Both ends drive the data, or one does less than a cycle after the other; or nobody drives what is written.
    CONTENTION = 15
    #: Access with masked octets: nobody wants any.
    MASK      = 16
    #: A command that the model does not play: burst terminate, auto-precharge.
    COMMAND   = 17
    #: A row or a column that the chip does not have.
    ADDRESS   = 18


class SdramModel(wiring.Component):
    """An SDR SDRAM chip, and judge of who drives it.

    Reads come in bursts as the mode register says, with its CAS latency; writes are single. After the first
    violation what is read is inverted, so that nobody who ignores :attr:`violation` gets anything done.

    Parameters
    ----------
    chip : :class:`SdramChip`
        The chip. One with fewer rows takes less time to simulate.
    clock_hz : :class:`int`
        Frequency of the clock.
    init : iterable of :class:`int`
        First words; the rest is zero.
    outside : :class:`bool`
        The contents are those of :func:`lines_module`, which is added to the Verilog. Generating and compiling a
        memory of megabytes with its contents takes many minutes.

    Members
    -------
    pins : ``In(SdramSignature(chip))``
        The chip sees the clock of the simulation. Not driven, the data are all ones.
    violation : ``Out(Violation)``
        The first violation since the reset, which is power-up but keeps the contents.
    """

    def __init__(self, chip: SdramChip, *, clock_hz: int, init=(), outside: bool = False):
        self._chip, self._clock_hz, self._init, self._outside = chip, clock_hz, init, outside
        super().__init__({
            "pins":      In(SdramSignature(chip)),
            "violation": Out(Violation),
        })

    def _lines(self, m):
        """Write and read port of the memory, a line of words wide."""
        chip  = self._chip
        depth = chip.words // LINE
        shape = chip.width * LINE
        if self._outside:
            width  = ceil_log2(depth)
            w_port = memory.WritePort.Signature(addr_width=width, shape=shape, granularity=chip.width).create()
            r_port = memory.ReadPort.Signature(addr_width=width, shape=shape).create()
            m.submodules.lines = Instance(
                "sdram_lines", i_clk=ClockSignal(), i_w_addr=w_port.addr, i_w_data=w_port.data, i_w_en=w_port.en,
                i_r_addr=r_port.addr, o_r_data=r_port.data)
            return w_port, r_port
        words = list(self._init)
        m.submodules.lines = lines = memory.Memory(shape=shape, depth=depth, init=[
            sum(word << chip.width * place for place, word in enumerate(words[first:first + LINE]))
            for first in range(0, len(words), LINE)])
        return lines.write_port(granularity=chip.width), lines.read_port()

    def _least(self, time):
        """Cycles in which so many nanoseconds have passed."""
        cycles = 1
        while cycles * Fraction(10**9, self._clock_hz) < Fraction(str(time)):
            cycles += 1
        return cycles

    def elaborate(self, platform):
        m = Module()
        chip, pins, least = self._chip, self.pins, self._least
        banks  = range(chip.banks)
        longest = int(chip.ras_max * self._clock_hz / 10**9)
        found  = []                 # conditions, and what each of them violates

        def check(condition, violation):
            found.append((condition, violation))

        def age(start, most=longest + 1, init=None, name="age"):
            """Cycles since the last cycle of `start`, up to a limit."""
            count = Signal(range(most + 1), init=most if init is None else init, name=name)
            with m.If(start):
                m.d.sync += count.eq(1)
            with m.Elif(count != most):
                m.d.sync += count.eq(count + 1)
            return count

        # What the chip is asked for, and of which banks.
        is_a     = {each: pins.command == each for each in Command}
        this     = [pins.ba == bank for bank in banks]
        activate = [is_a[Command.ACTIVATE] & this[bank] for bank in banks]
        close    = [is_a[Command.PRECHARGE] & (pins.a[10] | this[bank]) for bank in banks]
        access   = is_a[Command.READ] | is_a[Command.WRITE]
        write    = [is_a[Command.WRITE] & this[bank] for bank in banks]
        quiet    = is_a[Command.REFRESH] | is_a[Command.MODE]           # needs all banks closed
        opened   = Signal(chip.banks)
        rows     = Array(Signal(range(chip.rows), name=f"row_{bank}") for bank in banks)

        # Start.
        up        = age(0, most=least(chip.power_up), init=0, name="up")
        precharged, moded = Signal(name="precharged"), Signal(name="moded")
        refreshed = Signal(range(FIRST_REFRESHES + 1))
        ready     = precharged & moded & (refreshed == FIRST_REFRESHES)
        check(~is_a[Command.NOP] & ((up != least(chip.power_up)) | ~pins.cke), Violation.START)
        check(quiet & ~precharged, Violation.START)
        check(is_a[Command.ACTIVATE] & ~ready, Violation.START)
        check(ready & ~pins.cke, Violation.START)
        with m.If(is_a[Command.PRECHARGE] & pins.a[10]):
            m.d.sync += precharged.eq(1)
        with m.If(is_a[Command.REFRESH] & (refreshed != FIRST_REFRESHES)):
            m.d.sync += refreshed.eq(refreshed + 1)

        # Banks.
        since_refresh = age(is_a[Command.REFRESH], name="since_refresh")
        since_mode    = age(is_a[Command.MODE], name="since_mode")
        for bank in banks:
            since_open  = age(activate[bank], name=f"since_open_{bank}")
            # Closing a closed bank does nothing; at the start nobody knows what is open.
            since_close = age(close[bank] & (opened[bank] | ~ready), name=f"since_close_{bank}")
            since_write = age(write[bank], name=f"since_write_{bank}")
            accessed    = access & this[bank]
            check(accessed & ~opened[bank],                                  Violation.CLOSED)
            check((activate[bank] | quiet) & opened[bank],                   Violation.OPEN)
            check(accessed & (since_open < least(chip.rcd)),                 Violation.RCD)
            check((activate[bank] | quiet) & (since_close < least(chip.rp)), Violation.RP)
            check(close[bank] & opened[bank] & (since_open < least(chip.ras)), Violation.RAS)
            check(opened[bank] & (since_open > longest),                     Violation.RAS_MAX)
            check((activate[bank] | quiet) & (since_open < least(chip.rc)),  Violation.RC)
            check(is_a[Command.ACTIVATE] & ~this[bank] & (since_open < least(chip.rrd)), Violation.RRD)
            check(close[bank] & opened[bank] & (since_write < least(chip.wr)), Violation.WR)
            with m.If(activate[bank]):
                m.d.sync += [opened[bank].eq(1), rows[bank].eq(pins.a)]
            with m.Elif(close[bank]):
                m.d.sync += opened[bank].eq(0)
        check(~is_a[Command.NOP] & (since_refresh < least(chip.rfc)), Violation.RFC)
        check(~is_a[Command.NOP] & (since_mode < 2), Violation.MRD)
        check(is_a[Command.ACTIVATE] & (pins.a >= chip.rows), Violation.ADDRESS)
        check(access & ((pins.a & 0x3FF) >= chip.cols), Violation.ADDRESS)
        check(access & pins.a[10], Violation.COMMAND)
        check(is_a[Command.TERMINATE], Violation.COMMAND)
        check(access & (pins.dqm != 0), Violation.MASK)

        # Refreshes that are late, from the end of the start on.
        period = RETENTION_MS * self._clock_hz // 1000 // chip.refreshes
        tick   = Signal(range(period))
        late   = Signal(range(LATE + 2))
        passed = tick == period - 1
        with m.If(ready):
            m.d.sync += [
                tick.eq(Mux(passed, 0, tick + 1)),
                late.eq(late + (passed & (late <= LATE)) - (is_a[Command.REFRESH] & (late != 0))),
            ]
        check(late > LATE, Violation.REFRESH)

        # Mode: words of a burst, in sequence; CAS latency; single writes.
        length, latency = Signal(2, name="length"), Signal(3, name="latency")
        slow = [cas for cas, time in chip.cas.items() if Fraction(str(time)) * self._clock_hz > 10**9]
        check(is_a[Command.MODE] & (
            pins.a[2:4].any() | pins.a[7:9].any() | ~pins.a[9] | pins.a[10:].any() | pins.ba.any()
            | ~Cat(pins.a[4:7] == cas for cas in chip.cas).any()
            | Cat(pins.a[4:7] == cas for cas in slow).any()), Violation.MODE)
        with m.If(is_a[Command.MODE]):
            m.d.sync += [moded.eq(1), length.eq(pins.a), latency.eq(pins.a[4:])]

        # Data. The memory gives a word two cycles after the command, which is a CAS latency of two.
        w_port, r_port = self._lines(m)
        left   = Signal(range(9))
        col    = Signal(range(chip.cols))
        bank   = Signal(range(chip.banks))
        row    = Signal(range(chip.rows))
        mask   = (1 << length) - 1
        with m.If(is_a[Command.READ]):
            m.d.sync += [left.eq(1 << length), col.eq(pins.a), bank.eq(pins.ba), row.eq(rows[pins.ba])]
        with m.Elif(is_a[Command.WRITE] | (is_a[Command.PRECHARGE] & (pins.a[10] | (pins.ba == bank)))):
            m.d.sync += left.eq(0)
        with m.Elif(left != 0):
            m.d.sync += [left.eq(left - 1), col.eq((col & ~mask) | ((col + 1) & mask))]
        place  = Cat(pins.a[:len(col)], pins.ba, rows[pins.ba])
        lane   = ceil_log2(LINE)
        m.d.comb += [
            r_port.en.eq(1),
            r_port.addr.eq(Cat(col[lane:], bank, row)),
            w_port.addr.eq(place[lane:]),
            w_port.data.eq(pins.dq_o.replicate(LINE)),
            w_port.en.eq((is_a[Command.WRITE] & (self.violation == Violation.NONE)) << place[:lane]),
        ]
        read   = r_port.data.word_select(delay(m, col[:lane]), chip.width)
        given  = delay(m, left != 0, reset=True)
        driven, value = Signal(), Signal(chip.width)
        with m.If(latency == 2):
            m.d.comb += [driven.eq(given), value.eq(read)]
        with m.Else():
            m.d.comb += [driven.eq(delay(m, given, reset=True)), value.eq(delay(m, read))]
        m.d.comb += pins.dq_i.eq(Mux(driven, value ^ (self.violation != Violation.NONE).replicate(chip.width), ~0))
        check(pins.dq_oe & (driven | delay(m, driven, reset=True)), Violation.CONTENTION)
        check(driven & delay(m, pins.dq_oe, reset=True), Violation.CONTENTION)
        check(is_a[Command.WRITE] & ~pins.dq_oe, Violation.CONTENTION)

        with m.If(self.violation == Violation.NONE):
            for condition, violation in reversed(found):
                with m.If(condition):
                    m.d.sync += self.violation.eq(violation)
        return m


def lines_module(chip: SdramChip, contents: Path) -> str:
    """Verilog of the memory of an :class:`SdramModel` whose contents are outside: those of :func:`lines_file`."""
    depth = chip.words // LINE
    return f"""
module sdram_lines(input clk, input [{ceil_log2(depth) - 1}:0] w_addr, input [{chip.width * LINE - 1}:0] w_data,
                   input [{LINE - 1}:0] w_en, input [{ceil_log2(depth) - 1}:0] r_addr,
                   output reg [{chip.width * LINE - 1}:0] r_data);
  reg [{chip.width * LINE - 1}:0] lines [0:{depth - 1}];
  initial $readmemh("{contents}", lines);
  always @(posedge clk) begin
    r_data <= lines[r_addr];
    for (int word = 0; word < {LINE}; word = word + 1)
      if (w_en[word]) lines[w_addr][word * {chip.width} +: {chip.width}] <= w_data[word * {chip.width} +: {chip.width}];
  end
endmodule
"""


def lines_file(chip: SdramChip, image: bytes) -> str:
    """Contents of a chip that begins with `image`, as ``$readmemh`` reads them."""
    octets = chip.width * LINE // 8
    padded = image + bytes(-len(image) % octets)
    lines  = [padded[first:first + octets][::-1].hex() for first in range(0, len(padded), octets)]
    rest   = chip.words // LINE - len(lines)
    return "\n".join(lines + ["0"] * rest) + "\n"


class SdramBoard(wiring.Component):
    """A tape in an SDRAM, and the chip.

    Parameters
    ----------
    config, chip, clock_hz
        See :class:`~terngen.hw.tape.sdram.SdramTape`.
    flight : :class:`int`
        Registers between the data of the chip and the tape.
    init : iterable of :class:`int`
        First words of the chip.

    Members
    -------
    play, beats, load
        As of :class:`~terngen.hw.tape.sdram.SdramTape`.
    violation : ``Out(Violation)``
        See :class:`SdramModel`.
    command : ``Out(Command)``
        What the chip is asked for.
    """

    def __init__(self, config: Config, *, chip: SdramChip, clock_hz: int, flight: int = 0, init=()):
        self._flight = flight
        #: The tape.
        self.tape    = SdramTape(config, chip=chip, clock_hz=clock_hz, flight=flight)
        self._model  = SdramModel(chip, clock_hz=clock_hz, init=init)
        super().__init__({
            "play":      In(stream.Signature(Play)),
            "beats":     Out(stream.Signature(config.beat_bits)),
            "load":      In(stream.Signature(load_layout(config))),
            "violation": Out(Violation),
            "command":   Out(Command),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.tape  = tape  = self.tape
        m.submodules.model = model = self._model
        connect_chip(m, tape.pins, model, self._flight)
        wiring.connect(m, wiring.flipped(self.play), tape.play)
        wiring.connect(m, wiring.flipped(self.load), tape.load)
        wiring.connect(m, tape.beats, wiring.flipped(self.beats))
        m.d.comb += [self.violation.eq(model.violation), self.command.eq(tape.pins.command)]
        return m


class MachineOnChip(wiring.Component):
    """A machine with its tape in an SDRAM, and the chip: as if its memory were inside.

    Parameters
    ----------
    config, chip, clock_hz
        See :class:`~terngen.hw.tape.sdram.SdramTape`.

    Members
    -------
    link_i, link_o, busy, trace
        As in :class:`~terngen.hw.top.Machine`. After a violation the machine gets noise for beats.
    """

    def __init__(self, config: Config, *, chip: SdramChip, clock_hz: int):
        #: The machine.
        self.machine = SdramMachine(config, chip=chip, clock_hz=clock_hz)
        self._model  = SdramModel(chip, clock_hz=clock_hz)
        super().__init__({name: member for name, member in self.machine.signature.members.items() if name != "pins"})

    def elaborate(self, platform):
        m = Module()
        m.submodules.machine = machine = self.machine
        m.submodules.model   = model   = self._model
        connect_chip(m, machine.pins, model)
        wiring.connect(m, wiring.flipped(self.link_i), machine.link_i)
        wiring.connect(m, machine.link_o, wiring.flipped(self.link_o))
        wiring.connect(m, machine.trace, wiring.flipped(self.trace))
        m.d.comb += self.busy.eq(machine.busy)
        return m


def connect_chip(m, pins, model, flight=0):
    """Join the pins of a controller with a chip, whose data take so many cycles more."""
    for name in model.pins.signature.members:
        if name != "dq_i":
            m.d.comb += getattr(model.pins, name).eq(getattr(pins, name))
    m.d.comb += pins.dq_i.eq(delay(m, model.pins.dq_i, flight))
