"""What the machine shows of its inside, so that every intermediate value can be compared.

The vector unit emits one event for each lane group that an operation finishes, in order, and then
one event with the scalars of that operation and slot. A board leaves the port open and the logic
disappears.
"""

from amaranth.lib import data

from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Op

__all__ = ["event_layout", "ELEMENTS", "SCALARS"]

#: Fields of an element event that mean something, by operation.
ELEMENTS = {
    Op.EMBED:    ("value",),
    Op.SCAN:     ("weighted",),
    Op.QUANTISE: ("code",),
    Op.SQUARE:   ("weighted",),
    Op.GATE:     ("acc", "weighted"),
    Op.STORE:    ("acc", "value", "weighted"),
    Op.SILU:     ("acc", "value"),
    Op.MLGRU:    ("acc", "value", "state", "weighted"),
    Op.GLU:      ("acc", "value", "weighted"),
    Op.RESIDUAL: ("acc", "value", "weighted"),
    Op.LOGITS:   ("acc",),
}

#: Fields of a scalar event that mean something, by operation; the root only where it is taken.
SCALARS = {
    Op.EMBED:    (),
    Op.SCAN:     ("peak", "factor"),
    Op.QUANTISE: (),
    Op.SQUARE:   ("root",),
    Op.GATE:     ("scale",),
    Op.STORE:    ("scale",),
    Op.SILU:     ("scale",),
    Op.MLGRU:    ("scale", "peak", "factor"),
    Op.GLU:      ("scale", "peak", "factor"),
    Op.RESIDUAL: ("scale", "peak", "factor"),
    Op.LOGITS:   ("scale",),
}


def event_layout(config: Config) -> data.StructLayout:
    """Layout of one event.

    ============  ======================================================================
    ``op``        the operation
    ``slot``      the slot
    ``group``     lane group of the elements
    ``scalars``   the event carries the scalars instead of elements
    ``acc``       row sums as they came from the queue
    ``value``     what the operation computed before it was weighted
    ``state``     recurrent state after the update
    ``weighted``  ``y``
    ``code``      int8 activations
    ``scale``     ``s``
    ``peak``      ``max |y|``
    ``factor``    ``127 / peak``
    ``root``      reciprocal root of the sum of squares
    ============  ======================================================================
    """
    width = config.path.width
    return data.StructLayout({
        "op":       Op,
        "slot":     config.slot_bits,
        "group":    config.group_bits,
        "scalars":  1,
        "acc":      data.ArrayLayout(config.acc_width, config.lanes),
        "value":    data.ArrayLayout(width, config.lanes),
        "state":    data.ArrayLayout(width, config.lanes),
        "weighted": data.ArrayLayout(width, config.lanes),
        "code":     data.ArrayLayout(8, config.lanes),
        "scale":    width,
        "peak":     width,
        "factor":   width,
        "root":     width,
    })
