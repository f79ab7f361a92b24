"""Sizes of a MatMul-free language model, from its `config.json`.

Names and defaults: `HGRNBitConfig`, `HGRNBitForCausalLM` of https://github.com/ridgerchu/matmulfreellm.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from terngen.host.errors import UnsupportedError, quote

__all__ = ["PUBLISHED", "Geometry"]

#: Published sizes of the MatMul-free LM; what is not named is as the public configuration has it.
PUBLISHED = {
    "370m": {"hidden_size": 1024, "num_hidden_layers": 24},
    "1.3b": {"hidden_size": 2048, "num_hidden_layers": 24},
    "2.7b": {"hidden_size": 2560, "num_hidden_layers": 32},
}

#: Longest vector. A sum of that many int8 activations is below 2**24, so even float32 adds it exactly.
_LENGTH_LIMIT = 1 << 17
#: Most tokens and most layers that are believed; keeps a foreign config from exhausting memory.
_VOCAB_LIMIT  = 1 << 20
_LAYER_LIMIT  = 1 << 10

#: Options that select arithmetic, with every value that the machine supports; the first is the default.
_CHOICES: dict[str, tuple[object, ...]] = {
    "attn_mode":           ("fused_recurrent",),
    "hidden_act":          ("swish", "silu"),
    "use_short_conv":      (False,),
    "tie_word_embeddings": (False,),
}

#: Options whose values fix the sizes and constants of :class:`Geometry`.
_SIZES = frozenset({
    "model_type", "vocab_size", "hidden_size", "num_hidden_layers", "expand_ratio", "hidden_ratio",
    "intermediate_size", "use_lower_bound", "rms_norm_eps", "bos_token_id", "eos_token_id",
})

#: Options that change no number of inference. Heads only reshape; the convolution's options matter
#: only with `use_short_conv`.
_HARMLESS = frozenset({
    "_name_or_path", "architectures", "auto_map", "conv_size", "dtype", "fuse_cross_entropy",
    "initializer_range", "max_position_embeddings", "num_heads", "pad_token_id", "share_conv_kernel",
    "torch_dtype", "transformers_version", "use_cache",
})


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Sizes and constants of a MatMul-free language model.

    :meth:`from_config` applies the defaults and rules of the public configuration; the constructor
    takes final values and refuses what no tape can describe.
    """

    #: Tokens V.
    vocab_size: int
    #: Length H of the residual vector.
    hidden_size: int
    #: Blocks L.
    num_hidden_layers: int
    #: Recurrent values per element of the residual vector.
    expand_ratio: float = 1
    #: Length I of the gated vector of the channel mixer.
    intermediate_size: int
    #: Whether forget gates have a learned lower bound per layer.
    use_lower_bound: bool
    #: Constant of the block norms, the gate norm and the last norm. Projections have their own, 1e-6.
    rms_norm_eps: float
    #: Token that opens a text, and token that ends one.
    bos_token_id: int | None
    eos_token_id: int | None

    def __post_init__(self) -> None:
        for name, limit in (("vocab_size", _VOCAB_LIMIT), ("num_hidden_layers", _LAYER_LIMIT),
                            ("hidden_size", _LENGTH_LIMIT), ("intermediate_size", _LENGTH_LIMIT)):
            if not 1 <= getattr(self, name) <= limit:
                raise UnsupportedError(f"Option {name} must be between 1 and {limit}, "
                                       f"not {getattr(self, name)!r}")
        if not 0 < self.rms_norm_eps < 1:
            raise UnsupportedError(f"Option rms_norm_eps must be between 0 and 1, not {self.rms_norm_eps!r}")
        if not 1 <= self.state_size <= _LENGTH_LIMIT:
            raise UnsupportedError(f"Option expand_ratio must make a state of 1 to {_LENGTH_LIMIT} values, "
                                   f"not {self.state_size}")
        if self.use_lower_bound and self.state_size != self.hidden_size:
            raise UnsupportedError("Option expand_ratio must be 1 with use_lower_bound, because lower bounds "
                                   f"have {self.hidden_size} columns, not {self.expand_ratio!r}; "
                                   "other ratios are supported with use_lower_bound false")
        for name in ("bos_token_id", "eos_token_id"):
            token = getattr(self, name)
            if token is not None and not 0 <= token < self.vocab_size:
                raise UnsupportedError(f"Option {name} must be null or a token below {self.vocab_size}, "
                                       f"not {token!r}")

    @property
    def state_size(self) -> int:
        """Recurrent values D per layer."""
        return int(self.hidden_size * self.expand_ratio)

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """Ternary matrices in the order in which a token uses them: name to (rows, columns)."""
        H, D, I = self.hidden_size, self.state_size, self.intermediate_size
        shapes: dict[str, tuple[int, int]] = {}
        for layer in range(self.num_hidden_layers):
            block = f"model.layers.{layer}."
            shapes |= {f"{block}attn.{gate}_proj.weight": (D, H) for gate in "ifg"}
            shapes[f"{block}attn.o_proj.weight"]    = (H, D)
            shapes[f"{block}mlp.gate_proj.weight"]  = (2 * I, H)
            shapes[f"{block}mlp.down_proj.weight"]  = (H, I)
        shapes["lm_head.weight"] = (self.vocab_size, H)
        return shapes

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of a checkpoint: name to shape."""
        H, L = self.hidden_size, self.num_hidden_layers
        shapes: dict[str, tuple[int, ...]] = {"model.embeddings.weight": (self.vocab_size, H)}
        if self.use_lower_bound:
            shapes["model.lower_bounds"] = (L, H)
        for layer in range(L):
            block = f"model.layers.{layer}."
            shapes |= {f"{block}{norm}.weight": (H,) for norm in ("attn_norm", "mlp_norm")}
            shapes[f"{block}attn.g_norm.weight"] = (self.state_size,)
        shapes["model.norm.weight"] = (H,)
        for name, (rows, cols) in self.matrices.items():
            shapes[name] = (rows, cols)
            shapes[name.removesuffix("weight") + "norm.weight"] = (cols,)
        return shapes

    @property
    def ternary_weights(self) -> int:
        """Weights in all ternary matrices, head included."""
        return sum(rows * cols for rows, cols in self.matrices.values())

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Geometry:
        """Read the keys of a `config.json`.

        Keys that change no number are ignored. A key that is not known, unless it is null, and a value
        that selects other arithmetic are refused.

        Raises
        ------
        UnsupportedError
            With the option, its value, and what is supported.
        """
        if config.get("model_type") != "hgrn_bit":
            raise UnsupportedError('Option model_type must be "hgrn_bit" (MatMul-free LM), '
                                   f"not {quote(config.get('model_type'))}")
        for name, supported in _CHOICES.items():
            value = config.get(name, supported[0])
            # By type too, because 0 equals False.
            if not any(type(value) is type(choice) and value == choice for choice in supported):
                raise UnsupportedError(f"Option {name} must be {' or '.join(map(json.dumps, supported))}, "
                                       f"not {quote(value)}")
        for name, value in config.items():
            if value is not None and name not in _SIZES | _HARMLESS | _CHOICES.keys():
                raise UnsupportedError(f"Option {quote(name)} with value {quote(value)} is not supported; "
                                       f"supported are {', '.join(sorted(_SIZES | _CHOICES.keys()))}")

        hidden_size = _int(config, "hidden_size", 2048)
        intermediate_size = _int_or_none(config, "intermediate_size", None)
        if intermediate_size is None:
            # The public rule: two thirds of the ratio, in whole steps of 256.
            wished = hidden_size * _number(config, "hidden_ratio", 4) * 2 / 3
            intermediate_size = 256 * math.ceil(int(wished) / 256)
        return cls(
            vocab_size        = _int(config, "vocab_size", 32000),
            hidden_size       = hidden_size,
            num_hidden_layers = _int(config, "num_hidden_layers", 24),
            expand_ratio      = _number(config, "expand_ratio", 1),
            intermediate_size = intermediate_size,
            use_lower_bound   = _bool(config, "use_lower_bound", True),
            rms_norm_eps      = _number(config, "rms_norm_eps", 1e-6),
            bos_token_id      = _int_or_none(config, "bos_token_id", 1),
            eos_token_id      = _int_or_none(config, "eos_token_id", 2),
        )


def _number(config: Mapping[str, Any], name: str, default: float) -> float:
    value = config.get(name, default)
    if type(value) not in (int, float) or not abs(value) <= _VOCAB_LIMIT:
        raise UnsupportedError(f"Option {name} must be a number up to {_VOCAB_LIMIT}, not {quote(value)}")
    return value


def _int(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name, default)
    if type(value) is not int or not abs(value) <= _VOCAB_LIMIT:
        raise UnsupportedError(f"Option {name} must be a whole number up to {_VOCAB_LIMIT}, "
                               f"not {quote(value)}")
    return value


def _int_or_none(config: Mapping[str, Any], name: str, default: int | None) -> int | None:
    value = config.get(name, default)
    return None if value is None else _int({name: value}, name, 0)


def _bool(config: Mapping[str, Any], name: str, default: bool) -> bool:
    value = config.get(name, default)
    if type(value) is not bool:
        raise UnsupportedError(f"Option {name} must be true or false, not {quote(value)}")
    return value
