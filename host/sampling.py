"""How the next token of a text is chosen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from terngen.host.errors import ConfigError
from terngen.hw.contract import bits, drawing
from terngen.hw.contract.config import Config
from terngen.hw.contract.regs import Choice

if TYPE_CHECKING:
    from terngen.host.device import Result

__all__ = ["Sampling"]


class Sampling:
    """Chooses the tokens of one text.

    A machine that goes on by itself draws as this does, by :mod:`terngen.hw.contract.drawing`: the text is the same,
    whoever chooses.

    Parameters
    ----------
    temperature : :class:`float`
        Zero takes the best candidate, one follows the model.
    top_k : :class:`int` or None
        Candidates to choose from, at most those that the device gives.
    seed : :class:`int`
        Equal seeds choose equally.

    Raises
    ------
    ValueError
        If the temperature is negative, or fewer than one candidate are left.
    """

    def __init__(self, *, temperature: float = 0.0, top_k: int | None = None, seed: int = 0
                 ) -> None:
        if not temperature >= 0 or not math.isfinite(temperature):
            raise ValueError(f"Temperature must be zero or more, not {temperature}")
        if top_k is not None and top_k < 1:
            raise ValueError(f"Top-k must be at least 1, not {top_k}")
        #: Whether it always takes the best candidate.
        self.greedy    = temperature == 0
        self._coldness = 0 if self.greedy else drawing.coldness(temperature)
        self._top_k    = top_k
        self._state    = drawing.start(seed)

    def check(self, config: Config) -> None:
        """Refuse a machine that has nothing to draw from.

        Raises
        ------
        ConfigError
            If a token is to be drawn, and the machine keeps one candidate.
        """
        if not self.greedy and not config.draws:
            raise ConfigError("Machine keeps one candidate for each slot, which leaves nothing to draw; generate one "
                              "with a top_k of at least 2, or take the best with a temperature of 0")

    def choose(self, result: Result) -> int:
        """The token that follows."""
        if self.greedy:
            return int(result.tokens[0])
        slope = drawing.slope(result.scale, self._coldness)
        place, state = drawing.draw(self._state, slope, result.sums[:self._top_k])
        self._state  = int(state)
        return int(result.tokens[place])

    def _candidates(self, kept: int) -> int:
        return kept if self._top_k is None else min(self._top_k, kept)

    def words(self, kept: int) -> tuple[int, int]:
        """What a machine that has `kept` candidates is told at :func:`~terngen.hw.contract.regs.choice_address`, to go
        on in place of this."""
        choice = bits.pack(Choice, coldness=self._coldness, candidates=self._candidates(kept))
        return self._state, int.from_bytes(choice, "little")

    def skip(self, kept: int) -> None:
        """A machine that has `kept` candidates has chosen a token."""
        if not self.greedy:
            self._state = drawing.skip(self._state, self._candidates(kept))
