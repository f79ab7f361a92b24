"""Tensors compute what the contract says, to the bit."""

import numpy as np
import pytest
import torch

from terngen.host.train import arithmetic
from terngen.hw.contract import formats
from terngen.hw.contract.formats import PATH, FloatFormat, Multiplier

pytestmark = pytest.mark.train

COUNT    = 200_000
FORMATS  = [PATH, FloatFormat(5, 10), FloatFormat(4, 3), FloatFormat(5, 2), FloatFormat(6, 9)]
POLICIES = ["exact", "lmul", "lmul-unbiased", "lmul-mitchell"]


def codes(fmt, count=COUNT, seed=0):
    """Codes of every size, the corners among them."""
    rng = np.random.default_rng(seed)
    sign = 1 << (fmt.width - 1)
    corners = np.array([0, fmt.smallest, fmt.smallest + 1, fmt.one - 1, fmt.one, fmt.one + 1, fmt.largest - 1,
    fmt.largest])
    values  = np.concatenate([corners, corners[1:] | sign, rng.integers(0, 1 << fmt.width, count)])
    return np.where(formats.magnitude(fmt, values) == 0, 0, values)


def pairs(fmt):
    """Two operands: of any sizes, and of almost the same."""
    corners = codes(fmt, 0)
    a, b = codes(fmt), codes(fmt, seed=1)
    near = b ^ ((a ^ b) & ~((4 << fmt.mantissa_bits) - 1) & fmt.largest)
    near = np.where(formats.magnitude(fmt, near) == 0, 0, near)
    return (np.concatenate([np.repeat(corners, len(corners)), a, a]),
            np.concatenate([np.tile(corners, len(corners)), b, near]))


def tensor(fmt, values, dtype=torch.float32):
    return torch.from_numpy(formats.to_float(fmt, values)).to(dtype)


def assert_same(fmt, actual, expected):
    """The very codes, and no negative zero or value between two of them."""
    assert np.array_equal(actual.double().numpy(), formats.to_float(fmt, expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_product(fmt, policy, dtype):
    multiplier = Multiplier.parse(policy)
    a, b = pairs(fmt)
    assert_same(fmt, arithmetic.product(fmt, tensor(fmt, a, dtype), tensor(fmt, b, dtype), multiplier),
                formats.multiply(fmt, a, b, multiplier))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_square(fmt, policy):
    multiplier = Multiplier.parse(policy)
    values = codes(fmt)
    assert_same(fmt.wide, arithmetic.square(fmt, tensor(fmt, values), multiplier),
                formats.square(fmt, values, multiplier))


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_add(fmt):
    a, b = pairs(fmt)
    assert_same(fmt, arithmetic.add(fmt, tensor(fmt, a), tensor(fmt, b)), formats.add(fmt, a, b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounded(dtype):
    rng    = np.random.default_rng(0)
    values = torch.from_numpy(rng.normal(size=COUNT) * 2.0**rng.integers(-40, 40, COUNT)).to(dtype)
    assert_same(PATH, arithmetic.rounded(PATH, values), formats.from_float(PATH, values.double().numpy()))


def test_rounds_integers():
    values = np.random.default_rng(0).integers(-1 << 22, 1 << 22, COUNT)
    assert_same(PATH, arithmetic.rounded(PATH, torch.from_numpy(values).float()), formats.from_int(PATH, values))


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_sigmoid(fmt):
    values = codes(fmt)
    assert_same(fmt, arithmetic.sigmoid(arithmetic.sigmoids(fmt), tensor(fmt, values)), formats.sigmoid(fmt, values))


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_reciprocal127(fmt):
    values = codes(fmt)
    assert_same(fmt, arithmetic.reciprocal127(fmt, tensor(fmt, values)), formats.reciprocal127(fmt, values))


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_inverse_root(fmt):
    rng = np.random.default_rng(0)
    # Squares of vectors, whose elements are not too far apart for float64.
    exponents = rng.integers(1, 1 << fmt.exponent_bits, (20_000, 1)) + rng.integers(-6, 7, (20_000, 12))
    values = (np.clip(exponents, 1, (1 << fmt.exponent_bits) - 1) << fmt.mantissa_bits
              | rng.integers(0, 1 << fmt.mantissa_bits, exponents.shape))
    squares = formats.square(fmt, values, formats.EXACT)
    squares[:8, 1:] = 0                     # a power of four among them
    squares[0, 0] = fmt.wide.one
    totals = formats.accumulate(fmt, np.zeros((len(squares), formats.bins(fmt)), np.int64), squares)
    sums   = tensor(fmt.wide, squares, torch.float64).sum(-1)
    kept   = sums.numpy() > 0
    assert_same(fmt, arithmetic.inverse_root(fmt, sums[kept]), formats.inverse_root(fmt, totals)[kept])


@pytest.mark.parametrize("policy", POLICIES)
def test_recurrence(policy):
    multiplier = Multiplier.parse(policy)
    rng = np.random.default_rng(0)
    z, c, h = (formats.from_float(PATH, rng.normal(size=(3, 20, 16)) * scale) for scale in (0.3, 2, 1))
    state, expected = h[:, 0], []
    for step in range(20):
        change = formats.multiply(PATH, z[:, step], formats.subtract(PATH, c[:, step], state), multiplier)
        state  = formats.add(PATH, state, change)
        expected.append(state)
    assert_same(PATH, arithmetic.recurrence(PATH, *(tensor(PATH, values) for values in (z, c, h[:, 0])), multiplier),
                np.stack(expected, axis=1))


def gradients(function, *tensors):
    inputs = [tensor.clone().requires_grad_() for tensor in tensors]
    output = function(*inputs)
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    return torch.autograd.grad(output, inputs, weight)


@pytest.mark.parametrize("policy", POLICIES)
def test_gradient_is_that_of_the_real_product(policy):
    multiplier = Multiplier.parse(policy)
    a, b = (tensor(PATH, values[:50]) for values in pairs(PATH))
    actual   = gradients(lambda a, b: arithmetic.product(PATH, a, b, multiplier), a, b)
    expected = gradients(torch.mul, a, b)
    assert all(torch.equal(one, other) for one, other in zip(actual, expected))


def test_gradient_of_the_root():
    sums   = torch.rand(50, dtype=torch.float64) + 0.1
    actual, = gradients(lambda sums: arithmetic.inverse_root(PATH, sums), sums)
    expected, = gradients(lambda sums: sums.rsqrt().float(), sums)
    torch.testing.assert_close(actual, expected)


def test_gradient_of_the_recurrence():
    """At the states that it had; with a format that rounds little they are those of the real recurrence."""
    fmt = FloatFormat(7, 15)
    rng = torch.Generator().manual_seed(0)
    z, c, h = torch.rand(2, 9, 4, generator=rng), torch.randn(2, 9, 4, generator=rng), torch.randn(2, 4, generator=rng)

    def real(z, c, h):
        states = []
        for step in range(z.shape[1]):
            h = h + z[:, step] * (c[:, step] - h)
            states.append(h)
        return torch.stack(states, dim=1)

    z, c, h = (arithmetic.rounded(fmt, values) for values in (z, c, h))
    actual = gradients(lambda z, c, h: arithmetic.recurrence(fmt, z, c, h, formats.EXACT), z, c, h)
    for one, other in zip(actual, gradients(real, z, c, h)):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
