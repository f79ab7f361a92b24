"""The number formats against rational arithmetic that shares nothing with them but the definition."""

import decimal
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terngen.hw.contract import formats
from terngen.hw.contract.formats import EXACT, LMUL, PATH, FloatFormat, Multiplier

E4M3 = FloatFormat(4, 3)
FORMATS = [FloatFormat.parse(name) for name in ("e6m11", "e8m7", "e5m10", "e4m3", "e9m13", "e2m1", "e7m15")]
POLICIES = [Multiplier.parse(name) for name in ("exact", "lmul", "lmul-mitchell", "lmul-unbiased", "lmul-1")]

each_format = pytest.mark.parametrize("fmt", FORMATS, ids=str)


# ---- The definition, in rational numbers ----

def value(fmt, code):
    """What a code means."""
    sign = -1 if code >> (fmt.exponent_bits + fmt.mantissa_bits) else 1
    exponent = (code >> fmt.mantissa_bits) % 2**fmt.exponent_bits
    significand = 2**fmt.mantissa_bits + code % 2**fmt.mantissa_bits
    power = exponent - (2 ** (fmt.exponent_bits - 1) - 1) - fmt.mantissa_bits
    return Fraction(sign * significand * 2 ** max(power, 0), 2 ** max(-power, 0)) if exponent else Fraction(0)


def log2_floor(number):
    """Exponent of the largest power of two that is not above a positive number."""
    guess = number.numerator.bit_length() - number.denominator.bit_length()
    return guess if number.numerator * 2 ** max(-guess, 0) >= number.denominator * 2 ** max(guess, 0) else guess - 1


def nearest(fmt, number):
    """The code of a number, by the rules: nearest even as if exponents had no end, then flush or saturate."""
    if number == 0:
        return 0
    bias = 2 ** (fmt.exponent_bits - 1) - 1
    exponent = log2_floor(abs(number))
    power = exponent - fmt.mantissa_bits
    divisor = number.denominator * 2 ** max(power, 0)
    significand, rest = divmod(abs(number.numerator) * 2 ** max(-power, 0), divisor)
    significand += 2 * rest > divisor or (2 * rest == divisor and significand % 2)
    if significand == 2 ** (fmt.mantissa_bits + 1):
        significand, exponent = significand // 2, exponent + 1
    if exponent < 1 - bias:
        return 0
    if exponent > 2**fmt.exponent_bits - 1 - bias:
        code = 2 ** (fmt.exponent_bits + fmt.mantissa_bits) - 1
    else:
        code = (exponent + bias) * 2**fmt.mantissa_bits + significand - 2**fmt.mantissa_bits
    return code + (number < 0) * 2 ** (fmt.exponent_bits + fmt.mantissa_bits)


def lmul(fmt, a, b, offset, gated):
    """L-Mul from the fields: fractions add; a carry doubles."""
    x, y = value(fmt, a), value(fmt, b)
    if not x or not y:
        return 0
    exponent = log2_floor(abs(x)) + log2_floor(abs(y))
    fractions = [abs(z) / Fraction(2) ** log2_floor(abs(z)) - 1 for z in (x, y)]
    fraction = sum(fractions) + (Fraction(offset, 2**fmt.mantissa_bits) if all(fractions) or not gated else 0)
    exponent += math.floor(fraction)
    number = (1 + fraction % 1) * Fraction(2) ** exponent
    return nearest(fmt, number if (x < 0) == (y < 0) else -number)


def printed(fmt, a, b, offset, gated):
    """L-Mul as the formula is printed: fractions add, and nothing else."""
    x, y = value(fmt, a), value(fmt, b)
    if not x or not y:
        return 0
    exponent = log2_floor(abs(x)) + log2_floor(abs(y))
    fractions = [abs(z) / Fraction(2) ** log2_floor(abs(z)) - 1 for z in (x, y)]
    significand = 1 + sum(fractions) + (Fraction(offset, 2**fmt.mantissa_bits) if all(fractions) or not gated else 0)
    number = significand * Fraction(2) ** exponent
    return nearest(fmt, number if (x < 0) == (y < 0) else -number)


