"""A tape in an SDR SDRAM chip.

Commands and rules are those that all data sheets share, see :mod:`terngen.hw.tape.chips`.
"""

from amaranth import C, Cat, Module, Mux, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from terngen.hw.contract.config import Config
from terngen.hw.interface import source_members
from terngen.hw.memory import Queue
from terngen.hw.stream import delay
from terngen.hw.tape.chips import BURST, FIRST_REFRESHES, SdramChip

__all__ = ["Command", "SdramSignature", "SdramTape", "attainment", "play_cycles"]

#: Address bit of a precharge that means all banks.
ALL_BANKS = 1 << 10
#: Bit of the mode register: writes are of one word, whatever the burst.
SINGLE_WRITE = 1 << 9
#: Words of the queue: those under way, and some that the machine lets wait.
DEPTH = 64
#: Cycles from a command of the controller to the word that it gives, without the CAS latency: the registers of both
#: directions.
REGISTERS = 2
#: Cycles from a request to the activation of its row.
REQUEST_CYCLES = 2
#: Cycle of a burst in which the next row is opened, and the one before closed.
OPEN_AT, CLOSE_AT = 3, 6


class Command(enum.Enum, shape=3):
    """What a chip is asked for: the pins RAS, CAS and WE, from the highest bit, where 1 is asserted."""

    NOP       = 0b000
    TERMINATE = 0b001
    READ      = 0b010
    WRITE     = 0b011
    ACTIVATE  = 0b100
    PRECHARGE = 0b101
    REFRESH   = 0b110
    MODE      = 0b111


