"""The recipe: from text to a checkpoint in the public format."""

import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save as to_safetensors
from tokenizers import Tokenizer
from torch import Tensor

from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.errors import InputError
from terngen.host.train import data
from terngen.host.train.model import HGRNBit
from terngen.host.train.settings import ModelConfig, Recipe

__all__ = ["bits_per_byte", "load", "save", "train"]

#: Tokens of a long text that go through a model at a time; the state is carried.
LONG_WINDOW = 4096


def shipped(model: HGRNBit) -> dict[str, Tensor]:
    """The parameters as a checkpoint stores them: bfloat16, on the CPU."""
    return {name: value.detach().to("cpu", torch.bfloat16).contiguous()
            for name, value in model.state_dict().items()}


def load(checkpoint: Checkpoint) -> HGRNBit:
    """The model of a checkpoint, in float32.

    Raises
    ------
    CheckpointError
        If a tensor cannot be read.
    """
    config = ModelConfig.from_json(json.loads((checkpoint.folder / "config.json").read_bytes()))
    model = HGRNBit(config)
    model.load_state_dict({name: torch.from_numpy(checkpoint.tensor(name))
                           for name in checkpoint.geometry.tensors})
    return model


def save(folder: Path, model: HGRNBit, tokenizer: Tokenizer, report: dict[str, Any]) -> None:
    """Write the files of a checkpoint in the public format, and the report, into an empty folder."""
    (folder / "model.safetensors").write_bytes(to_safetensors(shipped(model), {"format": "pt"}))
    (folder / "config.json").write_text(json.dumps(model.config.to_json(), indent=2) + "\n")
    (folder / "training.json").write_text(json.dumps(report, indent=2) + "\n")
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True) + "\n")


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
    for here, there in zip(inputs.split(LONG_WINDOW), tokens.split(LONG_WINDOW)):
        logits, state = judge(here[None], state)
        nats += F.cross_entropy(logits[0], there, reduction="none").double().sum().item()
    return nats / math.log(2) / octets


@torch.no_grad()
def lessons(teacher: HGRNBit, tokens: Tensor) -> Tensor:
    """What a teacher foretells for every place of a text, read as one stream.

    Returns
    -------
    Probabilities, (N, vocabulary), float16.
    """
    teacher.eval()
    inputs = torch.cat([tokens.new_tensor([data.BOS]), tokens[:-1]])
    state = teacher.zero_state(1)
    rows = torch.empty(len(tokens), teacher.config.vocab_size, dtype=torch.float16,
                       device=tokens.device)
    for here, row in zip(inputs.split(LONG_WINDOW), rows.split(LONG_WINDOW)):
        logits, state = teacher(here[None], state)
        row.copy_(logits[0].softmax(-1))
    return rows


