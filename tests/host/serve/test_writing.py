"""Pieces of a text."""

import pytest
from hypothesis import given
from hypothesis import strategies as some
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from terngen.host.serve.writing import Request, Writer
from terngen.host.text import Language


@pytest.fixture(scope="module")
def language(slotted):
    return Language.of_tape(slotted)


@pytest.fixture(scope="module")
def write(language):
    """Pieces of a text that a model makes, and why it ended; it has no more to say after `count` tokens."""
    def write(text, *stop, count=1000, end=True):
        writer = Writer(language, Request([1], count, lambda piece: None, stop=stop))
        pieces = []
        for token in language.encode(text).tokens[1:] + [language.end] * end:
            pieces.append(writer.push(token))
            if pieces[-1].reason is not None:
                break
        return [piece.text for piece in pieces], pieces[-1].reason, pieces[-1].made
    return write


@pytest.mark.parametrize("text, stop, pieces, reason", [
    ("abc",     [],              ["a", "b", "c", ""],        "stop"),
    ("abc",     ["x"],           ["a", "b", "c", ""],        "stop"),
    ("abcd",    ["cd"],          ["a", "b", "", ""],         "stop"),
    ("abcx",    ["cd"],          ["a", "b", "", "cx", ""],   "stop"),
    ("abc",     ["cd"],          ["a", "b", "", "c"],        "stop"),
    ("aab",     ["ab"],          ["", "a", ""],              "stop"),
    ("ababac",  ["abac"],        ["", "", "", "ab", "", ""], "stop"),
    ("xabc",    ["bc", "abc"],   ["x", "", "", ""],          "stop"),
    ("xabc",    ["b", "abc"],    ["x", "", "a"],             "stop"),
    ("a",       ["a"],           [""],                       "stop"),
])
def test_stop(write, text, stop, pieces, reason):
    """What may be the beginning of a stop string is held back until it is known not to be."""
    assert write(text, *stop)[:2] == (pieces, reason)


def test_length(write):
    """The last token brings what was held back, and ends the text even where it is the last one anyway."""
    assert write("abcd", "cde", count=3) == (["a", "b", "c"], "length", 3)
    assert write("ab", count=2) == (["a", "b"], "length", 2)
    assert write("abcd", "cd", count=4) == (["a", "b", "", ""], "stop", 4)
    assert write("ab", count=3) == (["a", "b", ""], "stop", 2)


letters = some.text("ab", min_size=1, max_size=4)


@given(some.text("abc", max_size=30), some.lists(letters, max_size=4), some.integers(1, 40))
def test_pieces_are_the_text(write, text, stops, count):
    """However it is cut, it is the text before the stop string that is complete first."""
    pieces, reason, made = write(text, *stops, count=count)
    kept   = text[:count]
    kept   = next((kept[:end] for end in range(len(kept)) if any(stop in kept[:end] for stop in stops)), kept)
    places = [kept.find(stop) for stop in stops if stop in kept]
    assert "".join(pieces) == kept[:min(places, default=len(kept))]
    assert reason == ("length" if not places and len(text) >= count else "stop")
    if not stops:
        assert made == len(kept)


def test_incomplete_character():
    """A character that takes several tokens comes when it is complete; a rest that never is comes at the end."""
    octets    = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({octet: token for token, octet in enumerate(octets)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder       = decoders.ByteLevel()
    language = Language(tokenizer, None, None, 256)
    tokens   = language.encode("a→b").tokens
    assert len(tokens) == 5
    writer = Writer(language, Request([tokens[0]], 100, lambda piece: None))
    assert [writer.push(token).text for token in tokens] == ["a", "", "", "→", "b"]
    writer = Writer(language, Request([tokens[0]], 2, lambda piece: None))
    assert [writer.push(token).text for token in tokens[:2]] == ["a", "\N{REPLACEMENT CHARACTER}"]
