"""The recipe: from a text file to a checkpoint in the public format."""

import dataclasses
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save as to_safetensors
from tokenizers import Tokenizer
from torch import Tensor

from terngen.host.train import data
from terngen.host.train.model import HGRNBit, ModelConfig

__all__ = ["Recipe", "bits_per_byte", "save", "train"]

#: Tokens of the validation text that go through the model at a time; the state is carried.
EVAL_WINDOW = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train; sizes of the model are in :class:`ModelConfig`.

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

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name.capitalize()} must be at least 1, not {getattr(self, name)!r}")
        if not self.rate > 0:
            raise ValueError(f"Rate must be positive, not {self.rate!r}")

    def rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        warm = max(1, round(self.warmup * self.steps))
        return self.rate * min((step + 1) / warm, (self.steps - step) / max(1, self.steps - warm))

    def weight_decay_at(self, step: int) -> float:
        """The weight decay of a step."""
        return self.weight_decay if 3 * step < 2 * self.steps else 0.0


def shipped(model: HGRNBit) -> dict[str, Tensor]:
    """The parameters as a checkpoint stores them: bfloat16, on the CPU."""
    return {name: value.detach().to("cpu", torch.bfloat16).contiguous()
            for name, value in model.state_dict().items()}


@torch.no_grad()
def bits_per_byte(model: HGRNBit, tokens: Tensor, octets: int) -> float:
    """Cost of a text, with the weights rounded as they are shipped.

    The text is one stream: BOS, then all its tokens, the state never reset. The sum of
    ``-log2 p(token)`` over all of them, end of line included, is divided by the bytes of the text.

    Parameters
    ----------
    tokens : (N,) int64
    octets : :class:`int`
        Bytes of the text in UTF-8.
    """
    device = model.lm_head.weight.device
    judge = HGRNBit(model.config).to(device).eval()
    judge.load_state_dict(shipped(model))
    tokens = tokens.to(device)
    inputs = torch.cat([tokens.new_tensor([data.BOS]), tokens[:-1]])
    state = judge.zero_state(1)
    nats = 0.0
    for here, there in zip(inputs.split(EVAL_WINDOW), tokens.split(EVAL_WINDOW)):
        logits, state = judge(here[None], state)
        nats += F.cross_entropy(logits[0], there, reduction="none").double().sum().item()
    return nats / math.log(2) / octets


def train(text: str, valid: str, config: ModelConfig, recipe: Recipe, *,
          tokenizer: Tokenizer | None = None, device: str = "cpu", fused: bool = False,
          every: int = 1000,
          say: Callable[[str], None] = print) -> tuple[HGRNBit, Tokenizer, dict[str, Any]]:
    """Train a model.

    Parameters
    ----------
    text, valid : :class:`str`
        Plain ASCII, one paragraph a line; `valid` is only measured.
    tokenizer : :class:`tokenizers.Tokenizer`, optional
        Otherwise one of `config.vocab_size` tokens is learned from `text`.
    fused : :class:`bool`
        Compile the training step with ``torch.compile``.
    every : :class:`int`
        Steps between lines of progress, which go to `say`.

    Returns
    -------
    The model, its tokenizer, and a report of figures.
    """
    data.check_text(text, "Training text")
    data.check_text(valid, "Validation text")
    if tokenizer is None:
        tokenizer = data.train_tokenizer(text, config.vocab_size)
    elif tokenizer.get_vocab_size() != config.vocab_size:
        raise ValueError(f"Tokenizer must have {config.vocab_size} tokens as the model does, "
                         f"not {tokenizer.get_vocab_size()}")
    tokens, starts = data.encode(tokenizer, text)
    valid_tokens, _ = data.encode(tokenizer, valid)
    say(f"{config.ternary_weights} ternary weights; {len(tokens)} tokens in {len(text)} bytes")

    torch.manual_seed(recipe.seed)
    if device.startswith("cuda"):
        # The ternary products are exact in TF32, and the straight-through gradient is an estimate anyway.
        torch.set_float32_matmul_precision("high")
    model = HGRNBit(config, dropout=recipe.dropout).to(device)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "bounds" not in name]
    others   = [p for name, p in model.named_parameters() if p.ndim != 2 or "bounds" in name]
    optimizer = torch.optim.AdamW([{"params": matrices}, {"params": others}], betas=(0.9, 0.95),
                                  fused=device.startswith("cuda"))

    def forward(inputs: Tensor, targets: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        logits, state = model(inputs, state)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten()), state.detach()

    if fused:
        forward = torch.compile(forward, mode="reduce-overhead")
    batches = data.streams(tokens.to(device), starts, batch=recipe.batch, window=recipe.window,
                           generator=torch.Generator().manual_seed(recipe.seed))
    losses = []
    began = time.monotonic()
    for step in range(recipe.steps):
        inputs, targets, fresh = next(batches)
        if fresh:
            state = model.zero_state(recipe.batch)
        for group, decay in zip(optimizer.param_groups, (recipe.weight_decay_at(step), 0.0)):
            group["lr"], group["weight_decay"] = recipe.rate_at(step), decay
        optimizer.zero_grad()
        loss, after = forward(inputs, targets, state)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        # Copied, because a compiled step reuses the memory of its results.
        state = after.clone()
        losses.append(loss.detach().clone())
        if (step + 1) % every == 0 or step + 1 == recipe.steps:
            mean = torch.stack(losses[-every:]).mean().item()
            bits = mean * len(tokens) / math.log(2) / len(text)
            cost = bits_per_byte(model, valid_tokens, len(valid))
            say(f"step {step + 1}: {time.monotonic() - began:.0f} s, training {bits:.4f}, "
                f"validation {cost:.4f} bits per byte")
    report = {
        "bits_per_byte": cost, "training_bits_per_byte": bits,
        "first_loss": losses[0].item(), "last_loss": losses[-1].item(),
        "valid_tokens": len(valid_tokens), "valid_bytes": len(valid),
        "ternary_weights": config.ternary_weights, "seconds": round(time.monotonic() - began, 1),
        **dataclasses.asdict(recipe),
    }
    return model, tokenizer, report


def save(folder: Path, model: HGRNBit, tokenizer: Tokenizer, report: dict[str, Any]) -> None:
    """Write a checkpoint in the public format, whole or not at all.

    Raises
    ------
    FileExistsError
        If there is something at `folder` already.
    """
    if folder.exists():
        raise FileExistsError(f"Output folder must not exist yet, but {folder} does")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        partial.chmod(0o755)
        (partial / "model.safetensors").write_bytes(to_safetensors(shipped(model), {"format": "pt"}))
        (partial / "config.json").write_text(json.dumps(model.config.to_json(), indent=2) + "\n")
        (partial / "training.json").write_text(json.dumps(report, indent=2) + "\n")
        tokenizer.save(str(partial / "tokenizer.json"))
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial)
        raise