def codes_of(fmt):
    """Any code, with the corners often: zeros that are not code 0, ones, extremes."""
    corners = [0, 1, fmt.smallest - 1, fmt.smallest, fmt.smallest + 1, fmt.one - 1, fmt.one, fmt.one + 1,
               fmt.largest - 1, fmt.largest]
    corners += [corner + fmt.largest + 1 for corner in corners]
    return st.sampled_from(corners) | st.integers(0, 2 * fmt.largest + 1)


def pairs_of(fmt):
    """Pairs of codes: unrelated, or near each other so that sums cancel and ties appear."""
    near = st.tuples(codes_of(fmt), st.integers(-3 << fmt.mantissa_bits, 3 << fmt.mantissa_bits), st.booleans())
    return st.tuples(codes_of(fmt), codes_of(fmt)) | near.map(
        lambda drawn: (drawn[0], (drawn[0] + drawn[1] + drawn[2] * fmt.smallest) % (2 * fmt.largest + 2)))


def corners_of(fmt, count=300):
    """Codes of every kind as an array: all of a small format, corners and random ones of a large one."""
    if fmt.width <= 8:
        return np.arange(1 << fmt.width)
    rng = np.random.default_rng(fmt.width)
    corners = [0, fmt.smallest - 1, fmt.smallest, fmt.one - 1, fmt.one, fmt.one + 1, fmt.largest - 1, fmt.largest]
    near_one = fmt.one + rng.integers(-8 << fmt.mantissa_bits, 8 << fmt.mantissa_bits, count)
    codes = np.concatenate([corners, near_one % (fmt.largest + 1), rng.integers(0, fmt.largest + 1, count)])
    return np.concatenate([codes, codes + fmt.largest + 1])


# ---- Formats and multipliers as values ----

def test_names():
    assert FloatFormat.parse("e6m11") == PATH == FloatFormat(6, 11)
    assert str(PATH) == "e6m11" and (PATH.width, PATH.bias, PATH.one, PATH.largest) == (18, 31, 0x0F800, 0x1FFFF)
    assert PATH.wide == FloatFormat(7, 11) and PATH.parameter == FloatFormat(6, 9)
    assert FloatFormat(8, 7).parameter == FloatFormat(8, 7) and FloatFormat(9, 13).parameter == FloatFormat(9, 6)
    assert hash(PATH) == hash(FloatFormat(6, 11))
    for policy in POLICIES:
        assert Multiplier.parse(str(policy)) == policy
    assert Multiplier.parse("lmul-paper") == LMUL


@pytest.mark.parametrize("make, message", [
    (lambda: FloatFormat(1, 3), r"^Exponent must have 2 to 10 bits, not 1$"),
    (lambda: FloatFormat(11, 3), r"^Exponent must have 2 to 10 bits, not 11$"),
    (lambda: FloatFormat(5, 16), r"^Mantissa must have 1 to 15 bits, not 16$"),
    (lambda: FloatFormat.parse("fp16"), r"^Float format must be written like e6m11, not 'fp16'$"),
    (lambda: Multiplier.parse("fast"), r"^Multiplier must be exact, lmul, .*, not 'fast'$"),
    (lambda: Multiplier.parse("lmul-9").offset(E4M3),
     r"^Offset of lmul-9 must be less than one \(8 steps\) in e4m3, not 9$"),
    (lambda: formats.from_float(PATH, [1.0, math.inf]), r"^Values must be finite, not inf$"),
    (lambda: formats.from_float(PATH, math.nan), r"^Values must be finite, not nan$"),
    (lambda: formats.accumulate(PATH, np.zeros((2, 15), int), np.zeros((2, 4), int)), r"^Totals must have the shape"),
    (lambda: formats.inverse_root(PATH, np.zeros(15, int)), r"^Totals must have 16 bins last, not the shape \(15,\)$"),
])
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_codes_wrong():
    with pytest.raises(TypeError, match=r"^Codes must be integers, not float64$"):
        formats.negate(PATH, [1.5])


