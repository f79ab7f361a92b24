"""Five trits in a byte: both codes against their definitions."""

import itertools

import numpy as np
import pytest

from terngen.hw.contract.trits import GRAY_FIRST, GRAY_STEPS, TritCode, pack_trits, trit_table, trit_valid, unpack_trits

ALL = np.array(list(itertools.product((-1, 0, 1), repeat=5)), np.int8)

each_code = pytest.mark.parametrize("code", TritCode)


@each_code
def test_every_vector_has_a_byte(code):
    octets = pack_trits(ALL, code)
    assert octets.dtype == np.uint8 and len(set(octets.tolist())) == 243
    assert np.array_equal(unpack_trits(octets, code), ALL)
    assert set(np.flatnonzero(trit_valid(code)).tolist()) == set(octets.tolist())
    assert np.array_equal(trit_table(code)[octets], ALL)
    assert not trit_table(code)[~trit_valid(code)].any()


@each_code
def test_shapes(code):
    trits = np.random.default_rng(1).integers(-1, 2, (2, 3, 4, 5))
    octets = pack_trits(trits, code)
    assert octets.shape == (2, 3, 4) and np.array_equal(unpack_trits(octets, code), trits)
    assert unpack_trits(np.zeros((0, 7), np.uint8), code).shape == (0, 7, 5)
    assert pack_trits(np.zeros((0, 5), np.int8), code).shape == (0,)
    assert unpack_trits(pack_trits(trits, code).T[::2], code).shape == (2, 3, 2, 5)


def test_gray_walk():
    """The filler's view: one activation more or less in each step."""
    table = trit_table(TritCode.GRAY)[list(GRAY_STEPS)].astype(int)
    assert len(table) == 255 and GRAY_FIRST == 12 and table[12].tolist() == [-1] * 5
    assert (np.abs(np.diff(table[12:], axis=0)).sum(axis=1) == 1).all()
    # Trit 0 runs up and down, one step a byte; the others move where it turns.
    assert table[12:23, 0].tolist() == [-1, 0, 1, 1, 0, -1, -1, 0, 1, 1, 0]
    assert table[12:23, 1].tolist() == [-1, -1, -1, 0, 0, 0, 1, 1, 1, 1, 1]
    assert sorted(np.flatnonzero(trit_valid(TritCode.GRAY)).tolist()) == sorted(GRAY_STEPS[12:])


def test_gray_steps():
    """A shift register, which comes around."""
    assert sorted(GRAY_STEPS) == list(range(1, 256))
    assert GRAY_STEPS[:6] == (1, 2, 4, 8, 0b10001, 0b100011)
    for step, after in zip(GRAY_STEPS, [*GRAY_STEPS[1:], GRAY_STEPS[0]]):
        assert after >> 1 == step & 0x7f and after & 1 == (step >> 7 ^ step >> 5 ^ step >> 4 ^ step >> 3) & 1


@pytest.mark.parametrize("trits, octet", [
    # Bits 7:6 the single, 5:3 the second pair, 2:0 the first: sign and one of a+b, a-b, b, a.
    ([1, 1, 1, 1, 0], 0b00_000_000),
    ([1, -1, 1, 1, 1], 0b01_000_001),
    ([0, 1, 1, 0, -1], 0b10_011_010),
    ([-1, -1, -1, 1, 1], 0b01_101_100),
    ([0, -1, -1, 0, 0], 0b00_111_110),
    # Top 11: bit 5 says which pair is zero, bits 4:3 the single, the low three the other pair.
    ([0, 0, 1, -1, 0], 0b11_0_00_001),
    ([0, 0, -1, 0, -1], 0b11_0_10_111),
    ([0, -1, 0, 0, 1], 0b11_1_01_110),
    # Bits 4:3 11 as well: both pairs are zero.
    ([0, 0, 0, 0, 0], 0b11_0_11_000),
    ([0, 0, 0, 0, 1], 0b11_0_11_001),
    ([0, 0, 0, 0, -1], 0b11_0_11_010),
])
def test_pairs_by_hand(trits, octet):
    assert pack_trits(trits, TritCode.PAIRS) == octet
    assert unpack_trits(np.uint8(octet), TritCode.PAIRS).tolist() == trits


@pytest.mark.parametrize("trits, octet", [
    # Bits 7 and 4 are the signs of the pair and of all, 6:5 the pair, 3:0 the triple.
    ([1, 0, 0, 1, 1], 0b0_00_0_0000),
    ([1, 1, -1, 1, -1], 0b0_01_0_1011),
    ([0, 0, 1, 0, -1], 0b1_10_0_0101),
    ([1, 0, -1, -1, 0], 0b0_11_1_1101),
    # Bits 3:0 1x00: the pair is zero, the place of the triple is in bits 7, 2, 6 and 5.
    ([0, 0, 0, 0, 0], 0b0_00_0_1100),
    ([1, 1, 1, 0, 0], 0b1_10_0_1000),
    ([1, -1, 1, 0, 0], 0b1_11_1_1100),
])
def test_triples_by_hand(trits, octet):
    assert pack_trits(trits, TritCode.TRIPLES) == octet
    assert unpack_trits(np.uint8(octet), TritCode.TRIPLES).tolist() == trits


@pytest.mark.parametrize("code, octet", [(TritCode.GRAY, 0), (TritCode.GRAY, GRAY_STEPS[11]),
                                         (TritCode.PAIRS, 0b11_1_11_000), (TritCode.PAIRS, 0b11_0_11_011)])
def test_byte_wrong(code, octet):
    octets = np.full((2, 5), pack_trits([0] * 5, code))
    octets[1, 2:4] = octet
    with pytest.raises(ValueError, match=rf"^Byte 7 must be a code of {code.value} trits, not {octet:#04x}$"):
        unpack_trits(octets, code)


@each_code
def test_arguments_wrong(code):
    with pytest.raises(ValueError, match=r"^Trits must be -1, 0 or 1, not 2$"):
        pack_trits([0, 1, 2, 0, 0], code)
    with pytest.raises(ValueError, match=r"^Trits must come in fives, not in the shape \(4,\)$"):
        pack_trits([0, 1, 1, 0], code)
    with pytest.raises(TypeError, match=r"^Trits must be integers, not float64$"):
        pack_trits([0.5] * 5, code)
    with pytest.raises(TypeError, match=r"^Packed trits must be uint8, not int64$"):
        unpack_trits(np.array([300]), code)
