"""What a token costs in operations, and by published figures in energy.

The figures are those of M. Horowitz, "Computing's Energy Problem (and what we can do about it)", ISSCC 2014, for
45 nm at 0.9 V. They are of operations alone: wires, registers, control and clock are not in them. So what comes
out is an estimate that compares ways to compute, and no power of a chip.
"""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

from terngen.host.convert.geometry import Geometry
from terngen.host.layout import layout_of
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import DRAINS, Op

__all__ = ["CLAIMS", "DRAM", "OPERATION", "SRAM", "Scheme", "additions", "claims", "energy", "of_addition",
           "of_machine", "picojoules", "products", "schemes"]

#: Picojoules of an operation.
OPERATION = {"int8 add": 0.03, "int32 add": 0.1, "fp16 add": 0.4, "fp32 add": 0.9,
             "int8 mult": 0.2, "int32 mult": 3.1, "fp16 mult": 1.1, "fp32 mult": 3.7}
#: Picojoules of a bit from DRAM, lowest and highest: 1.3 to 2.6 nJ for 64 bits.
DRAM = (1300 / 64, 2600 / 64)
#: Picojoules of a bit from a memory of 8 KiB on the chip: 10 pJ for 64 bits.
SRAM = 10 / 64

#: What the paper says that L-Mul saves.
CLAIMS = {"element-wise products": 0.95, "dot products": 0.80}


def of_addition(bits: int) -> float:
    """Picojoules of an integer addition: on the line through those of 8 and of 32 bits."""
    return OPERATION["int8 add"] + (bits - 8) * (OPERATION["int32 add"] - OPERATION["int8 add"]) / 24


def picojoules(kind: str) -> float:
    """Of an operation that is named like ``fp16 mult`` or ``int17 add``."""
    if kind in OPERATION:
        return OPERATION[kind]
    what, verb = kind.split()
    assert what.startswith("int") and verb == "add", kind
    return of_addition(int(what.removeprefix("int")))


def _float_product(significand: int) -> float:
    """Picojoules of a float multiplication: on the line through those of fp16 and fp32 by the square of the bits."""
    low, high = OPERATION["fp16 mult"], OPERATION["fp32 mult"]
    return low + (significand ** 2 - 11 ** 2) * (high - low) / (24 ** 2 - 11 ** 2)


def _float_addition(bits: int) -> float:
    """Picojoules of a float addition: on the line through those of fp16 and fp32."""
    low, high = OPERATION["fp16 add"], OPERATION["fp32 add"]
    return low + (bits - 16) * (high - low) / 16


@dataclasses.dataclass(frozen=True)
class Scheme:
    """A way to compute the same model.

    Parameters
    ----------
    weight : tuple of :class:`str`
        Operations for a weight of a matrix.
    product : :class:`str`
        Operation for an element-wise product.
    bits : :class:`float` or None
        Bits of a weight in memory; those of a tape without.
    """

    weight:  tuple[str, ...]
    product: str
    bits:    float | None


def schemes(config: Config) -> dict[str, Scheme]:
    """The three that are compared. Widths are those of a machine: of its sums, and of packed fields without sign."""
    total = f"int{config.acc_width} add"
    return {"fp16 dense":     Scheme(("fp16 mult", "fp16 add"), "fp16 mult", 16),
            "int8 exact":     Scheme(("int8 mult", "int32 add"), "fp16 mult", 8),
            "ternary, L-Mul": Scheme((total,), f"int{config.path.width - 1} add", None)}


#: Products of an element, by operation and site.
_ELEMENT = {
    Op.SCAN:     ("norm",),
    Op.QUANTISE: ("quantise",),
    Op.SQUARE:   ("norm", "square"),
    Op.GATE:     ("dequantise", "gate"),
    Op.STORE:    ("dequantise", "norm", "square"),
    Op.SILU:     ("dequantise", "silu"),
    Op.MLGRU:    ("dequantise", "silu", "recurrence", "silu", "output", "norm"),
    Op.GLU:      ("dequantise", "glu", "norm"),
    Op.RESIDUAL: ("dequantise", "norm"),
    Op.LOGITS:   (),
}
#: Additions of floats of an element.
_SUMS = {Op.MLGRU: 2, Op.RESIDUAL: 1, Op.SQUARE: 1, Op.STORE: 1}


def _items(geometry: Geometry, config: Config) -> Any:
    layout = layout_of(geometry, config)
    return [*layout.items["layers"], *layout.items["head"]]


def products(geometry: Geometry, config: Config) -> dict[str, int]:
    """Element-wise products of a token, by site."""
    found: collections.Counter[str] = collections.Counter()
    for item in _items(geometry, config):
        for site in _ELEMENT.get(item.op, ()):
            found[site] += item.length
        if item.op in DRAINS:
            found["dequantise"] += 2        # the scale of all sums
    return dict(found)


def additions(geometry: Geometry, config: Config) -> int:
    """Additions of floats of a token."""
    return sum(_SUMS.get(item.op, 0) * item.length for item in _items(geometry, config))


def energy(geometry: Geometry, config: Config) -> dict[str, dict[str, Any]]:
    """Operations of a token by kind, and picojoules, of each scheme."""
    sites   = products(geometry, config)
    layout  = layout_of(geometry, config)
    played  = sum(layout.marks[name].count for name in ("layers", "head")) * config.beat_bits
    found   = {}
    for name, scheme in schemes(config).items():
        matrix  = dict.fromkeys(scheme.weight, geometry.ternary_weights)
        element = {scheme.product: sum(sites.values()), "fp16 add": additions(geometry, config)}
        bits    = played if scheme.bits is None else round(scheme.bits * geometry.ternary_weights)
        counts  = collections.Counter(matrix)
        counts.update(element)
        found[name] = {
            "operations":        dict(counts),
            "matrices_pj":       _total(matrix),
            "products_pj":       _total({scheme.product: sum(sites.values())}),
            "additions_pj":      _total({"fp16 add": element["fp16 add"]}),
            "compute_pj":        _total(counts),
            "memory_bits":       bits,
            "dram_pj":           [bits * each for each in DRAM],
        }
    return found


def of_machine(geometry: Geometry, config: Config, *, bits: float, on_chip: bool) -> float:
    """Picojoules of a token on a machine with its own formats and multipliers.

    Parameters
    ----------
    bits
        What it reads of its memory for a token.
    on_chip
        Whether that is block RAM; otherwise it costs the middle of :data:`DRAM`.
    """
    path    = config.path
    added   = _float_addition(path.width)
    product = {True: _float_product(path.mantissa_bits + 1), False: of_addition(path.width - 1)}
    compute = geometry.ternary_weights * of_addition(config.acc_width) + additions(geometry, config) * added
    for site, count in products(geometry, config).items():
        compute += count * product[getattr(config.sites, site).is_exact]
    return compute + bits * (SRAM if on_chip else sum(DRAM) / 2)


def _total(counts: Mapping[str, int]) -> float:
    return sum(count * picojoules(kind) for kind, count in counts.items())


def claims() -> dict[str, dict[str, float]]:
    """What an L-Mul in place of a product saves by the figures, alone and beside the addition of a dot product."""
    found: dict[str, dict[str, float]] = {name: {} for name in CLAIMS}
    for width in (16, 32):
        product, added = OPERATION[f"fp{width} mult"], OPERATION[f"fp{width} add"]
        found["element-wise products"][f"fp{width}"] = 1 - of_addition(width) / product
        found["dot products"][f"fp{width}"]          = 1 - (of_addition(width) + added) / (product + added)
    return found