def test_known_answers():
    """Codes written down by hand from the definition of e6m11."""
    assert formats.from_float(PATH, [1.0, -1.5, 2**-30, 2**-31, 1e30, -1e30]).tolist() == [
        0x0F800, 0x20000 | 0x0FC00, 0x00800, 0, 0x1FFFF, 0x3FFFF]
    assert formats.from_float(PATH, [1 + 2**-12, 1 + 3 * 2**-12, 2 - 2**-12]).tolist() == [0x0F800, 0x0F802, 0x10000]


# ---- Conversions ----

@each_format
def test_to_float(fmt):
    codes = corners_of(fmt)
    actual = formats.to_float(fmt, codes)
    assert [Fraction(number) for number in actual.tolist()] == [value(fmt, code) for code in codes.tolist()]
    assert not np.signbit(actual[actual == 0]).any()


@each_format
@given(data=st.data())
def test_from_float(fmt, data):
    code = data.draw(codes_of(fmt))
    middle = float(value(fmt, code) + value(fmt, (code + 1) % (2 * fmt.largest + 2))) / 2
    for number in [data.draw(st.floats(allow_nan=False, allow_infinity=False)), middle,
                   np.nextafter(middle, 1e9), np.nextafter(middle, -1e9)]:
        assert formats.from_float(fmt, number) == nearest(fmt, Fraction(float(number)))


@each_format
@given(number=st.integers(-2**63 + 1, 2**63 - 1) | st.integers(-2**20, 2**20)
       | st.builds(lambda k, d: min(2**k + d, 2**63 - 1), st.integers(0, 62), st.integers(-2**11, 2**11 - 1)))
def test_from_int(fmt, number):
    assert formats.from_int(fmt, number) == nearest(fmt, Fraction(number))


@each_format
@pytest.mark.parametrize("rest", [-1, 0, 1])
def test_from_int_beyond_float64(fmt, rest):
    """A last bit decides between a half and more or less than it."""
    numbers = [2**61 + significand * 2 ** (60 - fmt.mantissa_bits) + rest for significand in range(2, 6)]
    assert formats.from_int(fmt, numbers).tolist() == [nearest(fmt, Fraction(number)) for number in numbers]


@each_format
def test_to_int8(fmt):
    codes = corners_of(fmt)
    halves = formats.from_float(fmt, np.arange(-520, 520) / 4)
    codes = np.concatenate([codes, halves, np.maximum(halves - 1, 0), halves + 1])
    expected = [max(-127, min(127, round(value(fmt, code)))) for code in codes.tolist()]
    actual = formats.to_int8(fmt, codes)
    assert actual.dtype == np.int8 and actual.tolist() == expected


@each_format
def test_sign_and_width(fmt):
    codes = corners_of(fmt)
    values = [value(fmt, code) for code in codes.tolist()]
    assert formats.negate(fmt, codes).tolist() == [nearest(fmt, -number) for number in values]
    assert formats.magnitude(fmt, codes).tolist() == [nearest(fmt, abs(number)) for number in values]
    assert formats.widen(fmt, codes).tolist() == [nearest(fmt.wide, number) for number in values]


@pytest.mark.parametrize("source, target", [("e4m3", "e6m11"), ("e5m2", "e5m10"), ("e2m5", "e6m5"), ("e4m3", "e4m3")])
def test_convert(source, target):
    source, target = FloatFormat.parse(source), FloatFormat.parse(target)
    codes = np.arange(1 << source.width)
    assert source.fits(target)
    assert formats.convert(source, target, codes.astype(np.uint8)).tolist() == [
        nearest(target, value(source, code)) for code in codes.tolist()]


