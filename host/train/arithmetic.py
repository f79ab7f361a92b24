"""Arithmetic of the machine on tensors: functions of :mod:`terngen.hw.contract.formats`, with gradients.

A code is represented by the float32 or float64 of its value. All functions work on the bits of those, whose
fields hold every format of a path, so that what they give is what the contract gives, to the bit. The
gradient is that of the real function: it passes straight through what is rounded or approximated.
"""

import torch
from torch import Tensor

from terngen.hw.contract import formats
from terngen.hw.contract.formats import FloatFormat, Multiplier

__all__ = ["add", "inverse_root", "limits", "product", "recurrence", "reciprocal127", "rounded", "sigmoid",
           "sigmoids", "square", "through"]

#: Of a type: integers of its size, bits of its mantissa, bias of its exponent.
_FIELDS = {torch.float32: (torch.int32, 23, 127), torch.float64: (torch.int64, 52, 1023)}


def through(value: Tensor, smooth: Tensor) -> Tensor:
    """`value`, with the gradient of `smooth`."""
    # Zero is added, which changes no bit.
    return value.detach() + (smooth - smooth.detach())


def limits(fmt: FloatFormat, dtype: torch.dtype = torch.float32) -> tuple[int, int, int]:
    """Bits that a format does not have, and the smallest and the largest magnitude, as bits of a float."""
    _, mantissa, bias = _FIELDS[dtype]
    drop   = mantissa - fmt.mantissa_bits
    rebias = (bias - fmt.bias) << mantissa
    return drop, (fmt.smallest << drop) + rebias, (fmt.largest << drop) + rebias


def _words(values: Tensor) -> tuple[Tensor, Tensor]:
    """Signs and magnitudes, as bits."""
    words = values.detach().view(_FIELDS[values.dtype][0])
    sign  = torch.iinfo(words.dtype).min
    return words & sign, words & ~sign


def _limit(fmt: FloatFormat, signs: Tensor, magnitudes: Tensor, dtype: torch.dtype) -> Tensor:
    """Flush what is below the smallest value, saturate what is above the largest, and attach the sign."""
    _, smallest, largest = limits(fmt, dtype)
    return torch.where(magnitudes < smallest, 0, magnitudes.clamp(max=largest) | signs).view(dtype)


def rounded(fmt: FloatFormat, values: Tensor) -> Tensor:
    """The nearest value of a format, as :func:`formats.from_float`."""
    signs, magnitudes = _words(values)
    drop = limits(fmt, values.dtype)[0]
    even = (magnitudes >> drop) & 1
    return through(_limit(fmt, signs, (magnitudes + ((1 << drop - 1) - 1) + even) & -(1 << drop), values.dtype), values)


def add(fmt: FloatFormat, a: Tensor, b: Tensor) -> Tensor:
    """As :func:`formats.add`."""
    # In float64, because float32 has one bit too few for a second rounding to do no harm.
    return rounded(fmt, a.double() + b.double()).to(a.dtype)


def product(fmt: FloatFormat, a: Tensor, b: Tensor, multiplier: Multiplier) -> Tensor:
    """As :func:`formats.multiply`."""
    exact = a * b
    if multiplier.is_exact:
        # Twice the bits of a significand are those that float32 has, so this product is not rounded before.
        return rounded(fmt, exact)
    integers, mantissa, bias = _FIELDS[a.dtype]
    (a_signs, a_bits), (b_signs, b_bits) = _words(a), _words(b)
    drop   = limits(fmt, a.dtype)[0]
    offset: Tensor | int = multiplier.offset(fmt) << drop
    fields = (1 << mantissa) - 1
    if multiplier.is_gated:
        offset = offset * ((a_bits & fields != 0) & (b_bits & fields != 0)).to(integers)
    # The bias first, because the sum of two large values would leave the integers.
    total = torch.where((a_bits == 0) | (b_bits == 0), 0, (a_bits - (bias << mantissa)) + b_bits + offset)
    return through(_limit(fmt, a_signs ^ b_signs, total, a.dtype), exact)


def square(fmt: FloatFormat, values: Tensor, multiplier: Multiplier) -> Tensor:
    """As :func:`formats.square`."""
    return product(fmt.wide, values, values, multiplier)


def sigmoids(fmt: FloatFormat) -> Tensor:
    """Sigmoids of each cell of :func:`formats.sigmoid_index`, ``(2, cells)``: for negative x, then for the others.

    The last cell is that from 16 on.
    """
    tails = torch.from_numpy(formats.to_float(fmt, formats.sigmoid_table(fmt))).float()
    tails = torch.cat([tails, tails.new_zeros(1)])
    return torch.stack([tails, add(fmt, torch.ones_like(tails), -tails)])


