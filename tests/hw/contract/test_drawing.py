"""Drawing: the generator, its table, and how often who is drawn."""

import math

import numpy as np
import pytest

from terngen.hw.contract import drawing, formats
from terngen.hw.contract.drawing import COLDNESS, FIRST_BITS, FRESH_BITS, NOISE_WIDTH, SCORE_BITS

#: Scale of the logits, temperature, sums.
LISTS = [
    (0.01,    1.0,  [300, 250, 200, -100]),
    (2**-9,   0.7,  [3000, 2990, 2950, 2900, 2890, 2600, 2400, 2000]),
    (2**-6,   3.3,  [7] * 8),
    (1.5,     8.0,  [-4, -4, -5, -9, -20]),
    (2**-13,  0.05, [90_000, 89_000, 88_999, 70_000]),
    (0.25,    100., [3, 0, -1, -40, -41, -42, -50, -51, -99, -99, -99, -100, -100, -100, -1000]),
]


def shares(scale, temperature, sums):
    """The softmax."""
    weights = np.exp((np.array(sums) - sums[0]) * scale / temperature)
    return weights / weights.sum()


def steepness(scale, temperature):
    return drawing.slope(scale, drawing.coldness(temperature))


def exact_shares(slope, sums):
    """How often each is drawn, if the generator gives all words equally often."""
    count   = 1 << NOISE_WIDTH
    # A word for each place of the first bit that is set, or none, with all that may stand beside it.
    words   = (1 << FIRST_BITS - 1) >> np.arange(FIRST_BITS + 1)[:, None] | np.arange(512) << FIRST_BITS
    chances = 0.5 ** np.minimum(np.arange(FIRST_BITS + 1) + 1, FIRST_BITS) / 512
    noise   = np.bincount(drawing.noise(words).ravel(), np.repeat(chances, 512), minlength=count)
    found, below = [], []
    for total in sums:
        loss  = min((sums[0] - total) * slope >> drawing.DISTANCE_BITS - 1, count)
        score = np.append(noise[loss:], np.zeros(loss))
        found.append(score)                                     # chance of each score that is not negative
        below.append(1 - score.sum() + np.cumsum(score))        # of none larger
    for place, score in enumerate(found):
        for other in range(len(sums)):
            if other != place:
                score = score * (below[other] - (found[other] if other < place else 0))
        found[place], score = score, found[place]
        yield found[place].sum()
        found[place] = score


def test_known_answer():
    state = drawing.start(1)
    assert state == 0x73B2866B
    assert drawing.start(-1) != drawing.start(0) != state
    slope = steepness(0.01, 1.0)
    assert slope == 42949672
    drawn = []
    for _ in range(12):
        place, state = drawing.draw(state, slope, [300, 250, 200, -100])
        drawn.append(int(place))
    assert (drawn, int(state)) == ([2, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0], 0xD2088F2F)
    assert drawing.noise_table()[[0, 63, 64, 1023]].tolist() == [301, 36, 414, 1587]