@pytest.mark.parametrize("source, target", [("e4m3", "e3m11"), ("e4m3", "e6m2")])
def test_does_not_fit(source, target):
    assert not FloatFormat.parse(source).fits(FloatFormat.parse(target))


@each_format
def test_widen_parameter(fmt):
    words = corners_of(fmt.parameter)
    assert fmt.parameter.width <= 16
    assert formats.widen_parameter(fmt, words.astype(np.uint16)).tolist() == [
        nearest(fmt, value(fmt.parameter, word)) for word in words.tolist()]


# ---- Arithmetic ----

def check_pairs(fmt, pairs):
    a, b = np.array(pairs).T
    values = [(value(fmt, x), value(fmt, y)) for x, y in pairs]
    assert formats.add(fmt, a, b).tolist() == [nearest(fmt, x + y) for x, y in values]
    assert formats.subtract(fmt, a, b).tolist() == [nearest(fmt, x - y) for x, y in values]
    assert formats.multiply(fmt, a, b, EXACT).tolist() == [nearest(fmt, x * y) for x, y in values]
    for policy in POLICIES[1:]:
        assert formats.multiply(fmt, a, b, policy).tolist() == [
            lmul(fmt, x, y, policy.offset(fmt), policy.is_gated) for x, y in pairs], policy
        assert formats.multiply_literal(fmt, a, b, policy).tolist() == [
            printed(fmt, x, y, policy.offset(fmt, literal=True), policy.is_gated) for x, y in pairs], policy


def test_arithmetic_exhaustive():
    """All pairs of e4m3, whose sums and products float64 holds exactly."""
    codes = np.arange(256)
    values = np.array([float(value(E4M3, code)) for code in range(256)])
    # The positive values and, below them, the binade that is flushed; the middle of each to the next.
    ladder = np.concatenate([values[8:16] / 2, values[8:128], [values[127] * 1.0625]])
    middles = (ladder[:-1] + ladder[1:]) / 2

    def code_of(numbers):
        below = np.searchsorted(middles, np.abs(numbers))
        tie = (below < 128) & (middles[np.minimum(below, 127)] == np.abs(numbers)) & (below % 2 == 1)
        steps = np.minimum(below + tie, 127)
        return np.where(steps < 8, 0, steps + np.where(numbers < 0, 128, 0))

    a, b = np.meshgrid(codes, codes)
    x, y = values[a], values[b]
    assert np.array_equal(formats.add(E4M3, a, b), code_of(x + y))
    assert np.array_equal(formats.subtract(E4M3, a, b), code_of(x - y))
    assert np.array_equal(formats.multiply(E4M3, a, b, EXACT), code_of(x * y))
    assert np.array_equal(formats.multiply(E4M3, a, b, EXACT), formats.multiply(E4M3, b, a, EXACT))
    for policy in POLICIES[1:]:
        (f, k), (g, l) = np.frexp(np.abs(x)), np.frexp(np.abs(y))
        f, g = 2 * f - 1, 2 * g - 1
        total = f + g + policy.offset(E4M3) / 8 * ((f * g != 0) | (not policy.is_gated))
        product = np.ldexp(1 + total % 1, k + l - 2 + np.floor(total).astype(int)) * np.sign(x * y)
        assert np.array_equal(formats.multiply(E4M3, a, b, policy), code_of(product)), policy
        total = f + g + policy.offset(E4M3, literal=True) / 8 * ((f * g != 0) | (not policy.is_gated))
        product = np.ldexp(1 + total, k + l - 2) * np.sign(x * y)
        assert np.array_equal(formats.multiply_literal(E4M3, a, b, policy), code_of(product)), policy


@pytest.mark.parametrize("fmt", [fmt for fmt in FORMATS if fmt != E4M3], ids=str)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_arithmetic(fmt, data):
    check_pairs(fmt, data.draw(st.lists(pairs_of(fmt), min_size=20, max_size=60)))


