"""The MatMul-free language model in PyTorch, for training.

The arithmetic is that of Zhu et al. (arXiv 2406.02528) as the public ``matmulfreellm`` code runs it
(model type ``hgrn_bit``), and the parameters have the public names, so a state dictionary of
:class:`HGRNBit` is a checkpoint in the public format.

Shapes: B sequences, T tokens, H hidden, D recurrent (H times ``expand_ratio``), I intermediate,
V vocabulary, L layers.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terngen.host.train.scan import scan
from terngen.host.train.settings import ModelConfig

__all__ = ["MLP", "SCALE_FLOOR", "Attention", "BitLinear", "HGRNBit", "Norm", "rms_norm", "ternary", "ternary_sums"]

#: The epsilon of the norm inside every BitLinear: the default of the public fused kernel, which never
#: receives the one of the configuration.
INNER_EPS = 1e-6

#: Smallest absolute maximum of activations, and smallest mean of weights, that a scale is made of.
SCALE_FLOOR = 1e-5


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Scale the last axis to a root mean square of one, then by `weight`."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def ternary(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The trits of a matrix, in its own type, and the mean of its magnitudes, which scales them."""
    mean = weight.abs().mean().clamp(min=SCALE_FLOOR)
    return torch.round(weight * (1 / mean)).clamp(-1, 1), mean


def ternary_sums(codes: Tensor, codes8: Tensor, trits: Tensor, trits8: Tensor) -> Tensor:
    """``codes @ trits.T``, exactly; each factor is given twice, once in int8."""
    tokens = codes.numel() // codes.shape[-1]
    # The limits of the int8 product of cuBLAS.
    if codes.is_cuda and tokens > 16 and trits.shape[0] % 8 == trits.shape[1] % 8 == 0:
        return torch._int_mm(codes8.flatten(0, -2), trits8.t()).unflatten(0, codes.shape[:-1])
    return F.linear(codes, trits)


class _TernaryProduct(torch.autograd.Function):
    """Product of int8 activations with ternary weights; the gradient passes straight through rounding.

    Forward, per token: ``(codes @ trits.T) * mean / scale`` with ``codes = round(y * scale)``,
    ``scale = 127 / max|y|``, ``trits = clamp(round(W / mean|W|), -1, 1)``, both rounding half to even.
    The sums are exact: int8 products where a GPU has them, small integers in float32 elsewhere.
    Backward treats the two roundings as the identity; a GPU multiplies gradients in bfloat16.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, weight: Tensor) -> Tensor:
        scale = 127 / y.abs().amax(-1, keepdim=True).clamp(min=SCALE_FLOOR)
        codes = torch.round(y * scale).clamp(-128, 127)
        trits, mean = ternary(weight)
        # What travels to the backward pass, in a quarter of the memory.
        codes8, trits8 = codes.to(torch.int8), trits.to(torch.int8)
        ctx.save_for_backward(codes8, scale, trits8, mean)
        return ternary_sums(codes, codes8, trits, trits8) * (mean / scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        codes8, scale, trits8, mean = ctx.saved_tensors
        dtype = torch.bfloat16 if codes8.is_cuda else scale.dtype
        grad = grads[0].flatten(0, -2).to(dtype)
        acts = (codes8 / scale).flatten(0, -2).to(dtype)
        grad_y = (grad @ trits8.to(dtype)).to(scale.dtype) * mean
        return grad_y.unflatten(0, codes8.shape[:-1]), (grad.t() @ acts).to(scale.dtype)


class BitLinear(nn.Module):
    """A ternary projection with its own norm, ``(..., cols)`` to ``(..., rows)``."""

    def __init__(self, cols: int, rows: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, cols))
        self.norm = Norm(cols)

    def forward(self, x: Tensor) -> Tensor:
        return _TernaryProduct.apply(rms_norm(x, self.norm.weight, INNER_EPS), self.weight)


class Norm(nn.Module):
    """Holder of a norm's weight, under its public name."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))


