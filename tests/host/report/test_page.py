"""The page, from results that are written down, right and wrong."""

import html.parser
import json
import re

import pytest

from terngen.host.errors import InputError
from terngen.host.report import sections
from terngen.host.report.page import read

PERPLEXITY = {"bits_per_byte": 1.5, "nats_per_token": 3.25, "tokens": 10, "bytes": 31, "device": "golden"}
FAILED     = {"gate": "fail", "values_compared": 100, "mismatches": 1, "slots": 1,
              "first": {"step": 0, "op": "MATVEC", "golden": 3, "device": 4}}
BUILD      = {"board": "ulx3s-85f:sdram", "device": "LFE5U-85F", "digest": "ab" * 16, "seed": 3,
              "clocks": [{"name": "sync", "wanted": 80.0, "achieved": 79.0, "met": False}],
              "path": [[1.5, "unit.signal"]], "cells": {"lut": 50, "ff": 10, "bram": 5, "dsp": 0},
              "available": {"lut": 100, "ff": 100, "bram": 10, "dsp": 4},
              "estimated": {"lut": 55, "ff": 10, "bram": 5, "dsp": 0}, "versions": {"yosys": "0.70"},
              "modules": {"machine": {"lut": 40}, "link": {"ff": 10}}}
SELFTEST   = {"device": "serial", "digest": "cd" * 16, "passed": False,
              "steps": [{"name": "link", "passed": False, "detail": "<b>no</b> answer & so on"}]}
LMUL_AREA  = {"rows": [{"format": "e4m3", "unit": "lmul", "gates": 29}], "gates": [], "versions": {"pyosys": "0.70"}}
MANIFEST   = {"files": [{"name": "terngen.bit", "octets": 1234, "sha256": "ef" * 32}], "config": {},
              "digest": "ab" * 16}
PIECES     = {"gate": "pass", "values_compared": 100, "mismatches": 0, "slots": 1, "tokens": 2,
              "cycles_per_token": 1300.0,
              "pieces": [{"cycles_per_token": 600.5, "tape_bytes_per_token": 4096.0, "attainment": 0.875}]}
OTHER      = {"text": "Once", "tokens": [1, 20], "counters": {"note": "both", "making": {"cycles": 77, "inner": {}}},
              "findings": [{"name": "numpy", "ok": True}] * 101, "deep": {"a": {"b": {}}}}


