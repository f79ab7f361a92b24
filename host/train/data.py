"""Text for training: the tokenizer, its tokens, and the batches."""

from collections.abc import Iterator

import torch
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import Tensor

__all__ = ["BOS", "SPECIALS", "check_text", "encode", "streams", "train_tokenizer"]

#: Unknown, begin and end of sequence, numbered as in the published models.
SPECIALS = ["<unk>", "<s>", "</s>"]
BOS = SPECIALS.index("<s>")

#: Pieces that merging never joins: words with the space before them, punctuation, line ends.
PIECES = r"'(?:s|t|re|ve|m|ll|d)\b| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\n|\s"


def check_text(text: str, name: str) -> None:
    """Refuse text that the byte alphabet of our tokenizers does not cover, or that is empty.

    Raises
    ------
    ValueError
        Naming the first line that is not ASCII.
    """
    if not text:
        raise ValueError(f"{name} must have text in it, not be empty")
    if not text.isascii():
        for number, line in enumerate(text.split("\n"), 1):
            for character in line:
                if not character.isascii():
                    raise ValueError(f"{name} must be plain ASCII, but line {number} has {character!r}; "
                                     f"`terngen normalise` makes it so")


def _alphabet() -> list[str]:
    """The characters that the byte-level alphabet of GPT-2 gives to the 128 ASCII bytes.

    Visible characters stand for themselves, the others for the characters from U+0100 on.
    """
    hidden = [*range(33), 127]
    return [chr(256 + hidden.index(byte)) if byte in hidden else chr(byte) for byte in range(128)]


def train_tokenizer(text: str, vocab_size: int) -> Tokenizer:
    """Learn a byte-level BPE vocabulary from `text`, lossless on every ASCII text.

    The alphabet is the 128 ASCII bytes only, which leaves more of a small vocabulary to words.
    The tokenizer puts BOS in front of a text unless asked not to.

    Raises
    ------
    ValueError
        If the vocabulary is too small for the alphabet.
    """
    smallest = len(SPECIALS) + len(_alphabet())
    if vocab_size < smallest:
        raise ValueError(f"Vocabulary must be at least {smallest}, not {vocab_size}: "
                         f"it has every ASCII byte and {len(SPECIALS)} special tokens")
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
        raise ValueError(f"Vocabulary must be at most {tokenizer.get_vocab_size()} for this text, "
                         f"not {vocab_size}: there is nothing left to merge")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIALS[BOS]} $A", special_tokens=[(SPECIALS[BOS], BOS)])
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> tuple[Tensor, Tensor]:
    """Tokens of `text`, without BOS, and the places among them at which a line begins.

    Returns
    -------
    (N,) int64 and (lines,) int64.
    """
    lines = tokenizer.encode_batch_fast(text.splitlines(keepends=True), add_special_tokens=False)
    lengths = torch.tensor([len(line.ids) for line in lines])
    return torch.tensor([id for line in lines for id in line.ids]), lengths.cumsum(0) - lengths


def streams(tokens: Tensor, starts: Tensor, *, batch: int, window: int,
            generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Cut the text into `batch` streams and read them side by side, without end.

    In every pass over the text the streams begin at other lines, each with BOS; within a pass they run
    on from window to window, so that a model which keeps its state sees a long text, as in use.

    Yields
    ------
    inputs (batch, window), targets (batch, window), and whether the state must be zero before them.

    Raises
    ------
    ValueError
        If the text is too short for one window of each stream.
    """
    count = len(tokens)
    stride = count // batch
    if stride < window:
        raise ValueError(f"Text must have at least {batch * window} tokens for {batch} streams of "
                         f"{window}, not {count}")
    reach = torch.arange(window, device=tokens.device)
    while True:
        offset = int(torch.randint(count, (1,), generator=generator))
        corners = (offset + stride * torch.arange(batch)) % count
        lines = starts[torch.searchsorted(starts, corners) % len(starts)].to(tokens.device)
        for step in range(stride // window):
            places = lines[:, None] + step * window + reach
            inputs = tokens[(places - 1) % count]
            if step == 0:
                inputs[:, 0] = BOS
            yield inputs, tokens[places % count], step == 0