class Attention(nn.Module):
    """The token mixer, MLGRU: ``(B, T, H)`` and state ``(B, D)`` to both again."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        hidden, recurrent = config.hidden_size, config.recurrent
        self.eps = config.rms_norm_eps
        self.i_proj = BitLinear(hidden, recurrent)
        self.f_proj = BitLinear(hidden, recurrent)
        self.g_proj = BitLinear(hidden, recurrent)
        self.g_norm = Norm(recurrent)
        self.o_proj = BitLinear(recurrent, hidden)

    def forward(self, x: Tensor, state: Tensor, bound: Tensor | None) -> tuple[Tensor, Tensor]:
        forget = torch.sigmoid(self.f_proj(x))
        if bound is not None:
            forget = bound + (1 - bound) * forget
        update = F.silu(self.i_proj(x)) * (1 - forget)
        states = scan(forget, update, state)
        # The norm is on the gate's projection and SiLU on the state, not the other way round.
        mixed = rms_norm(self.g_proj(x), self.g_norm.weight, self.eps) * F.silu(states)
        return self.o_proj(mixed), states[:, -1]


class MLP(nn.Module):
    """The channel mixer, a gated linear unit; the first half of `gate_proj` is the gate."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gate_proj = BitLinear(config.hidden_size, 2 * config.intermediate)
        self.down_proj = BitLinear(config.intermediate, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.gate_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * value)


class Block(nn.Module):
    """One layer: token mixer and channel mixer, each behind a norm and added to its input."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.eps = config.rms_norm_eps
        self.attn_norm = Norm(config.hidden_size)
        self.attn = Attention(config)
        self.mlp_norm = Norm(config.hidden_size)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, state: Tensor, bound: Tensor | None,
                dropout: float) -> tuple[Tensor, Tensor]:
        mixed, state = self.attn(rms_norm(x, self.attn_norm.weight, self.eps), state, bound)
        x = x + F.dropout(mixed, dropout, self.training)
        mixed = self.mlp(rms_norm(x, self.mlp_norm.weight, self.eps))
        return x + F.dropout(mixed, dropout, self.training), state


class _Trunk(nn.Module):
    """What the public names put under ``model.``."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = Norm(config.hidden_size)
        if config.use_lower_bound:
            self.lower_bounds = nn.Parameter(torch.zeros(config.num_hidden_layers, config.hidden_size))


class HGRNBit(nn.Module):
    """The whole model.

    Parameters
    ----------
    config : :class:`ModelConfig`
    dropout : :class:`float`
        Share of values dropped after the embedding and at every residual addition, in training.
    """

    def __init__(self, config: ModelConfig, *, dropout: float = 0.0):
        super().__init__()
        self.config = config
        self.dropout = dropout
        self.model = _Trunk(config)
        self.lm_head = BitLinear(config.hidden_size, config.vocab_size)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2 and not name.endswith("lower_bounds"):
                nn.init.normal_(parameter, std=config.initializer_range)

    def bounds(self) -> list[Tensor | None]:
        """Lower bounds of the forget gates, (D,) for each layer; none for the first layer."""
        layers = self.config.num_hidden_layers
        if not self.config.use_lower_bound:
            return [None] * layers
        shares = torch.softmax(self.model.lower_bounds, dim=0)
        return [None, *(shares.cumsum(0) - shares[0]).unbind()[1:]]

    def zero_state(self, batch: int) -> Tensor:
        """The state before the first token, (L, B, D)."""
        weight = self.lm_head.weight
        return weight.new_zeros(self.config.num_hidden_layers, batch, self.config.recurrent)

    def forward(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the token after each of `tokens`.

        Parameters
        ----------
        tokens : (B, T) int64
        state : (L, B, D)
            Taken from the previous call, or from :meth:`zero_state`.

        Returns
        -------
        logits (B, T, V), and the state after the last token (L, B, D).
        """
        x = F.dropout(self.model.embeddings(tokens), self.dropout, self.training)
        states = []
        for layer, before, bound in zip(self.model.layers, state, self.bounds()):
            x, after = layer(x, before, bound, self.dropout)
            states.append(after)
        x = rms_norm(x, self.model.norm.weight, self.config.rms_norm_eps)
        return self.lm_head(x), torch.stack(states)
