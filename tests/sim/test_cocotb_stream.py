"""How bench drivers turn values into bits."""

import pytest
from amaranth import signed
from amaranth.lib import data, enum

from terngen.sim.cocotb_stream import encode


class Kind(enum.Enum, shape=3):
    STOP = 0
    GO   = 5


class Inner(data.Struct):
    low:  signed(4)
    list: data.ArrayLayout(signed(5), 3)


class Outer(data.Struct):
    kind:  Kind
    inner: Inner
    last:  6


@pytest.mark.parametrize("value", [
    {"kind": Kind.GO, "inner": {"low": -8, "list": [-16, 15, -1]}, "last": 63},
    {"kind": 5, "inner": {"list": {2: 1}}},
    {},
])
def test_structure(value):
    assert encode(value, Outer) == Outer.const(value).as_bits()


@pytest.mark.parametrize("value, shape, bits", [
    (-1, signed(8), 0xFF),
    (-128, signed(8), 0x80),
    (255, 8, 0xFF),
    (Kind.GO, Kind, 5),
    (0x3FFFFFFF >> 2, Outer, 0x0FFFFFFF),
    (Outer.const({"last": 1}), Outer, 1 << 22),
])
def test_value(value, shape, bits):
    assert encode(value, shape) == bits


@pytest.mark.parametrize("value, shape, message", [
    (128, signed(8), "Value must be from -128 to 127 to fit into 8 bits, not 128"),
    (-129, signed(8), "Value must be from -128 to 127 to fit into 8 bits, not -129"),
    (256, 8, "Value must be from 0 to 255 to fit into 8 bits, not 256"),
    (-1, 8, "Value must be from 0 to 255 to fit into 8 bits, not -1"),
    ({"inner": {"list": [0, 0, 16]}}, Outer, "Value must be from -16 to 15 to fit into 5 bits, not 16"),
    ({"colour": 1}, Outer, "Structure has no field 'colour'; it has kind, inner, last"),
    ([1, 2, 3, 4], data.ArrayLayout(4, 3), "Structure has no field 3; it has 0, 1, 2"),
])
def test_refused(value, shape, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        encode(value, shape)
