"""The area of a machine on an ECP5, without synthesis.

Block RAM and multipliers are counted: which memories a machine has, and what Yosys makes of each. Look-up tables
and flip-flops follow from what the structure has much of, by a linear model that is fitted to machines that were
synthesised, the baselines (``python -m terngen.sim.area`` makes them).
"""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from terngen.hw.contract import drawing, formats
from terngen.hw.contract.config import EXACT, ArrayVariant, Config, Control
from terngen.hw.contract.formats import Multiplier
from terngen.hw.contract.regs import TOKEN_BITS
from terngen.hw.link.cobs import CobsEncoder
from terngen.hw.link.receiver import Receiver
from terngen.hw.tape import onchip
from terngen.hw.units import accumulator, table, tree, triples
from terngen.hw.units.parameters import group_width

__all__ = ["BASELINES", "Baseline", "Baselines", "Model", "Store", "area", "array_features", "block_rams", "blocks",
           "dsps", "machine_features", "stores", "tape_block_rams"]

#: Machines that were synthesised.
BASELINES = Path(__file__).with_name("baselines.json")


@dataclasses.dataclass(frozen=True)
class Store:
    """Memories of one kind: `count` of `depth` words of `width` bits, with a port to write and one to read."""

    name:  str
    width: int
    depth: int
    count: int = 1
    #: Whether an address is answered in the same cycle, which no block RAM does.
    at_once: bool = False
    #: Whether nobody writes.
    constant: bool = False


