import numpy as np
import pytest

from terngen.host.errors import InputError
from terngen.host.train import data

TEXT = "The king said 'no', and \"never\"; 12 frogs -- all of them -- agreed.\n\ttwo  spaces\n" * 30
ASCII = "".join(map(chr, range(128)))


@pytest.fixture(scope="module")
def tokenizer():
    return data.train_tokenizer(TEXT, 180)


@pytest.mark.parametrize("text", [TEXT, ASCII, "", "\n", "zebra ~ Quiz\r\n"])
def test_tokenizer_loses_nothing(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert 0 not in ids


def test_tokenizer_begins_with_bos(tokenizer):
    assert tokenizer.encode("The king").ids[0] == data.BOS == tokenizer.token_to_id("<s>")
    assert tokenizer.get_vocab_size() == 180
    assert [tokenizer.id_to_token(index) for index in range(3)] == data.SPECIALS


def test_tokens_are_pieces(tokenizer):
    """No token reaches over a word, a punctuation mark or a line end."""
    tokens = [tokenizer.decode([index]) for index in range(data.SMALLEST_VOCAB, 180)]
    assert " king" in tokens
    assert [token for token in tokens if token.strip() not in TEXT or len(token.split()) > 1] == []


@pytest.mark.parametrize("vocab, error, message", [
    (130, ValueError, r"^Vocabulary must be at least 131, not 130: it has every ASCII byte and 3 special tokens$"),
    (5000, InputError, r"^Vocabulary must be at most \d+ for this text, not 5000: there is nothing left to merge$"),
])
def test_vocab_wrong(vocab, error, message):
    with pytest.raises(error, match=message):
        data.train_tokenizer(TEXT, vocab)


def test_encode(tokenizer):
    tokens, starts = data.encode(tokenizer, TEXT)
    assert tokens.tolist() == tokenizer.encode(TEXT, add_special_tokens=False).ids
    assert len(starts) == 60
    assert tokenizer.decode(tokens[starts[1]:starts[2]].tolist()) == "\ttwo  spaces\n"


def test_corners():
    starts  = np.arange(0, 1000, 10)
    source  = data.corners(1000, starts, batch=4, window=30, seed=0)
    batches = [next(source) for _ in range(3 * 8)]
    assert [fresh for _, fresh in batches] == ([True] + [False] * 7) * 3
    for first in (0, 8, 16):
        corners = [corner for corner, _ in batches[first:first + 8]]
        assert np.isin(corners[0], starts).all()
        # A stream runs on, and the streams are spread over the text.
        assert (np.diff(corners, axis=0) == 30).all()
        assert (np.diff(np.sort(corners[0] % 1000)) >= 240).all()
    assert len({tuple(batches[first][0]) for first in (0, 8, 16)}) == 3


def test_corners_seed():
    def first(seed):
        return next(data.corners(10**6, np.arange(10**6), batch=2, window=5, seed=seed))[0].tolist()
    assert first(1) == first(1) != first(2)


def test_length():
    data.check_length(64, 4, 16)
    with pytest.raises(InputError, match=r"^Training text must have at least 64 tokens for 4 streams of 16, "
                                         r"but has 63 tokens; train with a smaller batch or window$"):
        data.check_length(63, 4, 16)
