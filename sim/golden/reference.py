"""The MatMul-free language model in float32, as the public implementation computes it.

This is what a checkpoint means: the golden machine and the gateware compute the same model in narrower
formats and are judged against it. Arithmetic: `HGRNBitForCausalLM` and `FusedBitLinear` of
https://github.com/ridgerchu/matmulfreellm, with three points that its text does not show:

- The norm inside a projection uses the fused kernel's default epsilon, 1e-6, whatever the config says.
- In the gate norm the first argument, g, is normalised; the SiLU is on the second, the state.
- Activations are rounded half to even, as its plain PyTorch path does.

A product of int8 activations and trits is a sum below 2**24, which float32 holds exactly in any order
of summation, so matrices go through BLAS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Reference", "Source"]

Float32s = NDArray[np.float32]
Observer = Callable[[str, NDArray[Any]], None]

#: Epsilon of the norm inside every projection.
_PROJECTION_EPS = 1e-6

#: Tokens of all sequences together that go through a layer at a time; few enough for the cache, many for BLAS.
_CHUNK_TOKENS = 256


class Sizes(Protocol):
    """What the reference needs to know of a model's sizes."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def state_size(self) -> int: ...
    @property
    def rms_norm_eps(self) -> float: ...


class Source(Protocol):
    """Where a model's numbers come from; tensors have the names of the public checkpoints."""

    @property
    def geometry(self) -> Sizes: ...

    def tensor(self, name: str) -> Float32s:
        """Return a tensor in float32."""

    def ternary(self, name: str) -> tuple[NDArray[np.int8], np.float32]:
        """Return the trits of a matrix, int8 (rows, columns), and its scale."""

    def lower_bounds(self) -> NDArray[np.float64]:
        """Return the lower bounds of the forget gates, (layers, state); zeros if there are none."""


