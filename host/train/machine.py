"""The language model as the machine computes it, in PyTorch, for training.

Every value of the forward pass is that of :class:`terngen.sim.golden.machine.GoldenMachine`, whose operations
are named beside it; :mod:`terngen.host.compile` says how they follow from the published model. The gradient
is that of the published model, at these values.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from terngen.host.layout import PROJECTION_EPS
from terngen.host.train import arithmetic
from terngen.host.train.model import MLP, Attention, BitLinear, HGRNBit, Norm, ternary, ternary_sums
from terngen.host.train.settings import ModelConfig
from terngen.hw.contract.config import Sites
from terngen.hw.contract.formats import PATH, FloatFormat, Multiplier

__all__ = ["MachineModel"]


class _Sums(torch.autograd.Function):
    """Sums of a ternary matrix, ``codes @ trits.T``; the gradient takes trits for weights by their mean."""

    @staticmethod
    def forward(ctx: Any, codes: Tensor, weight: Tensor) -> Tensor:
        trits, mean = ternary(weight)
        codes8, trits8 = codes.to(torch.int8), trits.to(torch.int8)
        ctx.save_for_backward(codes8, trits8, mean)
        return ternary_sums(codes, codes8, trits, trits8).to(codes.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        codes8, trits8, mean = ctx.saved_tensors
        dtype = torch.bfloat16 if codes8.is_cuda else grads[0].dtype
        grad  = grads[0].flatten(0, -2).to(dtype)
        grad_codes = (grad @ trits8.to(dtype)).to(mean.dtype)
        return (grad_codes.unflatten(0, codes8.shape[:-1]),
                (grad.t() @ codes8.flatten(0, -2).to(dtype)).to(mean.dtype) / mean)


class MachineModel(HGRNBit):
    """A model whose forward pass is that of a machine.

    Parameters
    ----------
    config : :class:`ModelConfig`
    sites : :class:`Sites`
        The multiplier of each product.
    path : :class:`FloatFormat`
        Format of element-wise values; one whose squares float32 holds.
    dropout : :class:`float`
        As in :class:`HGRNBit`.
    """

    def __init__(self, config: ModelConfig, sites: Sites, *, path: FloatFormat = PATH, dropout: float = 0.0):
        super().__init__(config, dropout=dropout)
        if path.exponent_bits > 7:
            raise ValueError(f"Path format must have at most 7 bits of exponent in training, not {path.exponent_bits}")
        self.sites = sites
        self.path  = path
        self.register_buffer("_sigmoids", arithmetic.sigmoids(path), persistent=False)

    # Values.

    def _rounded(self, values: Tensor) -> Tensor:
        return arithmetic.rounded(self.path, values)

    def _product(self, a: Tensor, b: Tensor, multiplier: Multiplier) -> Tensor:
        return arithmetic.product(self.path, a, b, multiplier)

    def _sigmoid(self, values: Tensor) -> Tensor:
        return arithmetic.sigmoid(self._sigmoids, values)

    def _silu(self, values: Tensor) -> Tensor:
        return self._product(values, self._sigmoid(values), self.sites.silu)

    def _number(self, value: float, fmt: FloatFormat | None = None) -> Tensor:
        """A number in a descriptor."""
        wide = torch.full((), value, dtype=torch.float64, device=self.lm_head.weight.device)
        return arithmetic.rounded(fmt or self.path, wide)

    def _vector(self, values: Tensor) -> Tensor:
        """A vector on the tape, from float64."""
        return arithmetic.rounded(self.path.parameter, values).float()

    def _weights(self, *norms: Norm, added: float = 0.0) -> Tensor:
        """What weighs elements: the product of norm weights."""
        weights = norms[0].weight.double()
        for norm in norms[1:]:
            weights = weights * norm.weight.double()
        return self._vector(torch.sqrt(weights.square() + added) if added else weights)

    # Operations.

    def _squares(self, values: Tensor, weights: Tensor) -> Tensor:
        """SQUARE: the sum over an axis that stays, in float64."""
        weighted = self._product(values, weights, self.sites.norm)
        return arithmetic.square(self.path, weighted, self.sites.square).double().sum(-1, keepdim=True)

    def _root(self, squares: Tensor, term: float) -> Tensor:
        """Its last step, the root."""
        return arithmetic.inverse_root(self.path, squares + self._number(term, self.path.wide))

    def _block_root(self, x: Tensor, norm: Norm, eps: float) -> Tensor:
        """The root of a block norm in front of a projection's norm."""
        return self._root(self._squares(x, self._weights(norm, added=PROJECTION_EPS)),
                          x.shape[-1] * eps * PROJECTION_EPS)

    def _projected(self, values: Tensor, weights: Tensor, root: Tensor, linear: BitLinear) -> Tensor:
        """SCAN, QUANTISE, MATVEC, and the first step of what takes the sums."""
        weighted = self._product(values, weights, self.sites.norm)
        peak     = weighted.detach().abs().amax(-1, keepdim=True)
        factor   = arithmetic.reciprocal127(self.path, peak)
        scaled   = self._product(weighted, factor, self.sites.quantise)
        codes    = arithmetic.through(torch.round(scaled).clamp(-127, 127), scaled)
        mean     = linear.weight.detach().abs().mean(dtype=torch.float64).float().double()
        scale    = arithmetic.rounded(self.path, mean * (math.sqrt(values.shape[-1]) / 127)).float()
        # The scale of the head comes after its sums, which are not rounded.
        scale    = self._product(self._product(scale, peak, self.sites.dequantise), root, self.sites.dequantise)
        sums     = _Sums.apply(codes, linear.weight)
        if linear is self.lm_head:
            return sums * scale
        return self._product(self._rounded(sums), scale, self.sites.dequantise)

    def _residual(self, x: Tensor, values: Tensor) -> Tensor:
        """RESIDUAL."""
        return arithmetic.add(self.path, x, F.dropout(values, self.dropout, self.training))

    # The model.

    def _attention(self, attn: Attention, x: Tensor, norm: Norm, state: Tensor, bound: Tensor | None
                   ) -> tuple[Tensor, Tensor]:
        sites = self.sites
        root  = self._block_root(x, norm, attn.eps)
        f, g, i = (self._projected(x, self._weights(norm, linear.norm), root, linear)
                   for linear in (attn.f_proj, attn.g_proj, attn.i_proj))
        weights = self._vector(1 - bound) if bound is not None else self._number(1.0).float()
        gate    = self._product(self._sigmoid(-f), weights, sites.gate)                      # GATE
        states  = arithmetic.recurrence(self.path, gate, self._silu(i), state, sites.recurrence)
        mixed   = self._product(g, self._silu(states), sites.output)                            # MLGRU
        squares = (self._squares(g, self._number(math.sqrt(PROJECTION_EPS)).float())            # STORE
                   + self._squares(mixed, self._weights(attn.g_norm)))
        root    = self._root(squares, mixed.shape[-1] * attn.eps * PROJECTION_EPS)
        out     = self._projected(mixed, self._weights(attn.g_norm, attn.o_proj.norm), root, attn.o_proj)
        return out, states[:, -1]

    def _mlp(self, mlp: MLP, x: Tensor, norm: Norm, eps: float) -> Tensor:
        root = self._block_root(x, norm, eps)
        both = self._projected(x, self._weights(norm, mlp.gate_proj.norm), root, mlp.gate_proj)
        gate, value = both.chunk(2, dim=-1)
        inner = self._product(self._silu(gate), value, self.sites.glu)                          # SILU, GLU
        root  = self._root(self._squares(inner, self._number(1.0).float()), inner.shape[-1] * PROJECTION_EPS)
        return self._projected(inner, self._weights(mlp.down_proj.norm), root, mlp.down_proj)

    def bounds(self) -> list[Tensor | None]:
        """As for the published model, in float64."""
        if not self.config.use_lower_bound:
            return super().bounds()
        shares = torch.softmax(self.model.lower_bounds.double(), dim=0)
        return [None, *(shares.cumsum(0) - shares[0]).unbind()[1:]]

    def forward(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`HGRNBit.forward`."""
        rows = arithmetic.rounded(self.path.parameter, self.model.embeddings(tokens))           # EMBED
        x    = self._rounded(F.dropout(rows, self.dropout, self.training))
        states = []
        for layer, before, bound in zip(self.model.layers, state, self.bounds()):
            mixed, after = self._attention(layer.attn, x, layer.attn_norm, before, bound)
            x = self._residual(x, mixed)
            x = self._residual(x, self._mlp(layer.mlp, x, layer.mlp_norm, layer.eps))
            states.append(after)
        norm = self.model.norm
        root = self._block_root(x, norm, self.config.rms_norm_eps)
        logits = self._projected(x, self._weights(norm, self.lm_head.norm), root, self.lm_head)
        return logits, torch.stack(states)
