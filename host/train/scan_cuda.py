"""The scan and its gradient, and the recurrence of the machine, as one Triton kernel each: they read and write
each value once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["launch", "launch_backward", "launch_recurrence"]

#: Steps of time and channels of a tile; the fastest of those tried from 16 x 16 to 128 x 32.
TIME, CHANNELS = 64, 32


@triton.jit
def _compose(f_first, u_first, f_then, u_then):
    return f_first * f_then, f_then * u_first + u_then


@triton.jit
def _last(index, rows, TIME: tl.constexpr):
    return tl.sum(tl.where((index == TIME - 1)[:, None], rows, 0.0), 0)


@triton.jit
def _kernel(forget, update, state, states, T, D, TIME: tl.constexpr, CHANNELS: tl.constexpr):
    sequence = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    index = tl.arange(0, TIME)
    carry = tl.load(state + sequence * D + channel, mask=channel < D, other=0.0)
    for begin in range(0, T, TIME):
        time = begin + index
        place = (sequence * T + time[:, None]) * D + channel[None, :]
        mask = (time[:, None] < T) & (channel[None, :] < D)
        f = tl.load(forget + place, mask=mask, other=1.0)
        u = tl.load(update + place, mask=mask, other=0.0)
        f, u = tl.associative_scan((f, u), 0, _compose)
        h = f * carry[None, :] + u
        tl.store(states + place, h, mask=mask)
        carry = _last(index, h, TIME)


@triton.jit
def _backward_kernel(grad, forget, state, states, grad_forget, grad_update, grad_state, T, D,
                     TIME: tl.constexpr, CHANNELS: tl.constexpr):
    sequence = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    index = tl.arange(0, TIME)
    begin_state = tl.load(state + sequence * D + channel, mask=channel < D, other=0.0)
    carry = tl.zeros_like(begin_state)
    for begin in range(0, T, TIME):
        # From the end: d[t] = grad[t] + forget[t + 1] * d[t + 1].
        time = T - 1 - begin - index
        place = (sequence * T + time[:, None]) * D + channel[None, :]
        mask = (time[:, None] >= 0) & (channel[None, :] < D)
        f = tl.load(forget + place + D, mask=mask & (time[:, None] + 1 < T), other=0.0)
        # Rows before the first step hand the carry on.
        f = tl.where(time[:, None] >= 0, f, 1.0)
        u = tl.load(grad + place, mask=mask, other=0.0)
        f, u = tl.associative_scan((f, u), 0, _compose)
        d = f * carry[None, :] + u
        before = tl.load(states + place - D, mask=mask & (time[:, None] > 0), other=0.0)
        before = tl.where(time[:, None] > 0, before, begin_state[None, :])
        tl.store(grad_update + place, d, mask=mask)
        tl.store(grad_forget + place, d * before, mask=mask)
        carry = _last(index, d, TIME)
    first = tl.load(forget + sequence * T * D + channel, mask=channel < D, other=0.0)
    tl.store(grad_state + sequence * D + channel, carry * first, mask=channel < D)


@triton.jit
def _limit(sign, magnitude, SMALLEST: tl.constexpr, LARGEST: tl.constexpr):
    return (tl.where(magnitude < SMALLEST, 0, tl.minimum(magnitude, LARGEST) | sign)).to(tl.float32, bitcast=True)


@triton.jit
def _rounded(value, DROP: tl.constexpr, SMALLEST: tl.constexpr, LARGEST: tl.constexpr):
    word = value.to(tl.int32, bitcast=True)
    magnitude = word & 0x7FFFFFFF
    magnitude = (magnitude + ((1 << (DROP - 1)) - 1) + ((magnitude >> DROP) & 1)) & -(1 << DROP)
    return _limit(word ^ (word & 0x7FFFFFFF), magnitude, SMALLEST, LARGEST)


@triton.jit
def _add(a, b, DROP: tl.constexpr, SMALLEST: tl.constexpr, LARGEST: tl.constexpr):
    # Rounded in float64, whose mantissa is 29 bits longer.
    word = (a.to(tl.float64) + b.to(tl.float64)).to(tl.int64, bitcast=True)
    word = (word + ((1 << (DROP + 28)) - 1) + ((word >> (DROP + 29)) & 1)) & -(1 << (DROP + 29))
    word = word.to(tl.float64, bitcast=True).to(tl.float32).to(tl.int32, bitcast=True)
    return _limit(word ^ (word & 0x7FFFFFFF), word & 0x7FFFFFFF, SMALLEST, LARGEST)


@triton.jit
def _recurrence_kernel(weights, candidates, state, states, T, D, DROP: tl.constexpr, SMALLEST: tl.constexpr,
                       LARGEST: tl.constexpr, OFFSET: tl.constexpr, GATED: tl.constexpr, EXACT: tl.constexpr,
                       CHANNELS: tl.constexpr):
    sequence = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    mask = channel < D
    h = tl.load(state + sequence * D + channel, mask=mask, other=0.0)
    for time in range(T):
        place = (sequence * T + time) * D + channel
        z = tl.load(weights + place, mask=mask, other=0.0)
        c = tl.load(candidates + place, mask=mask, other=0.0)
        d = _add(c, -h, DROP, SMALLEST, LARGEST)
        if EXACT:
            change = _rounded(z * d, DROP, SMALLEST, LARGEST)
        else:
            a = z.to(tl.int32, bitcast=True)
            b = d.to(tl.int32, bitcast=True)
            sign = (a ^ b) ^ ((a ^ b) & 0x7FFFFFFF)
            a = a & 0x7FFFFFFF
            b = b & 0x7FFFFFFF
            total = (a - (127 << 23)) + b
            if GATED:
                total = tl.where(((a & 0x7FFFFF) != 0) & ((b & 0x7FFFFF) != 0), total + OFFSET, total)
            else:
                total = total + OFFSET
            change = _limit(sign, tl.where((a == 0) | (b == 0), 0, total), SMALLEST, LARGEST)
        h = _add(h, change, DROP, SMALLEST, LARGEST)
        tl.store(states + place, h, mask=mask)


def launch(forget: Tensor, update: Tensor, state: Tensor) -> Tensor:
    """Compute :func:`~terngen.host.train.scan.scan` of contiguous float32 tensors on a GPU."""
    sequences, length, channels = update.shape
    states = torch.empty_like(update)
    grid = (sequences, triton.cdiv(channels, CHANNELS))
    _kernel[grid](forget, update, state, states, length, channels, TIME, CHANNELS, num_warps=4)
    return states


def launch_backward(grad: Tensor, forget: Tensor, state: Tensor,
                    states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute :func:`~terngen.host.train.scan.gradients` of contiguous float32 tensors on a GPU."""
    sequences, length, channels = grad.shape
    grad_forget, grad_update = torch.empty_like(forget), torch.empty_like(forget)
    grad_state = torch.empty_like(state)
    grid = (sequences, triton.cdiv(channels, CHANNELS))
    _backward_kernel[grid](grad, forget, state, states, grad_forget, grad_update, grad_state,
                           length, channels, TIME, CHANNELS, num_warps=4)
    return grad_forget, grad_update, grad_state


def launch_recurrence(weights: Tensor, candidates: Tensor, state: Tensor, *, drop: int, smallest: int, largest: int,
                      offset: int, gated: bool, exact: bool) -> Tensor:
    """Compute :func:`~terngen.host.train.arithmetic.recurrence` of contiguous float32 tensors on a GPU."""
    sequences, length, channels = candidates.shape
    states = torch.empty_like(candidates)
    grid = (sequences, triton.cdiv(channels, CHANNELS))
    _recurrence_kernel[grid](weights, candidates, state, states, length, channels, drop, smallest, largest, offset,
                             gated, exact, CHANNELS, num_warps=1)
    return states