class _Stepper:
    """Trains a model step by step; on a GPU a whole step is recorded once, and then replayed.

    A step of a small model is about a thousand short kernels, and starting them one by one takes
    longer than running them.

    Parameters
    ----------
    tokens : (N,) int64
        The whole text, on the device of the model.
    probabilities : (N, V) float16, optional
        What a teacher foretells at each of these places.
    fused : :class:`bool`
        Compile the loss and its gradient.
    """

    #: Steps that run before the recording, so that everything is compiled and allocated by then.
    WARM_STEPS = 3

    def __init__(self, model: HGRNBit, recipe: Recipe, tokens: Tensor, probabilities: Tensor | None,
                 *, fused: bool):
        self._model         = model
        self._recipe        = recipe
        self._tokens        = tokens
        self._probabilities = probabilities

        device = tokens.device
        # What a step reads and writes stays at its place, because a recording knows places only.
        self._corners = torch.zeros(recipe.batch, dtype=torch.int64, device=device)
        self._reach   = torch.arange(recipe.window, device=device)
        self._fresh   = torch.zeros((), dtype=torch.bool, device=device)
        self._state   = model.zero_state(recipe.batch)
        self._rate    = torch.zeros((), device=device)
        self._keep    = torch.ones((), device=device)
        self._losses  = torch.zeros((), dtype=torch.float64, device=device)
        self._count   = 0

        on_gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if on_gpu else None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._compare = torch.compile(self._losses_of) if fused else self._losses_of

        # Decay is done in the step itself, since it changes while a recording cannot.
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=self._rate, betas=(0.9, 0.95),
                                            weight_decay=0.0, fused=True, capturable=on_gpu)
        self._matrices = [parameter for name, parameter in model.named_parameters()
                          if parameter.ndim == 2 and "bounds" not in name]

    def _losses_of(self, inputs: Tensor, targets: Tensor, state: Tensor,
                   probabilities: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Loss to lower, loss against the text alone, state after the window."""
        logits, state = self._model(inputs, state)
        logits  = logits.flatten(0, 1)
        text    = F.cross_entropy(logits, targets.flatten())
        if probabilities is None:
            return text, text.detach(), state.detach()
        share   = self._recipe.teacher_weight
        teacher = -(probabilities.float() * logits.log_softmax(-1)).sum(-1).mean()
        return share * teacher + (1 - share) * text, text.detach(), state.detach()

    def _step(self) -> None:
        places  = (self._corners[:, None] + self._reach) % len(self._tokens)
        inputs  = self._tokens[places - 1]      # the token before the first is the last
        begins  = self._fresh & (self._reach == 0)
        inputs  = torch.where(begins, data.BOS, inputs)
        state   = torch.where(self._fresh, 0.0, self._state)
        rows    = self._probabilities[places.flatten()] if self._probabilities is not None else None

        self._optimizer.zero_grad(set_to_none=True)
        loss, text, after = self._compare(inputs, self._tokens[places], state, rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        with torch.no_grad():
            torch._foreach_mul_(self._matrices, self._keep)
        self._optimizer.step()
        self._state.copy_(after)
        self._losses += text

    def __call__(self, step: int, corners: NDArray[np.int64], fresh: bool) -> None:
        """Learn from one batch of :func:`~terngen.host.train.data.corners`."""
        rate = self._recipe.rate_at(step)
        if self._stream is None:
            self._corners.copy_(torch.from_numpy(corners))
        else:
            # From pinned memory, so that the next step is prepared while this one runs.
            self._corners.copy_(torch.from_numpy(corners).pin_memory(), non_blocking=True)
        self._fresh.fill_(fresh)
        self._rate.fill_(rate)
        self._keep.fill_(1 - rate * self._recipe.weight_decay_at(step))
        self._count += 1
        if self._stream is None:
            self._step()
        elif step < self.WARM_STEPS:
            # Not on the default stream, as recording demands.
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                self._step()
            torch.cuda.current_stream().wait_stream(self._stream)
        else:
            if self._graph is None:
                self._graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graph):
                    self._step()
            self._graph.replay()

    def mean_loss(self) -> float:
        """Mean loss against the text of the steps since the last call, nats per token."""
        mean = self._losses.item() / self._count
        self._losses.zero_()
        self._count = 0
        return mean


def train(text: str, valid: str, config: ModelConfig, recipe: Recipe, *,
          tokenizer: Tokenizer | None = None, teacher: HGRNBit | None = None, device: str = "cpu",
          fused: bool = False, every: int = 1000,
          say: Callable[[str], None] = print) -> tuple[HGRNBit, Tokenizer, dict[str, Any]]:
    """Train a model.

    Parameters
    ----------
    text, valid : :class:`str`
        Plain ASCII, one paragraph a line; `valid` is only measured.
    tokenizer : :class:`tokenizers.Tokenizer`, optional
        Otherwise one of `config.vocab_size` tokens is learned from `text`.
    teacher : :class:`HGRNBit`, optional
        A model with the same tokenizer, to learn from. Its probabilities for the whole text are kept
        on the device: two bytes for every token of the text and of the vocabulary.
    fused : :class:`bool`
        Compile the training step with ``torch.compile``.
    every : :class:`int`
        Steps between lines of progress, which go to `say`.

    Returns
    -------
    The model, its tokenizer, and a report of figures.

    Raises
    ------
    InputError
        If a text is empty, not ASCII, or too short, or if tokenizer, teacher and model do not fit.
    """
    data.check_text(text, "Training text")
    data.check_text(valid, "Validation text")
    if tokenizer is None:
        tokenizer = data.train_tokenizer(text, config.vocab_size)
    for what, vocab in (("Tokenizer", tokenizer.get_vocab_size()),
                        ("Teacher", teacher.config.vocab_size if teacher else config.vocab_size)):
        if vocab != config.vocab_size:
            raise InputError(f"{what} must have {config.vocab_size} tokens as the model does, not {vocab}")
    places, starts = data.encode(tokenizer, text)
    data.check_length(len(places), recipe.batch, recipe.window)
    tokens       = torch.from_numpy(places).to(device)
    valid_tokens = torch.from_numpy(data.encode(tokenizer, valid)[0]).to(device)
    say(f"{config.ternary_weights} ternary weights; {len(tokens)} tokens in {len(text)} bytes")

    torch.manual_seed(recipe.seed)
    if device.startswith("cuda"):
        # What is left in float32 is either exact in TF32 (products of small integers) or a gradient.
        torch.set_float32_matmul_precision("high")
    model   = HGRNBit(config, dropout=recipe.dropout).to(device)
    stepper = _Stepper(model, recipe, tokens, lessons(teacher.to(device), tokens) if teacher else None,
                       fused=fused)
    batches = data.corners(len(tokens), starts, batch=recipe.batch, window=recipe.window,
                           seed=recipe.seed)
    first = cost = bits = math.nan
    began = time.monotonic()
    for step in range(recipe.steps):
        stepper(step, *next(batches))
        last = step + 1 == recipe.steps
        if step and not last and (step + 1) % every:
            continue
        bits = stepper.mean_loss() * len(tokens) / math.log(2) / len(text)
        if step == 0:
            first = bits
            if not last:
                continue
        cost = bits_per_byte(model, valid_tokens, len(valid))
        say(f"step {step + 1}: {time.monotonic() - began:.0f} s, training {bits:.4f}, "
            f"validation {cost:.4f} bits per byte")
    return model, tokenizer, {
        "bits_per_byte": cost, "training_bits_per_byte": bits, "first_bits_per_byte": first,
        "tokens": len(tokens), "bytes": len(text),
        "valid_tokens": len(valid_tokens), "valid_bytes": len(valid),
        "ternary_weights": config.ternary_weights, "seconds": round(time.monotonic() - began, 1),
        **dataclasses.asdict(recipe),
        "teacher_weight": recipe.teacher_weight if teacher else None,
    }
