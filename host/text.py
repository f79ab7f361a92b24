"""Text in, text out: tokenizer, sampling, generation."""

from collections.abc import Iterator, Sequence

import numpy as np
from tokenizers import Tokenizer

from terngen.host.device import Device, Result
from terngen.host.errors import InputError, TapeError
from terngen.hw.contract.tape import Tape

__all__ = ["Decoder", "Sampling", "encode", "generate", "generate_tokens", "tokenizer"]

#: What an incomplete character becomes when it is decoded.
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def tokenizer(tape: Tape) -> Tokenizer:
    """The tokenizer that lies on the tape.

    Raises
    ------
    TapeError
        If there is none, or it cannot be read.
    """
    if not tape.tokenizer:
        raise TapeError("Tape has no tokenizer, so it cannot read or write text; convert a "
                        "checkpoint with tokenizer.json")
    try:
        return Tokenizer.from_buffer(tape.tokenizer)
    except Exception as error:      # the library raises nothing more precise
        raise TapeError(f"Tokenizer of the tape cannot be read: {error}") from error


def encode(tape: Tape, text: str) -> list[int]:
    """Tokens of a text, with the token that begins a sequence in front.

    Raises
    ------
    InputError
        If a token is not in the vocabulary of the model.
    """
    tokens = tokenizer(tape).encode(text, add_special_tokens=False).ids
    if (begin := tape.model["bos_token_id"]) is not None:
        tokens = [begin, *tokens]
    vocab = tape.model["vocab_size"]
    if tokens and max(tokens) >= vocab:
        raise InputError(f"Tokenizer gives token {max(tokens)}, the model has {vocab}; they do not "
                         f"belong together")
    return tokens


class Decoder:
    """Turns tokens into text as they come.

    A character may take several tokens, and what stands in front of a token may depend on the one
    before it; so a piece of text is given when it is certain.
    """

    def __init__(self, source: Tokenizer) -> None:
        self._tokenizer = source
        self._tokens: list[int] = []
        self._start = 0         # tokens before this one are not looked at any more
        self._given = 0         # tokens before this one have been given

    def push(self, token: int) -> str:
        """The text that has become certain with one more token."""
        self._tokens.append(token)
        before = self._tokenizer.decode(self._tokens[self._start:self._given])
        after  = self._tokenizer.decode(self._tokens[self._start:])
        if after.endswith(_REPLACEMENT):
            return ""
        self._start = self._given
        self._given = len(self._tokens)
        return after[len(before):]


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
        logits  = result.logits[:self._top_k] / self._temperature
        weights = np.exp(logits - logits.max())
        return int(self._rng.choice(result.tokens[:len(weights)], p=weights / weights.sum()))


def generate_tokens(device: Device, prompt: Sequence[int], count: int, sampling: Sampling, *,
                    slot: int = 0) -> Iterator[int]:
    """Tokens that follow a prompt, as they are made, until `count` or the token that ends a text.

    Raises
    ------
    InputError
        If the prompt is empty.
    """
    if not prompt:
        raise InputError("Prompt must have at least one token")
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
    decoder = Decoder(tokenizer(device.tape))
    tokens  = encode(device.tape, prompt)
    for token in tokens[-1:]:       # so that a piece may depend on the end of the prompt
        decoder.push(token)
    for token in generate_tokens(device, tokens, count, sampling):
        if piece := decoder.push(token):
            yield piece
