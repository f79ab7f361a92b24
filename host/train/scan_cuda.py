"""The scan as one Triton kernel: it reads and writes each value once.

A training step of `fairy-1m` takes 3.4 ms with it on an H200 and 4.8 ms with the steps of
:func:`~terngen.host.train.scan.log_steps`; one of `fairy-5m` 9.0 ms and 13.3 ms.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["launch"]

#: Steps of time and channels of a tile; the fastest of those tried from 16 x 16 to 128 x 32.
TIME, CHANNELS = 64, 32


@triton.jit
def _compose(f_first, u_first, f_then, u_then):
    return f_first * f_then, f_then * u_first + u_then


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
        carry = tl.sum(tl.where((index == TIME - 1)[:, None], h, 0.0), 0)


def launch(forget: Tensor, update: Tensor, state: Tensor) -> Tensor:
    """Compute :func:`~terngen.host.train.scan.scan` of contiguous float32 tensors on a GPU."""
    sequences, length, channels = update.shape
    states = torch.empty_like(update)
    grid = (sequences, triton.cdiv(channels, CHANNELS))
    _kernel[grid](forget, update, state, states, length, channels, TIME, CHANNELS, num_warps=4)
    return states
