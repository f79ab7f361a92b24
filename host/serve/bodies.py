"""Bodies of requests: what is understood, and what is refused with a sentence.

Where a field means what every client sends by default, and something else is not supported, the field is known and
its other values are refused.
"""

from typing import Annotated, Literal, TypeVar

import msgspec

__all__ = ["BodyError", "Chat", "Completion", "Detokenize", "Message", "Options", "Tokenize", "decode"]

#: Of the best tokens beside each token, as OpenAI has it.
_COMPLETION_LOGPROBS, _CHAT_LOGPROBS = 5, 20

Positive    = Annotated[int, msgspec.Meta(ge=1)]
Natural     = Annotated[int, msgspec.Meta(ge=0)]
Seed        = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
Temperature = Annotated[float, msgspec.Meta(ge=0, le=100)]
Stop        = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Stops       = Annotated[list[Stop], msgspec.Meta(max_length=4)]


class BodyError(Exception):
    """A body is refused.

    Parameters
    ----------
    param : :class:`str` or None
        Field that it is about.
    """

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """How a stream is sent."""

    include_usage: bool = False


class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What all requests for text have."""

    model:             str | None = None
    max_tokens:        Positive | None = None
    temperature:       Temperature | None = None
    #: Candidates to choose from; not among OpenAI's.
    top_k:             Positive | None = None
    seed:              Seed | None = None
    stop:              Stop | Stops | None = None
    stream:            bool | None = None
    stream_options:    StreamOptions | None = None
    user:              str | None = None
    n:                 int | None = None
    top_p:             float | None = None
    presence_penalty:  float | None = None
    frequency_penalty: float | None = None
    logit_bias:        dict[str, float] | None = None

    @property
    def stops(self) -> list[str]:
        """Strings that end the text."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def scored(self) -> int | None:
        """Candidates to be told with each token."""
        raise NotImplementedError

    @property
    def count(self) -> int | None:
        """Tokens that are asked for."""
        return self.max_tokens

    @property
    def usage_follows(self) -> bool:
        """Whether the last chunk of a stream has the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def check(self) -> None:
        """Refuse what is not supported.

        Raises
        ------
        BodyError
            If there is such a thing.
        """
        _only(self, n=1, top_p=1, presence_penalty=0, frequency_penalty=0)
        if self.logit_bias:
            raise BodyError("Logit_bias is not supported", "logit_bias")
        if self.stream_options is not None and not self.stream:
            raise BodyError("Stream_options are for streams; set stream", "stream_options")


class Completion(Options, kw_only=True):
    """Of ``/v1/completions``."""

    prompt:   str | list[int | str]
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=_COMPLETION_LOGPROBS)] | None = None
    best_of:  int | None = None
    echo:     bool | None = None
    suffix:   str | None = None

    @property
    def scored(self) -> int | None:
        return self.logprobs

    @property
    def text_or_tokens(self) -> str | list[int]:
        """The prompt.

        Raises
        ------
        BodyError
            If there are several, or it has neither.
        """
        if isinstance(self.prompt, str):
            return self.prompt
        if len(self.prompt) == 1 and isinstance(self.prompt[0], str):
            return self.prompt[0]
        tokens = [token for token in self.prompt if isinstance(token, int)]
        if not tokens or len(tokens) < len(self.prompt):
            raise BodyError("Prompt must be one text, or a list of tokens; several in a request are not supported",
                            "prompt")
        return tokens

    def check(self) -> None:
        Options.check(self)
        _only(self, best_of=1, echo=False, suffix="")


class TextPart(msgspec.Struct, forbid_unknown_fields=True):
    """A part of a message."""

    type: Literal["text"]
    text: str


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """What somebody said."""

    role:    Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name:    str | None = None

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class Chat(Options, kw_only=True):
    """Of ``/v1/chat/completions``."""

    messages:              Annotated[list[Message], msgspec.Meta(min_length=1)]
    max_completion_tokens: Positive | None = None
    logprobs:              bool | None = None
    top_logprobs:          Annotated[int, msgspec.Meta(ge=0, le=_CHAT_LOGPROBS)] | None = None

    @property
    def scored(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def count(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def check(self) -> None:
        Options.check(self)
        if self.top_logprobs is not None and not self.logprobs:
            raise BodyError("Top_logprobs need logprobs", "top_logprobs")


class Tokenize(msgspec.Struct, forbid_unknown_fields=True):
    """Of ``/tokenize``."""

    content:     str
    #: Whether the token that begins a text comes first.
    add_special: bool = False


class Detokenize(msgspec.Struct, forbid_unknown_fields=True):
    """Of ``/detokenize``."""

    tokens: list[Natural]


Body = TypeVar("Body", bound=msgspec.Struct)


def decode(octets: bytes, kind: type[Body]) -> Body:
    """A body.

    Raises
    ------
    BodyError
        If it is not JSON, or not what is expected.
    """
    try:
        return msgspec.json.decode(octets, type=kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        raise BodyError(f"Body is refused: {message}" + (f", at {place.strip('`.')}" if place else ""),
                        place.strip("`.") or None) from error
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise BodyError(f"Body must be JSON: {error}") from error


def _only(body: msgspec.Struct, **supported: object) -> None:
    """Fields that may be absent, or have one value."""
    for name, value in supported.items():
        if (given := getattr(body, name)) is not None and given != value:
            raise BodyError(f"{name.capitalize()} must be {msgspec.json.encode(value).decode()}, which is all that is "
                            f"supported, not {msgspec.json.encode(given)[:100].decode(errors='replace')}", name)
