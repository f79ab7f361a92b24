"""Templates of conversations."""

import json

import pytest

from terngen.host.errors import InputError
from terngen.host.serve.bodies import Message
from terngen.host.serve.chat import Template

SAID = [Message("system", "Be brief."), Message("user", "Hello")]


def test_render():
    """Blocks leave no lines behind, as in the templates that are published."""
    template = Template("{{ bos_token }}{% for message in messages %}\n  {% if true %}\n"
                        "[{{ message['role'] }}] {{ message['content'] | trim }}{{ eos_token }}\n  {% endif %}\n"
                        "{% endfor %}\n{% if add_generation_prompt %}[assistant]{% endif %}",
                        bos_token="<s>", eos_token="</s>")
    assert template.render(SAID) == "<s>[system] Be brief.</s>\n[user] Hello</s>\n[assistant]"


def test_find(tmp_path):
    """A file of its own comes before what the tokenizer's configuration says."""
    assert Template.find(tmp_path) is None
    assert Template.find(tmp_path / "model.tape") is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"model_max_length": 1e30}))
    assert Template.find(tmp_path) is None
    config.write_text(json.dumps({"chat_template": "{{ messages[1].content }}{{ eos_token }}"}))
    assert Template.find(tmp_path, eos_token="!").render(SAID) == "Hello!"
    (tmp_path / "chat_template.jinja").write_text("{{ messages | length }}")
    assert Template.find(tmp_path).render(SAID) == "2"


@pytest.mark.parametrize("name, text, message", [
    ("tokenizer_config.json", "{",                     r"tokenizer_config\.json cannot be read: "),
    ("tokenizer_config.json", '{"chat_template": []}', r"tokenizer_config\.json cannot be read: Expected `str "),
    ("chat_template.jinja",   "{% if %}",              r"^Chat template cannot be read: "),
    ("chat_template.jinja",   "\xff",                  r"chat_template\.jinja cannot be read: "),
])
def test_damaged(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        Template.find(tmp_path)


@pytest.mark.parametrize("source", [
    "{{ raise_exception('No') }}", "{{ 1 / 0 }}", "{{ messages[9].content + 1 }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.append(1) }}", "{% include '/etc/passwd' %}",
    "{{ raise_exception.__globals__.os }}", "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ range(1000000000) | list }}",
])
def test_refuses(source):
    """What fails, or reaches for something else than the messages, is an error about the messages."""
    with pytest.raises(InputError, match=r"^Chat template refuses the messages: "):
        Template(source).render(SAID)
