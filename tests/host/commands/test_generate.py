"""Verilog and manifest of `terngen generate`."""

import hashlib
import json
import re
import sys

import pytest

from terngen.host import configs
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Tape


def test_generate(terngen, speaking, work):
    """Verilog for a tape, and a manifest of it, which names the same machine again."""
    terngen("convert", speaking, "-o", "a.tape", "--config", "tiny", "--slots", 2)
    result = terngen("generate", "--model", "a.tape", "-o", "out", "--json").values
    assert sorted(path.name for path in (work / "out").iterdir()) == ["manifest.json", "terngen.v"]
    manifest = json.loads((work / "out" / "manifest.json").read_text())
    assert result == {"output": "out", **manifest}
    config = Config.from_dict(manifest["config"])
    assert (config.slots, config.beat_bits) == (2, 16)
    assert manifest["digest"] == config.digest.hex() == Tape.open("a.tape").config.digest.hex()
    verilog = (work / "out" / "terngen.v").read_bytes()
    [file] = manifest["files"]
    assert (file["name"], file["octets"]) == ("terngen.v", len(verilog))
    head  = re.search(r"^module terngen\((.*?)\);", verilog.decode(), re.MULTILINE | re.DOTALL)[1]
    ports = {port["name"]: port for port in manifest["ports"]}
    assert {name.strip() for name in head.split(",")} == ports.keys()
    text = verilog.decode()
    text = text[text.index("module terngen("):]
    for name, port in ports.items():
        width = f"[{port['width'] - 1}:0] " if port["width"] > 1 else ""
        assert f"  {port['direction']}put {width}{name};" in text
    assert hashlib.sha256(verilog).hexdigest() == file["sha256"]
    assert configs.machine_config("out/manifest.json") == config


@pytest.mark.parametrize("words, code, message", [
    (["--config", "huge", "-o", "out"],           4, r"There is no configuration 'huge', and no file of that name; "),
    (["--config", "bad.toml", "-o", "out"],       4, r"Configuration is refused: Lanes must be "),
    (["--slots", "99", "-o", "out"],              4, r"Configuration is refused: Slots must be from 1 to 16, not 99$"),
    (["--model", "none", "-o", "out"],            8, r"none cannot be read: No such file or directory$"),
    ([],                                          2, r"Missing option '-o'"),
])
def test_generate_refused(refused, work, words, code, message):
    (work / "bad.toml").write_text("lanes = 3\n")
    refused("generate", *words, code=code, message=message)


@pytest.mark.parametrize("place", ["file", "file/out", "/dev/null/out"])
def test_generate_unwritable(refused, work, monkeypatch, place):
    """Said before anything is generated."""
    monkeypatch.setitem(sys.modules, "terngen.hw.top", None)
    (work / "file").touch()
    refused("generate", "--config", "tiny", "-o", place, code=9,
            message=rf"{place} cannot be written: Not a directory$")
