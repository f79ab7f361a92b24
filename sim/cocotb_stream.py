"""Stream drivers for cocotb benches of the generated Verilog.

Amaranth names the ports of a stream `i` `i__payload`, `i__valid` and `i__ready`; a payload that is a
structure is one packed vector. The drivers write just after a clock edge and look at the settled
signals later in the same time step, which is what the design will see at the next edge. So they
agree with each other on every simulator, whatever order it runs its callbacks in.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import cocotb
from amaranth.hdl import Shape, ShapeCastable
from amaranth.lib import data
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, Event, ReadOnly, RisingEdge
from cocotb.utils import get_sim_time

__all__ = ["Sink", "Source", "encode", "reset", "start_clock"]

CLOCK_PERIOD_NS = 10

#: Clock generators by the path of the design; cocotb ends them with the test.
_clocks: dict[str, Any] = {}


def start_clock(dut):
    """Start the clock `clk`, unless it runs already."""
    clock = _clocks.get(dut._path)
    if clock is None or clock.done():
        _clocks[dut._path] = Clock(dut.clk, CLOCK_PERIOD_NS, unit="ns").start()


async def reset(dut, *, cycles: int = 2):
    """Start the clock if need be, and hold `rst` for `cycles` clock edges.

    Returns just after the last of them, at which `rst` falls.
    """
    start_clock(dut)
    dut.rst.value = 1
    await ClockCycles(dut.clk, cycles)
    dut.rst.value = 0


def encode(value: Any, shape: Any) -> int:
    """The bits of `value` in `shape`: an integer, or a mapping or sequence for a structure.

    Fields that are not given are zero.

    Raises
    ------
    ValueError
        If a value does not fit, or a structure has no such field.
    """
    if isinstance(shape, ShapeCastable) and isinstance(value, Mapping | list | tuple):
        layout = data.Layout.cast(shape)
        fields = dict(layout)
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        bits = 0
        for key, item in items:
            if key not in fields:
                raise ValueError(f"Structure has no field {key!r}; it has {', '.join(map(str, fields))}")
            bits |= encode(item, fields[key].shape) << fields[key].offset
        return bits
    if isinstance(shape, ShapeCastable):
        value = getattr(value, "value", value)  # enumeration member
        if isinstance(value, data.Const):
            value = value.as_bits()
        shape = Shape.cast(shape)
        return _fit(int(value), shape.width, shape.signed or None)
    shape = Shape.cast(shape)
    return _fit(int(value), shape.width, shape.signed)


def _fit(value: int, width: int, signed: bool | None) -> int:
    """Two's complement of `value`; `signed` is None where either reading of the vector is meant."""
    low  = 0 if signed is False else -(1 << width - 1) if width else 0
    high = (1 << width - 1) - 1 if signed else (1 << width) - 1
    if not low <= value <= high:
        raise ValueError(f"Value must be from {low} to {high} to fit into {width} bits, not {value}")
    return value & (1 << width) - 1


