"""Structures as octets: the only way in which a layout meets a byte string."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data, enum

__all__ = ["pack", "unpack", "size"]


@dataclasses.dataclass(frozen=True)
class _Field:
    """Where a field lies."""

    offset: int
    shape:  Shape

    @property
    def values(self) -> range:
        width, signed = self.shape.width, self.shape.signed
        return range(-(1 << width - 1) if signed else 0, 1 << width - signed)


@functools.cache        # because asking a layout takes longer than everything else here
def _fields(struct: Any) -> dict[str, _Field]:
    return {str(name): _Field(field.offset, Shape.cast(field.shape))
            for name, field in data.Layout.cast(struct)}


@functools.cache
def size(struct: Any) -> int:
    """Octets that a structure takes."""
    return (data.Layout.cast(struct).size + 7) // 8


def pack(struct: Any, **fields: int) -> bytes:
    """Pack `fields` into the little-endian octets of `struct`.

    Fields that are not given are zero.

    Raises
    ------
    ValueError
        If a field does not exist or a value does not fit into it.
    """
    known, word = _fields(struct), 0
    for name, value in fields.items():
        if name not in known:
            raise ValueError(f"Structure has no field {name!r}; it has {', '.join(known)}")
        field = known[name]
        raw   = int(value.value if isinstance(value, enum.Enum) else value)
        if raw not in field.values:
            raise ValueError(f"Field {name} must fit into {field.shape!r}, not be {raw}")
        word |= (raw & (1 << field.shape.width) - 1) << field.offset
    return word.to_bytes(size(struct), "little")


def unpack(struct: Any, octets: bytes) -> Mapping[str, int]:
    """Field values, as plain integers, of `struct` in little-endian `octets`.

    Raises
    ------
    ValueError
        If the number of octets differs from what the structure takes.
    """
    if len(octets) != size(struct):
        raise ValueError(f"Structure takes {size(struct)} octets, not {len(octets)}")
    word   = int.from_bytes(octets, "little")
    fields = {}
    for name, field in _fields(struct).items():
        shape = field.shape
        raw   = word >> field.offset & (1 << shape.width) - 1
        if shape.signed and raw >> shape.width - 1:
            raw -= 1 << shape.width
        fields[name] = raw
    return fields
