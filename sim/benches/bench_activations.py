"""Bench of the queue of codes."""

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
from terngen.hw.units.activations import READ_LATENCY
from terngen.sim.cocotb_stream import encode, reset

CONFIG = Config.from_dict(json.loads(os.environ["CONFIG"]))
#: Codes that are read at a time; of a bench that has only the port of the producer, none.
WIDTH  = int(os.environ.get("WIDTH", 0))


class Filler:
    """Producer of codes, at the port `fill` of a design.

    Parameters
    ----------
    stall
        Asked in each cycle; while it is true nothing is written.
    """

    def __init__(self, dut, config: Config, *, stall: Callable[[], bool] = lambda: False):
        self._dut    = dut
        self._config = config
        self._stall  = stall
        for name in ("valid", "slot", "group", "codes", "push", "tags"):
            getattr(dut, f"fill__{name}").value = 0

    async def fill(self, codes: np.ndarray, tags: list[int]):
        """Wait for a bank, write `codes` ``(slots, length)`` in any order, and push it with its `tags`.

        Returns in the cycle after the push.
        """
        dut, lanes = self._dut, self._config.lanes
        await ReadOnly()
        while not int(dut.fill__free.value):
            await self._edge()
            await ReadOnly()
        length = codes.shape[1]
        places = [(slot, group) for slot in range(len(codes)) for group in range(-(-length // lanes))]
        random.shuffle(places)
        for slot, group in places:
            await self._edge()
            while self._stall():
                await self._edge()
            word = np.zeros(lanes, int)
            part = codes[slot, group * lanes:(group + 1) * lanes]
            word[:len(part)] = part
            dut.fill__valid.value = 1
            dut.fill__slot.value  = slot
            dut.fill__group.value = group
            dut.fill__codes.value = encode(word.tolist(), data.ArrayLayout(signed(8), lanes))
        # The bank is pushed with the last group, or after it.
        while self._stall():
            await self._edge()
        dut.fill__push.value = 1
        dut.fill__tags.value = encode(tags, data.ArrayLayout(self._config.path.width, self._config.slots))
        await self._edge()

    async def _edge(self):
        await RisingEdge(self._dut.clk)
        self._dut.fill__valid.value = 0
        self._dut.fill__push.value  = 0


async def ready(dut) -> int:
    """Wait for a bank, at least for the next cycle, and return its tags."""
    while True:
        await RisingEdge(dut.clk)
        await ReadOnly()
        if int(dut.ready.value):
            return int(dut.tags.value)


async def read(dut, width: int, cols: int, *, stall: Callable[[], bool] = lambda: False) -> np.ndarray:
    """Read the bank in front in any order, ``(slots, cols)``."""
    codes  = np.zeros((CONFIG.slots, -(-cols // width), width), int)
    places = deque(range(codes.shape[1]))
    random.shuffle(places)
    wanted = deque([None] * READ_LATENCY)
    while places or any(place is not None for place in wanted):
        await RisingEdge(dut.clk)
        wanted.append(places.popleft() if places and not stall() else None)
        if wanted[-1] is not None:
            dut.address.value = wanted[-1]
        await ReadOnly()
        place = wanted.popleft()
        if place is not None:
            codes[:, place] = [[getattr(dut, f"codes__{slot}__{index}").value.to_signed() for index in range(width)]
                               for slot in range(CONFIG.slots)]
    return codes.reshape(CONFIG.slots, -1)[:, :cols]


async def pop(dut):
    """Let the bank in front go; returns in the cycle after that."""
    await RisingEdge(dut.clk)
    dut.pop.value = 1
    await RisingEdge(dut.clk)
    dut.pop.value = 0
    await ReadOnly()


async def begin(dut):
    dut.pop.value     = 0
    dut.address.value = 0
    await reset(dut)


@cocotb.test(timeout_time=400, timeout_unit="us")
@cocotb.parametrize(i_stall=[0, 0.3], o_stall=[0, 0.8])
async def keeps_order(dut, i_stall, o_stall):
    rng    = np.random.default_rng(int(os.environ["SEED"]))
    filler = Filler(dut, CONFIG, stall=lambda: random.random() < i_stall)
    banks  = []
    for _ in range(6):
        length = int(rng.integers(1, CONFIG.wide + 1))
        banks.append((rng.integers(-127, 128, (CONFIG.slots, length)),
                      rng.integers(0, 1 << CONFIG.path.width, CONFIG.slots).tolist()))
    await begin(dut)

    async def fill():
        for codes, tags in banks:
            await filler.fill(codes, tags)
    cocotb.start_soon(fill())

    for codes, tags in banks:
        for _ in range(2):
            assert await ready(dut) == encode(tags, data.ArrayLayout(CONFIG.path.width, CONFIG.slots))
            assert (await read(dut, WIDTH, codes.shape[1], stall=lambda: random.random() < o_stall) == codes).all()
        await pop(dut)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def holds_two_banks(dut):
    filler = Filler(dut, CONFIG)
    codes  = np.ones((CONFIG.slots, CONFIG.wide), int)
    await begin(dut)
    await filler.fill(codes, [0] * CONFIG.slots)
    await filler.fill(-codes, [1] * CONFIG.slots)
    await ClockCycles(dut.clk, 5)
    await ReadOnly()
    assert not int(dut.fill__free.value)
    assert (await read(dut, WIDTH, CONFIG.wide) == 1).all()
    await pop(dut)
    assert int(dut.fill__free.value)
    assert (await read(dut, WIDTH, CONFIG.wide) == -1).all()
    await pop(dut)
    # Both are gone.
    assert not int(dut.ready.value)
