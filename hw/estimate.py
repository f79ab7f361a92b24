"""The estimator: what a machine takes for a step, without playing it.

The time of a machine depends on the sizes of what is on the tape and on nothing else: not on weights,
not on activations. So the machine is followed descriptor by descriptor, each unit by the cycles that it
promises, and beats are counted in runs. The result is what the registers count, to the cycle.

::

    source --> prefetch --> sequencer --> queue --> vector unit
                                |   '--> parameters --'  |  ^
                                '------> array <- codes -'  |
                                           '------ sums ----'
"""

import bisect
import collections
import dataclasses
import functools
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from terngen.hw.contract.config import Config, Control
from terngen.hw.contract.tape import DRAINS, Op, descriptor_beats
from terngen.hw.control import decode, player, sequencer
from terngen.hw.memory import Queue
from terngen.hw.stream import SkidBuffer
from terngen.hw.tape.reader import TapeReader
from terngen.hw.units import parameters
from terngen.hw.units.array import latency, load_cycles, settle_cycles
from terngen.hw.units.matvec import TAKE_CYCLES, pause_cycles
from terngen.hw.units.sums import LEAD_CYCLES, PUSH_CYCLES, REUSE_CYCLES
from terngen.hw.units.vector import Timing

__all__ = ["Array", "Source", "Step", "Tape", "step"]

