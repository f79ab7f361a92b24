"""The gate: a machine and the golden machine do the same steps, and every number is compared."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from terngen.host import disasm
from terngen.host.errors import GateError
from terngen.host.transport import Transport
from terngen.hw.contract import regs
from terngen.hw.contract.config import Config
from terngen.hw.contract.regs import Reg
from terngen.hw.contract.tape import Mark, walk
from terngen.hw.contract.trace import ELEMENTS, SCALARS
from terngen.sim.device import GoldenTransport
from terngen.sim.golden.machine import Event

__all__ = ["CheckedTransport", "Difference", "Traced"]

#: Registers that tell of time, which the golden machine does not have.
_TIMES = {Reg.STATUS.value, Reg.CYCLES.value, Reg.STALL_TAPE.value, Reg.STALL_ARRAY.value,
          Reg.STALL_VECTOR.value}
#: Words of a descriptor that fit into a sentence.
_WORDS = 120


class Traced(Transport, Protocol):
    """A device whose inside can be seen; :class:`~terngen.sim.device.SimTransport` is one."""

    config: Config

    def trace(self, on: bool = True) -> None:
        """Collect trace events from now on, or no longer."""

    def events(self) -> Mapping[str, np.ndarray]:
        """Events since the last call, see :func:`~terngen.sim.trace.decode`."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """The first value that differs.

    Parameters
    ----------
    step : :class:`int`
        Steps before the one in which it was found.
    beat : :class:`int`
        Where the descriptor stands; -1 for an embedding row and for a register.
    op : :class:`str`
        Operation, or ``register``.
    descriptor : :class:`str`
        What it asked for, as :mod:`terngen.host.disasm` says it.
    slot, element : :class:`int`
        Which slot, and which element of its vector; -1 where there is none. Of a register, the
        address stands as element.
    field : :class:`str`
        Field of :mod:`terngen.hw.contract.trace`, or ``order`` where another event came: the values
        then are operation, slot, group and whether they are scalars.
    golden, device
        Values of the golden machine and of the other.
    """

    step:       int
    beat:       int
    op:         str
    descriptor: str
    slot:       int
    element:    int
    field:      str
    golden:     int | str
    device:     int | str

    def __str__(self) -> str:
        place = f"register {self.element:#x}" if self.op == "register" else (
            f"{self.op} at beat {self.beat} ({self.descriptor[:_WORDS]}), slot {self.slot}, element "
            f"{self.element}, field {self.field}")
        return (f"step {self.step}, {place}: golden machine {self.golden}, device {self.device}")


class CheckedTransport:
    """A device that is compared with the golden machine at every step.

    Whatever is written goes to both. Whatever is read from the device must equal what the golden
    machine answers, but for the counters of time; and when a step is waited for, every trace event of
    the device must equal what the golden machine computed: for each operation and slot the elements
    in order, then the scalars.

    Parameters
    ----------
    device : :class:`Traced`
        The device. Its trace is switched on, and what it has collected is dropped.

    Raises
    ------
    GateError
        From :meth:`read`, after the first step with a difference; its message names the first.
    """

    def __init__(self, device: Traced) -> None:
        self.device = device
        self.config = device.config
        self.golden = GoldenTransport(device.config)
        #: Steps that were compared.
        self.steps = 0
        #: Values that were compared.
        self.values_compared = 0
        #: Values that differ.
        self.mismatches = 0
        #: The first of them.
        self.first: Difference | None = None
        #: Seconds of processor time that the device took, in this thread.
        self.seconds = 0.0
        self._expected: list[Event] = []
        self._words: dict[int, str] = {}        # by beat
        self.golden.machine.observe = self._expected.append
        device.trace()
        device.events()

    @property
    def description(self) -> str:
        return self.device.description

    def abort(self) -> None:
        """See :class:`~terngen.host.transport.Transport`. What was broken off is not compared."""
        self.device.abort()
        self.device.events()
        self.golden.abort()
        self._expected.clear()

    def clock(self) -> float:
        """See :class:`~terngen.host.transport.Transport`."""
        return self.device.clock()

    def idle(self, seconds: float) -> bool:
        """Nobody looks at a run that is compared: what it has counted before its end is not in the golden machine."""
        return False

    def write(self, address: int, octets: bytes) -> None:
        """See :class:`~terngen.host.transport.Transport`."""
        if address >= regs.TAPE_BASE:
            self._words.clear()
        self.golden.write(address, octets)
        begin = time.thread_time()
        self.device.write(address, octets)
        self.seconds += time.thread_time() - begin

    def read(self, address: int, octets: int, *, timeout: float | None = None) -> bytes:
        """See :class:`~terngen.host.transport.Transport`."""
        begin    = time.thread_time()
        answer   = self.device.read(address, octets, timeout=timeout)
        self.seconds += time.thread_time() - begin
        expected = self.golden.read(address, octets)
        before   = self.mismatches
        waited   = address <= Reg.WAIT.value < address + octets
        if waited:
            self._compare_events(self.device.events())
        self._compare_words(address, np.frombuffer(answer, "<u4"), np.frombuffer(expected, "<u4"))
        if waited:
            self.steps += 1
        if self.mismatches > before:
            raise GateError(f"Machine and golden machine must compute the same numbers, but "
                            f"{self.mismatches} of {self.values_compared} differ, the first in "
                            f"{self.first}")
        return answer

    def close(self) -> None:
        """Let go of the device."""
        self.device.close()

    def _compare_words(self, address: int, actual: np.ndarray, expected: np.ndarray) -> None:
        places = address + 4 * np.arange(len(actual))
        timed  = np.isin(places, list(_TIMES))
        wrong  = np.flatnonzero((actual != expected) & ~timed)
        self.values_compared += int(np.count_nonzero(~timed))
        if wrong.size:
            k = int(wrong[0])
            self._found(len(wrong), Difference(self.steps, -1, "register", "", -1, int(places[k]),
                                               "word", int(expected[k]), int(actual[k])))

    def _compare_events(self, actual: Mapping[str, np.ndarray]) -> None:
        """Hold the trace of a step against the events of the golden machine."""
        place = 0
        for event in self._expected:
            count = self._compare_event(event, {name: values[place:] for name, values
                                                in actual.items()})
            if count == 0:
                break
            place += count
        else:
            if place < len(actual["op"]):
                self._found(1, Difference(self.steps, -1, "end", "no more events", -1, -1, "order",
                                          "nothing", self._header(actual, place)))
        self._expected.clear()

    def _compare_event(self, event: Event, actual: Mapping[str, np.ndarray]) -> int:
        """Compare the first of the `actual` events; how many they were, or 0 if they are others."""
        lanes = self.config.lanes
        names = ELEMENTS[event.op]
        assert set(event.elements) == set(names), event
        slots, length = len(event.slots), event.elements[names[0]].shape[1]
        groups = self.config.groups(length)
        count  = slots * (groups + 1)
        # For each slot the groups in order, then the scalars.
        header = {
            "op":      np.full(count, event.op.value),
            "slot":    np.repeat(event.slots, groups + 1),
            "group":   np.tile(np.append(np.arange(groups), -1), slots),
            "scalars": np.tile(np.append(np.zeros(groups, int), 1), slots),
        }
        ordered = np.zeros(count, bool)
        there   = min(count, len(actual["op"]))
        ordered[:there] = True
        for name, values in header.items():
            # The group of scalars means nothing.
            ordered[:there] &= (actual[name][:there] == values[:there]) | (values[:there] < 0)
        if not ordered.all():
            k = int(np.flatnonzero(~ordered)[0])
            slot, group = int(header["slot"][k]), int(header["group"][k])
            self._found(1, self._difference(
                event, slot, max(group, 0) * lanes, "order", self._header(header, k),
                self._header(actual, k) if k < there else "nothing"))
            return 0

        for name in names:
            values = actual[name][:count].reshape(slots, groups + 1, lanes)[:, :groups]
            self._compare_field(event, name, values.reshape(slots, -1)[:, :length],
                                event.elements[name])
        for name in SCALARS[event.op]:
            # A root is not always taken.
            if name in event.scalars:
                values = actual[name][:count].reshape(slots, groups + 1)[:, groups:]
                self._compare_field(event, name, values, event.scalars[name][:, None])
        return count

    def _compare_field(self, event: Event, name: str, actual: np.ndarray, golden: np.ndarray
                       ) -> None:
        wrong = np.argwhere(actual != golden)
        self.values_compared += golden.size
        if len(wrong):
            slot, element = wrong[0]
            scalar = name in SCALARS[event.op]
            self._found(len(wrong), self._difference(
                event, int(event.slots[slot]), -1 if scalar else int(element), name,
                int(golden[slot, element]), int(actual[slot, element])))

    def _difference(self, event: Event, slot: int, element: int, field: str, golden: int | str,
                    device: int | str) -> Difference:
        return Difference(self.steps, event.beat, event.op.name, self._describe(event.beat), slot,
                          element, field, golden, device)

    def _header(self, fields: Mapping[str, np.ndarray], place: int) -> str:
        op, slot, group, scalars = (int(fields[name][place]) for name in
                                    ("op", "slot", "group", "scalars"))
        return (f"operation {op}, slot {slot}, " + ("scalars" if scalars else f"group {group}"))

    def _found(self, count: int, difference: Difference) -> None:
        self.mismatches += count
        if self.first is None:
            self.first = difference

    def _describe(self, beat: int) -> str:
        """What the descriptor at `beat` asks for."""
        if beat < 0:
            return "embedding row"
        if beat not in self._words:
            machine = self.golden.machine
            part = Mark(beat, len(machine.image) // self.config.beat_bytes - beat)
            _, fields, _ = next(walk(self.config, machine.image, part))
            self._words[beat] = disasm.describe(self.config, fields)
        return self._words[beat]