def test_period():
    """The polynomial is primitive: all states but zero come before the first one comes again."""
    def times(a, b):
        product = 0
        for place in range(32):
            product ^= (a if b >> place & 1 else 0) << place
        for place in range(62, 31, -1):
            product ^= ((1 << 32 | 1 << 22 | 7) << place - 32) * (product >> place & 1)
        return product

    def power(exponent):
        found, square = 1, 2
        while exponent:
            found  = times(found, square) if exponent & 1 else found
            square = times(square, square)
            exponent >>= 1
        return found

    period = (1 << 32) - 1
    assert power(period) == 1
    assert all(power(period // prime) != 1 for prime in (3, 5, 17, 257, 65537))
    # And that is what the generator does: each new bit is the sum of four old ones.
    state, bits = 0x1234_5678, []
    for _ in range(12):
        bits += [state >> place & 1 for place in range(8)]
        state = drawing.leap(state)
    assert all(bits[place + 32] == bits[place] ^ bits[place + 1] ^ bits[place + 2] ^ bits[place + 22]
               for place in range(64))


@pytest.mark.parametrize("state, index", [(1 << 14, 0), (1 << 13, 64), (3 << 13, 0), (1, 14 * 64), (0, 15 * 64),
                                          (1 << 14 | 37 << 15, 37), (63 << 15, 15 * 64 + 63), (1 << 21, 15 * 64)])
def test_noise_index(state, index):
    assert drawing.noise_index(np.int64(state)) == index


def test_noise_table():
    """The larger v is, the smaller the number; their mean is two and Euler's constant."""
    table = drawing.noise_table().reshape(FIRST_BITS + 1, 64)
    assert (np.diff(table[:-1], axis=0) > 0).all() and (np.diff(table, axis=1) <= 0).all()
    assert table.min() > 0 and table.max() < 1 << NOISE_WIDTH - FRESH_BITS
    mean = np.average(table, weights=np.repeat(0.5 ** np.minimum(np.arange(16)[:, None] + 1, 15), 64, axis=1))
    assert mean / (1 << SCORE_BITS - FRESH_BITS) == pytest.approx(2 + np.euler_gamma, abs=0.01)


@pytest.mark.parametrize("scale, temperature, sums", LISTS)
def test_error(scale, temperature, sums):
    """What tables and fixed-point numbers change: no share by more than 0.05 % of all."""
    found = np.array([*exact_shares(steepness(scale, temperature), sums)])
    assert found.sum() == pytest.approx(1)
    assert np.abs(found - shares(scale, temperature, sums)).sum() / 2 < 5e-4


@pytest.mark.parametrize("scale, temperature, sums", LISTS)
def test_shares(scale, temperature, sums):
    """Chi-square, of 200,000 draws with seeds of their own; and of whom is drawn next, which is independent."""
    count = 200_000
    state = np.random.default_rng(7).integers(1, 1 << 32, count)
    first, state  = drawing.draw(state, steepness(scale, temperature), sums)
    second, state = drawing.draw(state, steepness(scale, temperature), sums)
    expected = np.outer(*[shares(scale, temperature, sums)] * 2) * count
    common   = expected > 20
    found    = np.zeros_like(expected)
    np.add.at(found, (first, second), 1)
    terms    = (found[common] - expected[common]) ** 2 / expected[common]
    assert terms.sum() < common.sum() + 5 * math.sqrt(2 * common.sum())
    rest = expected[~common].sum()
    assert abs(found[~common].sum() - rest) <= 5 * math.sqrt(rest) + 1e-9


def test_one_seed():
    """The draws of one text, one after the other."""
    scale, temperature, sums = LISTS[0]
    slope, state, count = steepness(scale, temperature), drawing.start(5), 20_000
    found = np.zeros(len(sums))
    for _ in range(count):
        place, state = drawing.draw(state, slope, sums)
        found[place] += 1
    expected = shares(scale, temperature, sums) * count
    assert ((found - expected) ** 2 / expected).sum() < len(sums) + 5 * math.sqrt(2 * len(sums))


def test_neighbours():
    """Seeds that follow each other draw as independently as others do."""
    states = np.array([drawing.start(seed) for seed in range(20_000)])
    found  = np.bincount(drawing.draw(states, 0, [5] * 8)[0], minlength=8)
    assert ((found - 2500) ** 2 / 2500).sum() < 8 + 5 * math.sqrt(16)


def test_skip():
    state = drawing.start(3)
    for candidates in range(1, 16):
        assert drawing.skip(state, candidates) == drawing.draw(state, 12345, range(candidates, 0, -1))[1]


@pytest.mark.parametrize("temperature", [1e-3, 0.05, 0.3, 0.7, 1.0, 1.1, 3.0, 99.0, 1e6])
def test_coldness(temperature):
    found = float(formats.to_float(COLDNESS, drawing.coldness(temperature)))
    assert found * temperature == pytest.approx(1, rel=2**-10)


def test_extremes():
    """Without a limit of the temperature: the best one, or all alike."""
    assert drawing.coldness(1e-300) == drawing.coldness(5e-324) == COLDNESS.largest
    assert drawing.coldness(1e300) == 0
    assert drawing.slope(0.01, 0) == drawing.slope(0.0, COLDNESS.largest) == 0
    assert drawing.slope(0.01, COLDNESS.largest) == drawing.LARGEST_SLOPE
    states = np.random.default_rng(1).integers(1, 1 << 32, 10_000)
    assert set(drawing.draw(states, drawing.LARGEST_SLOPE, [9, 8, 7])[0]) == {0}
    assert set(drawing.draw(states, 0, [9, -9, -(1 << 22)])[0]) == {0, 1, 2}
    # Equal sums have equal chances whatever the temperature.
    assert np.bincount(drawing.draw(states, drawing.LARGEST_SLOPE, [9, 9])[0]) == pytest.approx(5000, abs=250)
