"""The recipe: from text to a checkpoint in the public format."""

import copy
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from tokenizers import Tokenizer
from torch import Tensor

from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.errors import InputError
from terngen.host.files import replacing
from terngen.host.train import data
from terngen.host.train.machine import MachineModel
from terngen.host.train.model import SCALE_FLOOR, BitLinear, HGRNBit, ternary
from terngen.host.train.settings import ModelConfig, Recipe
from terngen.host.train.stepper import Stepper
from terngen.hw.contract.config import Sites
from terngen.hw.contract.floats import Multiplier

__all__ = ["bits_per_byte", "save", "settled", "train"]

#: Tokens of a long text that go through a model at a time; the state is carried.
LONG_WINDOW = 4096
#: How far from the threshold of its trit a weight is moved before it is rounded, as a share of the threshold:
#: twice what rounding to bfloat16 takes at most, because the threshold moves a little as well.
SETTLED_GAP = 2**-7


@torch.no_grad()
def settled(weight: Tensor) -> Tensor:
    """The weights of a ternary matrix in bfloat16, with the trits of the float32 ones.

    Training leaves many weights (up to a third of a matrix) within 0.2 % of the threshold between
    two trits, where they swing at every step (Nagel et al., "Overcoming oscillations in quantization-aware
    training", 2022). Rounding alone would throw them to either side, so they are first moved apart, by more
    than bfloat16 can lose.
    """
    threshold = weight.abs().mean().clamp(min=SCALE_FLOOR) / 2
    size      = torch.where(ternary(weight)[0] == 0, weight.abs().clamp(max=threshold * (1 - SETTLED_GAP)),
                            weight.abs().clamp(min=threshold * (1 + SETTLED_GAP)))
    return size.copysign(weight).to(torch.bfloat16)


def shipped(model: HGRNBit) -> dict[str, Tensor]:
    """The parameters as a checkpoint stores them: bfloat16, on the CPU."""
    matrices = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, BitLinear)}
    return {name: (settled(value) if name in matrices else value.detach().to(torch.bfloat16)).cpu().contiguous()
            for name, value in model.state_dict().items()}


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
    # Not a new model, whose first values would come from the random numbers of the training.
    judge = copy.deepcopy(model).eval()
    judge.load_state_dict(shipped(model))
    tokens = tokens.to(device)
    inputs = torch.cat([tokens.new_tensor([data.BOS]), tokens[:-1]])
    state = judge.zero_state(1)
    nats = 0.0
    for here, there in zip(inputs.split(LONG_WINDOW), tokens.split(LONG_WINDOW)):
        logits, state = judge(here[None], state)
        nats += F.cross_entropy(logits[0], there, reduction="none").double().sum().item()
    return nats / math.log(2) / octets


@dataclasses.dataclass
class _Point:
    """Where a run is."""

    #: What is trained, on what and how, as text: a run goes on as the same run only.
    run:     str
    #: Steps that are done, the seconds that they took, and the loss of the first one.
    step:    int = 0
    seconds: float = 0.0
    first:   float = math.nan

    def write(self, path: Path, stepper: Stepper) -> None:
        with replacing(path) as file:
            file.write(to_safetensors(stepper.kept(), {"point": json.dumps(dataclasses.asdict(self))}))

    def read(self, path: Path, stepper: Stepper) -> None:
        try:
            with safe_open(path, "pt") as file:
                point   = _Point(**json.loads(file.metadata()["point"]))
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
            raise InputError(f"State {path} cannot be read: {error}") from error
        if point.run != self.run:
            raise InputError(f"State {path} must be of the same text, sizes and recipe, but is of another "
                             f"run; remove it or name another file")
        stepper.restore(tensors)
        self.step, self.seconds, self.first = point.step, point.seconds, point.first


def _model(config: ModelConfig, recipe: Recipe) -> HGRNBit:
    if recipe.multiplier is None:
        return HGRNBit(config, dropout=recipe.dropout)
    return MachineModel(config, Sites.all(Multiplier.parse(recipe.multiplier)), dropout=recipe.dropout)


def _begin(model: HGRNBit, start: Checkpoint) -> None:
    """Give a model the weights of a checkpoint."""
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if wanted != start.geometry.tensors:
        raise InputError(f"Checkpoint {start.folder} must have the sizes of the model that is trained")
    model.load_state_dict({name: torch.from_numpy(start.tensor(name)) for name in wanted})


