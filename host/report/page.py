"""The page: a section for each result, and where all of them come from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from terngen.host.errors import InputError
from terngen.host.report.sections import KINDS, OTHER, Kind, kind_of, table

__all__ = ["Page", "read"]

#: Longer files are no results of ours.
_LIMIT = 1 << 26

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1c1f23; background: #fff; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #8885; } h3 { margin-bottom: .3rem; }
.file { color: #888; font-size: .85em; margin-top: -.5rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .87em; margin: .7rem 0; }
th, td { padding: .2rem .7rem .2rem 0; text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; border-bottom: 1px solid #8888; }
.text td, .text th { text-align: left; white-space: normal; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; font-size: 12px; fill: currentColor; margin: .5rem 0; }
@media (prefers-color-scheme: dark) { body { color: #dcdfe4; background: #17191c; } }
"""


@dataclass(frozen=True)
class _Result:
    name:   str
    sha256: str
    kind:   Kind
    values: Mapping[str, Any]
    body:   str


@dataclass(frozen=True)
class Page:
    """What is on the page.

    Parameters
    ----------
    results
        Results that are shown.
    others
        Files that are not, and why.
    """

    results: list[_Result]
    others:  dict[str, str]

    @property
    def shown(self) -> dict[str, str]:
        """Files on the page, with the command that wrote each."""
        return {result.name: result.kind.command for result in self.results}

    def html(self, title: str, version: str) -> str:
        """The page in one file, which needs no other and runs nothing."""
        parts = []
        for kind in (*KINDS, OTHER):
            mine = [result for result in self.results if result.kind is kind]
            if mine:
                parts.append(f'<section id="{kind.command.replace(" ", "-")}"><h2>{escape(kind.title)}</h2>')
                parts += [f'<p class="file">{escape(result.name)}</p>{result.body}' for result in mine]
                parts.append("</section>")
        return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
                f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
                f"<body><h1>{escape(title)}</h1><p>{escape(self._summary())}</p>{''.join(parts)}"
                f"{self._provenance(version)}</body></html>\n")

    def _summary(self) -> str:
        digests = sorted({str(result.values["digest"]) for result in self.results if "digest" in result.values})
        if len(digests) > 1:
            return f"These results are of {len(digests)} machines: {', '.join(digests)}."
        return f"Machine {digests[0]}." if digests else ""

    def _provenance(self, version: str) -> str:
        """Of each result: the file, its machine, and what else decides about it."""
        rows = []
        for result in self.results:
            tools = ", ".join(f"{name} {number}" for name, number in _versions(result.values).items())
            command = "" if result.kind is OTHER else f"terngen {result.kind.command}"
            rows.append((result.name, command, result.values.get("digest", ""),
                         result.values.get("seed", ""), tools, result.sha256))
        found = ('<section id="provenance" class="text"><h2>Provenance</h2>'
                 + table(("file", "command", "machine", "seed", "versions", "SHA-256 of the file"), rows)
                 + f"<p>Page by terngen {escape(version)}.</p>")
        if self.others:
            found += "<h3>Files that are not shown</h3>" + table(("file", "why"), list(self.others.items()))
        return found + "</section>"


def _versions(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of the tools that made a result, if it says them."""
    for place in (values, values.get("program")):
        if isinstance(place, dict) and isinstance(place.get("versions"), dict):
            return place["versions"]
    return {}


def _result(name: str, path: Path) -> _Result:
    """The result in a file. Whatever is wrong with it is an exception of Python's."""
    if path.stat().st_size > _LIMIT:
        raise ValueError(f"It has more than {_LIMIT:,} octets")
    octets = path.read_bytes()
    values = json.loads(octets)
    kind   = kind_of(values)
    if kind is None:
        raise ValueError("It is no result of a command")
    try:
        body = "".join(kind.section(values))
    except KeyError as error:
        raise ValueError(f"It is like a result of terngen {kind.command}, but has no {error.args[0]}") from error
    return _Result(name, hashlib.sha256(octets).hexdigest(), kind, values, body)


def read(folder: Path) -> Page:
    """Everything in a folder, and in those in it, that a command printed as JSON.

    Raises
    ------
    InputError
        If there is no such folder, or nothing in it is a result.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}")
    results: list[_Result] = []
    others:  dict[str, str] = {}
    for path in sorted(folder.rglob("*.json")):
        name = path.relative_to(folder).as_posix()
        try:
            results.append(_result(name, path))
        except (ValueError, TypeError, AttributeError, ArithmeticError, LookupError, RecursionError, OSError) as error:
            others[name] = str(error)
    if not results:
        why = "; ".join(f"{name}: {reason}" for name, reason in others.items())
        raise InputError(f"Folder {folder} has no result of a command, as --json prints it{': ' if why else ''}{why}")
    return Page(results, others)