class Reference:
    """A model with the recurrent states of a batch of sequences.

    Parameters
    ----------
    source : :class:`Source`
        An opened checkpoint. It is read once, here; what stays in memory is the embedding in float32
        and one byte per ternary weight.
    """

    def __init__(self, source: Source):
        sizes = source.geometry
        self.vocab_size = sizes.vocab_size
        self._embeddings = source.tensor("model.embeddings.weight")  # (vocab, hidden)
        lower_bounds = source.lower_bounds().astype(np.float32)
        self._layers = [_Layer(source, layer, lower_bounds[layer])
                        for layer in range(sizes.num_hidden_layers)]
        self._norm_weight = source.tensor("model.norm.weight")
        self._eps  = sizes.rms_norm_eps
        self._head = _BitLinear(source, "lm_head")
        self._state_shape = sizes.num_hidden_layers, sizes.state_size
        self.reset(1)

    def reset(self, batch: int) -> None:
        """Begin `batch` new sequences, with all states zero."""
        if batch < 1:
            raise ValueError(f"Batch must be at least 1, not {batch!r}")
        self._state = np.zeros((batch, *self._state_shape), np.float32)

    @property
    def state(self) -> Float32s:
        """A copy of the recurrent states, (batch, layers, state)."""
        return self._state.copy()

    def step(self, tokens: NDArray[np.integer[Any]]) -> Float32s:
        """Take one token per sequence, (batch,), and return its logits, (batch, vocab)."""
        return self.advance(np.asarray(tokens)[:, np.newaxis])[:, 0]

    def forward(self, tokens: NDArray[np.integer[Any]], observe: Observer | None = None) -> Float32s:
        """Take whole sequences from a zero state: (T,) or (batch, T) to (T, vocab) or (batch, T, vocab).

        See :meth:`advance`, which does the same from the present state.
        """
        tokens = np.asarray(tokens)
        if tokens.ndim == 1:
            return self.forward(tokens[np.newaxis], observe)[0]
        self.reset(len(tokens))
        return self.advance(tokens, observe)

    def advance(self, tokens: NDArray[np.integer[Any]], observe: Observer | None = None) -> Float32s:
        """Take the next tokens of every sequence, and return the logits after each.

        Parameters
        ----------
        tokens : integers (batch, T)
            A sequence that is shorter than the others is filled up with -1: there its state stays as it
            is and its logits are NaN.
        observe : callable, optional
            Called with the name and the value, (batch, part of T, ...), of everything that is computed.

        Returns
        -------
        float32 (batch, T, vocab)

        Raises
        ------
        ValueError
            If a token is not in the vocabulary, or padding comes before a token.
        """
        tokens = np.asarray(tokens)
        self._check(tokens)
        batch, length = tokens.shape
        logits = np.empty((batch, length, self.vocab_size), np.float32)
        step = max(1, _CHUNK_TOKENS // batch)
        for start in range(0, length, step):
            chunk = slice(start, start + step)
            logits[:, chunk] = self._advance_chunk(tokens[:, chunk], observe or _ignore)
        return logits

    def _check(self, tokens: NDArray[np.integer[Any]]) -> None:
        if tokens.ndim != 2 or len(tokens) != len(self._state):
            raise ValueError(f"Tokens must have shape ({len(self._state)}, T), not {tokens.shape}")
        if not np.issubdtype(tokens.dtype, np.integer):
            raise ValueError(f"Tokens must be integers, not {tokens.dtype}")
        foreign = tokens[(tokens < -1) | (tokens >= self.vocab_size)]
        if foreign.size:
            raise ValueError(f"Tokens must be below {self.vocab_size}, or -1 for padding, not {foreign[0]}")
        if ((tokens[:, :-1] < 0) & (tokens[:, 1:] >= 0)).any():
            raise ValueError("Padding (-1) must follow the tokens of a sequence, not come before one")

    def _advance_chunk(self, tokens: NDArray[np.integer[Any]], observe: Observer) -> Float32s:
        valid = (tokens >= 0)[..., np.newaxis]
        x = self._embeddings[np.where(tokens < 0, 0, tokens)]  # (batch, T, hidden)
        observe("model.embeddings.out", x)
        for index, layer in enumerate(self._layers):
            x = layer(x, self._state[:, index], valid, observe)
        x = _rms_norm(x, self._norm_weight, self._eps)
        observe("model.norm.out", x)
        return np.where(valid, self._head(x, observe), np.float32(np.nan))


class _Layer:
    """One block: the recurrent token mixer, then the gated channel mixer."""

    def __init__(self, source: Source, layer: int, lower_bound: Float32s):
        self._name = f"model.layers.{layer}"
        self._lower_bound = lower_bound
        self._eps = source.geometry.rms_norm_eps
        self._attn_norm, self._mlp_norm, self._g_norm = (
            source.tensor(f"{self._name}.{norm}.weight") for norm in ("attn_norm", "mlp_norm", "attn.g_norm"))
        self._i, self._f, self._g, self._o = (
            _BitLinear(source, f"{self._name}.attn.{site}_proj") for site in "ifgo")
        self._gate, self._down = (
            _BitLinear(source, f"{self._name}.mlp.{site}_proj") for site in ("gate", "down"))

    def __call__(self, x: Float32s, state: Float32s, valid: NDArray[np.bool_], observe: Observer) -> Float32s:
        """Return the residual after this block, (batch, T, hidden), and update `state`, (batch, state)."""
        name = self._name
        a = _rms_norm(x, self._attn_norm, self._eps)
        observe(f"{name}.attn_norm.out", a)

        forget = _sigmoid(self._f(a, observe))
        forget = self._lower_bound + (1 - self._lower_bound) * forget
        candidate = _silu(self._i(a, observe)) * (1 - forget)
        observe(f"{name}.attn.forget", forget)
        observe(f"{name}.attn.input", candidate)

        # Padding keeps the state: it forgets nothing and adds nothing.
        forget = np.where(valid, forget, np.float32(1))
        candidate = np.where(valid, candidate, np.float32(0))
        states = np.empty_like(forget)
        for t in range(forget.shape[1]):
            state *= forget[:, t]
            state += candidate[:, t]
            states[:, t] = state
        observe(f"{name}.attn.state", states)

        gated = _rms_norm(self._g(a, observe), self._g_norm, self._eps) * _silu(states)
        observe(f"{name}.attn.g_norm.out", gated)
        x = x + self._o(gated, observe)
        observe(f"{name}.mlp_norm.residual", x)
        b = _rms_norm(x, self._mlp_norm, self._eps)
        observe(f"{name}.mlp_norm.out", b)
        gate, value = np.split(self._gate(b, observe), 2, axis=-1)
        product = _silu(gate) * value
        observe(f"{name}.mlp.down_proj.in", product)
        x = x + self._down(product, observe)
        observe(f"{name}.out", x)
        return x


class _BitLinear:
    """A norm, int8 activations by the largest magnitude of each token, and a ternary matrix."""

    def __init__(self, source: Source, name: str):
        self._name = name
        self._norm_weight = source.tensor(f"{name}.norm.weight")
        self._trits, self._scale = source.ternary(f"{name}.weight")  # (rows, columns)

    def __call__(self, x: Float32s, observe: Observer) -> Float32s:
        y = _rms_norm(x, self._norm_weight, _PROJECTION_EPS)
        largest = np.abs(y).max(axis=-1, keepdims=True)
        act_scale = np.float32(127) / np.maximum(largest, np.float32(1e-5))
        codes = np.clip(np.rint(y * act_scale), -128, 127)
        # Trits are widened for each use, which costs little beside the product and a quarter of the memory.
        sums = codes.reshape(-1, codes.shape[-1]) @ self._trits.T.astype(np.float32)
        out = sums.reshape(*codes.shape[:-1], -1) * self._scale / act_scale
        observe(f"{self._name}.normed", y)
        observe(f"{self._name}.act_scale", act_scale[..., 0])
        observe(f"{self._name}.codes", codes.astype(np.int8))
        observe(f"{self._name}.out", out)
        return out


def _rms_norm(x: Float32s, weight: Float32s, eps: float) -> Float32s:
    mean = np.mean(x * x, axis=-1, keepdims=True)
    return x * (1 / np.sqrt(mean + np.float32(eps))) * weight


def _sigmoid(x: Float32s) -> Float32s:
    # For very negative x the exponential is infinite and the quotient 0, as it should be.
    with np.errstate(over="ignore"):
        return np.reciprocal(1 + np.exp(-x))


def _silu(x: Float32s) -> Float32s:
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-x))


def _ignore(name: str, value: NDArray[Any]) -> None:
    """Observe nothing."""