def train(text: str, valid: str, config: ModelConfig, recipe: Recipe, *,
          tokenizer: Tokenizer | None = None, start: Checkpoint | None = None, device: str = "cpu", fused: bool = False,
          every: int = 1000, state: Path | None = None,
          say: Callable[[str], None] = print) -> tuple[HGRNBit, Tokenizer, dict[str, Any]]:
    """Train a model.

    Parameters
    ----------
    text, valid : :class:`str`
        Plain ASCII, one paragraph a line; `valid` is only measured.
    tokenizer : :class:`tokenizers.Tokenizer`, optional
        Otherwise one of `config.vocab_size` tokens is learned from `text`.
    start : :class:`Checkpoint`, optional
        Weights to begin with.
    fused : :class:`bool`
        Compile the training step with ``torch.compile``.
    every : :class:`int`
        Steps between lines of progress, which go to `say`.
    state : :class:`~pathlib.Path`, optional
        File in which the run is kept at every line of progress. If it exists, the run goes on from it.

    Returns
    -------
    The model, its tokenizer, and a report of figures.

    Raises
    ------
    InputError
        If a text is empty, not ASCII, or too short, or if tokenizer, weights and model do not fit.
    """
    data.check_text(text, "Training text")
    data.check_text(valid, "Validation text")
    if tokenizer is None:
        tokenizer = data.train_tokenizer(text, config.vocab_size)
    if tokenizer.get_vocab_size() != config.vocab_size:
        raise InputError(f"Tokenizer must have {config.vocab_size} tokens as the model does, "
                         f"not {tokenizer.get_vocab_size()}")
    places, starts = data.encode(tokenizer, text)
    data.check_length(len(places), recipe.batch, recipe.window)
    tokens       = torch.from_numpy(places).to(device)
    valid_tokens = torch.from_numpy(data.encode(tokenizer, valid)[0]).to(device)
    say(f"{config.ternary_weights} ternary weights; {len(tokens)} tokens in {len(text)} bytes")

    torch.manual_seed(recipe.seed)
    if device.startswith("cuda"):
        # What is left in float32 is either exact in TF32 (products of small integers) or a gradient.
        torch.set_float32_matmul_precision("high")
    model   = _model(config, recipe)
    if start is not None:
        _begin(model, start)
    model   = model.to(device)
    stepper = Stepper(model, recipe, tokens, fused=fused)
    point   = _Point(json.dumps([
        dataclasses.asdict(config), dataclasses.asdict(recipe), torch.device(device).type,
        hashlib.sha256(places.tobytes()).hexdigest(), start.folder.name if start is not None else None]))
    if state is not None and state.exists():
        point.read(state, stepper)
        say(f"Going on from {state} after {point.step} steps")
    batches = data.corners(len(tokens), starts, batch=recipe.batch, window=recipe.window,
                           seed=recipe.seed)
    for _ in range(point.step):
        next(batches)
    cost = bits = math.nan
    per_byte = len(tokens) / math.log(2) / len(text)
    began = time.monotonic() - point.seconds
    for step in range(point.step, recipe.steps):
        stepper(step, *next(batches))
        point.step    = step + 1
        point.seconds = time.monotonic() - began
        if step == 0:
            point.first = stepper.mean_loss() * per_byte
        if point.step % every and point.step < recipe.steps:
            continue
        bits = stepper.mean_loss() * per_byte if step else point.first
        cost = bits_per_byte(model, valid_tokens, len(valid))
        if state is not None and point.step < recipe.steps:
            point.write(state, stepper)
        say(f"step {point.step}: {point.seconds:.0f} s, training {bits:.4f}, "
            f"validation {cost:.4f} bits per byte")
    return model, tokenizer, {
        "bits_per_byte": cost, "training_bits_per_byte": bits, "first_bits_per_byte": point.first,
        "tokens": len(tokens), "bytes": len(text),
        "valid_tokens": len(valid_tokens), "valid_bytes": len(valid),
        "ternary_weights": config.ternary_weights, "seconds": round(point.seconds, 1),
        **dataclasses.asdict(recipe), "start": start.folder.name if start is not None else None,
    }
