"""The recurrent state of the MLGRU, and its update.

The published form ``h = f * h + (1 - f) * c`` is computed as ``h + z * (c - h)`` with ``z = 1 - f``: one
product per element, and stable with any multiplier whose relative error is below one (an L-Mul of
``f * h`` grows without bound for f above 31/32).
"""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.config import Config
from terngen.hw.stream import delay
from terngen.hw.units.add import Add
from terngen.hw.units.multiply import Multiply

__all__ = ["Recurrence"]


class Recurrence(wiring.Component):
    """Updates the recurrent state, a lane group per cycle.

    Holds the state of all layers and slots. Computes ``h + z * (c - h)`` with the arithmetic of
    :mod:`terngen.hw.contract.formats`, writes it back, and gives it out. Provides no flow control::

        read --> state memory --> h ------------------------.
                                  |                          v
                          c ---> c - h ---> z * (c - h) --> add --> h (out, and back to the memory)
                                            ^
                                            z

    ``c`` is expected ``C_DELAY`` cycles after `read`, ``z`` ``Z_DELAY`` cycles after it, and the result
    comes ``LATENCY`` cycles after it. Throughput is one group per cycle. A group is in flight until its
    result has come, and must not be read again before.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    start : ``In(1)``
        From the next cycle on the groups of a vector are read. Must not be asserted while a group is
        in flight, or with `read`.
    base : ``In(range(slots * groups))``
        Address of its first group in the state memory. Sampled with `start`.
    clear : ``In(1)``
        Take the state before the update as zero. Must not change while a group is in flight.
    read : ``In(1)``
        Reads a group, which will be updated.
    c, z : ``In(data.ArrayLayout(config.path.width, config.lanes))``
        Candidate and update gate.
    h : ``Out(data.ArrayLayout(config.path.width, config.lanes))``
        State after the update.
    """

    C_DELAY = 3

    def __init__(self, config: Config):
        self._config = config
        self._product = [Multiply(fmt=config.path, multiplier=config.sites.recurrence)
                         for _ in range(config.lanes)]
        self.Z_DELAY = self.C_DELAY + Add.LATENCY
        self.LATENCY = self.Z_DELAY + self._product[0].LATENCY + Add.LATENCY
        self._depth  = config.slots * config.groups(config.state)
        layout = data.ArrayLayout(config.path.width, config.lanes)
        super().__init__({
            "start": In(1),
            "base":  In(range(self._depth)),
            "clear": In(1),
            "read":  In(1),
            "c":     In(layout),
            "z":     In(layout),
            "h":     Out(layout),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        width  = config.path.width

        # No group is read again before it has been written.
        m.submodules.state = state = memory.Memory(shape=config.lanes * width, depth=self._depth, init=[],
                                                   attrs={"no_rw_check": 1})
        read  = state.read_port()
        write = state.write_port()

        read_addr  = Signal(range(self._depth))
        write_addr = Signal(range(self._depth))
        write_en   = delay(m, self.read, self.LATENCY, reset=True, name="write_en")
        with m.If(self.start):
            m.d.sync += read_addr.eq(self.base)
            m.d.sync += write_addr.eq(self.base)
        with m.If(self.read):
            m.d.sync += read_addr.eq(read_addr + 1)
        with m.If(write_en):
            m.d.sync += write_addr.eq(write_addr + 1)
        m.d.comb += [
            read.addr.eq(read_addr),
            write.addr.eq(write_addr),
            write.data.eq(self.h.as_value()),
            write.en.eq(write_en),
        ]

        kept   = delay(m, read.data, name="kept")
        before = delay(m, Mux(self.clear, 0, kept), name="before")
        for lane in range(config.lanes):
            h = before[lane * width:(lane + 1) * width]
            m.submodules[f"subtract_{lane}"] = subtract = Add(fmt=config.path)
            m.submodules[f"multiply_{lane}"] = multiply = self._product[lane]
            m.submodules[f"add_{lane}"]      = add      = Add(fmt=config.path)
            m.d.comb += [
                subtract.a.eq(self.c[lane]),
                subtract.b.eq(Cat(h[:-1], ~h[-1])),
                multiply.a.eq(self.z[lane]),
                multiply.b.eq(subtract.o),
                add.a.eq(delay(m, h, self.Z_DELAY - self.C_DELAY + multiply.LATENCY, name="h")),
                add.b.eq(multiply.o),
                self.h[lane].eq(add.o),
            ]
        return m
