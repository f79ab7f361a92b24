"""Bench of the ternary array: every octet, every corner, blocks that follow each other at once."""

import json
import os
import random
from collections import deque
from collections.abc import Callable

import cocotb
import numpy as np
from amaranth.lib import data
from cocotb.triggers import ReadOnly, RisingEdge

from terngen.hw.contract import tape
from terngen.hw.contract.config import Config
from terngen.hw.contract.trits import trit_table, trit_valid
from terngen.hw.units.array import latency, load_cycles, settle_cycles
from terngen.sim.benches.bench_activations import Filler
from terngen.sim.cocotb_stream import encode, reset

CONFIG = Config.from_dict(json.loads(os.environ["CONFIG"]))
#: Cycles from the taking of a block to the next, at least.
PERIOD = max(load_cycles(CONFIG), settle_cycles(CONFIG) + 1)


class Player:
    """Takes blocks, sends their beats and compares what comes out."""

    def __init__(self, dut, *, stall: Callable[[], bool] = lambda: False):
        self._dut   = dut
        self._stall = stall
        self._due   = deque([None] * latency(CONFIG))
        self._since = 0                 # cycles from the last take to this one
        for name in ("beat", "take", "rewind", "pop"):
            getattr(dut, name).value = 0

    async def _cycle(self, trits=None, codes=None, *, take=0, rewind=0, pop=0):
        """One cycle, with a beat that has `trits` ``(row_lanes, block_cols)`` and meets `codes`
        ``(slots, block_cols)``."""
        dut = self._dut
        await RisingEdge(dut.clk)
        octets = random.randbytes(CONFIG.beat_bytes) if trits is None else tape.pack_matrix(CONFIG, trits)
        dut.beat.value = int.from_bytes(octets, "little")
        dut.take.value, dut.rewind.value, dut.pop.value = take, rewind, pop
        self._due.append(None if trits is None else codes @ trits.T)
        self._since = 0 if take else self._since + 1
        await ReadOnly()
        due = self._due.popleft()
        if due is not None:
            carries = [int(getattr(dut, f"carries__{row}").value) for row in range(CONFIG.row_lanes)]
            actual  = [[getattr(dut, f"partials__{slot}__{row}").value.to_signed() + carry
                        for row, carry in enumerate(carries)] for slot in range(CONFIG.slots)]
            assert (np.array(actual) == due).all(), f"{actual} != {due}"

    async def multiply(self, codes: np.ndarray, tags: int, trits: np.ndarray, *, pop: bool):
        """A matrix, block by block.

        Parameters
        ----------
        codes : ``(slots, cols)``
        tags
            Those of the codes.
        trits : ``(blocks, groups, row_lanes, block_cols)``
        """
        blocks, groups = trits.shape[:2]
        padded = np.zeros((CONFIG.slots, CONFIG.blocks(CONFIG.wide) * CONFIG.block_cols), int)
        padded[:, :codes.shape[1]] = codes
        for block in range(blocks):
            waited = False
            while self._since == 0 or not int(self._dut.loaded.value):
                await self._cycle()
                waited = True
            if block and waited:
                assert self._since == PERIOD
            # The last beat of a block, and the taking of the next one, come in one cycle.
            assert int(self._dut.tags.value) == tags
            rewind = int(block == blocks - 1)
            last   = self._last if block else (None, None)
            await self._cycle(*last, take=1, rewind=rewind, pop=int(rewind and pop))
            for _ in range(settle_cycles(CONFIG)):
                await self._cycle()
            part = padded[:, block * CONFIG.block_cols:][:, :CONFIG.block_cols]
            for group in range(groups):
                while self._stall():
                    await self._cycle()
                if group == groups - 1 and not rewind:
                    self._last = trits[block, group], part
                else:
                    await self._cycle(trits[block, group], part)

    async def end(self):
        """Wait for the last partial sums."""
        for _ in range(latency(CONFIG)):
            await self._cycle()


def generator() -> np.random.Generator:
    return np.random.default_rng(int(os.environ["SEED"]))


def draw_trits(rng, blocks: int, groups: int, cols: int) -> np.ndarray:
    """Of a matrix that is narrower than its blocks."""
    trits = rng.integers(-1, 2, (blocks, groups, CONFIG.row_lanes, CONFIG.block_cols))
    past  = np.arange(blocks * CONFIG.block_cols).reshape(blocks, 1, 1, CONFIG.block_cols) >= cols
    return np.where(past, 0, trits)


async def play(dut, banks, *, i_stall: float = 0, o_stall: float = 0):
    """Each bank has codes, tags and the matrices that use it."""
    filler = Filler(dut, CONFIG, stall=lambda: random.random() < i_stall)
    player = Player(dut, stall=lambda: random.random() < o_stall)
    await reset(dut)

    async def fill():
        for codes, tags, _ in banks:
            await filler.fill(codes, tags)
    cocotb.start_soon(fill())

    await ReadOnly()
    for codes, tags, matrices in banks:
        word = encode(tags, data.ArrayLayout(CONFIG.path.width, CONFIG.slots))
        for use, trits in enumerate(matrices):
            await player.multiply(codes, word, trits, pop=use == len(matrices) - 1)
    await player.end()


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.3], o_stall=[0, 0.3])
async def multiplies(dut, i_stall, o_stall):
    rng   = generator()
    banks = []
    for _ in range(4):
        length   = int(rng.integers(1, CONFIG.wide + 1))
        matrices = []
        for _ in range(int(rng.integers(1, 3))):
            cols   = int(rng.integers(1, length + 1))
            groups = int(rng.choice([1, rng.integers(2, 9), PERIOD + rng.integers(-2, 3)]))
            matrices.append(draw_trits(rng, CONFIG.blocks(cols), groups, cols))
        banks.append((rng.integers(-127, 128, (CONFIG.slots, length)),
                      rng.integers(0, 1 << CONFIG.path.width, CONFIG.slots).tolist(), matrices))
    await play(dut, banks, i_stall=i_stall, o_stall=o_stall)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def does_not_overflow(dut):
    cols  = CONFIG.block_cols
    trits = np.ones((1, 3, CONFIG.row_lanes, cols), int) * np.array([-1, 0, 1])[:, None, None]
    await play(dut, [(np.full((CONFIG.slots, cols), code), [0] * CONFIG.slots, [trits]) for code in (-127, 0, 127)])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def decodes_every_octet(dut):
    rng   = generator()
    table = trit_table(CONFIG.variant.trit_code)[trit_valid(CONFIG.variant.trit_code)]      # (243, 5)
    # Each place of a beat meets every octet, in its own order.
    trits = np.stack([table[rng.permutation(len(table))] for _ in range(CONFIG.beat_bytes)], axis=1)
    trits = trits.reshape(len(table), CONFIG.row_lanes, CONFIG.lane_bytes, 5).swapaxes(2, 3)    # as columns lie
    trits = trits.reshape(1, len(table), CONFIG.row_lanes, CONFIG.block_cols).astype(int)
    await play(dut, [(rng.integers(1, 128, (CONFIG.slots, CONFIG.block_cols)), [0] * CONFIG.slots, [trits])])
