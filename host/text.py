"""Text in, text out: tokens of a model, sampling, generation."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
from tokenizers import Tokenizer

from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.device import Device, Result
from terngen.host.errors import CheckpointError, InputError, TapeError
from terngen.hw.contract.tape import Tape

__all__ = ["Decoder", "Encoded", "Language", "Sampling", "generate", "generate_tokens"]

#: What an incomplete character becomes when it is decoded.
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


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
        try:
            return cls(Tokenizer.from_buffer(tape.tokenizer), model["bos_token_id"],
                       model["eos_token_id"], model["vocab_size"])
        except Exception as error:      # the library raises nothing more precise
            raise TapeError(f"Tokenizer of the tape cannot be read: {error}") from error

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
        try:
            return cls(Tokenizer.from_buffer(checkpoint.tokenizer.read_bytes()),
                       geometry.bos_token_id, geometry.eos_token_id, geometry.vocab_size)
        except Exception as error:      # the library raises nothing more precise
            raise CheckpointError(f"{checkpoint.tokenizer} cannot be read: {error}") from error

    def encode(self, text: str) -> Encoded:
        """Tokens of a text, with the token that begins a sequence in front.

        Raises
        ------
        InputError
            If a token is not in the vocabulary of the model.
        """
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

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of some tokens."""
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


class Sampling:
    """Chooses tokens.

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
        if not temperature >= 0 or not np.isfinite(temperature):
            raise ValueError(f"Temperature must be zero or more, not {temperature}")
        if top_k is not None and top_k < 1:
            raise ValueError(f"Top-k must be at least 1, not {top_k}")
        self._temperature = temperature
        self._top_k       = top_k
        self._rng         = np.random.default_rng(seed)

    def choose(self, result: Result) -> int:
        """The token that follows."""
        if self._temperature == 0:
            return int(result.tokens[0])
        logits  = result.logits[:self._top_k]
        # The difference first: a tiny temperature must not make infinities of both.
        weights = np.exp((logits - logits.max()) / self._temperature)
        return int(self._rng.choice(result.tokens[:len(weights)], p=weights / weights.sum()))


def generate_tokens(device: Device, prompt: Sequence[int], count: int, sampling: Sampling, *,
                    slot: int = 0) -> Iterator[int]:
    """Tokens that follow a prompt, as they are made, until `count` or the token that ends a text.

    Raises
    ------
    InputError
        If the prompt is empty, or has a token that the model does not know.
    """
    if not prompt:
        raise InputError("Prompt must have at least one token, because the model has no token "
                         "that begins a text")
    for index, token in enumerate(prompt):
        device.step({slot: token}, reset=[slot] if index == 0 else (),
                    head=index == len(prompt) - 1)
    for made in range(count):
        token = sampling.choose(device.results(slot))
        if token == device.tape.model["eos_token_id"]:
            return
        yield token
        if made < count - 1:
            device.step({slot: token})


def generate(device: Device, prompt: str, count: int, sampling: Sampling) -> Iterator[str]:
    """Text that follows a prompt, as it is made, in pieces."""
    language = Language.of_tape(device.tape)
    decoder  = Decoder(language)
    tokens   = language.encode(prompt).tokens
    for token in tokens:            # because a piece may depend on what is before it
        decoder.push(token)
    for token in generate_tokens(device, tokens, count, sampling):
        if piece := decoder.push(token):
            yield piece
    if piece := decoder.finish():
        yield piece
