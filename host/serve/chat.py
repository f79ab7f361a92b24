"""Conversations as the text that a model was trained on: the template that comes with its tokenizer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox
import msgspec

from terngen.host.errors import InputError
from terngen.host.serve.bodies import Message

__all__ = ["Template"]

#: Where checkpoints in the public format have it.
_FILE, _CONFIG = "chat_template.jinja", "tokenizer_config.json"


class _Config(msgspec.Struct):
    chat_template: str | None = None


class Template:
    """Turns messages into the beginning of an answer.

    It comes from a file that somebody else wrote, so it runs where it can reach nothing but the messages.

    Parameters
    ----------
    source : :class:`str`
        Template in Jinja.
    tokens
        By name, the texts of ``bos_token`` and ``eos_token``.

    Raises
    ------
    InputError
        If it is not a template.
    """

    def __init__(self, source: str, **tokens: str) -> None:
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                                   extensions=["jinja2.ext.loopcontrols"])
        environment.globals |= {"raise_exception": _refuse, **tokens}
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise InputError(f"Chat template cannot be read: {error}") from error

    @classmethod
    def find(cls, model: Path, **tokens: str) -> "Template | None":
        """The template of a checkpoint folder; a tape has none.

        Raises
        ------
        InputError
            If there is one that cannot be read.
        """
        if not model.is_dir():
            return None
        try:
            if (path := model / _FILE).is_file():
                return cls(path.read_text("utf-8"), **tokens)
            if (path := model / _CONFIG).is_file():
                source = msgspec.json.decode(path.read_bytes(), type=_Config).chat_template
                return None if source is None else cls(source, **tokens)
        except (OSError, UnicodeError, msgspec.MsgspecError) as error:
            raise InputError(f"{path} cannot be read: {error}") from error
        return None

    def render(self, messages: Sequence[Message]) -> str:
        """The text that the answer follows.

        Raises
        ------
        InputError
            If the template refuses the messages.
        """
        said: list[dict[str, Any]] = [{"role": message.role, "content": message.text} for message in messages]
        try:
            return self._template.render(messages=said, add_generation_prompt=True)
        except Exception as error:      # a template can fail in any way
            raise InputError(f"Chat template refuses the messages: {error}") from error


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)
