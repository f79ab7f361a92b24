"""Whole sequences on the golden machine, many tokens at a time."""

from collections.abc import Sequence as Tokens

import numpy as np

from terngen.hw.contract import formats
from terngen.hw.contract.tape import Mark, Tape
from terngen.sim.golden.machine import GoldenMachine

__all__ = ["Sequence"]


class Sequence:
    """One sequence on a golden machine whose slots are consecutive tokens.

    Every number equals that of a machine which is given one token after the other: slots are
    independent, and the recurrence runs through them in order.

    Parameters
    ----------
    tape : :class:`Tape`
        The model.
    chunk : :class:`int`
        Tokens at a time. More are faster and take more memory.
    """

    def __init__(self, tape: Tape, *, chunk: int = 64) -> None:
        if chunk < 1:
            raise ValueError(f"Chunk must be at least 1 token, not {chunk}")
        self.tape    = tape
        self.machine = GoldenMachine(tape.config, tape.image, slots=chunk)
        self.reset()

    def reset(self) -> None:
        """Begin a new sequence."""
        self.machine.reset()
        self.machine.states[:] = 0

    def advance(self, tokens: Tokens[int]) -> np.ndarray:
        """Take the next tokens.

        Returns
        -------
        float32 ``(len(tokens), vocab)``
            Logits after each.

        Raises
        ------
        ValueError
            If a token is not in the vocabulary.
        MachineFault
            If the tape makes no sense.
        """
        machine, model = self.machine, self.tape.model
        vocab   = model["vocab_size"]
        foreign = [token for token in tokens if not 0 <= token < vocab]
        if foreign:
            raise ValueError(f"Token must be from 0 to {vocab - 1}, not {foreign[0]}")
        layers, head = self.tape.marks["layers"], self.tape.marks["head"]
        logits = np.empty((len(tokens), vocab), np.float32)
        for start in range(0, len(tokens), machine.slots):
            part  = tokens[start:start + machine.slots]
            slots = range(len(part))
            machine.embed({slot: int(token) for slot, token in enumerate(part)},
                          model["embedding_start"], model["embedding_beats"], model["hidden_size"])
            machine.play(Mark(layers.start, layers.count + head.count), slots, vocab=vocab)
            sums  = np.concatenate(machine.head, axis=1)[:, :vocab]     # (tokens, vocab)
            scale = formats.to_float(machine.config.path, machine.scale[:len(part)])
            logits[start:start + len(part)] = sums * scale[:, None]
        return logits