class SdramSignature(wiring.Signature):
    """Pins of a chip but for its clock; chip select is always asserted, and RAS, CAS and WE are in ``command``.

    All outputs come from flip-flops, and ``dq_i`` goes into one. The board gives the chip its clock, through a DDR
    register.

    Parameters
    ----------
    chip : :class:`SdramChip`
        The chip.
    """

    def __init__(self, chip: SdramChip):
        self.chip = chip
        super().__init__({
            "cke":     Out(1),
            "command": Out(Command),
            "a":       Out(max(ceil_log2(chip.rows), ALL_BANKS.bit_length())),
            "ba":      Out(ceil_log2(chip.banks)),
            "dqm":     Out(chip.width // 8),
            "dq_i":    In(chip.width),
            "dq_o":    Out(chip.width),
            "dq_oe":   Out(1),
        })


def play_cycles(chip: SdramChip, clock_hz: int, *, beat_bits: int, start: int, count: int, tick: int,
                flight: int = 0) -> int:
    """Cycles from a request of :class:`SdramTape` to its last beat, if beats are taken as they come.

    Parameters
    ----------
    chip, clock_hz, flight
        Of the tape.
    beat_bits : :class:`int`
        Width of a beat.
    start, count : :class:`int`
        The request.
    tick : :class:`int`
        Cycles since a refresh fell due. It has been made, or was begun when it fell due.
    """
    timing = chip.timing(clock_hz)
    ratio  = beat_bits // chip.width
    place, words = start * ratio, count * ratio
    slot   = max(REQUEST_CYCLES, timing.rfc - tick) + timing.rcd
    period = timing.postponed * timing.interval
    due    = period - tick + 1
    while True:
        # Bursts up to the next refresh: a burst has eight cycles, whatever belongs to the request.
        bursts = max(1, -(-(due - slot) // BURST))
        end    = (place // BURST + bursts) * BURST
        if place + words <= end:
            skipped = place % BURST
            return (slot + words - 1 + (skipped if skipped + words > BURST else 0) + REGISTERS + timing.cas + flight
                    + Queue.LATENCY_CYCLES + (ratio > 1))
        # A row that was opened in the last burst is not closed at once.
        opened = bursts == 1 or (end - BURST) % chip.cols == 0
        slot  += bursts * BURST + timing.pause + (max(0, OPEN_AT + timing.ras - BURST - 1) if opened else 0)
        due   += period
        words -= end - place
        place  = end


def attainment(chip: SdramChip, clock_hz: int, beats: int, *, beat_bits: int = 64) -> float:
    """Share of the peak of the chip in a play of so many beats from the first one on, its latency included."""
    cycles = play_cycles(chip, clock_hz, beat_bits=beat_bits, start=0, count=beats, tick=chip.timing(clock_hz).rfc)
    return beats * beat_bits / chip.width / (cycles + 1)


class SdramTape(wiring.Component):
    """Plays a tape out of an SDR SDRAM chip::

        play --> bursts --> command     dq_i --> words --> queue --> beats
        load --> words  --> command, dq_o

    The tape runs through a row, then through the same row of the next bank. So while one row is read the next
    one is opened, and the one before closed, between the commands of the bursts: rows cost nothing. Refreshing
    needs all banks closed. While nothing is asked for it is done as it falls due; in a play so many at once as
    the chip allows (:attr:`SdramTiming.postponed`), which costs :attr:`SdramTiming.pause` cycles each time and
    leaves :attr:`SdramTiming.share` of the peak. :func:`play_cycles` tells how long a play takes.

    A burst is asked for when there is room for it in the queue, so nothing is lost when beats are not taken.
    Beats are written one by one, also between the bursts of a play. A request waits until everything written
    before it has arrived. A beat that is written while it is played has no meaning; neither have beats beyond
    the chip, and writing there does nothing.

    Which edge of its clock the chip sees, and when its data are captured, depends on the board: `flight` moves
    the capture by whole cycles, the phase of the clock is the board's. **Untested on silicon.**

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.
    chip : :class:`SdramChip`
        The chip.
    clock_hz : :class:`int`
        Frequency of the clock, which chip and controller share.
    flight : :class:`int`
        Cycles by which data come later than from a chip that sees the clock of the controller.

    Members
    -------
    play, beats, load
        As of :class:`~terngen.hw.tape.onchip.OnChipTape`.
    pins : ``Out(SdramSignature(chip))``
        The chip.
    """

    def __init__(self, config: Config, *, chip: SdramChip, clock_hz: int, flight: int = 0):
        if config.beat_bits < chip.width:
            raise ValueError(f"Beats must be at least as wide as the SDRAM, {chip.width} bits, not "
                             f"{config.beat_bits}; take a narrower chip, or wider beats")
        if flight not in range(4):
            raise ValueError(f"SDRAM flight must be from 0 to 3 cycles, not {flight!r}")
        self._config, self._chip, self._flight = config, chip, flight
        self._timing = chip.timing(clock_hz)
        self._ratio  = config.beat_bits // chip.width       # words of a beat
        super().__init__({
            **source_members(config),
            "pins":  Out(SdramSignature(chip)),
        })

    def elaborate(self, platform):
        m = Module()
        chip, timing, pins = self._chip, self._timing, self.pins

        # An address counts words: column, bank, row. A burst is aligned; `first` is where a request starts in it.
        first_bits = ceil_log2(BURST)
        col_bits   = ceil_log2(chip.cols)
        bank_bits  = ceil_log2(chip.banks)
        ratio_bits = ceil_log2(self._ratio)
        word_bits  = ceil_log2(chip.words)
        beat_bits  = word_bits - ratio_bits                 # of the number of a beat

        command = Signal(Command)
        m.d.sync += [
            pins.cke.eq(1),
            pins.command.eq(command),
            pins.dq_oe.eq(command == Command.WRITE),
        ]

        wait = Signal(range(timing.power_up), init=timing.power_up - 1)
        done = Signal()                                     # it is zero
        with m.If(~done):
            m.d.sync += [wait.eq(wait - 1), done.eq(wait == 1)]
        ras = Signal(range(timing.ras))                     # until the row that was opened last may be closed
        with m.If(pins.command == Command.ACTIVATE):
            m.d.sync += ras.eq(timing.ras - 2)
        with m.Elif(ras != 0):
            m.d.sync += ras.eq(ras - 1)

        # Refreshes that are owed; when they are many, all of them are made up for.
        starting = Signal(init=1)
        tick     = Signal(range(timing.interval))
        owed     = Signal(range(timing.postponed + 3))
        due      = Signal()
        passed   = Signal()
        m.d.comb += passed.eq(tick == timing.interval - 1)
        m.d.sync += [
            tick.eq(Mux(passed, 0, tick + 1)),
            due.eq(((owed >= timing.postponed) | due) & (owed != 0)),
        ]
        with m.If(starting):
            m.d.sync += owed.eq(0)
        with m.Else():
            m.d.sync += owed.eq(owed + passed - (pins.command == Command.REFRESH))

        # A beat to write.
        writing = Signal()
        word    = Signal(word_bits)
        data    = Signal(self._config.beat_bits)
        m.d.comb += self.load.ready.eq(~writing)
        with m.If(self.load.valid & ~writing):
            m.d.sync += [
                writing.eq(self.load.payload.address[beat_bits:] == 0),
                word.eq(Cat(C(0, ratio_bits), self.load.payload.address)),
                data.eq(self.load.payload.data),
            ]

        # A request: words before the first one in its burst, bursts and rows, words that are left.
        busy    = Signal()
        idle    = Signal()
        first   = Signal(first_bits)
        burst   = Signal(col_bits - first_bits)
        row     = Signal(word_bits - col_bits)              # bank, then row
        left    = Signal(32 + ratio_bits)
        reading = Signal()                                  # a burst is asked for
        taken   = Signal(range(BURST + 1))                  # words of the next burst
        last    = Signal()                                  # the next burst is the last
        known   = Signal()                                  # `target` is that of the request
        asked   = self.play.valid & self.play.ready
        start   = Cat(C(0, ratio_bits), self.play.payload.start)
        m.d.comb += self.play.ready.eq(idle & ~busy)
        m.d.sync += known.eq(busy)

        # Found in two steps, for which there is time from the request, and from one burst to the next.
        few     = Signal()
        low     = Signal(range(2 * BURST))
        whole   = Signal(range(BURST + 1))                  # words up to the end of the burst
        fits    = Signal()
        m.d.comb += fits.eq(few & (low <= whole))
        m.d.sync += [
            few.eq(left < 2 * BURST),
            low.eq(left),
            whole.eq(BURST - first),
            last.eq(fits),
            taken.eq(Mux(fits, low, whole)),
        ]
        with m.If(asked):
            m.d.sync += [
                Cat(first, burst, row).eq(start),
                left.eq(Cat(C(0, ratio_bits), self.play.payload.count)),
                busy.eq(self.play.payload.count != 0),
            ]
        with m.Elif(reading):
            m.d.sync += [
                first.eq(0),
                Cat(burst, row).eq(Cat(burst, row) + 1),
                left.eq(left - taken),
                busy.eq(~last),
            ]

        # Words that come back: those of a burst that belong to the request are the first ones.
        phase  = Signal(range(BURST))
        wanted = Signal(range(BURST + 1))                   # of the burst, this cycle included
        with m.If(reading):
            m.d.sync += wanted.eq(taken - 1)
        with m.Elif(wanted != 0):
            m.d.sync += wanted.eq(wanted - 1)
        m.submodules.queue = queue = Queue(shape=chip.width, depth=DEPTH)
        m.d.comb += [
            queue.i.valid.eq(delay(m, reading | (wanted != 0), REGISTERS + timing.cas + self._flight,
                                   reset=True, name="coming")),
            queue.i.payload.eq(delay(m, pins.dq_i, name="captured")),
        ]
        room     = Signal(range(DEPTH + 1), init=DEPTH)      # in the queue, not asked for, a cycle late
        has_room = Signal()
        asks     = delay(m, reading, reset=True, name="asks")
        left_it  = delay(m, queue.o.valid & queue.o.ready, reset=True, name="left_it")
        m.d.sync += [
            room.eq(room - Mux(asks, taken, 0) + left_it),
            has_room.eq(room >= BURST),
        ]
        self._join(m, queue.o)

        # Commands. Rows: that of the next burst is open, the one after it as well; the last burst was the last of its
        # row, and that of the one before has not been closed yet.
        is_open  = Signal()
        ahead    = Signal()
        crossing = Signal()
        behind   = Signal()
        target   = Signal.like(row)                         # row that is opened next
        m.d.sync += target.eq(row + is_open)
        stop     = due | writing | ~busy
        runs     = Signal(range(FIRST_REFRESHES + 1))

        def hold(cycles):
            """The next command comes so many cycles after this one."""
            m.d.sync += [wait.eq(cycles - 1), done.eq(cycles == 1)]

        def precharge_all():
            m.d.comb += command.eq(Command.PRECHARGE)
            hold(timing.rp)

        # Without a command no address matters. So none waits for what decides whether there is one.
        def address(bank, place):
            m.d.sync += [pins.ba.eq(bank), pins.a.eq(place)]

        def address_row(place):
            m.d.sync += Cat(pins.ba, pins.a).eq(place)

        m.d.sync += pins.dqm.eq(Mux(starting, ~0, 0))
        with m.FSM():
            with m.State("Power-up"):
                address(0, ALL_BANKS)
                with m.If(done):
                    precharge_all()
                    m.next = "Prepare"

            with m.State("Prepare"):
                address(0, SINGLE_WRITE | timing.cas << 4 | first_bits)
                with m.If(done & (runs != FIRST_REFRESHES)):
                    m.d.comb += command.eq(Command.REFRESH)
                    m.d.sync += runs.eq(runs + 1)
                    hold(timing.rfc)
                with m.Elif(done):
                    m.d.comb += command.eq(Command.MODE)
                    m.d.sync += starting.eq(0)
                    hold(timing.mrd)
                    m.next = "Idle"

            # What is written goes first, so it has arrived when a request is served that came after it.
            with m.State("Idle"):
                m.d.comb += idle.eq(1)
                address_row(Mux(writing, word[col_bits:], target))
                with m.If(done):
                    with m.If((owed != 0) & (due | ~(writing | busy))):
                        m.d.comb += command.eq(Command.REFRESH)
                        hold(timing.rfc)
                    with m.Elif(writing):
                        m.d.comb += command.eq(Command.ACTIVATE)
                        hold(timing.rcd)
                        m.next = "Write"
                    with m.Elif(busy & known):
                        m.d.comb += command.eq(Command.ACTIVATE)
                        m.d.sync += is_open.eq(1)
                        hold(timing.rcd)
                        m.next = "Read"

            with m.State("Write"):
                address(word[col_bits:], word[:col_bits])
                with m.If(done):
                    m.d.comb += command.eq(Command.WRITE)
                    m.d.sync += [
                        pins.dq_o.eq(data),
                        data.eq(data >> chip.width),
                        word[:col_bits].eq(word[:col_bits] + 1),
                    ]
                    with m.If(word[:ratio_bits].all() if ratio_bits else 1):
                        m.d.sync += writing.eq(0)
                        hold(timing.wr)
                        m.next = "Close"

            with m.State("Read"):
                with m.If(phase == OPEN_AT):
                    address_row(target)
                with m.Elif(phase == CLOSE_AT):
                    address(row[:bank_bits] - 1, 0)
                with m.Else():
                    address(row, Cat(first, burst))
                with m.If(phase != 0):
                    m.d.sync += phase.eq(phase + 1)
                with m.Elif(done & stop):
                    m.d.sync += [is_open.eq(0), ahead.eq(0), crossing.eq(0), behind.eq(0)]
                    m.next = "Close"
                with m.Elif(done & has_room):
                    m.d.comb += [command.eq(Command.READ), reading.eq(1)]
                    m.d.sync += [
                        phase.eq(1),
                        crossing.eq(burst.all()),
                        behind.eq(crossing),
                    ]
                    with m.If(burst.all()):
                        m.d.sync += [is_open.eq(ahead), ahead.eq(0)]
                with m.If((phase == OPEN_AT) & ~ahead & busy):
                    m.d.comb += command.eq(Command.ACTIVATE)
                    m.d.sync += [is_open.eq(1), ahead.eq(is_open)]
                with m.If((phase == CLOSE_AT) & behind):
                    m.d.comb += command.eq(Command.PRECHARGE)
                    m.d.sync += behind.eq(0)

            with m.State("Close"):
                address(0, ALL_BANKS)
                with m.If(done & (ras == 0)):
                    precharge_all()
                    m.next = "Idle"
        return m

    def _join(self, m, words):
        """Put words together to beats."""
        beats = self.beats
        if self._ratio == 1:
            wiring.connect(m, words, wiring.flipped(beats))
            return
        place = Signal(range(self._ratio))
        m.d.comb += words.ready.eq(~beats.valid | beats.ready)
        with m.If(words.ready):
            m.d.sync += beats.valid.eq(words.valid & place.all())
        with m.If(words.valid & words.ready):
            m.d.sync += [
                place.eq(place + 1),
                beats.payload.eq(Cat(beats.payload, words.payload)[self._chip.width:]),
            ]
