"""What every ternary array has: its ports and the width of its sums."""

from amaranth import signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.config import ArrayVariant, Config
from terngen.hw.units.activations import CodesSignature

__all__ = ["ArraySignature", "has_carries", "partial_width", "sum_width"]

#: Largest magnitude of an activation, see :func:`~terngen.hw.contract.formats.to_int8`.
CODE_MAX = 127


def sum_width(count: int) -> int:
    """Bits of a sum of `count` products of at most 127."""
    # One below the least sum as well: a carry may still be missing.
    return (count * CODE_MAX).bit_length() + 1


def partial_width(config: Config) -> int:
    """Bits of a partial sum: ``block_cols`` products."""
    return sum_width(config.block_cols)


def has_carries(config: Config) -> bool:
    """Whether a one may be missing in the partial sums of a row."""
    return config.variant is ArrayVariant.TRIPLES


class ArraySignature(wiring.Signature):
    """Port of a ternary array: codes and beats come in, partial sums go out.

    The array works on one column block at a time; meanwhile it prepares the next one. After the last
    block of a matrix that is the first one of the bank of codes that comes then, as soon as there is
    one. Beats have no flow control: every cycle brings a beat, and whoever uses the array keeps track
    of those that count.

    Members
    -------
    fill : ``Out(CodesSignature)``
        Where the codes come from.
    loaded : ``In(1)``
        The next block can be taken: at the earliest ``load_cycles`` after the last one.
    take : ``Out(1)``
        Takes it: from the next cycle on, and ``settle_cycles`` more, beats belong to it. Must only be asserted while
        `loaded`.
    rewind : ``Out(1)``
        With `take`: this is the last block of a matrix, so the next one is the first.
    pop : ``Out(1)``
        With `take` and `rewind`: the bank is free from now on.
    tags : ``In(ArrayLayout(path.width, slots))``
        Tags of the bank in use, while `loaded`.
    beat : ``Out(beat_bits)``
        Octets of the variant's code, as :func:`~terngen.hw.contract.tape.pack_matrix` lays them.
    partials : ``In(signed(partial_width)).array(slots, row_lanes)``
        Partial sums of a beat, ``latency`` cycles after it.
    carries : ``In(1).array(row_lanes)``
        With them: what is to be added to those of a row, in all slots. Only where :func:`has_carries` says so.
    """

    def __init__(self, config: Config):
        super().__init__({
            "fill":     Out(CodesSignature(config)),
            "loaded":   In(1),
            "take":     Out(1),
            "rewind":   Out(1),
            "pop":      Out(1),
            "tags":     In(data.ArrayLayout(config.path.width, config.slots)),
            "beat":     Out(config.beat_bits),
            "partials": In(signed(partial_width(config))).array(config.slots, config.row_lanes),
            "carries":  In(1).array(config.row_lanes),
        })
