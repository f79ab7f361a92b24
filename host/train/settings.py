"""What is trained and how: sizes of a model, and the recipe."""

import dataclasses
import math
from typing import Any

from terngen.hw.contract.floats import Multiplier

__all__ = ["ModelConfig", "Recipe"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes of a model, named as in the public ``config.json``."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    hidden_ratio: int = 4
    intermediate_size: int | None = None
    expand_ratio: int = 1
    num_heads: int = 1
    use_lower_bound: bool = True
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    max_position_embeddings: int = 2048

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "hidden_ratio", "expand_ratio"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)!r}")
        if self.hidden_size % 16 or self.intermediate % 16 or self.intermediate < 1:
            raise ValueError(f"Hidden and intermediate size must be multiples of 16, not "
                             f"{self.hidden_size} and {self.intermediate}")
        if self.use_lower_bound and self.expand_ratio != 1:
            raise ValueError(f"Lower bounds need expand_ratio=1, not {self.expand_ratio}: "
                             f"the public format stores one bound per hidden value")

    @property
    def recurrent(self) -> int:
        """Values of recurrent state in a layer."""
        return self.hidden_size * self.expand_ratio

    @property
    def intermediate(self) -> int:
        """Width of the channel mixer; where not given, the rule of the public code."""
        if self.intermediate_size is not None:
            return self.intermediate_size
        return 256 * -(-int(self.hidden_size * self.hidden_ratio * 2 / 3) // 256)

    @property
    def ternary_weights(self) -> int:
        """Ternary weights of the whole model, head included."""
        block = 4 * self.hidden_size * self.recurrent + 3 * self.hidden_size * self.intermediate
        return self.num_hidden_layers * block + self.vocab_size * self.hidden_size

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "ModelConfig":
        """Read the keys of a public ``config.json`` that decide the arithmetic."""
        if values.get("model_type") != "hgrn_bit":
            raise ValueError(f"Model type must be hgrn_bit, not {values.get('model_type')!r}")
        if values.get("use_short_conv"):
            raise ValueError("use_short_conv must be false; the public code cannot run it either")
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: values[name] for name in names if name in values})

    def to_json(self) -> dict[str, Any]:
        """Give every key of a public ``config.json``, for weights stored in bfloat16."""
        return {
            "architectures": ["HGRNBitForCausalLM"], "model_type": "hgrn_bit", "dtype": "bfloat16",
            "attn_mode": "fused_recurrent", "use_short_conv": False, "conv_size": 4,
            "share_conv_kernel": True, "hidden_act": "swish", "use_cache": True,
            "fuse_cross_entropy": True, "tie_word_embeddings": False,
            "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2,
            **dataclasses.asdict(self),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train.

    AdamW, whose rate rises over the first `warmup` share of the steps and then falls linearly to
    zero. Weight decay ends after two thirds of the steps, so that the last third settles on trits.
    """

    steps: int
    batch: int = 64
    window: int = 256
    rate: float = 4e-3
    warmup: float = 0.02
    weight_decay: float = 0.1
    dropout: float = 0.0
    seed: int = 0
    #: Multiplier of every product of the machine whose arithmetic the forward pass has; in float32 without one.
    multiplier: str | None = None

    def __post_init__(self) -> None:
        if self.multiplier is not None:
            Multiplier.parse(self.multiplier)
        for name in ("steps", "batch", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name.capitalize()} must be at least 1, not {getattr(self, name)!r}")
        if not 0 < self.rate < math.inf:
            raise ValueError(f"Rate must be a positive number, not {self.rate!r}")
        if not 0 <= self.weight_decay * self.rate < 1:
            raise ValueError(f"Weight decay must be at least 0 and below 1 / rate, "
                             f"not {self.weight_decay!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"Dropout must be at least 0 and below 1, not {self.dropout!r}")

    def rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        warm = max(1, round(self.warmup * self.steps))
        return self.rate * min((step + 1) / warm, (self.steps - step) / max(1, self.steps - warm))

    def weight_decay_at(self, step: int) -> float:
        """The weight decay of a step."""
        return self.weight_decay if 3 * step < 2 * self.steps else 0.0
