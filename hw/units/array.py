"""Ternary array: a beat of packed trits times the activations of every slot."""

from terngen.hw.contract.config import ArrayVariant, Config
from terngen.hw.units.table import TableArray
from terngen.hw.units.tree import TreeArray

__all__ = ["ternary_array", "latency", "load_cycles"]

_ARRAYS = {ArrayVariant.TREE: TreeArray, ArrayVariant.TABLE: TableArray}


def ternary_array(config: Config) -> TreeArray | TableArray:
    """The array of the variant that a machine has, with the ports of
    :class:`~terngen.hw.units.partials.ArraySignature`."""
    return _ARRAYS[config.variant](config)


def latency(config: Config) -> int:
    """Cycles from a beat to its partial sums."""
    return _ARRAYS[config.variant].latency(config)


def load_cycles(config: Config) -> int:
    """Cycles from the taking of one column block to the next, at least."""
    return _ARRAYS[config.variant].load_cycles(config)
