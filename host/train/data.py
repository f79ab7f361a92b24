"""Text for training: the tokenizer, its tokens, and where the batches begin."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)

from terngen.host.errors import InputError
from terngen.host.text import refusing

__all__ = [
    "BOS", "SMALLEST_VOCAB", "SPECIALS", "check_length", "check_text", "check_vocab", "corners",
    "encode", "read_tokenizer", "train_tokenizer",
]

#: Unknown, begin and end of sequence, numbered as in the published models.
SPECIALS = ["<unk>", "<s>", "</s>"]
BOS = SPECIALS.index("<s>")

#: Pieces that merging never joins: words with the space before them, punctuation, line ends.
PIECES = r"'(?:s|t|re|ve|m|ll|d)\b| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\n|\s"


def check_text(text: str, name: str) -> None:
    """Refuse text that the byte alphabet of our tokenizers does not cover, or that is empty.

    Raises
    ------
    InputError
        Naming the first line that is not ASCII.
    """
    if not text:
        raise InputError(f"{name} must have text in it, not be empty")
    if text.isascii():
        return
    for number, line in enumerate(text.split("\n"), 1):
        for character in line:
            if not character.isascii():
                raise InputError(f"{name} must be plain ASCII, but line {number} has {character!r}; "
                                 f"`terngen normalise` makes it so")


def check_length(count: int, batch: int, window: int, what: str = "tokens") -> None:
    """Refuse text that is too short for one window of each stream.

    A token covers at least one octet, so the octets of a text tell before it has tokens.

    Raises
    ------
    InputError
        If `count` is below ``batch * window``.
    """
    if count < batch * window:
        raise InputError(f"Training text must have at least {batch * window} tokens for {batch} streams "
                         f"of {window}, but has {count} {what}; train with a smaller batch or window")


def _alphabet() -> list[str]:
    """The characters that the byte-level alphabet of GPT-2 gives to the 128 ASCII bytes.

    Visible characters stand for themselves, the others for the characters from U+0100 on.
    """
    hidden = [*range(33), 127]
    return [chr(256 + hidden.index(byte)) if byte in hidden else chr(byte) for byte in range(128)]


#: Tokens of the smallest vocabulary.
SMALLEST_VOCAB = len(SPECIALS) + 128


def check_vocab(vocab_size: int) -> None:
    """Refuse a vocabulary that is too small for the alphabet.

    Raises
    ------
    ValueError
    """
    if vocab_size < SMALLEST_VOCAB:
        raise ValueError(f"Vocabulary must be at least {SMALLEST_VOCAB}, not {vocab_size}: "
                         f"it has every ASCII byte and {len(SPECIALS)} special tokens")


def train_tokenizer(text: str, vocab_size: int) -> Tokenizer:
    """Learn a byte-level BPE vocabulary from `text`, lossless on every ASCII text.

    The alphabet is the 128 ASCII bytes only, which leaves more of a small vocabulary to words.
    The tokenizer puts BOS in front of a text unless asked not to.

    Raises
    ------
    ValueError
        As :func:`check_vocab`.
    InputError
        If the vocabulary is too large for the text.
    """
    check_vocab(vocab_size)
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIALS[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=SPECIALS, initial_alphabet=_alphabet(),
        show_progress=False))
    if tokenizer.get_vocab_size() != vocab_size:
        raise InputError(f"Vocabulary must be at most {tokenizer.get_vocab_size()} for this text, "
                         f"not {vocab_size}: there is nothing left to merge")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIALS[BOS]} $A", special_tokens=[(SPECIALS[BOS], BOS)])
    return tokenizer


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a ``tokenizer.json``.

    Raises
    ------
    InputError
        If there is none.
    """
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise InputError(f"Tokenizer {path} cannot be read: {error.strerror or error}") from error
    with refusing(InputError, f"Tokenizer {path} cannot be read"):
        return Tokenizer.from_buffer(octets)


def encode(tokenizer: Tokenizer, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens of `text`, without BOS, and the places among them at which a line begins.

    Returns
    -------
    (N,) and (lines,).
    """
    lines = tokenizer.encode_batch_fast(text.splitlines(keepends=True), add_special_tokens=False)
    lengths = np.array([len(line.ids) for line in lines], np.int64)
    tokens  = np.fromiter((token for line in lines for token in line.ids), np.int64, lengths.sum())
    return tokens, np.cumsum(lengths) - lengths


def corners(count: int, starts: NDArray[np.int64], *, batch: int, window: int,
            seed: int) -> Iterator[tuple[NDArray[np.int64], bool]]:
    """Cut a text of `count` tokens into `batch` streams and read them side by side, without end.

    In every pass over the text the streams begin at other lines; within a pass they run on from
    window to window, so that a model which keeps its state sees a long text, as in use.

    Yields
    ------
    For every stream the place of the first token to foretell (batch,), and whether a pass begins
    here: then BOS comes before that token, and the state is zero.
    """
    rng = np.random.default_rng(seed)
    stride = count // batch
    while True:
        corner = (rng.integers(count) + stride * np.arange(batch)) % count
        lines = starts[np.searchsorted(starts, corner) % len(starts)]
        for step in range(stride // window):
            yield lines + step * window, step == 0