@each_format
@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_square(fmt, policy):
    codes = corners_of(fmt, 100)
    wides = [nearest(fmt.wide, value(fmt, code)) for code in codes.tolist()]
    expected = [nearest(fmt.wide, value(fmt.wide, wide) ** 2) if policy.is_exact
                else lmul(fmt.wide, wide, wide, policy.offset(fmt), policy.is_gated) for wide in wides]
    assert formats.square(fmt, codes, policy).tolist() == expected


def test_offsets():
    """Offsets of the paper: 2**-l with l = M up to 3, 3 for 4, and 4 above."""
    assert [LMUL.offset(FloatFormat(5, bits)) for bits in (1, 2, 3, 4, 5, 7, 11)] == [1, 1, 1, 2, 2, 8, 128]
    assert Multiplier.parse("lmul-mitchell").offset(PATH) == 0 and EXACT.offset(PATH) == 0


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("bits", range(1, 16))
def test_unbiased_offset(bits, literal):
    """No other offset has a mean relative error closer to zero."""
    one     = 1 << bits
    # A product depends on the sum of the mantissas, and a pair weighs in with one over the exact product. Where a
    # mantissa is zero there is no error.
    weights = np.append(0, 1 / np.arange(one + 1, 2 * one))
    weights = np.convolve(weights, weights)
    sums    = np.arange(2 * one - 1)

    def mean(offset):
        total = sums + offset
        if literal:
            tall     = one + total >= 2 * one
            products = np.where(tall, 2 * np.rint((one + total) / 2), one + total)      # to the even one of two
        else:
            products = np.ldexp((one + total % one).astype(float), total // one)
        return abs((products * weights).sum() * one - (one - 1.0)**2)

    offset = Multiplier.parse("lmul-unbiased").offset(FloatFormat(5, bits), literal=literal)
    assert mean(offset) == min(mean(other) for other in range(max(0, offset - 2), offset + 3))


def test_literal_of_exact():
    with pytest.raises(ValueError, match=r"^Multiplier of the literal formula must be one of the lmul policies, not e"):
        formats.multiply_literal(E4M3, [0], [0], EXACT)


# ---- Dot products ----

def dotted(fmt, a, b, product):
    """Sum of products, each cut to the unit, saturated all the way."""
    width, unit = formats.dot_format(fmt)
    wide  = FloatFormat(fmt.exponent_bits + 2, fmt.mantissa_bits)
    limit = 2 ** (width - 1)
    total = 0
    for x, y in zip(a, b):
        codes = [nearest(wide, value(fmt, code)) for code in (x, y)]
        term  = math.trunc(value(wide, product(wide, *codes)) / Fraction(2) ** unit)
        total = max(-limit, min(total + max(1 - limit, min(term, limit - 1)), limit - 1))
    return total


@pytest.mark.parametrize("fmt", [fmt for fmt in FORMATS if fmt.exponent_bits <= 8], ids=str)
@pytest.mark.parametrize("policy", POLICIES[1:], ids=str)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_dot(fmt, policy, data):
    def product(wide, x, y):
        return lmul(wide, x, y, policy.offset(wide), policy.is_gated)

    a, b = np.array(data.draw(st.lists(pairs_of(fmt), min_size=1, max_size=30))).T
    expected = dotted(fmt, a.tolist(), b.tolist(), product)
    assert formats.dot(fmt, a, b, policy) == expected
    assert formats.dot(fmt, np.stack([a, a]), b, policy).tolist() == [expected, expected]


def test_dot_format():
    """All of e4m3 fits, and a million of the largest products; the others end at 62 bits."""
    assert formats.dot_format(E4M3) == (55, -15)
    assert formats.dot_format(FloatFormat(5, 2)) == (62, -30)
    assert formats.dot_format(FloatFormat(8, 7)) == (62, -31)
    large = np.full(1 << 20, E4M3.largest)
    # 480 is 1.875 * 2**8, and its square here 2 * (1 + 0.875 + 0.875 + 0.125 - 1) * 2**16.
    assert formats.dot(E4M3, large, large, LMUL) == 245760 << 35
    with pytest.raises(ValueError, match=r"^Operands of a dot product must have at most 8 exponent bits, not 9$"):
        formats.dot_format(FloatFormat(9, 7))
    with pytest.raises(ValueError, match=r"^Multiplier of a dot product must be one of the lmul policies, not exact$"):
        formats.dot(E4M3, [0], [0], EXACT)


# ---- Functions ----

def sigmoid_tail(fmt, number):
    """Correctly rounded sigmoid(-middle of the cell of number), in 60 decimal digits."""
    if number >= 16:
        return 0
    low, width = next((low, Fraction(high - low, cells)) for low, high, cells in [
        (0, 1, 512), (1, 2, 256), (2, 4, 512), (4, 8, 512), (8, 16, 256)] if number < high)
    middle = low + (math.floor((number - low) / width) + Fraction(1, 2)) * width
    with decimal.localcontext(prec=60):
        exact = 1 / (1 + (decimal.Decimal(middle.numerator) / middle.denominator).exp())
    return nearest(fmt, Fraction(exact))


@each_format
def test_sigmoid(fmt):
    codes = corners_of(fmt, 200)
    expected = []
    for number in (value(fmt, code) for code in codes.tolist()):
        tail = sigmoid_tail(fmt, abs(number))
        expected.append(tail if number < 0 else nearest(fmt, 1 - value(fmt, tail)))
    assert formats.sigmoid(fmt, codes).tolist() == expected


def test_sigmoid_table():
    """Every cell of the default format: addressed in order, correctly rounded, never written to."""
    codes = np.arange(formats.from_float(PATH, 16))
    index = formats.sigmoid_index(PATH, codes)
    assert (np.diff(index) >= 0).all() and np.array_equal(np.unique(index), np.arange(2048))
    first = codes[np.searchsorted(index, np.arange(2048))]
    table = formats.sigmoid_table(PATH)
    assert table.tolist() == [sigmoid_tail(PATH, value(PATH, code)) for code in first.tolist()]
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 0


@each_format
@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_silu(fmt, policy):
    codes = corners_of(fmt, 100)
    gates = formats.sigmoid(fmt, codes).tolist()
    expected = [nearest(fmt, value(fmt, x) * value(fmt, gate)) if policy.is_exact
                else lmul(fmt, x, gate, policy.offset(fmt), policy.is_gated)
                for x, gate in zip(codes.tolist(), gates)]
    assert formats.silu(fmt, codes, policy).tolist() == expected


@each_format
def test_reciprocal127(fmt):
    codes = corners_of(fmt)
    expected = [nearest(fmt, 127 / abs(value(fmt, code))) if value(fmt, code) else 0 for code in codes.tolist()]
    assert formats.reciprocal127(fmt, codes).tolist() == expected


# ---- Sums of squares ----

def exact_sum(fmt, totals):
    unit = Fraction(2) ** -(fmt.wide.bias + fmt.mantissa_bits)
    return sum(Fraction(total) * 2 ** (8 * index) for index, total in enumerate(totals)) * unit


@each_format
def test_accumulate(fmt):
    terms = np.abs(corners_of(fmt.wide)).reshape(2, -1)
    start = np.arange(2 * formats.bins(fmt)).reshape(2, -1)
    before = start.copy()
    totals = formats.accumulate(fmt, start, terms & fmt.wide.largest)
    for row in range(2):
        terms_sum = sum(abs(value(fmt.wide, term)) for term in terms[row].tolist())
        assert exact_sum(fmt, totals[row].tolist()) == exact_sum(fmt, before[row].tolist()) + terms_sum
    assert np.array_equal(start, before)
    # Signs do not matter, and neither does the order.
    assert np.array_equal(totals, formats.accumulate(fmt, start, terms[:, ::-1] ^ (fmt.wide.largest + 1)))


def test_accumulate_bins():
    """A term of exponent field e adds significand << e % 8 to bin e // 8."""
    terms = [(field << 11) | mantissa for field, mantissa in [(1, 5), (7, 0), (8, 1), (127, 2047), (0, 77)]]
    totals = formats.accumulate(PATH, np.zeros(16, int), terms)
    assert totals.tolist() == [(2048 + 5) * 2 + 2048 * 128, 2049, *[0] * 13, 4095 * 128]


def root_operand(fmt, totals):
    """Steps 1 and 2 of inverse_root in unbounded integers: x and t, or None for an empty sum."""
    used = [index for index, total in enumerate(totals) if total]
    if not used:
        return None
    acc = 0
    for total in totals[: used[-1] + 1]:
        acc = acc // 256 + total * 65536
    exponent = 8 * used[-1] - 16 - fmt.wide.bias - fmt.mantissa_bits
    while acc >= 2 ** formats.root_bits(fmt) or exponent % 2:
        acc, exponent = acc // 2, exponent + 1
    assert acc >= 2 ** (formats.root_bits(fmt) - 2)
    return acc, exponent


@each_format
def test_inverse_root(fmt):
    rng = np.random.default_rng(7)
    count = formats.bins(fmt)
    totals = rng.integers(1, 1 << 44, (300, count)) >> rng.integers(0, 32, (300, count))
    # A bin that is not empty holds at least one significand.
    totals = np.maximum(totals, 1 << fmt.mantissa_bits) * (rng.random((300, count)) < rng.random((300, 1)) ** 3)
    alone = np.concatenate([np.eye(count, dtype=int) << (fmt.mantissa_bits + shift) for shift in range(0, 30, 3)])
    # A combined sum that float64 would round up to a power of two, wherever it lies.
    carry = 1 << max(fmt.mantissa_bits - 8, 0)
    ones = np.zeros((count - 1, count), int)
    ones[range(count - 1), range(1, count)] = 2**45 - 1 - carry
    ones[range(count - 1), range(count - 1)] = carry << 8 | 0xFF
    totals = np.concatenate([totals, alone[rng.permutation(len(alone))[:200]], ones, np.zeros((1, count), int)])
    expected = []
    for row in totals.tolist():
        operand = root_operand(fmt, row)
        if operand is None:
            expected.append(fmt.largest)
            continue
        # 1 / sqrt(x * 2**t) to 200 bits; a bit below them stands for the rest.
        root = math.isqrt(2**400 // operand[0])
        rest = root * root * operand[0] != 2**400
        power = -201 - operand[1] // 2
        expected.append(nearest(fmt, Fraction((2 * root + rest) * 2 ** max(power, 0), 2 ** max(-power, 0))))
    assert formats.inverse_root(fmt, totals).tolist() == expected


@pytest.mark.parametrize("bits", range(1, 16))
def test_inverse_root_fits_float64(bits):
    """No root is so close to an integer that float64 could take it for one: 2**-43 in the square."""
    limit = 1 << (2 * bits + 2 + formats.root_bits(FloatFormat(5, bits)))
    roots = np.arange((2 << bits) + 1, (4 << bits) + 1)
    below = limit - roots * roots * (limit // (roots * roots))
    above = roots * roots * (limit // (roots * roots) + 1) - limit
    assert below[below != 0].min() > limit * 2.0**-43
    assert above.min() > limit * 2.0**-43


def test_inverse_root_shapes():
    rng = np.random.default_rng(1)
    totals = rng.integers(0, 1 << 30, (2, 3, 16)) * (rng.random((2, 3, 16)) < 0.3)
    roots = formats.inverse_root(PATH, totals)
    assert roots.shape == (2, 3)
    assert all(roots[place] == formats.inverse_root(PATH, totals[place]) for place in np.ndindex(2, 3))
    assert formats.inverse_root(PATH, np.zeros((0, 16), int)).shape == (0,)