class Checker(html.parser.HTMLParser):
    """Elements close in their order; what they refer to is remembered."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.refers = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.refers += [(name, value) for name, value in attrs
                        if name in ("src", "href", "action", "style") or name.startswith("on")]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def made(tmp_path):
    """Writes results to a folder; the page, and it checked."""
    def made(**results):
        for name, values in results.items():
            (tmp_path / f"{name}.json").write_text(values if isinstance(values, str) else json.dumps(values))
        page = read(tmp_path)
        return page, Checker(page.html("A page", "1.2.3"))
    return made


def test_by_itself(made):
    """Nothing is loaded, nothing runs."""
    _, found = made(perplexity=PERPLEXITY, build=BUILD, selftest=SELFTEST, gate=FAILED, area=LMUL_AREA, files=MANIFEST)
    assert found.refers == []
    assert not {"script", "link", "img", "iframe", "object", "embed", "form"} & set(found.tags)
    assert "svg" in found.tags


def test_only_what_is_there(made):
    page, found = made(perplexity=PERPLEXITY)
    assert page.shown == {"perplexity.json": "perplexity"}
    text = page.html("A page", "1.2.3")
    assert re.findall(r'<section id="([\w-]+)"', text) == ["perplexity", "provenance"]
    assert {"1.5000", "3.2500", "golden"} <= set(found.text)


def test_build(made):
    """Cells beside the estimate, clocks, parts."""
    page, found = made(build=BUILD)
    words = found.text
    assert "ulx3s-85f:sdram, LFE5U-85F: timing is missed." in words
    place = words.index("look-up tables", words.index("available"))
    assert words[place:place + 5] == ["look-up tables", "50", "100", "55", "1.100"]
    assert {"50.0 % of 100", "79.0", "missed", "1.50 ns", "unit.signal", "machine"} <= set(words)
    # Without what only some reports have.
    bare = {key: value for key, value in BUILD.items() if key not in ("estimated", "path", "modules")}
    page, found = made(build=bare)
    assert page.shown and "Cells by part" not in found.text and "estimated" not in found.text


def test_gate_failed(made):
    """There is no speed, but the first value that differs."""
    _, found = made(bench=FAILED)
    assert {"Gate: fail, 100 values compared with the golden machine, 1 differ.", "MATVEC"} <= set(found.text)
    assert "attainment" not in found.text


def test_pieces(made):
    """Machines with pieces of a model have no roof in common."""
    page, found = made(bench=PIECES)
    assert page.shown == {"bench.json": "bench"}
    assert {"1", "600", "4,096", "87.50 %"} <= set(found.text)
    assert "2 tokens on 1 slots took 1,300 cycles each, on all machines together." in found.text


def test_other(made):
    """What has no section of its own is told as it is."""
    page, found = made(run=OTHER)
    assert page.shown == {"run.json": "other"} and page.others == {}
    words = found.text
    assert words[words.index("text"):][:4] == ["text", "Once", "tokens", "1, 20"]
    place = words.index("counters")
    assert words[place:place + 9] == ["counters", "what", "value", "note", "both", "counters", "cycles", "making", "77"]
    assert words.count("numpy") == 100 and "and 1 more" in words


EVIL = '<script>alert("x")</script>&amp;"\'<img src=x onerror=y>'


def spoiled(values):
    """The same with every text, and every name that a result chooses, evil."""
    if isinstance(values, dict):
        known = {"lut", "ff", "bram", "dsp"}
        chosen = {"yosys", "machine", "link", "step", "making", "counters"}
        return {(EVIL if key in chosen else key): spoiled(value) if key not in known else value
                for key, value in values.items()}
    if isinstance(values, list):
        return [spoiled(value) for value in values]
    return EVIL if isinstance(values, str) and values not in ("fail", "pass") else values


@pytest.mark.parametrize("values", [PERPLEXITY, BUILD, SELFTEST, FAILED, LMUL_AREA, MANIFEST, OTHER])
def test_escaped(made, values):
    """Nothing of a result becomes part of the page but text."""
    page, found = made(result=spoiled(values))
    assert page.shown
    assert found.refers == [] and not {"script", "img"} & set(found.tags)
    assert EVIL in found.text or any(EVIL[:20] in text for text in found.text)


def test_title_escaped(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(PERPLEXITY))
    assert "script" not in Checker(read(tmp_path).html("<script>", "<script>")).tags


@pytest.mark.parametrize("content, why", [
    ("{}",                                   "It is no result of a command"),
    ("[1, 2]",                               "It is no result of a command"),
    ('"text"',                               "It is no result of a command"),
    ("{",                                    "Expecting property name"),
    ("\x00",                                 "Expecting value"),
    ("[" * 100_000,                          "maximum recursion depth exceeded"),
    ('{"bits_per_byte": 1, "nats_per_token": 1}', "It is like a result of terngen perplexity, but has no device"),
    ('{"schemes": 3, "claims": 0, "source": 1}',  "'int' object has no attribute 'items'"),
    ('{"bits_per_byte": "x", "nats_per_token": 1, "device": 1}', "Unknown format code 'f'"),
    (json.dumps({**BUILD, "available": dict.fromkeys(BUILD["available"], 0)}), "division by zero"),
])
def test_not_shown(made, content, why):
    """What is no result, or a bad one, is named, and takes nothing from the others."""
    page, found = made(good=PERPLEXITY, bad=content)
    assert list(page.shown) == ["good.json"]
    assert list(page.others) == ["bad.json"] and page.others["bad.json"].startswith(why)
    assert "bad.json" in found.text and any(text.startswith(why) for text in found.text)


def test_not_text(tmp_path):
    (tmp_path / "good.json").write_text(json.dumps(PERPLEXITY))
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe{}")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "broken.json").symlink_to("nowhere")
    assert list(read(tmp_path).others) == ["bad.json", "broken.json", "folder.json"]


def test_provenance(made):
    """Of each file what it is, for which machine, by what; a folder of several machines says so."""
    import hashlib
    page, found = made(build=BUILD, selftest=SELFTEST)
    digest = hashlib.sha256(json.dumps(BUILD).encode()).hexdigest()
    place  = found.text.index("build.json", found.text.index("Provenance"))
    assert found.text[place:place + 6] == ["build.json", "terngen build", "ab" * 16, "3", "yosys 0.70", digest]
    assert f"These results are of 2 machines: {'ab' * 16}, {'cd' * 16}." in found.text
    assert "Page by terngen 1.2.3." in found.text
    (_, found) = made(selftest=PERPLEXITY)
    assert f"Machine {'ab' * 16}." in found.text


@pytest.mark.parametrize("odd", [{"versions": 3}, {"program": 4}, {"program": {"versions": []}}, {"seed": {"a": []}},
                                 {"digest": ["x"]}])
def test_provenance_odd(made, odd):
    """What it cannot use is no reason to fail."""
    page, _ = made(perplexity={**PERPLEXITY, **odd})
    assert page.shown


def test_nested(tmp_path):
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "report.json").write_text(json.dumps(BUILD))
    assert read(tmp_path).shown == {"build/report.json": "build"}


def test_nothing(tmp_path):
    with pytest.raises(InputError, match=r"^There is no folder .*/none$"):
        read(tmp_path / "none")
    with pytest.raises(InputError, match=r"^Folder .* has no result of a command, as --json prints it$"):
        read(tmp_path)
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InputError, match=r"^Folder .* has no result .*: a\.json: It is no result"):
        read(tmp_path)


def test_kinds():
    """No result is taken for one of another command."""
    for kind in sections.KINDS:
        assert sections.kind_of(dict.fromkeys(kind.keys)) is kind
    assert sections.kind_of({"text": "Once"}) is sections.OTHER
