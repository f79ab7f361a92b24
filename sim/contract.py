"""Tables of docs/contract.md, out of the definitions that they tell: ``python -m terngen.sim.contract``."""

import dataclasses
import enum
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from amaranth.hdl import Shape
from amaranth.lib import data
from sphinx.pycode import ModuleAnalyzer

from terngen.host.files import replacing
from terngen.hw.contract import mailbox, regs, tape, wire
from terngen.hw.contract.config import PRESETS, Config, Sites
from terngen.sim.performance import fill

__all__ = ["page"]


def _said(owner: Any) -> dict[str, str]:
    """What the ``#:`` comments of a class, or of a module, say of its members, in Markdown."""
    module, name = (owner.__name__, "") if inspect.ismodule(owner) else (owner.__module__, owner.__qualname__)
    found = ModuleAnalyzer.for_module(module).find_attr_docs()
    return {member: _markdown(" ".join(lines)) for (scope, member), lines in found.items() if scope == name}


def _markdown(text: str) -> str:
    """A docstring's sentence as it stands in a cell."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text.replace("``", "`"))
    return " ".join(text.split()).replace("|", r"\|")


def _table(heads: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> list[str]:
    return [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|",
            *(f"| {' | '.join(map(str, row))} |" for row in rows)]


def _fields(struct: Any) -> list[str]:
    """Fields of a structure, from the least significant bit on."""
    said = _said(struct)

    def rows() -> Iterator[tuple[object, ...]]:
        for name, field in data.Layout.cast(struct):
            width = Shape.cast(field.shape).width
            bits  = str(field.offset) if width == 1 else f"{field.offset + width - 1}:{field.offset}"
            yield bits, f"`{name}`", said[str(name)]
    return _table(("bits", "field", "meaning"), rows())


def _members(kind: Any, style: str = "{}") -> list[str]:
    said = _said(kind)
    return _table(("value", "name", "meaning"),
                  ((style.format(member.value), f"`{member.name}`", said[member.name]) for member in kind))


def _constants(module: Any, names: tuple[str, ...], style: str = "{:,}") -> list[str]:
    said = _said(module)
    return _table(("name", "value", "meaning"),
                  ((f"`{name}`", style.format(getattr(module, name)), said[name]) for name in names))


def _choices() -> list[str]:
    """Fields of :class:`Config`: default, and what its docstring says."""
    text = inspect.getdoc(Config) or ""
    said = dict(re.findall(r"^(\w+) : [^\n]*\n((?:    [^\n]*\n)+)", text, re.MULTILINE))

    return _table(("field", "default", "meaning"),
                  ((f"`{field.name}`", _shown(field.default), _markdown(said[field.name]))
                   for field in dataclasses.fields(Config)))


def _shown(value: Any) -> str:
    if isinstance(value, Sites):
        return ", ".join(sorted(set(value.to_dict().values())))
    return str(value.value) if isinstance(value, enum.Enum) else str(value)


def _presets() -> list[str]:
    """What presets choose otherwise than :class:`Config` does by itself."""
    plain = Config()

    def rows() -> Iterator[tuple[object, ...]]:
        for name, config in PRESETS.items():
            others = [f"`{field.name}` {_shown(getattr(config, field.name))}" for field in dataclasses.fields(Config)
                      if getattr(config, field.name) != getattr(plain, field.name)]
            yield f"`{name}`", ", ".join(others) or "as above"
    return _table(("preset", "what it chooses otherwise"), rows())


def page(text: str) -> str:
    """The page with tables that say what the definitions say."""
    for name, rows in {
        "descriptor": _fields(tape.Descriptor),
        "operations": _members(tape.Op),
        "header":     _fields(wire.Header),
        "types":      _members(wire.Type),
        "faults":     _members(wire.Fault),
        "wire":       _constants(wire, ("VERSION", "MAX_PAYLOAD", "MAX_FRAME", "MAX_ENCODED")),
        "registers":  _members(regs.Reg, "{:#04x}"),
        "bases":      _constants(regs, ("MAGIC", "VERSION", "TOKEN_BASE", "STATE_BASE", "CHOICE_BASE", "RESULT_BASE",
                                        "RESULT_STRIDE", "HISTORY_BASE", "SUMS_BASE", "VECTOR_BASE", "TAPE_BASE"),
                                 "{:#x}"),
        "status":     _fields(regs.Status),
        "choice":     _fields(regs.Choice),
        "mailbox":    _members(mailbox.Register, "{:#x}"),
        "choices":    _choices(),
        "presets":    _presets(),
    }.items():
        text = fill(text, name, rows)
    return text


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path("docs/contract.md"))
def main(path: Path) -> None:
    """Write the tables of the page anew."""
    text = page(path.read_text())
    with replacing(path) as file:
        file.write(text.encode())


if __name__ == "__main__":
    main(prog_name="python -m terngen.sim.contract")
