import re

import pytest
from amaranth.hdl import signed
from amaranth.lib import data

from terngen.hw.contract import bits, tape


class Pair(data.Struct):
    low:  signed(4)
    high: 5


def test_known_answer():
    octets = bits.pack(tape.Descriptor, opcode=tape.Op.MATVEC, release=1, length=0x155, place=0x2A,
                       beats=0x01020304, scale=0xABCDEF, weight=0x123456)
    assert octets.hex(" ") == "01 55 05 a0 02 00 04 03 02 01 ef cd ab 56 34 12"


def test_unpack_inverts_pack():
    fields = {"low": -8, "high": 31}
    assert bits.pack(Pair, **fields).hex(" ") == "f8 01"
    assert bits.unpack(Pair, bits.pack(Pair, **fields)) == fields


@pytest.mark.parametrize("fields", [{"low": 8}, {"low": -9}, {"high": 32}, {"high": -1}])
def test_value_wrong(fields):
    with pytest.raises(ValueError, match=r"^Field (low|high) must fit into "):
        bits.pack(Pair, **fields)


def test_field_wrong():
    with pytest.raises(ValueError, match=re.escape("Structure has no field 'middle'; it has low, high")):
        bits.pack(Pair, middle=1)


def test_size_wrong():
    with pytest.raises(ValueError, match=r"^Structure takes 2 octets, not 3$"):
        bits.unpack(Pair, bytes(3))