class _Port:
    def __init__(self, dut, name: str, shape: Any, stall: Callable[[], bool] | None):
        self.name     = name
        self._clk     = dut.clk
        self._rst     = dut.rst
        self._payload = getattr(dut, f"{name}__payload")
        self._valid   = getattr(dut, f"{name}__valid")
        self._ready   = getattr(dut, f"{name}__ready")
        self._shape   = shape
        self._stall   = stall if stall is not None else lambda: False
        self._moved   = Event()
        self._fresh   = False
        #: Clock cycle of each transfer. Only differences matter: latency, throughput.
        self.cycles: list[int] = []

    def _transfer(self):
        self._fresh = True
        self.cycles.append(round(get_sim_time("ns")) // CLOCK_PERIOD_NS)

    async def _edge(self):
        """Wait for the clock edge; who waits for a transfer resumes at the edge that completes it."""
        await RisingEdge(self._clk)
        if self._fresh:
            self._fresh = False
            self._wake()

    def _wake(self):
        """Let those who wait look again, once."""
        self._moved.set()
        self._moved.clear()

    def _level(self, handle) -> bool:
        value = handle.value
        if not value.is_resolvable:
            raise AssertionError(f"Signal {handle._name} must be 0 or 1 out of reset, not {value}")
        return bool(int(value))

    def _in_reset(self) -> bool:
        value = self._rst.value
        return not value.is_resolvable or bool(int(value))


class Source(_Port):
    """Producer of the input stream `name` of a design.

    Parameters
    ----------
    stall
        Asked in each cycle before a payload is offered; while it is true `valid` stays low.
    shape
        Shape of the payload, needed to send structures as mappings or sequences.
    """

    def __init__(self, dut, name: str, *, stall: Callable[[], bool] | None = None, shape: Any = None):
        super().__init__(dut, name, shape, stall)
        self._queue: deque[int] = deque()
        self._valid.value   = 0
        self._payload.value = 0
        cocotb.start_soon(self._run())

    def send(self, values: Iterable):
        """Queue `values` and return at once."""
        self._queue.extend([self._encode(value) for value in values])

    async def put(self, values: Iterable):
        """Queue `values` and wait until all of the queue has been taken."""
        self.send(values)
        while self._queue:
            await self._moved.wait()

    def clear(self):
        """Forget what is queued, as after a reset in the middle of it."""
        self._queue.clear()
        self._wake()

    def _encode(self, value) -> int:
        if self._shape is not None:
            return encode(value, self._shape)
        return _fit(int(value), len(self._payload), None)

    async def _run(self):
        offered = False
        while True:
            await self._edge()
            offered = bool(self._queue) and (offered or not self._stall())
            self._valid.value = offered
            if offered:
                self._payload.value = self._queue[0]
            await ReadOnly()
            if offered and not self._in_reset() and self._level(self._ready):
                offered = False
                self._queue.popleft()
                self._transfer()


class Sink(_Port):
    """Consumer of the output stream `name` of a design, and judge of its stream rules.

    A producer that withdraws or changes a payload that has not been taken fails the test.

    Parameters
    ----------
    stall
        Asked in each cycle in which a payload is wanted; while it is true `ready` stays low.
    shape
        Shape of the payload, needed to receive structures; without it payloads are vectors.
    """

    def __init__(self, dut, name: str, *, stall: Callable[[], bool] | None = None, shape: Any = None):
        super().__init__(dut, name, shape, stall)
        self._wanted = 0
        self._taken: deque = deque()
        self._ready.value = 0
        cocotb.start_soon(self._run())

    async def get(self, count: int) -> list:
        """Receive `count` payloads: vectors (:class:`~cocotb.types.LogicArray`), or constants of `shape`."""
        self._wanted += count
        while len(self._taken) < count:
            await self._moved.wait()
        return [self._decode(self._taken.popleft()) for _ in range(count)]

    def clear(self):
        """Want nothing, and forget what was received, as after a reset in the middle of it."""
        self._wanted = 0
        self._taken.clear()

    def _decode(self, payload):
        if self._shape is None:
            return payload
        if isinstance(self._shape, ShapeCastable):
            return self._shape.from_bits(payload.to_unsigned())
        return payload.to_signed() if Shape.cast(self._shape).signed else payload.to_unsigned()

    async def _run(self):
        held = None
        while True:
            await self._edge()
            ready = self._wanted > 0 and not self._stall()
            self._ready.value = ready
            await ReadOnly()
            if self._in_reset():
                held = None
                continue
            valid = self._level(self._valid)
            payload = self._payload.value if valid else None
            if held is not None and not valid:
                raise AssertionError(f"Stream {self.name} must hold valid until the transfer, "
                                     f"but withdrew {held}")
            if held is not None and payload != held:
                raise AssertionError(f"Stream {self.name} must hold the payload until the transfer, "
                                     f"but changed {held} to {payload}")
            held = None
            if valid and ready:
                self._wanted -= 1
                self._taken.append(payload)
                self._transfer()
            elif valid:
                held = payload
