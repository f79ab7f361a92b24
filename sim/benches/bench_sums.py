"""Bench of the queue of sums and its accumulator."""

import json
import os
import random
from collections import deque
from collections.abc import Callable

import cocotb
import numpy as np
from amaranth.hdl import signed
from amaranth.lib import data
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge

from terngen.hw.contract.config import Config
from terngen.hw.units.partials import partial_width
from terngen.hw.units.sums import LEAD_CYCLES, PUSH_CYCLES, READ_LATENCY, REUSE_CYCLES
from terngen.sim.cocotb_stream import encode, reset

CONFIG = Config.from_dict(json.loads(os.environ["CONFIG"]))


class Drainer:
    """Consumer of sums, at the port `drain` of a design.

    Parameters
    ----------
    stall
        Asked in each cycle; while it is true nothing is read.
    """

    def __init__(self, dut, config: Config, *, stall: Callable[[], bool] = lambda: False):
        self._dut    = dut
        self._config = config
        self._stall  = stall
        for name in ("slot", "group", "last", "pop"):
            getattr(dut, f"drain__{name}").value = 0

    async def ready(self) -> int:
        """Wait for a bank and return its tags."""
        dut = self._dut
        await ReadOnly()
        while not int(dut.drain__ready.value):
            await RisingEdge(dut.clk)
            await ReadOnly()
        return int(dut.drain__tags.value)

    async def read(self, rows: int, *, last: bool = False, pop: bool = True) -> np.ndarray:
        """Read a bank in any order, ``(slots, rows)``, and pop it with the last address."""
        dut, lanes = self._dut, self._config.lanes
        layout = data.ArrayLayout(signed(self._config.acc_width), lanes)
        groups = -(-rows // lanes)
        sums   = np.zeros((self._config.slots, groups * lanes), int)
        places = deque((slot, group) for slot in range(self._config.slots) for group in range(groups))
        random.shuffle(places)
        wanted = deque([None] * READ_LATENCY)
        while places or any(wanted):
            await RisingEdge(dut.clk)
            wanted.append(places.popleft() if places and not self._stall() else None)
            if wanted[-1] is not None:
                dut.drain__slot.value, dut.drain__group.value = wanted[-1]
            dut.drain__last.value = last
            dut.drain__pop.value  = pop and wanted[-1] is not None and not places
            await ReadOnly()
            place = wanted.popleft()
            if place is not None:
                values = layout.from_bits(dut.drain__sums.value.to_unsigned())
                slot, group = place
                sums[slot, group * lanes:(group + 1) * lanes] = [values[lane] for lane in range(lanes)]
        await RisingEdge(dut.clk)
        dut.drain__last.value = 0
        return sums[:, :rows]


class Adder:
    """What adds: announces row groups, and brings their partial sums when they are due."""

    def __init__(self, dut):
        self._dut   = dut
        self._queue = deque([None] * LEAD_CYCLES)
        for name in ("open", "valid", "group", "first", "last", "tags"):
            getattr(dut, name).value = 0

    async def cycle(self, *, partials: np.ndarray | None = None, open_: bool = False, **values: int):
        """One cycle, which announces a row group if it has `partials` ``(slots, row_lanes)``."""
        dut = self._dut
        await RisingEdge(dut.clk)
        dut.open.value  = open_
        dut.valid.value = partials is not None
        for name, value in values.items():
            getattr(dut, name).value = value
        self._queue.append(partials)
        due = self._queue.popleft()
        # Partial sums of nothing are anything.
        due = due if due is not None else np.full((CONFIG.slots, CONFIG.row_lanes), random.randint(-99, 99))
        for slot, row in enumerate(due.tolist()):
            for lane, value in enumerate(row):
                getattr(dut, f"partials__{slot}__{lane}").value = value & (1 << partial_width(CONFIG)) - 1

    async def free(self):
        await ReadOnly()
        while not int(self._dut.free.value):
            await self.cycle()
            await ReadOnly()


def generator() -> np.random.Generator:
    return np.random.default_rng(int(os.environ["SEED"]))


@cocotb.test(timeout_time=400, timeout_unit="us")
@cocotb.parametrize(i_stall=[0, 0.3], o_stall=[0, 0.5])
async def accumulates(dut, i_stall, o_stall):
    rng     = generator()
    adder   = Adder(dut)
    drainer = Drainer(dut, CONFIG, stall=lambda: random.random() < o_stall)
    banks   = []
    for _ in range(8):
        groups = int(rng.integers(1, CONFIG.row_groups(CONFIG.rows) + 1))
        blocks = int(rng.integers(1, CONFIG.blocks(CONFIG.wide) + 1))
        limit  = 127 * min(CONFIG.block_cols, CONFIG.wide // blocks)
        banks.append((rng.integers(-limit, limit + 1, (blocks, groups, CONFIG.slots, CONFIG.row_lanes)),
                      rng.integers(0, 1 << CONFIG.path.width, CONFIG.slots).tolist()))
    await reset(dut)

    async def add():
        for partials, tags in banks:
            await adder.free()
            await adder.cycle(open_=True, tags=encode(tags, data.ArrayLayout(CONFIG.path.width, CONFIG.slots)))
            blocks, groups = partials.shape[:2]
            for block in range(blocks):
                for group in range(groups):
                    while random.random() < i_stall:
                        await adder.cycle()
                    await adder.cycle(partials=partials[block, group], group=group, first=block == 0,
                                      last=block == blocks - 1 and group == groups - 1)
                for _ in range(REUSE_CYCLES - groups):
                    await adder.cycle()
        while True:
            await adder.cycle()
    cocotb.start_soon(add())

    for partials, tags in banks:
        assert await drainer.ready() == encode(tags, data.ArrayLayout(CONFIG.path.width, CONFIG.slots))
        expected = partials.sum(axis=0).transpose(1, 0, 2).reshape(CONFIG.slots, -1)
        assert (await drainer.read(expected.shape[1]) == expected).all()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def shows_the_bank_popped_last(dut):
    adder, drainer = Adder(dut), Drainer(dut, CONFIG)
    await reset(dut)
    for value in (1, 2, 3):
        partials = np.full((CONFIG.slots, CONFIG.row_lanes), value)
        await adder.cycle(open_=True)
        await adder.cycle(partials=partials, group=0, first=1, last=1)
        await ReadOnly()
        assert not int(dut.idle.value)
        for cycle in range(1, PUSH_CYCLES + 1):
            await adder.cycle()
            await ReadOnly()
            assert int(dut.drain__ready.value) == (cycle == PUSH_CYCLES)
        assert int(dut.idle.value)
        assert (await drainer.read(CONFIG.row_lanes, pop=True) == value).all()
        for _ in range(2):
            assert (await drainer.read(CONFIG.row_lanes, last=True, pop=False) == value).all()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def holds_two_banks(dut):
    adder, drainer = Adder(dut), Drainer(dut, CONFIG)
    await reset(dut)
    for value in (1, 2):
        await adder.free()
        await adder.cycle(open_=True)
        await adder.cycle(partials=np.full((CONFIG.slots, CONFIG.row_lanes), value), group=0, first=1, last=1)
    for _ in range(20):
        await adder.cycle()
    await ReadOnly()
    assert not int(dut.free.value)
    assert (await drainer.read(CONFIG.row_lanes) == 1).all()
    await ReadOnly()
    assert int(dut.free.value)
    await ClockCycles(dut.clk, 1)
    assert (await drainer.read(CONFIG.row_lanes) == 2).all()
    await ReadOnly()
    assert not int(dut.drain__ready.value)
