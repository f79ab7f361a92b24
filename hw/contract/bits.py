"""Structures as octets: the only way in which a layout meets a byte string."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data, enum

__all__ = ["pack", "unpack", "size"]


def _layout(struct: Any) -> data.Layout:
    return data.Layout.cast(struct)


def size(struct: Any) -> int:
    """Octets that a structure takes."""
    return (_layout(struct).size + 7) // 8


def pack(struct: Any, **fields: int) -> bytes:
    """Pack `fields` into the little-endian octets of `struct`.

    Fields that are not given are zero.

    Raises
    ------
    ValueError
        If a field does not exist or a value does not fit into it.
    """
    layout = _layout(struct)
    word   = 0
    known  = dict(layout)
    for name, value in fields.items():
        if name not in known:
            raise ValueError(f"Structure has no field {name!r}; it has {', '.join(map(str, known))}")
        field = known[name]
        shape = Shape.cast(field.shape)
        raw   = int(value.value if isinstance(value, enum.Enum) else value)
        if raw not in range(-(1 << shape.width - 1) if shape.signed else 0,
                            1 << shape.width - shape.signed):
            raise ValueError(f"Field {name} must fit into {shape!r}, not be {raw}")
        word |= (raw & (1 << shape.width) - 1) << field.offset
    return word.to_bytes(size(struct), "little")


def unpack(struct: Any, octets: bytes) -> Mapping[str, int]:
    """Field values, as plain integers, of `struct` in little-endian `octets`.

    Raises
    ------
    ValueError
        If the number of octets differs from what the structure takes.
    """
    layout = _layout(struct)
    if len(octets) != size(struct):
        raise ValueError(f"Structure takes {size(struct)} octets, not {len(octets)}")
    word   = int.from_bytes(octets, "little")
    fields = {}
    for name, field in layout:
        shape = Shape.cast(field.shape)
        raw   = word >> field.offset & (1 << shape.width) - 1
        if shape.signed and raw >> shape.width - 1:
            raw -= 1 << shape.width
        fields[str(name)] = raw
    return fields
