"""Text in, text out: tokens of a model, sampling, stories."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from terngen.host.chain import Computer
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.device import Counters
from terngen.host.errors import CheckpointError, DeviceError, InputError, TapeError
from terngen.host.files import read_text
from terngen.host.sampling import Sampling
from terngen.hw.contract.tape import Tape

__all__ = ["Decoder", "Encoded", "Language", "Story", "Surprise", "read_text", "refusing"]

#: What an incomplete character becomes when it is decoded.
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@contextlib.contextmanager
def refusing(kind: type[DeviceError], what: str) -> Iterator[None]:
    """What the library of tokenizers raises is an error of this kind. It raises nothing precise, and when its core
    panics nothing that is an :class:`Exception`."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise kind(f"{what}: {error}") from error


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A text as tokens.

    Parameters
    ----------
    tokens : list of :class:`int`
        The token that begins a sequence, if the model has one, and those of the text.
    octets : list of :class:`int`
        For each token, octets of the text in UTF-8 up to its end.
    """

    tokens: list[int]
    octets: list[int]


@dataclasses.dataclass(frozen=True)
class Language:
    """The tokenizer of a model, and the tokens that mean something to the model."""

    tokenizer: Tokenizer
    #: Token that begins a text, and token that ends one.
    begin:     int | None
    end:       int | None
    #: Tokens that the model knows.
    vocab:     int

    def __post_init__(self) -> None:
        # A file may ask for texts of one length, for training.
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    @classmethod
    def of_tape(cls, tape: Tape) -> Self:
        """The language that lies on a tape.

        Raises
        ------
        TapeError
            If there is none, or it cannot be read.
        """
        if not tape.tokenizer:
            raise TapeError("Tape has no tokenizer, so it cannot read or write text; convert a "
                            "checkpoint with tokenizer.json")
        model = tape.model
        with refusing(TapeError, "Tokenizer of the tape cannot be read"):
            return cls(Tokenizer.from_buffer(tape.tokenizer), model["bos_token_id"],
                       model["eos_token_id"], model["vocab_size"])

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint) -> Self:
        """The language of a checkpoint.

        Raises
        ------
        CheckpointError
            If there is no tokenizer, or it cannot be read.
        """
        if checkpoint.tokenizer is None:
            raise CheckpointError(f"Checkpoint {checkpoint.folder} has no tokenizer.json, so it "
                                  f"cannot read or write text")
        geometry = checkpoint.geometry
        with refusing(CheckpointError, f"{checkpoint.tokenizer} cannot be read"):
            return cls(Tokenizer.from_buffer(checkpoint.tokenizer.read_bytes()),
                       geometry.bos_token_id, geometry.eos_token_id, geometry.vocab_size)

    def encode(self, text: str) -> Encoded:
        """Tokens of a text, with the token that begins a sequence in front.

        Raises
        ------
        InputError
            If the text is not Unicode, the tokenizer gives up, or a token is not in the vocabulary of the model.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:     # octets of a command line that are not UTF-8
            raise InputError(f"Text must be Unicode, but character {error.start} is not: "
                             f"{error.reason}") from error
        with refusing(InputError, "Tokenizer does not take this text"):
            encoding = self.tokenizer.encode(text, add_special_tokens=False)
        tokens   = list(encoding.ids)
        if tokens and max(tokens) >= self.vocab:
            raise InputError(f"Tokenizer gives token {max(tokens)}, the model has {self.vocab}; "
                             f"they do not belong together")
        # The library counts characters.
        octets, place, total = [], 0, 0
        for _, end in encoding.offsets:
            if end > place:
                total += len(text[place:end].encode())
                place  = end
            octets.append(total)
        if self.begin is not None:
            tokens, octets = [self.begin, *tokens], [0, *octets]
        return Encoded(tokens, octets)

    def prompt(self, text: str) -> list[int]:
        """Tokens of a text that a model is to continue; raises as :meth:`encode`, and if there are
        none."""
        tokens = self.encode(text).tokens
        if not tokens:
            raise InputError("Prompt must have at least one token, because this model has none "
                             "that begins a text")
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of some tokens.

        Raises
        ------
        InputError
            If the tokenizer gives up.
        """
        with refusing(InputError, "Tokenizer does not give the text of these tokens"):
            return str(self.tokenizer.decode(list(tokens)))


class Decoder:
    """Turns tokens into text as they come.

    A character may take several tokens, and what stands in front of a token may depend on the one
    before it; so a piece of text is given when it is certain.
    """

    def __init__(self, language: Language) -> None:
        self._language = language
        self._tokens: list[int] = []
        self._start = 0         # tokens before this one are not looked at any more
        self._given = 0         # tokens before this one have been given

    def push(self, token: int) -> str:
        """The text that has become certain with one more token."""
        self._tokens.append(token)
        piece = self._rest()
        if piece.endswith(_REPLACEMENT):
            return ""
        self._start = self._given
        self._given = len(self._tokens)
        return piece

    def finish(self) -> str:
        """What is left of a character that never became complete."""
        return self._rest()

    def _rest(self) -> str:
        before = self._language.decode(self._tokens[self._start:self._given])
        return self._language.decode(self._tokens[self._start:])[len(before):]


class Surprise:
    """How well a model foretells a text: nats of each token, given all tokens before it.

    Parameters
    ----------
    encoded : :class:`Encoded`
        The text. Its first token is foretold by nothing, and so is not counted.
    limit : :class:`int` or None
        Tokens to be foretold at most.

    Raises
    ------
    InputError
        If there is nothing to foretell.
    """

    def __init__(self, encoded: Encoded, *, limit: int | None = None) -> None:
        self._encoded = encoded
        #: Tokens to be foretold.
        self.total    = len(encoded.tokens) - 1
        if limit is not None:
            self.total = min(self.total, limit)
        if self.total < 1:
            raise InputError("Text must have at least one token that another one comes before")
        #: Tokens that have been foretold.
        self.tokens   = 0
        self._due     = 0
        self._nats    = 0.0

    def due(self, count: int) -> list[int]:
        """The next tokens that the model has to take, at most `count`; nothing at the end."""
        first = self._due
        self._due = min(first + count, self.total)
        return self._encoded.tokens[first:self._due]

    def add(self, logits: NDArray[np.float32]) -> None:
        """Take the logits after each of the tokens that were due, ``(tokens, vocab)``."""
        count  = len(logits)
        actual = self._encoded.tokens[self.tokens + 1:self.tokens + 1 + count]
        wide   = logits.astype(np.float64)
        wide  -= wide.max(axis=1, keepdims=True)
        found  = wide[np.arange(count), actual]
        self._nats  += float((np.log(np.exp(wide).sum(axis=1)) - found).sum())
        self.tokens += count

    @property
    def octets(self) -> int:
        """Octets of the text that the foretold tokens cover."""
        return self._encoded.octets[self.tokens] - self._encoded.octets[0]

    @property
    def nats_per_token(self) -> float:
        return self._nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """All nats, in bits, by the octets of the text in UTF-8."""
        return self._nats / math.log(2) / max(1, self.octets)


class Story:
    """A text that a device continues.

    Parameters
    ----------
    device : :class:`Device` or :class:`Chain`
        What has the tape, or the tapes.
    prompt : :class:`str`
        What the text begins with.
    sampling : :class:`Sampling`
        How tokens are chosen; by default the best each time.
    slot : :class:`int`
        Slot of the device.

    Raises
    ------
    InputError
        If the prompt has no token, or one that the model does not know.
    TapeError
        If there is no tokenizer on the tape.
    """

    def __init__(self, device: Computer, prompt: str, sampling: Sampling | None = None, *,
                 slot: int = 0) -> None:
        self._device   = device
        self._sampling = sampling or Sampling()
        self._slot     = slot
        self._language = Language.of_tape(device.tape)
        #: Tokens of the prompt.
        self.prompt    = self._language.prompt(prompt)
        #: Tokens that were made.
        self.tokens: list[int] = []
        #: Whether the model ended the text.
        self.ended     = False
        #: Of the passes that only read the prompt, without the head.
        self.reading: list[Counters] = []
        #: Of the runs that made tokens, or found the end of the text.
        self.making:  list[Counters] = []

    def made(self, count: int) -> Iterator[int]:
        """Tokens that follow the prompt, as they are made, until `count` or the end of the text."""
        *given, last = self.prompt
        self.reading = self._device.prefill(given, state=self._slot)
        for token in self._following(last, count, [] if given else [self._slot]):
            if token == self._language.end:
                self.ended = True
                return
            self.tokens.append(token)
            yield token

    def _following(self, token: int, count: int, reset: list[int]) -> Iterator[int]:
        """Tokens after `token`, the one that ends the text among them."""
        self.making = self._device.counters
        for made in self._device.decode({self._slot: token}, count, reset=reset, stop=self._language.end,
                                        sampling={self._slot: self._sampling}):
            yield made[self._slot]

    def pieces(self, count: int) -> Iterator[str]:
        """The same as text, in pieces."""
        decoder = Decoder(self._language)
        for token in self.prompt:       # because a piece may depend on what is before it
            decoder.push(token)
        for token in self.made(count):
            if piece := decoder.push(token):
                yield piece
        if piece := decoder.finish():
            yield piece
