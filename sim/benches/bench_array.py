"""Bench of the ternary array: every octet, every corner, a beat in each cycle."""

import json
import os

import cocotb
import numpy as np
from cocotb.triggers import ReadOnly, RisingEdge

from terngen.hw.contract import tape
from terngen.hw.contract.config import Config
from terngen.hw.contract.trits import trit_table, trit_valid
from terngen.hw.units.array import latency
from terngen.sim.cocotb_stream import reset

CONFIG = Config.from_dict(json.loads(os.environ["CONFIG"]))


async def play(dut, trits, codes) -> np.ndarray:
    """One beat per cycle.

    Parameters
    ----------
    trits : ``(beats, lanes, block_cols)``
    codes : ``(beats, slots, block_cols)``

    Returns
    -------
    ``(beats, slots, lanes)``
    """
    await reset(dut)
    partials = []
    before   = np.full(codes.shape[1:], -128)
    for cycle in range(len(trits) + latency(CONFIG)):
        if cycle < len(trits):
            dut.beat.value = int.from_bytes(tape.pack_matrix(CONFIG, trits[cycle]), "little")
        if 1 <= cycle <= len(codes):
            for slot, col in np.argwhere(codes[cycle - 1] != before).tolist():
                getattr(dut, f"codes__{slot}__{col}").value = int(codes[cycle - 1, slot, col]) & 0xFF
            before = codes[cycle - 1]
        await ReadOnly()
        if cycle >= latency(CONFIG):
            partials.append([[getattr(dut, f"partials__{slot}__{lane}").value.to_signed()
                              for lane in range(CONFIG.lanes)] for slot in range(CONFIG.slots)])
        await RisingEdge(dut.clk)
    return np.array(partials)


def generator() -> np.random.Generator:
    return np.random.default_rng(int(os.environ["SEED"]))


@cocotb.test(timeout_time=100, timeout_unit="us")
async def multiplies(dut):
    rng   = generator()
    trits = rng.integers(-1, 2, (50, CONFIG.lanes, CONFIG.block_cols))
    codes = rng.integers(-127, 128, (50, CONFIG.slots, CONFIG.block_cols))
    assert (await play(dut, trits, codes) == np.einsum("blc,bsc->bsl", trits, codes)).all()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def does_not_overflow(dut):
    trits = np.ones((9, CONFIG.lanes, CONFIG.block_cols), int)
    codes = np.full((9, CONFIG.slots, CONFIG.block_cols), 127)
    for index, (trit, code) in enumerate((trit, code) for trit in (-1, 0, 1) for code in (-127, 0, 127)):
        trits[index] *= trit
        codes[index]  = code
    assert (await play(dut, trits, codes) == np.einsum("blc,bsc->bsl", trits, codes)).all()


@cocotb.test(timeout_time=400, timeout_unit="us")
async def decodes_every_octet(dut):
    rng    = generator()
    table  = trit_table(CONFIG.variant.trit_code)[trit_valid(CONFIG.variant.trit_code)]      # (243, 5)
    # Each place of a beat meets every octet, in its own order.
    places = CONFIG.beat_bytes
    trits  = np.stack([table[rng.permutation(len(table))] for _ in range(places)], axis=1)
    trits  = trits.reshape(len(table), CONFIG.lanes, CONFIG.block_cols).astype(int)
    codes  = np.tile(rng.integers(1, 128, (CONFIG.slots, CONFIG.block_cols)), (len(table), 1, 1))
    assert (await play(dut, trits, codes) == np.einsum("blc,bsc->bsl", trits, codes)).all()