def sigmoid(table: Tensor, values: Tensor) -> Tensor:
    """As :func:`formats.sigmoid`, from the table of a format."""
    size = values.detach().abs()
    cell = torch.where(size < 1, size * 512,
           torch.where(size < 2, 512 + (size - 1) * 256,
           torch.where(size < 4, 768 + (size - 2) * 256,
           torch.where(size < 8, 1280 + (size - 4) * 128, 1792 + (size - 8) * 32))))
    cell = torch.where(size < 16, cell, formats.SIGMOID_ENTRIES).to(torch.int64)
    return through(table[(values >= 0).to(torch.int64), cell], torch.sigmoid(values))


def reciprocal127(fmt: FloatFormat, values: Tensor) -> Tensor:
    """As :func:`formats.reciprocal127`, without a gradient."""
    values = values.detach().double()
    return torch.where(values == 0, 0.0, rounded(fmt, 127 / values.abs())).float()


def _power(exponents: Tensor) -> Tensor:
    """Powers of two in float64."""
    return ((exponents + 1023) << 52).view(torch.float64)


def inverse_root(fmt: FloatFormat, totals: Tensor) -> Tensor:
    """As :func:`formats.inverse_root`, of positive float64.

    A sum in float64 equals that in bins where its terms are less than 2**41 apart; below that a term could
    only decide which way another bit is truncated.
    """
    bits     = formats.root_bits(fmt)
    point    = fmt.mantissa_bits + 1 + bits // 2
    exponent = (totals.detach().view(torch.int64) >> 52) - 1022 - bits
    exponent = exponent + (exponent & 1)
    operand  = torch.floor(totals.detach() * _power(-exponent))
    root     = torch.floor(2.0**point / torch.sqrt(operand))
    sticky   = (root * root * operand != 2.0**(2 * point)).double()
    return through(rounded(fmt, (2 * root + sticky) * _power(-point - 1 - (exponent >> 1))), totals.rsqrt()).float()


# An operator of its own, because it runs through a sequence step by step.
@torch.library.custom_op("terngen::recurrence", mutates_args=())
def _recurrence(weights: Tensor, candidates: Tensor, state: Tensor, path: str, multiplier: str) -> Tensor:
    fmt, chosen = FloatFormat.parse(path), Multiplier.parse(multiplier)
    if weights.is_cuda:
        # Imported here, because Triton comes with the CUDA builds of PyTorch only.
        from terngen.host.train.scan_cuda import launch_recurrence
        drop, smallest, largest = limits(fmt)
        return launch_recurrence(weights.contiguous(), candidates.contiguous(), state.contiguous(), drop=drop,
                                 smallest=smallest, largest=largest, offset=chosen.offset(fmt) << drop,
                                 gated=chosen.is_gated, exact=chosen.is_exact)
    states = []
    for z, c in zip(weights.unbind(1), candidates.unbind(1)):
        state = add(fmt, state, product(fmt, z, add(fmt, c, -state), chosen))
        states.append(state)
    return torch.stack(states, dim=1)


@_recurrence.register_fake
def _(weights: Tensor, candidates: Tensor, state: Tensor, path: str, multiplier: str) -> Tensor:
    return torch.empty_like(candidates, memory_format=torch.contiguous_format)


def _keep(ctx: object, inputs: tuple[Tensor, Tensor, Tensor, str, str], output: Tensor) -> None:
    weights, candidates, state, _, _ = inputs
    ctx.save_for_backward(weights, candidates, state, output)       # type: ignore[attr-defined]


def _backward(ctx: object, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
    from terngen.host.train.scan import gradients
    weights, candidates, state, states = ctx.saved_tensors          # type: ignore[attr-defined]
    # h' = (1 - z) h + z c.
    in_forget, in_update, in_state = gradients(grad, 1 - weights, state, states)
    return in_update * candidates - in_forget, in_update * weights, in_state, None, None


_recurrence.register_autograd(_backward, setup_context=_keep)


def recurrence(fmt: FloatFormat, weights: Tensor, candidates: Tensor, state: Tensor, multiplier: Multiplier) -> Tensor:
    """Run ``h[t] = h[t - 1] + weights[t] * (candidates[t] - h[t - 1])`` over axis 1.

    Parameters
    ----------
    weights, candidates : (B, T, D)
    state : (B, D)
        The state before the first step.

    Returns
    -------
    (B, T, D), the state after every step.
    """
    states: Tensor = _recurrence(weights, candidates, state, str(fmt), str(multiplier))
    return states