def stores(config: Config) -> list[Store]:
    """The memories of a machine, but for its trace, which a board leaves open."""
    lanes, slots, word = config.lanes, config.slots, config.lanes * config.path.width
    side_bits  = max(0, group_width(config).bit_length() - config.beat_bits.bit_length())
    place_bits = max(1, (config.parameter_beats(config.wide) - 1).bit_length(), side_bits)
    length     = config.blocks(config.wide) * config.block_cols

    def widest(count: int) -> int:
        return max(lanes, count)

    found = [
        Store("receiver", 8, Receiver.DEPTH),
        Store("encoder", 8, CobsEncoder.DEPTH),
        Store("prefetch", config.beat_bits, config.prefetch),
        Store("history", TOKEN_BITS, config.history << config.slot_bits),
        Store("parameters", config.beat_bits, 2 << place_bits - side_bits, 1 << side_bits),
        Store("accumulator", config.acc_width * config.row_lanes, accumulator.depth(config), slots),
        Store("sums", config.acc_width * config.row_lanes, 2 * -(-config.rows // widest(config.row_lanes)),
              slots * max(1, lanes // config.row_lanes)),
        Store("x", word, slots * config.groups(config.hidden)),
        Store("t0, t1, y", word, slots * config.groups(config.wide), 3),
        Store("state", word, slots * config.groups(config.state)),
        Store("sigmoid", config.path.width - 2, formats.SIGMOID_ENTRIES, lanes, constant=True),
        Store("squares", 46, slots * formats.bins(config.path), lanes, at_once=True),
    ]
    if config.draws:
        found += [Store("draws", 32, 1 << config.slot_bits, at_once=True),
                  Store("choices", 20, 1 << config.slot_bits, at_once=True),
                  Store("noise", drawing.NOISE_WIDTH - drawing.FRESH_BITS, drawing.NOISE_ENTRIES, constant=True)]
    if config.variant is ArrayVariant.TABLE:
        width = config.table_builders
        found.append(Store("steps", table.STEP_BITS, 2 * table.ENTRIES, constant=True))
        if table.has_places(config):
            found.append(Store("places", sum(table.place_bits(config)), 8 * config.blocks(config.wide), constant=True))
        found += [Store("tables", table.ENTRY_BITS * share, 2 * table.ENTRIES, config.beat_bytes)
                  for share in (min(table.SHARE, slots - first) for first in range(0, slots, table.SHARE))]
    elif config.variant is ArrayVariant.TRIPLES:
        width = config.lane_bytes
        found.append(Store("tables", triples.ENTRY_BITS * slots, triples.ENTRIES, config.beat_bytes, at_once=True))
    else:
        width = tree.codes_at_once(config)
    found.append(Store("codes", 8 * lanes, 2 * -(-length // widest(width)), slots * max(1, width // lanes)))
    return found


#: Cost of a block RAM, and of a distributed RAM of 16 words of 4 bits, in what Yosys counts.
_BLOCK_COST, _DISTRIBUTED_COST = 128, 4
#: Widths of a block RAM of 16 kbit, and its words.
_SHAPES = {1: 16384, 2: 8192, 4: 4096, 9: 2048, 18: 1024, 36: 512}


def blocks(store: Store, distributed: int = 0) -> int:
    """Block RAMs of one memory, as ``memory_libmap`` of Yosys chooses: by cost, in which a multiplexer behind
    memories that lie one after the other counts half a look-up table for each bit. Memories of up to `distributed`
    words have none."""
    if store.at_once or store.depth <= distributed:
        return 0
    rows        = -(-store.depth // 16)
    distributed = _DISTRIBUTED_COST * -(-store.width // 4) * rows + store.width * (rows - 1) / 2
    count       = min(-(-store.width // width) * -(-store.depth // words) for width, words in _SHAPES.items())
    return 0 if distributed < _BLOCK_COST * count and not store.constant else count


def block_rams(config: Config, *, distributed: int = 0) -> int:
    """Block RAMs of a machine; memories of up to `distributed` words have none."""
    return sum(store.count * blocks(store, distributed) for store in stores(config))


def tape_block_rams(config: Config, beats: int) -> int:
    """Block RAMs of a tape on chip."""
    return sum(blocks(Store("tape", width, depth))
               for width in onchip.parts(config.beat_bits) for depth in onchip.banks(beats))


def dsps(config: Config) -> int:
    """Multipliers of a machine, one for each exact product."""
    return config.lanes * _products(config).count(EXACT) + (config.sites.dequantise == EXACT)


def _products(config: Config) -> list[Multiplier]:
    """The multipliers of a lane."""
    sites = config.sites
    return [sites.dequantise, sites.silu, sites.silu, sites.output, sites.glu, sites.recurrence, sites.square,
            *{sites.norm, sites.gate, sites.quantise}]


# Look-up tables and flip-flops.

def array_features(config: Config) -> dict[str, float]:
    """What the array, with its codes and sums, has much of."""
    slots = config.slots
    octet = config.beat_bytes
    kinds = {
        ArrayVariant.TREE:    {"tree": 1, "octet": octet, "product": octet * slots, "code": config.lane_bytes * slots},
        ArrayVariant.TABLE:   {"tables": 1, "table": octet * slots, "builder": config.table_builders * slots},
        ArrayVariant.TRIPLES: {"triples": 1, "place": octet, "triple": octet * slots,
                               "window": config.lane_bytes * slots},
    }
    found = {name: count if variant is config.variant else 0
             for variant, counts in kinds.items() for name, count in counts.items()}
    return found | {
        "sum":          config.row_lanes * slots * config.acc_width,
        "drained sum":  config.lanes * slots * config.acc_width,
        "slot":         slots,
    }


def machine_features(config: Config) -> dict[str, float]:
    """What the rest of a machine has much of."""
    bits, slots, products = config.lanes * config.path.width, config.slots, _products(config)
    return {
        "machine":          1,
        "beat":             config.beat_bits,
        "lane bit":         bits,
        "inexact bit":      bits * (len(products) - products.count(EXACT)),
        "slot":             slots,
        "candidate":        slots * config.top_k,
        "slot number":      config.slot_bits,
    }


@dataclasses.dataclass(frozen=True)
class Baseline:
    """An array (``MatVec``), a machine or a unit that was synthesised."""

    config: Config
    lut:    int
    ff:     int
    bram:   int
    dsp:    int

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """What an entry of the file says."""
        return cls(Config.from_dict(entry["config"]), entry["lut"], entry["ff"], entry["bram"], entry["dsp"])


@dataclasses.dataclass(frozen=True)
class Baselines:
    """What the model is fitted to, and units by themselves, whose growth tells where a machine has grown."""

    arrays:   list[Baseline]
    machines: list[Baseline]
    units:    dict[str, Baseline]

    @classmethod
    def read(cls, path: Path = BASELINES) -> Self:
        """Those of a file."""
        parts = json.loads(path.read_text())
        return cls(arrays=[Baseline.of(entry) for entry in parts["arrays"]],
                   machines=[Baseline.of(entry) for entry in parts["machines"]],
                   units={name: Baseline.of(entry) for name, entry in parts["units"].items()})


class Model:
    """Places of a LUT4 and flip-flops by the features of a machine: first of its array, then of the rest.

    Parameters
    ----------
    baselines : :class:`Baselines`
        The weights of the features are those with the least squares of the relative errors.
    """

    def __init__(self, baselines: Baselines):
        #: Whether there are more machines than features.
        self.machines = len(baselines.machines) > len(machine_features(Config()))
        self._arrays:   dict[str, np.ndarray] = {}
        self._machines: dict[str, np.ndarray] = {}
        for name in ("lut", "ff"):
            found = np.array([getattr(each, name) for each in baselines.arrays], float)
            rows  = np.array([[*array_features(each.config).values()] for each in baselines.arrays], float)
            self._arrays[name] = np.linalg.lstsq(rows / found[:, None], np.ones(len(found)), rcond=None)[0]
            if not self.machines:
                continue
            found = np.array([getattr(each, name) for each in baselines.machines], float)
            rest  = found - [self.array(each.config)[name] for each in baselines.machines]
            rows  = np.array([[*machine_features(each.config).values()] for each in baselines.machines], float)
            self._machines[name] = np.linalg.lstsq(rows / found[:, None], rest / found, rcond=None)[0]

    def array(self, config: Config) -> dict[str, int]:
        """Those of the array."""
        row = np.array([*array_features(config).values()], float)
        return {name: round(float(row @ weights)) for name, weights in self._arrays.items()}

    def machine(self, config: Config) -> dict[str, int]:
        """Those of the whole machine."""
        row  = np.array([*machine_features(config).values()], float)
        part = self.array(config)
        return {name: part[name] + round(float(row @ weights)) for name, weights in self._machines.items()}


@functools.cache
def _model() -> Model | None:
    return Model(Baselines.read()) if BASELINES.exists() else None


def area(config: Config, *, distributed: int = 0) -> dict[str, int | None]:
    """``lut`` (places of a LUT4), ``ff``, ``bram`` and ``dsp`` of a machine; without baselines of machines
    the first two are None. Memories of up to `distributed` words are built without block RAM. Of a machine with a
    processor, which is small, only the multiplier is known."""
    if config.control is Control.PROGRAM:
        return {"lut": None, "ff": None, "bram": None, "dsp": 1}
    model = _model()
    found: dict[str, int | None] = {"lut": None, "ff": None}
    if model is not None and model.machines:
        found.update(model.machine(config))
    return {**found, "bram": block_rams(config, distributed=distributed), "dsp": dsps(config)}
