"""Bench of the recurrent state: vectors at random places, with gaps between their groups, against the contract."""

import json
import os
from collections import deque

import cocotb
import numpy as np
from cocotb.triggers import ReadOnly, RisingEdge

from terngen.hw.contract import formats
from terngen.hw.contract.config import Config
from terngen.hw.units.recurrence import Recurrence
from terngen.sim.benches.floats import codes, corners, fmt, rng
from terngen.sim.cocotb_stream import reset

CONFIG = Config.from_dict(json.loads(os.environ["CONFIG"]))
UNIT   = Recurrence(CONFIG)
GROUPS = CONFIG.slots * CONFIG.groups(CONFIG.state)


def pack(values) -> int:
    """A lane group as a vector; what is not known is random."""
    if values is None:
        values = codes(CONFIG.lanes)
    return sum(int(value) << fmt.width * lane for lane, value in enumerate(values))


def draw(groups: int) -> np.ndarray:
    """Values worth trying, ``(groups, lanes)``."""
    values = codes(groups * CONFIG.lanes)
    return np.where(rng.random(len(values)) < 0.2, rng.choice(corners(), len(values)),
                    values).reshape(groups, CONFIG.lanes)


class Core:
    """The design, and the state that it must have."""

    def __init__(self, dut, *, stall=0.0):
        self.dut    = dut
        self.stall  = stall
        self.state  = np.zeros((GROUPS, CONFIG.lanes), np.int64)
        for name in ("start", "base", "clear", "read", "c", "z"):
            getattr(dut, name).value = 0

    async def update(self, base: int, z: np.ndarray, c: np.ndarray, *, clear: bool = False) -> int:
        """Update the groups from `base` on, compare every result, and return the cycles it took."""
        dut, place = self.dut, slice(base, base + len(z))
        h = np.zeros_like(z) if clear else self.state[place]
        change = formats.multiply(fmt, z, formats.subtract(fmt, c, h), CONFIG.sites.recurrence)
        self.state[place] = formats.add(fmt, h, change)

        await RisingEdge(dut.clk)
        dut.start.value, dut.base.value, dut.clear.value = 1, base, clear
        due = {"c": deque([None] * UNIT.C_DELAY), "z": deque([None] * UNIT.Z_DELAY),
               "h": deque([None] * UNIT.LATENCY)}
        queue, actual, cycles = deque(range(len(z))), [], 0
        while len(actual) < len(z):
            await RisingEdge(dut.clk)
            dut.start.value = 0
            group = queue.popleft() if queue and rng.random() >= self.stall else None
            dut.read.value = group is not None
            at = {}
            for name, pending in due.items():
                pending.append(group)
                at[name] = pending.popleft()
            dut.c.value = pack(None if at["c"] is None else c[at["c"]])
            dut.z.value = pack(None if at["z"] is None else z[at["z"]])
            await ReadOnly()
            cycles += 1
            if at["h"] is not None:
                actual.append(int(dut.h.value))
        for group, (word, values) in enumerate(zip(actual, self.state[place])):
            assert word == pack(values), f"Group {group} must be {pack(values):#x}, not {word:#x}"
        return cycles


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0, 0.4])
async def matches_contract(dut, stall):
    core = Core(dut, stall=stall)
    await reset(dut)
    # Whatever earlier tests have left.
    await core.update(0, draw(GROUPS), draw(GROUPS), clear=True)
    for _ in range(30):
        groups = int(rng.choice([1, 2, UNIT.LATENCY, GROUPS])) % GROUPS + 1
        base   = int(rng.integers(GROUPS - groups + 1))
        cycles = await core.update(base, draw(groups), draw(groups), clear=rng.random() < 0.2)
        if not stall:
            assert cycles == groups + UNIT.LATENCY


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(after=[1, UNIT.C_DELAY, UNIT.LATENCY - 1, UNIT.LATENCY + 1])
async def reset_ends_writing(dut, after):
    """What was in flight is not written, and least of all elsewhere."""
    core = Core(dut)
    await reset(dut)
    await core.update(0, draw(GROUPS), draw(GROUPS), clear=True)
    half   = GROUPS // 2
    update = cocotb.start_soon(core.update(half, draw(GROUPS - half), draw(GROUPS - half)))
    before = core.state[:half].copy()
    for _ in range(after + 2):
        await RisingEdge(dut.clk)
    update.cancel()
    dut.read.value = 0
    await reset(dut, cycles=1)
    for _ in range(UNIT.LATENCY):
        await RisingEdge(dut.clk)
    core.state[:half] = before
    await core.update(0, draw(half), draw(half))
    await core.update(half, draw(GROUPS - half), draw(GROUPS - half), clear=True)
    await core.update(0, draw(GROUPS), draw(GROUPS))
