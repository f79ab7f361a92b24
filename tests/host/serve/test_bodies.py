"""Bodies that are understood, and bodies that are not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from terngen.host.serve import bodies
from terngen.host.serve.bodies import BodyError, Chat, Completion

SAID = [{"role": "user", "content": "a"}]


def completion(**fields):
    body = bodies.decode(json.dumps({"prompt": "a", **fields}).encode(), Completion)
    body.check()
    return body.text_or_tokens


@pytest.mark.parametrize("fields", [
    {}, {"prompt": ["a"]}, {"prompt": ""}, {"n": 1, "best_of": 1, "echo": False, "suffix": "", "logit_bias": {}},
    {"top_p": 1, "presence_penalty": 0, "frequency_penalty": 0.0}, {"stop": ["a", "b"]}, {"seed": -5},
    {"temperature": 0}, {"n": None, "stop": None, "max_tokens": None, "stream": None}, {"user": "me"},
])
def test_understood(fields):
    """What clients send by default is all right."""
    assert completion(**fields) == ("" if fields.get("prompt") == "" else "a")


def test_tokens():
    assert completion(prompt=[1, 2, 3]) == [1, 2, 3]


@pytest.mark.parametrize("fields, param, message", [
    ({"n": 2},               "n",          r"^N must be 1, which is all that is supported, not 2$"),
    ({"best_of": 3},         "best_of",    r"^Best_of must be 1, "),
    ({"echo": True},         "echo",       r"^Echo must be false, which is all that is supported, not true$"),
    ({"suffix": "x"},        "suffix",     r"^Suffix must be \"\", "),
    ({"top_p": 0.5},         "top_p",      r"^Top_p must be 1, which is all that is supported, not 0\.5$"),
    ({"presence_penalty": 1}, "presence_penalty", r"^Presence_penalty must be 0, "),
    ({"logit_bias": {"5": 1}}, "logit_bias", r"^Logit_bias is not supported$"),
    ({"stream_options": {}}, "stream_options", r"^Stream_options are for streams; set stream$"),
    ({"prompt": []},         "prompt",     r"^Prompt must be one text, or a list of tokens; several "),
    ({"prompt": ["a", "b"]}, "prompt",     r"^Prompt must be one text"),
    ({"prompt": [1, "b"]},   "prompt",     r"^Prompt must be one text"),
    ({"prompt": [[1]]},      "prompt[0]", r"^Body is refused: Expected `int \| str`, got `array`, at prompt"),
    ({"prompt": [True]},     "prompt[0]", r"^Body is refused: Expected `int \| str`, got `bool`"),
    ({"prompt": 5},          "prompt",     r"^Body is refused: Expected `str \| array`, got `int`, at prompt$"),
    ({"max_tokens": 0},      "max_tokens", r"^Body is refused: Expected `int` >= 1, at max_tokens$"),
    ({"max_tokens": 1.5},    "max_tokens", r"^Body is refused: Expected `int \| null`, got `float`"),
    ({"temperature": -1},    "temperature", r"^Body is refused: Expected `float` >= 0"),
    ({"temperature": "hot"}, "temperature", r"^Body is refused: Expected `float \| null`, got `str`"),
    ({"logprobs": 6},        "logprobs",   r"^Body is refused: Expected `int` <= 5"),
    ({"seed": 1 << 63},      "seed",       r"^Body is refused: "),
    ({"stop": ""},           "stop",       r"^Body is refused: Expected `str` of length >= 1"),
    ({"stop": ["a"] * 5},    "stop",       r"^Body is refused: Expected `array` of length <= 4"),
    ({"tools": []},          None,         r"^Body is refused: Object contains unknown field `tools`$"),
])
def test_refused(fields, param, message):
    with pytest.raises(BodyError, match=message) as caught:
        completion(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize("fields, param, message", [
    ({"messages": []},        "messages",   r"^Body is refused: Expected `array` of length >= 1"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role", r"^Body is refused: Invalid enum value"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type",
     r"^Body is refused: Invalid enum value 'image_url'"),
    ({"top_logprobs": 2},     "top_logprobs", r"^Top_logprobs need logprobs$"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", r"^Body is refused: Expected `int` <= 20"),
    ({"n": 2},                "n",          r"^N must be 1"),
])
def test_chat_refused(fields, param, message):
    with pytest.raises(BodyError, match=message) as caught:
        bodies.decode(json.dumps({"messages": SAID, **fields}).encode(), Chat).check()
    assert caught.value.param == param


@pytest.mark.parametrize("octets", [
    b"", b"{", b"[]", b"null", b"5", b'"a"', b"{}", b'{"prompt": "\\ud800"}', b'{"prompt": "\xff"}', b"\xef\xbb\xbf{}",
    b'{"prompt": "a", "temperature": NaN}', b'{"prompt": "a", "temperature": 1e999}', b"[" * 100_000,
    b'{"prompt": ' + b"[" * 100_000, b'{"prompt": ' + b"9" * 5000 + b"}", b'{"prompt": [' + b"9" * 5000 + b"]}",
    b'{"prompt": "a", "seed": 1' + b"0" * 400 + b"}",
])
def test_no_body(octets):
    with pytest.raises(BodyError):
        bodies.decode(octets, Completion).check()


names  = some.text("ab\0é\ud800", max_size=3)
values = some.recursive(some.none() | some.booleans() | some.integers() | some.floats() | names,
                        lambda inner: some.lists(inner, max_size=3) | some.dictionaries(names, inner, max_size=3),
                        max_leaves=8)


@given(some.sampled_from([Completion, Chat]),
       some.dictionaries(some.sampled_from([*Completion.__struct_fields__, *Chat.__struct_fields__]), values))
def test_any_body(kind, fields):
    """It is understood or refused; nothing else happens."""
    try:
        bodies.decode(json.dumps({"prompt": "a", "messages": SAID} | fields).encode(), kind).check()
    except BodyError:
        pass
