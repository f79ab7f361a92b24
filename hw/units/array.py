"""Ternary array: a beat of packed trits times the activations of every slot."""

from terngen.hw.contract.config import ArrayVariant, Config
from terngen.hw.units.table import TableArray
from terngen.hw.units.tree import TreeArray
from terngen.hw.units.triples import TriplesArray

__all__ = ["latency", "load_cycles", "settle_cycles", "ternary_array"]

_ARRAYS = {ArrayVariant.TREE: TreeArray, ArrayVariant.TABLE: TableArray, ArrayVariant.TRIPLES: TriplesArray}


def ternary_array(config: Config) -> TreeArray | TableArray | TriplesArray:
    """The array of the variant that a machine has, with the ports of
    :class:`~terngen.hw.units.partials.ArraySignature`."""
    return _ARRAYS[config.variant](config)


def latency(config: Config) -> int:
    """Cycles from a beat to its partial sums."""
    return _ARRAYS[config.variant].latency(config)


def load_cycles(config: Config) -> int:
    """Cycles from the taking of one column block, or from the first codes, to the next, at least."""
    return _ARRAYS[config.variant].load_cycles(config)


def settle_cycles(config: Config) -> int:
    """Cycles in which no beat of a column block is taken, after the taking of the block."""
    return _ARRAYS[config.variant].settle_cycles(config)
