"""Shapes of answers, as OpenAI has them."""

from collections.abc import Sequence
from typing import Any, Protocol

from terngen.host.serve.writing import Score

__all__ = ["ChatShape", "Shape", "TextShape"]

Scores = Sequence[Score] | None


class Shape(Protocol):
    """A kind of answer."""

    #: Of its identifiers.
    prefix: str
    #: Names of a whole answer and of a part.
    whole:  str
    part:   str

    def choice(self, text: str, scores: Scores, reason: str | None) -> dict[str, Any]:
        """All of a text."""

    def opening(self) -> list[dict[str, Any]]:
        """What a stream begins with."""

    def delta(self, text: str, scores: Scores, reason: str | None) -> dict[str, Any]:
        """A part of a text."""


class TextShape:
    """Of ``/v1/completions``."""

    prefix, whole, part = "cmpl", "text_completion", "text_completion"

    def choice(self, text: str, scores: Scores, reason: str | None) -> dict[str, Any]:
        """See :class:`Shape`."""
        return {"text": text, "index": 0, "logprobs": _scored_text(scores), "finish_reason": reason}

    def opening(self) -> list[dict[str, Any]]:
        """See :class:`Shape`."""
        return []

    delta = choice


def _scored_text(scores: Scores) -> dict[str, Any] | None:
    if scores is None:
        return None
    return {"tokens":         [score.text for score in scores],
            "token_logprobs": [score.logprob for score in scores],
            "top_logprobs":   [_by_text(score.best) for score in scores],
            "text_offset":    [score.offset for score in scores]}


def _by_text(best: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Of tokens with the same text the better one."""
    found: dict[str, float] = {}
    for text, logprob in best:
        found.setdefault(text, logprob)
    return found


class ChatShape:
    """Of ``/v1/chat/completions``."""

    prefix, whole, part = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def choice(self, text: str, scores: Scores, reason: str | None) -> dict[str, Any]:
        """See :class:`Shape`."""
        return {"index": 0, "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": _scored_chat(scores), "finish_reason": reason}

    def opening(self) -> list[dict[str, Any]]:
        """See :class:`Shape`."""
        return [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}]

    def delta(self, text: str, scores: Scores, reason: str | None) -> dict[str, Any]:
        """See :class:`Shape`."""
        return {"index": 0, "delta": {"content": text} if text else {}, "logprobs": _scored_chat(scores),
                "finish_reason": reason}


def _scored_chat(scores: Scores) -> dict[str, Any] | None:
    if scores is None:
        return None
    return {"content": [{**_chat_token(score.text, score.logprob),
                         "top_logprobs": [_chat_token(text, logprob) for text, logprob in score.best]}
                        for score in scores], "refusal": None}


def _chat_token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
