"""What `terngen doctor` finds."""

import re


def test_doctor(terngen):
    found = terngen("doctor", "--json").values
    assert found["ok"] is True
    names = {finding["name"]: finding for finding in found["findings"]}
    assert {"python", "amaranth", "numpy", "verilator program", "C++ compiler", "cache"} <= names.keys()
    assert all(finding.keys() == {"name", "ok", "detail", "needed", "remedy"} for finding in found["findings"])
    lines = terngen("doctor").stdout.splitlines()
    assert len(lines) == len(names)
    assert lines[0].split()[:2] == ["ok", "python"]


def test_doctor_finds_fault(terngen, work, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    (work / "file").touch()
    monkeypatch.setenv("TERNGEN_CACHE_DIR", str(work / "file" / "cache"))
    result = terngen("doctor", code=3)
    assert result.stderr == "Error: Commands need what is missing here: C++ compiler, cache\n"
    assert re.search(r"^missing +C\+\+ compiler +No C\+\+ compiler is here \(no-such-compiler\); install one ",
                     result.stdout, re.MULTILINE)
    assert "set TERNGEN_CACHE_DIR to a folder with space" in result.stdout
    assert terngen("doctor", "--json", code=3).values["ok"] is False
