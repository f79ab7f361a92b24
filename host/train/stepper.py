"""One step of training after the other."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from terngen.host.train import data
from terngen.host.train.model import HGRNBit
from terngen.host.train.settings import Recipe

__all__ = ["Stepper"]


class Stepper:
    """Trains a model step by step; on a GPU a whole step is recorded once, and then replayed.

    A step of a small model is about a thousand short kernels, and starting them one by one takes
    longer than running them.

    Parameters
    ----------
    tokens : (N,) int64
        The whole text, on the device of the model.
    fused : :class:`bool`
        Compile the loss and its gradient.
    """

    #: Steps that run before the recording, so that everything is compiled and allocated by then.
    WARM_STEPS = 3

    def __init__(self, model: HGRNBit, recipe: Recipe, tokens: Tensor, *, fused: bool):
        self._model  = model
        self._recipe = recipe
        self._tokens = tokens

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
        self._warm    = 0

        on_gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if on_gpu else None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._compare = torch.compile(self._loss_of) if fused else self._loss_of

        # Decay is done in the step itself, since it changes while a recording cannot.
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=self._rate, betas=(0.9, 0.95),
                                            weight_decay=0.0, fused=True, capturable=on_gpu)
        self._matrices: list[Tensor] = [
            parameter for name, parameter in model.named_parameters()
            if parameter.ndim == 2 and "bounds" not in name]

    def _loss_of(self, inputs: Tensor, targets: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Loss, and state after the window."""
        logits, state = self._model(inputs, state)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten()), state.detach()

    def _step(self) -> None:
        places = (self._corners[:, None] + self._reach) % len(self._tokens)
        inputs = self._tokens[places - 1]       # the token before the first is the last
        begins = self._fresh & (self._reach == 0)
        inputs = torch.where(begins, data.BOS, inputs)
        state  = torch.where(self._fresh, 0.0, self._state)

        self._optimizer.zero_grad(set_to_none=True)
        loss, after = self._compare(inputs, self._tokens[places], state)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        with torch.no_grad():
            torch._foreach_mul_(self._matrices, self._keep)
        self._optimizer.step()
        self._state.copy_(after)
        self._losses += loss.detach()

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
        elif self._warm < self.WARM_STEPS:
            self._warm += 1
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

    def kept(self) -> dict[str, Tensor]:
        """All that a run needs to go on from here, on the CPU."""
        tensors = {"state": self._state, "rng": torch.get_rng_state()}
        if self._stream is not None:
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self._tokens.device)
        for name, parameter in self._model.named_parameters():
            tensors[f"model.{name}"] = parameter.detach()
            for what, moment in self._optimizer.state[parameter].items():
                tensors[f"{what}.{name}"] = moment
        return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what :meth:`kept` gave; only before the first step."""
        self._state.copy_(tensors["state"])
        torch.set_rng_state(tensors["rng"])
        if self._stream is not None:
            torch.cuda.set_rng_state(tensors["rng.cuda"], self._tokens.device)
        for name, parameter in self._model.named_parameters():
            parameter.detach().copy_(tensors[f"model.{name}"])
            self._optimizer.state[parameter] = {
                "step": tensors[f"step.{name}"].to(self._rate.device)} | {
                what: tensors[f"{what}.{name}"].to(parameter.device)
                for what in ("exp_avg", "exp_avg_sq")}

    def mean_loss(self) -> float:
        """Mean loss against the text of the steps since the last call, nats per token."""
        mean = self._losses.item() / self._count
        self._losses.zero_()
        self._count = 0
        return mean
