"""Text in, text out."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.device import Device
from terngen.host.errors import CheckpointError, InputError, TapeError
from terngen.host.sampling import Sampling
from terngen.host.text import Decoder, Encoded, Language, Story, Surprise, read_text
from terngen.hw.contract.tape import Tape

TEXT = "Grüße, 東京! «naïve» 🦊🦊 and a fox; a fox and a 🦉.\n\tTabs  and   spaces — €5.\n"


def byte_level():
    """Characters of several octets fall apart into tokens, as in GPT-2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([TEXT] * 3, trainers.BpeTrainer(
        vocab_size=266, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<s>", "</s>"],
        show_progress=False))
    return tokenizer


def byte_fallback():
    """Words begin with a mark, and characters that are no tokens fall apart, as in Llama."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{octet:02X}>" for octet in range(256)), "▁",
              *sorted(set("andfoxGrßeTbsc.,;!"))]
    tokenizer = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, [],
                                     byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    return tokenizer


KINDS = {"byte level": byte_level(), "byte fallback": byte_fallback()}


def language(kind, begin=None, end=None):
    tokenizer = KINDS[kind]
    return Language(tokenizer, begin, end, tokenizer.get_vocab_size())


def streamed(decoder, tokens):
    pieces = [decoder.push(token) for token in tokens]
    return pieces, decoder.finish()


# Decoding.

@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind):
    """Pieces are the text, and no piece holds half a character."""
    spoken = language(kind)
    tokens = spoken.encode(TEXT).tokens
    assert len(tokens) > len(TEXT) / 2
    pieces, rest = streamed(Decoder(spoken), tokens)
    assert "".join(pieces) + rest == TEXT
    assert rest == ""
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert pieces.count("") > 10        # a character was not complete yet


@settings(max_examples=300, deadline=None)
@given(tokens=st.lists(st.integers(0, 265), max_size=30))
def test_any_tokens(tokens):
    """Whatever a model says, pieces together are the decoded whole."""
    spoken = language("byte level")
    pieces, rest = streamed(Decoder(spoken), tokens)
    assert "".join(pieces) + rest == spoken.decode(tokens)


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(st.text(max_size=8), max_size=5))
def test_any_text(texts):
    """The same where a run of octets is decoded as one. Such a run loses all of its characters when one
    of its octets fits nowhere, so here all of them fit; what has been given is not taken back."""
    spoken = language("byte fallback")
    tokens = [token for text in texts for token in spoken.encode(text).tokens]
    pieces, rest = streamed(Decoder(spoken), tokens)
    assert "".join(pieces) + rest == spoken.decode(tokens)


def test_as_soon_as_certain():
    """A character appears with its last octet, not later."""
    spoken = language("byte level")
    single = {KINDS["byte level"].id_to_token(index): index for index in range(spoken.vocab)}
    letters = [single[letter] for letter in "ðŁ¦ī"]      # the four octets of an owl
    assert spoken.decode(letters) == "🦉"
    decoder = Decoder(spoken)
    assert [decoder.push(token) for token in letters] == ["", "", "", "🦉"]
    assert decoder.push(single["a"]) == "a"


def test_never_complete():
    """What never becomes a character is given at the end, as a mark."""
    spoken = language("byte level")
    owl    = next(index for index in range(spoken.vocab) if KINDS["byte level"].id_to_token(index) == "ð")
    decoder = Decoder(spoken)
    assert decoder.push(owl) == ""
    assert decoder.finish() == "\N{REPLACEMENT CHARACTER}"


# Encoding.

@pytest.mark.parametrize("kind", KINDS)
def test_octets(kind):
    """Each token knows how many octets of the text end with it, whatever falls apart."""
    spoken  = language(kind, begin=1)
    encoded = spoken.encode(TEXT)
    assert encoded.tokens[0] == 1
    assert encoded.octets[0] == 0
    assert encoded.octets == sorted(encoded.octets)
    assert encoded.octets[-1] == len(TEXT.encode())
    # Where a character ends, what was decoded so far has just as many octets.
    for place in range(1, len(encoded.tokens)):
        text = spoken.decode(encoded.tokens[:place + 1])
        if text and TEXT.startswith(text) and not text.endswith("\N{REPLACEMENT CHARACTER}"):
            assert encoded.octets[place] == len(text.encode())


def test_prompt():
    with_begin, without = language("byte level", begin=0), language("byte level")
    assert with_begin.prompt("") == [0]
    assert with_begin.prompt("a fox") == [0, *without.prompt("a fox")]
    with pytest.raises(InputError, match=r"^Prompt must have at least one token, because this model has none that "
                                         r"begins a text$"):
        without.prompt("")


def test_not_unicode():
    with pytest.raises(InputError, match=r"^Text must be Unicode, but character 1 is not: surrogates not allowed$"):
        language("byte level").encode("a\udcff")


def test_foreign_tokenizer(speaking_tape):
    """A tokenizer with more tokens than the model is refused where it matters."""
    tape = Tape.open(speaking_tape)
    fake = dataclasses.replace(tape, tokenizer=KINDS["byte fallback"].to_str().encode())
    spoken = Language.of_tape(fake)
    spoken.encode("")
    with pytest.raises(InputError, match=r"^Tokenizer gives token \d+, the model has 128; they do not belong "
                                         r"together$"):
        spoken.encode(TEXT)


def test_options_of_the_file(tiny_tape):
    """A file that cuts and fills texts, for training, does not do it here."""
    tokenizer = byte_level()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    tape   = dataclasses.replace(Tape.open(tiny_tape), tokenizer=tokenizer.to_str().encode())
    spoken = dataclasses.replace(Language.of_tape(tape), vocab=266)
    assert spoken.decode(spoken.encode(TEXT).tokens) == TEXT


def test_no_tokenizer(tiny, tiny_tape, tmp_path, speaking):
    with pytest.raises(TapeError, match=r"^Tape has no tokenizer, so it cannot read or write text; convert a "
                                        r"checkpoint with tokenizer\.json$"):
        Language.of_tape(Tape.open(tiny_tape))
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json, so it cannot read or write text$"):
        Language.of_checkpoint(Checkpoint.open(tiny))
    with pytest.raises(TapeError, match=r"^Tokenizer of the tape cannot be read: "):
        Language.of_tape(dataclasses.replace(Tape.open(tiny_tape), tokenizer=b"{}"))
    assert Language.of_checkpoint(Checkpoint.open(speaking)).encode("a fox").tokens[0] == 1


def test_read_text(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("ä\r\n".encode())
    assert read_text(path) == "ä\r\n"
    path.write_bytes(b"ab\xff")
    with pytest.raises(InputError, match=rf"^Text {path} must be UTF-8, but at octet 2 it is not: "):
        read_text(path)
    with pytest.raises(InputError, match=rf"^Text {tmp_path} cannot be read: Is a directory$"):
        read_text(tmp_path)


# Surprise.

def test_surprise():
    """Nats and bits of each token after the first; octets of those that were foretold."""
    encoded  = Encoded([1, 2, 3, 0], [0, 3, 4, 9])
    surprise = Surprise(encoded)
    shares   = np.array([[.1, .2, .6, .1], [.25, .25, .25, .25], [.5, .2, .2, .1]])
    logits   = (np.log(shares) + 1234).astype(np.float32)
    assert surprise.total == 3
    assert surprise.due(2) == [1, 2]
    surprise.add(logits[:2])
    assert surprise.due(2) == [3]
    surprise.add(logits[2:])
    assert surprise.due(2) == []
    nats = -math.log(.6 * .25 * .5)
    assert surprise.tokens == 3
    assert surprise.octets == 9
    assert surprise.nats_per_token == pytest.approx(nats / 3, rel=1e-3)
    assert surprise.bits_per_byte == pytest.approx(nats / math.log(2) / 9, rel=1e-3)


def test_surprise_limit():
    surprise = Surprise(Encoded([1, 2, 3, 0], [0, 3, 4, 9]), limit=2)
    assert surprise.due(10) == [1, 2]
    surprise.add(np.zeros((2, 4), np.float32))
    assert (surprise.total, surprise.tokens, surprise.octets) == (2, 2, 4)
    assert surprise.nats_per_token == pytest.approx(math.log(4))


@pytest.mark.parametrize("tokens", [[], [1]])
def test_nothing_to_foretell(tokens):
    with pytest.raises(InputError, match=r"^Text must have at least one token that another one comes before$"):
        Surprise(Encoded(tokens, [0] * len(tokens)))


# Stories.

@pytest.fixture
def device(slotted):
    with Device.open("golden", slotted) as device:
        device.load()
        yield device


def test_story(device):
    """Greedy: what a loop over the logits gives; text comes in pieces that are the text."""
    story  = Story(device, "a fox", Sampling(), slot=1)
    pieces = list(story.pieces(12))
    tokens = list(story.prompt)
    assert len(tokens) == 6             # the one that begins, and five characters
    for place, token in enumerate(tokens):
        logits = device.logits({2: token}, reset=[2] if place == 0 else [])[2]
    for made in story.tokens:
        assert made == logits.argmax()
        tokens.append(made)
        logits = device.logits({2: made})[2]
    assert len(story.tokens) == 12 or story.ended
    spoken = Language.of_tape(device.tape)
    assert "a fox" + "".join(pieces) == spoken.decode(tokens)
    assert len(story.reading) == 2          # five tokens, three in a pass
    assert len(story.making) == 1           # the machine goes on by itself
    assert story.reading[0].beats < story.making[0].beats


def test_story_is_reproducible(device):
    def told(seed, slot):
        return "".join(Story(device, "x", Sampling(temperature=1.5, seed=seed), slot=slot).pieces(20))

    assert told(1, 0) == told(1, 2)
    assert told(1, 0) != told(2, 0)


def test_story_from_the_device(device):
    """Only what the device offers is chosen."""
    story = Story(device, "x", Sampling(temperature=50.0, top_k=3, seed=5))
    list(story.made(30))
    assert len(story.tokens) == 30 or story.ended
    state = Story(device, "x", Sampling(), slot=1)
    for known in state.prompt[:-1]:
        device.step({1: known}, reset=[1] if known == state.prompt[0] else [], head=False)
    tokens, ranks = [state.prompt[-1], *story.tokens], []
    for token, following in zip(tokens, tokens[1:]):
        device.step({1: token})
        ranks.append(device.results(1).tokens.tolist().index(following))
    assert set(ranks) == {0, 1, 2}


def test_story_ends(device, slotted):
    """At the token that ends a text, which is not part of it."""
    story = Story(device, "a fox", Sampling())
    list(story.made(3))
    last  = story.tokens[-1]
    first = story.tokens.index(last)
    ended = Device(device.transport, dataclasses.replace(slotted, model={**slotted.model, "eos_token_id": last}))
    again = Story(ended, "a fox", Sampling())
    assert list(again.made(10)) == story.tokens[:first]
    assert again.ended


def test_stories_side_by_side(device):
    """Two slots, in turn, tell what each tells alone."""
    prompts = {0: "a fox", 2: "an owl"}
    alone   = {slot: list(Story(device, prompt, Sampling(), slot=slot).made(8)) for slot, prompt in prompts.items()}
    told    = {slot: Story(device, prompt, Sampling(), slot=slot).made(8) for slot, prompt in prompts.items()}
    found   = {slot: [] for slot in prompts}
    for _ in range(8):
        for slot, tokens in told.items():
            found[slot] += [token for token in [next(tokens, None)] if token is not None]
    assert found == alone
