"""Bench of the queue of codes and its column blocks."""

import json
import os
import random
from collections.abc import Callable

import cocotb
import numpy as np
from amaranth.hdl import signed
from amaranth.lib import data
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge

from terngen.hw.contract.config import Config
from terngen.hw.units.activations import load_cycles
from terngen.sim.cocotb_stream import encode, reset

CONFIG = Config.from_dict(json.loads(os.environ["CONFIG"]))


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


def block(dut) -> np.ndarray:
    """The codes that the array sees, ``(slots, block_cols)``; 128 where nothing was ever loaded."""
    values = [[getattr(dut, f"codes__{slot}__{col}").value for col in range(CONFIG.block_cols)]
              for slot in range(CONFIG.slots)]
    return np.array([[value.to_signed() if value.is_resolvable else 128 for value in row] for row in values])


async def take(dut, *, rewind: bool, pop: bool, stall: Callable[[], bool]) -> tuple[int, int, list[np.ndarray]]:
    """Wait for the next block and take it.

    Returns how long it took to be loaded, its tags, and the codes one and two cycles after it was taken.
    The last of these two cycles goes on when it returns.
    """
    cycles = 2          # since the take before
    while not int(dut.loaded.value):
        await RisingEdge(dut.clk)
        await ReadOnly()
        cycles += 1
    await RisingEdge(dut.clk)
    while stall():
        await RisingEdge(dut.clk)
    dut.take.value, dut.rewind.value, dut.pop.value = 1, rewind, pop
    await ReadOnly()
    tags   = int(dut.tags.value)
    blocks = []
    for _ in range(2):
        await RisingEdge(dut.clk)
        dut.take.value = 0
        await ReadOnly()
        blocks.append(block(dut))
    return cycles, tags, blocks


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
    dut.take.value = 0
    await reset(dut)

    async def fill():
        for codes, tags in banks:
            await filler.fill(codes, tags)
    cocotb.start_soon(fill())

    await ReadOnly()
    shown = block(dut)
    for codes, tags in banks:
        uses = int(rng.integers(1, 4))
        for use in range(uses):
            cols = int(rng.integers(1, codes.shape[1] + 1))
            for first in range(0, cols, CONFIG.block_cols):
                ends = first + CONFIG.block_cols >= cols
                cycles, actual_tags, (before, after) = await take(
                    dut, rewind=ends, pop=use == uses - 1, stall=lambda: random.random() < o_stall)
                if first:
                    assert cycles == load_cycles(CONFIG)
                expected = codes[:, first:first + CONFIG.block_cols]
                assert (before == shown).all()
                assert (after[:, :expected.shape[1]] == expected).all()
                assert actual_tags == encode(tags, data.ArrayLayout(CONFIG.path.width, CONFIG.slots))
                shown = after


@cocotb.test(timeout_time=100, timeout_unit="us")
async def holds_two_banks(dut):
    filler = Filler(dut, CONFIG)
    codes  = np.ones((CONFIG.slots, CONFIG.wide), int)
    dut.take.value = 0
    await reset(dut)
    await filler.fill(codes, [0] * CONFIG.slots)
    await filler.fill(-codes, [1] * CONFIG.slots)
    await ClockCycles(dut.clk, 50)
    await ReadOnly()
    assert not int(dut.fill__free.value)
    _, _, (_, first) = await take(dut, rewind=True, pop=True, stall=lambda: False)
    assert int(dut.fill__free.value)
    _, _, (_, second) = await take(dut, rewind=True, pop=True, stall=lambda: False)
    assert (first == 1).all()
    assert (second == -1).all()
    # Both are gone: there is nothing to load.
    await ClockCycles(dut.clk, 50)
    await ReadOnly()
    assert not int(dut.loaded.value)
