"""What has been fuzzed is remembered, and not done again until the parser changes."""

import importlib.util
import json

import pytest
from click.testing import CliRunner

from terngen.sim.fuzz import record
from terngen.sim.fuzz.targets import TARGETS

needs_atheris = pytest.mark.skipif(importlib.util.find_spec("atheris") is None,
                                   reason="atheris has no wheel for this system")


@pytest.fixture
def parts(monkeypatch):
    """Parts that are tried, and none is; `outcomes` has the code of each."""
    tried = []

    def part(target, runs, seed, begin, corpus):
        tried.append((target, runs, seed))
        return runs, 0.5, part.outcomes.pop(0) if part.outcomes else 0

    part.outcomes = []
    part.tried    = tried
    monkeypatch.setattr(record, "_part", part)
    monkeypatch.setattr(record, "digest", lambda target, begin: f"of {target}")
    monkeypatch.setattr(record.importlib.metadata, "version", lambda name: "3")
    return part


@pytest.fixture
def run(tmp_path, root):
    store = tmp_path / "fuzz.json"
    (tmp_path / "trust.md").write_text("before\n<!-- fuzz -->\n<!-- end -->\nafter\n")

    def run(*words):
        done = CliRunner().invoke(record.main, [*map(str, words), "--store", str(store), "--part", "100"])
        return done, {row["target"]: row for row in json.loads(store.read_text())}
    return run


def test_goes_on(parts, run, tmp_path):
    """With new seeds, up to what is wanted; and no further."""
    done, rows = run("cobs", "--runs", 250)
    assert done.exit_code == 0, done.output
    assert parts.tried == [("cobs", 100, 1), ("cobs", 100, 2), ("cobs", 50, 3)]
    assert rows["cobs"] == {"target": "cobs", "digest": "of cobs", "atheris": "3", "executions": 250, "seeds": [1, 3],
                            "seconds": 1.5, "findings": 0}
    run("cobs", "--runs", 250)
    assert len(parts.tried) == 3
    _, rows = run("--runs", 300)
    assert ("cobs", 50, 4) in parts.tried
    assert list(rows) == list(TARGETS)
    assert all(row["executions"] == 300 for row in rows.values())
    text = (tmp_path / "trust.md").read_text()
    assert text == record.page("before\n<!-- fuzz -->\n<!-- end -->\nafter\n", list(rows.values()))
    assert "| bodies | 300 | 1 to 3 | 2 | 0 |" in text


def test_other_sources(parts, run, monkeypatch):
    """What was found with those of before is not forgotten."""
    parts.outcomes[:] = [0, 77]
    done, rows = run("cobs", "--runs", 500)
    assert done.exit_code != 0
    assert "cobs-*" in done.output
    assert (rows["cobs"]["findings"], rows["cobs"]["executions"]) == (1, 200)
    monkeypatch.setattr(record, "digest", lambda target, begin: "other")
    done, rows = run("cobs", "--runs", 100)
    assert done.exit_code == 0, done.output
    assert (rows["cobs"]["findings"], rows["cobs"]["executions"], rows["cobs"]["seeds"]) == (1, 100, [1, 1])


def test_source_digest():
    """Of what is done, and not of how it is told."""
    told = record.source_digest('"""One."""\nx = 1  # so\ndef f():\n    """Two."""\n    return x\n')
    assert told == record.source_digest('x = 1\ndef f():\n    return x\n')
    assert told != record.source_digest('x = 1\ndef f():\n    return -x\n')


def test_sources(root):
    """Modules of a parser are found by what is called."""
    of = {target: record.digest(target, root / "tests/data/fuzz" / f"{target}.txt") for target in ("frames", "config")}
    assert of["frames"] != of["config"]
    assert of["frames"] == record.digest("frames", root / "tests/data/fuzz/frames.txt")


@needs_atheris
def test_part(root, tmp_path):
    """What a process says it has done is what is counted."""
    runs, seconds, code = record._part("cobs", 300, 1, root / "tests/data/fuzz/cobs.txt", tmp_path)
    assert (runs, code) == (300, 0)
    assert seconds > 0


def test_page(root):
    """The page says what is stored."""
    rows = json.loads((root / "docs/fuzz.json").read_text())
    text = (root / "docs/trust.md").read_text()
    assert record.page(text, rows) == text
    assert "| 12,345,678 |" in record.page(text, [{**rows[0], "executions": 12345678}])


def test_target_wrong():
    done = CliRunner().invoke(record.main, ["nothing"])
    assert done.exit_code == 2
    assert "There is no target 'nothing'; there are frames, cobs" in done.output