#: Before anything that a step does.
_LONG_AGO = -(1 << 62)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Timing of a tape source, as that of :class:`~terngen.sim.memory.MemoryModel`.

    Parameters
    ----------
    latency : :class:`int`
        Cycles from a request to its first beat, at least 1.
    requests : :class:`int`
        Requests that it holds, with the one that it serves.
    rate : :class:`~fractions.Fraction`
        Cycles of the memory in one of the machine, at most 1. It gives at most a beat in each.
    row_beats, row_pause : :class:`int`
        Beats of a row, zero for none; cycles of the memory from one row to another.
    refresh_period, refresh_pause : :class:`int`
        Cycles of the memory from one refresh to the next, zero for none; cycles that each takes.
    """

    latency:        int      = 1
    requests:       int      = 4
    rate:           Fraction = Fraction(1)
    row_beats:      int      = 0
    row_pause:      int      = 0
    refresh_period: int      = 0
    refresh_pause:  int      = 0

    @functools.cached_property
    def _ratio(self) -> tuple[int, int]:
        return self.rate.numerator, self.rate.denominator

    def first_turn(self, cycle: int) -> int:
        """Number of the first turn at that cycle or later. In a turn the memory can give a beat."""
        ticks, cycles = self._ratio
        tick = cycle * ticks // cycles      # ticks in all cycles before
        if not self.refresh_period:
            return tick
        period, place = divmod(tick, self.refresh_period)
        return period * (self.refresh_period - self.refresh_pause) + max(place - self.refresh_pause, 0)

    def cycle(self, turn: int) -> int:
        """Cycle of a turn."""
        tick = turn
        if self.refresh_period:
            period, place = divmod(turn, self.refresh_period - self.refresh_pause)
            tick = period * self.refresh_period + self.refresh_pause + place
        ticks, cycles = self._ratio
        return -(-(tick + 1) * cycles // ticks) - 1


@dataclasses.dataclass(frozen=True)
class Step:
    """What the registers count in one step."""

    #: From its start to idle.
    cycles: int
    #: Beats that the machine takes.
    beats:  int
    #: Cycles until the sequencer is done with descriptors of a kind, by their opcodes: those in which it takes a beat,
    #: and those in which it waits.
    spent:  Mapping[Op, tuple[int, int]] = dataclasses.field(default_factory=dict, compare=False)


class _Piece:
    """Beats that the source gives one after the other: the first in a cycle of its own, the others in
    turns, but for those that open rows."""

    def __init__(self, source: Source, phase: int, first: int, count: int, cycle: int, address: int):
        self.first, self.end = first, first + count
        self._cycle   = cycle
        self._source  = source
        self._phase   = phase
        self._address = address
        self._turn    = source.first_turn(phase + cycle + 1)
        self._even    = source.rate == 1 and not source.row_pause and not source.refresh_pause

    def cycle(self, beat: int) -> int:
        """Cycle in which a beat is given."""
        after = beat - self.first
        if not after:
            return self._cycle
        if self._even:
            return self._cycle + after
        turn = self._turn + after - 1
        if self._source.row_beats:
            rows  = self._source.row_beats
            turn += self._source.row_pause * ((self._address + after) // rows - self._address // rows)
        return self._source.cycle(turn) - self._phase

    def overtakes(self, first: int, end: int, cycle: int) -> int:
        """The first beat from `first` to `end` that is not given before one that is wanted, if those are
        wanted one per cycle from `cycle` on; `end` if there is none."""
        if self._even and first > self.first:
            return first if self.cycle(first) >= cycle else end
        # Beats are given one per cycle at most, so those that are late are all behind those that are not.
        if self.cycle(end - 1) < cycle + end - 1 - first:
            return end
        return first + bisect.bisect_left(range(end - first), True,
                                          key=lambda after: self.cycle(first + after) >= cycle + after)


class Tape:
    """Source, prefetch FIFO and the skid buffer of the check behind it: when beats can be had.

    With ``given`` and ``taken`` the cycles in which a beat enters the FIFO and leaves the check, a beat can be taken
    ``LATENCY_CYCLES`` after it was given, and be given ``refill`` cycles after the one was taken that is ``depth``
    before it. Of beats that are taken without a pause only the first can hold up the source: it gives one
    per cycle at most.
    """

    def __init__(self, config: Config, source: Source, phase: int):
        self._source   = source
        self._phase    = phase
        self._depth    = Queue.capacity(config.prefetch)
        self._refill   = 1              # cycles from a beat that was taken to the one that has its place
        if config.control is Control.UNITS:     # with a check behind the reader
            self._depth  += SkidBuffer.HELD
            self._refill += 1
        self._requests: deque[tuple[int, int, int, int]] = deque()     # first beat, end, cycle, address
        self._runs:     deque[tuple[int, int, int]]      = deque()     # first beat, end, cycle of the first
        self._pieces:   deque[_Piece]                    = deque()
        self._asked    = 0              # beats asked for, given, taken; and the cycle of the last
        self._given    = 0
        self.taken     = 0
        self._gave     = _LONG_AGO
        self._took     = _LONG_AGO
        self._row      = -1             # that is open
        #: Requests that the source holds.
        self.requests  = source.requests
        #: Cycle of the last beat of each request that is complete.
        self.ends: list[int] = []

    def request(self, cycle: int, start: int, count: int) -> None:
        """The source is asked, in that cycle, for `count` beats from beat `start` on."""
        self._requests.append((self._asked, self._asked + count, cycle + self._source.latency, start))
        self._asked += count

    def take(self, count: int, cycle: int) -> int:
        """The machine takes `count` beats, one in each cycle from `cycle` on as far as they are there.

        Returns
        -------
        int
            Cycle of the last.
        """
        beat, end = self.taken, self.taken + count
        cycle     = max(cycle, self._took + 1)
        self.taken = end
        piece = self._piece(beat)
        cycle = max(cycle, piece.cycle(beat) + TapeReader.LATENCY_CYCLES)
        self._runs.append((beat, end, cycle))
        while True:
            stop = min(end, piece.end)
            late = piece.overtakes(beat, stop, cycle - TapeReader.LATENCY_CYCLES)
            cycle += stop - beat
            if late < stop:
                cycle = piece.cycle(stop - 1) + TapeReader.LATENCY_CYCLES + 1
            beat = stop
            if beat == end:
                self._took = cycle - 1
                return cycle - 1
            piece = self._piece(beat)

    def _piece(self, beat: int) -> _Piece:
        """Where a beat lies; the ones before it are not needed again."""
        while True:
            while self._pieces:
                if beat < self._pieces[0].end:
                    return self._pieces[0]
                self._pieces.popleft()
            self._give()

    def _give(self) -> None:
        """The next piece: as much as belongs to one request, and makes room where one run did."""
        source = self._source
        while self._requests[0][1] == self._given:
            self._requests.popleft()
        first, end, ready, start = self._requests[0]
        address = start + self._given - first
        turn    = source.first_turn(self._phase + max(self._gave + 1, ready))
        if source.row_beats and address // source.row_beats != self._row:
            turn += source.row_pause
        cycle = source.cycle(turn) - self._phase
        room  = self._given - self._depth               # the beat that must have gone
        if room < 0:
            end = min(end, self._depth)
        else:
            while self._runs[0][1] <= room:
                self._runs.popleft()
            first, last, took = self._runs[0]
            end = min(end, last + self._depth)
            if first == room:
                cycle = max(cycle, took + self._refill)
        piece = _Piece(source, self._phase, self._given, end - self._given, cycle, address)
        self._pieces.append(piece)
        self._gave  = piece.cycle(end - 1)
        if end == self._requests[0][1]:
            self.ends.append(self._gave)
        self._given = end
        if source.row_beats:
            self._row = (address + piece.end - piece.first - 1) // source.row_beats


class Array:
    """The ternary array, with its queues of codes and sums.

    Parameters
    ----------
    config : :class:`Config`
        The machine.
    tape : :class:`Tape`
        Where its beats come from.
    """

    def __init__(self, config: Config, tape: Tape):
        self._config  = config
        self._tape    = tape
        self._load    = load_cycles(config)
        self._settle  = settle_cycles(config)
        self._pause   = pause_cycles(config)
        self._sums    = TAKE_CYCLES + latency(config) - LEAD_CYCLES + PUSH_CYCLES
        # Banks of codes that were filled and let go; banks of sums that were filled and let go.
        self._pushed:  list[int] = []
        self._freed:   list[int] = []
        self._summed:  list[int] = []
        self._drained: list[int] = []
        self._block = _LONG_AGO         # cycle in which the array took its last block

    @property
    def ready(self) -> int:
        """The first cycle in which there are the sums that come next."""
        return self._summed[len(self._drained)]

    @property
    def free(self) -> int:
        """The first cycle in which there is a bank for codes."""
        return self._freed[len(self._pushed) - 2] + 1 if len(self._pushed) >= 2 else _LONG_AGO

    @property
    def idle(self) -> int:
        """The first cycle in which nothing is multiplied."""
        return max([_LONG_AGO, *self._summed[-1:]])

    def push(self, cycle: int) -> None:
        """A bank of codes is complete in that cycle."""
        self._pushed.append(cycle)

    def pop(self, cycle: int) -> None:
        """A bank of sums is let go in that cycle."""
        self._drained.append(cycle)

    def accepts(self, cycle: int) -> int:
        """The first cycle from that one on in which a matrix is accepted."""
        # Codes that were there before the step are in registers.
        codes  = len(self._freed)
        filled = self._pushed[codes] if codes < len(self._pushed) else _LONG_AGO
        cycle  = max(cycle, self._block + self._pause, filled + self._load)
        if len(self._summed) >= 2:
            cycle = max(cycle, self._drained[len(self._summed) - 2] + 1)
        return cycle

    def multiply(self, cycle: int, fields: Mapping[str, Any]) -> int:
        """One matrix, offered in that cycle; the cycle of its last beat."""
        config, take = self._config, self._tape.take
        groups = config.row_groups(fields["length"])
        blocks = config.blocks(fields["place"])
        cycle  = self.accepts(cycle)

        block = cycle
        if groups < REUSE_CYCLES:
            recent = deque([_LONG_AGO] * groups, groups)
            for number in range(blocks):
                if number:
                    block = max(recent[-1], block + self._pause)
                for group in range(groups):
                    recent.append(take(1, max(block + self._settle + 1 if not group else 0, recent[0] + REUSE_CYCLES)))
            end = recent[-1]
        else:
            if self._settle or groups < self._pause:
                for _ in range(blocks - 1):
                    block = max(take(groups, block + self._settle + 1), block + self._pause)
            elif blocks > 1:
                block = take(groups * (blocks - 1), block + 1)
            end = take(groups, block + self._settle + 1)
        self._block = block
        if fields["release"]:
            self._freed.append(block + TAKE_CYCLES + self._settle)
        self._summed.append(end + self._sums)
        return end


#: By what decides about latencies; it takes longer to find them than to follow a step.
_timings: dict[tuple[Any, ...], Timing] = {}


def _timing(config: Config) -> Timing:
    key = config.lanes, config.path, config.sites, config.acc_width
    if key not in _timings:
        _timings[key] = Timing.of(config)
    return dataclasses.replace(_timings[key], config=config)


class _Machine:
    """Everything behind the tape. Times are cycles since the start of the step."""

    def __init__(self, config: Config, tape: Tape, active: int):
        self._config  = config
        self._tape    = tape
        self._active  = active
        self._timing  = _timing(config)
        self._pieces  = descriptor_beats(config)
        self._decode  = sequencer.cycles(config, beats=0) - self._pieces
        self._array   = Array(config, tape)
        self._memo: dict[tuple[Any, ...], int] = {}
        #: Cycles of the sequencer and beats, by opcodes.
        self.cycles_of: collections.Counter[Op] = collections.Counter()
        self.beats_of:  collections.Counter[Op] = collections.Counter()

        # Of each operation of the vector unit: when it left the memory of the queue, when it was done.
        self._queued: list[int] = []
        self._done:   list[int] = []
        # Parameter vectors that were taken.
        self._popped: list[int] = []

        self._asked  = _LONG_AGO        # cycle in which the source took the last request
        self._waits: deque[tuple[int, int, Iterable[Mapping[str, Any]]]] = deque()
        self._end    = _LONG_AGO        # cycle in which the last segment was complete
        self._played = 0                # segments that were

    def segment(self, cycle: int, start: int, count: int,
                descriptors: Iterable[Mapping[str, Any]] = (), *, row: int = 0) -> int:
        """Beats that the player asks for in a cycle: an embedding row for a slot, or descriptors.

        Returns
        -------
        int
            The cycle in which the player goes on.
        """
        number = self._played + len(self._waits)
        asked  = max(cycle, self._asked + 1)            # the reader holds one request
        self._asked = asked + 1
        if number >= self._tape.requests:
            # The source takes a request when it is done with an earlier one, which goes so far.
            while self._played <= number - self._tape.requests:
                self._segment()
            self._asked = max(self._asked, self._tape.ends[number - self._tape.requests] + 1)
        self._tape.request(self._asked, start, count)
        if row:
            descriptors = [{"opcode": Op.EMBED, "length": row, "weighted": 1, "beats": count}]
        self._waits.append((cycle, row, descriptors))
        return asked + 2

    def _segment(self) -> None:
        """The sequencer takes the next segment from the queue of the player."""
        cycle, row, descriptors = self._waits.popleft()
        cycle = max(cycle + 1, self._end) + 2
        if row:
            fields, = descriptors
            self._end = self._operation(cycle, fields, 1)
        else:
            self._end = self._play(cycle, descriptors)
        self._played += 1

    @property
    def beats(self) -> int:
        """Beats that were taken."""
        return self._tape.taken

    @property
    def idle(self) -> int:
        """The first cycle in which nothing is read, multiplied or computed."""
        while self._waits:
            self._segment()
        return max([_LONG_AGO, self._end + 1, *(done + 1 for done in self._done[-1:]), self._array.idle])

    def _play(self, cycle: int, descriptors: Iterable[Mapping[str, Any]]) -> int:
        """A part of the tape, from the cycle of the first descriptor to that behind the last one."""
        for fields in descriptors:
            begin, beats = cycle, self.beats
            cycle = self._tape.take(self._pieces, cycle) + self._decode
            if fields["opcode"] is Op.MATVEC:
                cycle = self._array.multiply(cycle, fields) + 1
            else:
                cycle = self._operation(cycle, fields, self._active) + 1
            self.cycles_of[fields["opcode"]] += cycle - begin
            self.beats_of[fields["opcode"]]  += self.beats - beats
        return cycle

    def _operation(self, cycle: int, fields: Mapping[str, Any], active: int) -> int:
        """One operation of the vector unit; the cycle in which the sequencer is done with it."""
        op       = fields["opcode"]
        done     = self._done
        weighted = fields["weighted"]
        # A FIFO with a register behind: that many fit into its memory.
        if len(done) >= (memory := sequencer.Sequencer.QUEUE - 1):
            cycle = max(cycle, self._queued[-memory] + 1)
        if weighted and len(self._popped) >= 2:
            cycle = max(cycle, self._popped[-2] + 1)
        queued = max([cycle + 1, *done[-1:]])
        start  = queued + 1
        last   = cycle
        if weighted:
            last  = self._tape.take(fields["beats"], cycle + 1)
            start = max(start, last + parameters.PUSH_CYCLES)
        if done:
            start = max(start, done[-1] + 1)
        if op in DRAINS:
            start = max(start, self._array.ready)
        if op is Op.QUANTISE:
            start = max(start, self._array.free)
        end = start + self._cycles(op, fields["length"], active, bool(fields.get("last"))) - 1
        self._queued.append(queued)
        done.append(end)
        if weighted:
            self._popped.append(end)
        if op in DRAINS:
            self._array.pop(end)
        if op is Op.QUANTISE:
            self._array.push(end)
        return last

    def _cycles(self, *key: Any) -> int:
        if key not in self._memo:
            op, length, active, last = key
            self._memo[key] = self._timing.cycles(op, length, active=active, last=last)
        return self._memo[key]

def step(config: Config, descriptors: Iterable[Mapping[str, Any]], *, active: int,
         tokens: Mapping[int, int] | None = None, hidden: int = 0, embedding: tuple[int, int] = (0, 0),
         start: int = 0, count: int, source: Source = Source(), phase: int = 0, drawn: Sequence[int] = ()) -> Step:
    """What a step takes.

    Parameters
    ----------
    config : :class:`Config`
        The machine.
    descriptors : iterable of mappings
        Those of the part of the tape that is played, in order: fields of
        :class:`~terngen.hw.contract.tape.Descriptor` with the sizes.
    active : :class:`int`
        Slots that take part.
    tokens : mapping of :class:`int` to :class:`int`
        Token of each of them, or None if no embedding is read.
    hidden : :class:`int`
        Elements of an embedding row.
    embedding : pair of :class:`int`
        First beat of the embedding, beats of a row.
    start, count : :class:`int`
        Beats of the part.
    source : :class:`Source`
        Timing of the memory.
    phase : :class:`int`
        Cycles from power-up to the cycle in which the player is started. Only a source with pauses depends
        on it.
    drawn : sequence of :class:`int`
        Candidates of each slot that draws its next token.
    """
    tape = Tape(config, source, phase)
    if config.control is Control.PROGRAM:
        from terngen.hw.program.timing import run_cycles
        cycles = run_cycles(config, tape, descriptors, token=None if tokens is None else tokens[0], hidden=hidden,
                            embedding=embedding, start=start, count=count)
        return Step(cycles, tape.taken)
    machine = _Machine(config, tape, active)
    cycle   = 1
    if tokens is not None:
        origin, beats = embedding
        for slot in range(config.slots):
            if slot not in tokens:
                cycle += 2
                continue
            # A cycle for the turn of the slot, one for each bit of the token, and one to see that there
            # are no more; behind the request the turn ends.
            cycle += 1 + tokens[slot].bit_length() + 1
            cycle  = machine.segment(cycle, origin + tokens[slot] * beats, beats, row=hidden) + 1
    else:
        cycle += 1
    cycle += 1
    if count:
        cycle = machine.segment(cycle, start, count, descriptors)
    cycle = max(cycle, machine.idle + player.IDLE_CYCLES) + player.SETTLE_CYCLES - 1
    spent = {op: (machine.beats_of[op], cycles - machine.beats_of[op]) for op, cycles in machine.cycles_of.items()}
    return Step(cycle + decode.cycles(config, steps=1, drawn=drawn), machine.beats, spent)
