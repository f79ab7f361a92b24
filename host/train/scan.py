"""The recurrence of MLGRU over a whole window at once."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["gradients", "log_steps", "scan"]


def log_steps(forget: Tensor, update: Tensor, state: Tensor) -> Tensor:
    """The scan on any device: ``log2(T)`` steps.

    Each step composes every map ``h -> f h + u`` with the one a power of two before it (Hillis and
    Steele, "Data parallel algorithms", 1986).
    """
    u = update.clone()
    u[:, 0].addcmul_(forget[:, 0], state)
    f = forget
    span = 1
    while span < u.shape[1]:
        # Not in place: a step reads what it writes, `span` places on.
        u_next, f_next = u.clone(), f.clone()
        torch.addcmul(u[:, span:], f[:, span:], u[:, :-span], out=u_next[:, span:])
        torch.mul(f[:, span:], f[:, :-span], out=f_next[:, span:])
        u, f = u_next, f_next
        span *= 2
    return u


# Operators of their own, because the compiler would expand the steps into each other.
@torch.library.custom_op("terngen::scan", mutates_args=())
def scan(forget: Tensor, update: Tensor, state: Tensor) -> Tensor:
    """Run ``h[t] = forget[t] * h[t - 1] + update[t]`` over axis 1.

    Parameters
    ----------
    forget, update : (B, T, D)
    state : (B, D)
        The state before the first step.

    Returns
    -------
    (B, T, D), the state after every step.
    """
    if update.is_cuda and update.dtype == torch.float32:
        # Imported here, because Triton comes with the CUDA builds of PyTorch only.
        from terngen.host.train.scan_cuda import launch
        return launch(forget.contiguous(), update.contiguous(), state.contiguous())
    return log_steps(forget, update, state)


@torch.library.custom_op("terngen::scan_gradients", mutates_args=())
def gradients(grad: Tensor, forget: Tensor, state: Tensor,
              states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of :func:`scan` in `forget`, `update` and `state`.

    Parameters
    ----------
    grad, forget, states : (B, T, D)
        `states` is what :func:`scan` gave, `grad` the gradient in it.
    state : (B, D)
    """
    if grad.is_cuda and grad.dtype == torch.float32:
        from terngen.host.train.scan_cuda import launch_backward
        return launch_backward(grad.contiguous(), forget.contiguous(), state.contiguous(),
                               states.contiguous())
    # d[t] = grad[t] + forget[t + 1] * d[t + 1]: the same recurrence, run from the end.
    later = torch.cat([forget[:, 1:], torch.zeros_like(forget[:, :1])], dim=1)
    d = log_steps(later.flip(1), grad.flip(1), torch.zeros_like(state)).flip(1)
    before = torch.cat([state[:, None], states[:, :-1]], dim=1)
    return d * before, d, forget[:, 0] * d[:, 0]


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


@scan.register_fake
def _(forget: Tensor, update: Tensor, state: Tensor) -> Tensor:
    return _like(update)


@gradients.register_fake
def _(grad: Tensor, forget: Tensor, state: Tensor,
      states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _like(forget), _like(forget), _like(state)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    forget, _, state = inputs
    ctx.save_for_backward(forget, state, output)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return gradients(grad, *ctx.saved_tensors)


scan.register_autograd(_backward, setup_context=_keep)
