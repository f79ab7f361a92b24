"""What a request wants to be written, and the text as it becomes certain."""

import dataclasses
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from terngen.host.errors import DeviceError
from terngen.host.sampling import Sampling
from terngen.host.text import Decoder, Language

__all__ = ["Piece", "Request", "Score", "Writer"]

#: Why a text ended: the model or a stop string ended it, or it has as many tokens as were asked for.
Reason = Literal["stop", "length"]

_numbers = itertools.count(1)


@dataclasses.dataclass(frozen=True)
class Score:
    """A token that was made, beside those that could have been."""

    #: Its text, where it stands.
    text:    str
    #: Characters that were certain before it.
    offset:  int
    #: Natural logarithm of its share, over the whole vocabulary, at a temperature of one.
    logprob: float
    #: The same of the best tokens, best first; with equal shares in the order of their numbers.
    best:    list[tuple[str, float]]


@dataclasses.dataclass(frozen=True)
class Piece:
    """What one more token has brought."""

    #: Text that has become certain; a character may take several tokens.
    text:   str
    #: Of the token, where the request asks for it; not of one that only ends the text.
    score:  Score | None
    #: Tokens that have been made, without one that only ends the text.
    made:   int
    #: Why it is the last one.
    reason: Reason | None


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
    """A text to be continued.

    Parameters
    ----------
    prompt : list of :class:`int`
        Tokens of it, at least one, all of them in the vocabulary.
    count : :class:`int`
        Tokens to be made at most.
    deliver : callable
        Takes the pieces in order, the last one with a reason; or an error, after which nothing comes. It is called by
        the thread that has the device, and must not wait.
    sampling : :class:`Sampling`
        Used by this request alone.
    stop : sequence of :class:`str`
        The text ends before any of these; none of them is empty.
    scored : :class:`int` or None
        Candidates to be told with each token.
    """

    prompt:   list[int]
    count:    int
    deliver:  Callable[[Piece | DeviceError], None]
    sampling: Sampling      = dataclasses.field(default_factory=Sampling)
    stop:     Sequence[str] = ()
    scored:   int | None    = None
    #: Nobody wants it any more.
    gone:     threading.Event = dataclasses.field(default_factory=threading.Event)
    #: By which people tell requests apart.
    number:   int = dataclasses.field(default_factory=lambda: next(_numbers))


class Writer:
    """Turns the tokens of one request into pieces.

    A piece is held back while it may be the beginning of a stop string.
    """

    def __init__(self, language: Language, request: Request) -> None:
        self._language = language
        self._request  = request
        self._decoder  = Decoder(language)
        self._held     = ""
        self._given    = 0      # characters
        self._last     = request.prompt[-1]
        #: Tokens that were made, without the one that ends a text.
        self.made      = 0
        for token in request.prompt:        # because a piece may depend on what is before it
            self._decoder.push(token)

    def push(self, token: int, logits: NDArray[np.float32] | None = None) -> Piece:
        """Take the next token, with all logits if the request is scored."""
        if token == self._language.end:
            return self._ended("stop", None)
        score = None if logits is None else self._score(token, logits)
        self.made += 1
        self._last = token
        self._held += self._decoder.push(token)
        if len(kept := _until(self._held, self._request.stop)) < len(self._held):
            return Piece(kept, score, self.made, "stop")
        if self.made == self._request.count:
            return self._ended("length", score)
        certain = len(self._held) - _doubtful(self._held, self._request.stop)
        piece, self._held = self._held[:certain], self._held[certain:]
        self._given += certain
        return Piece(piece, score, self.made, None)

    def _ended(self, reason: Reason, score: Score | None) -> Piece:
        """With what never became complete."""
        text = self._held + self._decoder.finish()
        kept = _until(text, self._request.stop)
        return Piece(kept, score, self.made, reason if kept == text else "stop")

    def _score(self, token: int, logits: NDArray[np.float32]) -> Score:
        wide  = logits.astype(np.float64)
        wide -= wide.max()
        wide -= np.log(np.exp(wide).sum())
        best  = np.argsort(-wide, kind="stable")[:self._request.scored]
        return Score(self._text(token), self._given + len(self._held), float(wide[token]),
                     [(self._text(int(other)), float(wide[other])) for other in best])

    def _text(self, token: int) -> str:
        """Text of a token after the last one."""
        return self._language.decode([self._last, token])[len(self._language.decode([self._last])):]


def _until(text: str, stops: Sequence[str]) -> str:
    """What comes before the first of some strings."""
    return text[:min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]


def _doubtful(text: str, stops: Sequence[str]) -> int:
    """Characters at the end that may begin one of some strings."""
    return max((length for stop in stops for length in range(1, min(len(stop), len(text) + 1))
                if text.endswith(stop[:length])), default=0)
