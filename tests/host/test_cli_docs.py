"""docs/cli.md says what the commands do."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from terngen.host import cli, errors

#: Example of each command whose JSON keys the page lists, where the page itself has none.
ARGUMENTS = {
    "doctor":     ["doctor"],
    "convert":    ["convert", "models/fairy-1m", "-o", "again.tape", "--calibration-tokens", "1"],
    "disasm":     ["disasm", "fairy.tape", "--mark", "head"],
    "run":        ["run", "fairy.tape", "--tokens", "1"],
    "logits":     ["logits", "fairy.tape", "--tokens", "tokens.npy", "--out", "golden.npy"],
    "perplexity": ["perplexity", "fairy.tape", "--text", "text.txt"],
    "estimate":   ["estimate", "fairy.tape"],
    "bench":      ["bench", "fairy.tape", "--tokens", "1", "--prompt", "2"],
    "synth":      ["synth", "to-int8"],
    "lmul":       ["lmul", "errors"],
    "accuracy":   ["accuracy", "fairy.tape", "--text", "text.txt", "--tokens", "16", "--together"],
    "energy":     ["energy", "--geometry", "370m"],
    "explore":    ["explore", "370m", "--board", "kv260", "--lanes", "8", "--slots", "1", "--row-lanes", "4"],
    "report":     ["report", "results"],
    "boards":     ["boards"],
    "program, terngen load, terngen selftest": ["selftest", "fairy.tape", "--device", "golden"],
}


@pytest.fixture(scope="module")
def page(root):
    return (root / "docs" / "cli.md").read_text()


@pytest.fixture(scope="module")
def sections(page):
    """Text of each command, by name."""
    parts = re.split(r"^## (.*)$", page, flags=re.MULTILINE)
    return {name.removeprefix("terngen "): text for name, text in zip(parts[1::2], parts[2::2])}


@pytest.fixture(scope="module")
def folder(root, tmp_path_factory):
    """Where the examples run."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "models").symlink_to(root / "models")
    return folder


@pytest.fixture(scope="module")
def shell(folder):
    """Runs a line; what it prints."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def shell(line):
        done = subprocess.run(["bash", "-c", line], cwd=folder, env={**os.environ, "PATH": path}, text=True,
                              capture_output=True, timeout=300)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        return done.stdout
    return shell


def without_numbers(text):
    """Lines that say the same of another machine, model and day are equal."""
    text = re.sub(r"\b[0-9a-f]{8,}\b", "N", text)
    text = re.sub(r"-?\b\d[\d,]*(\.\d+)?(e-?\d+)?\b", "N", text)
    return [" ".join(line.split()) for line in text.strip().splitlines()]


@pytest.fixture(scope="module")
def examples(page, shell):
    """Each example with what the page says that it prints, and what it prints."""
    found = []
    for varies, block in re.findall(r"^```console( varies)?\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, printed = part.partition("\n")
            found.append((line, printed, shell(line), bool(varies)))
    return found


def test_examples(examples):
    """All of them run; what they print is on the page, but for numbers, and for what a model says."""
    assert len(examples) > 15
    for line, printed, actual, varies in examples:
        if varies:
            assert bool(actual) == bool(printed), line
        else:
            assert without_numbers(actual) == without_numbers(printed), line


def test_every_command(sections):
    assert cli.COMMANDS.keys() == {name for title in sections for name in re.findall(r"\w+", title)} - {"terngen"}


def test_every_option(page):
    """An option on the page is one of a command."""
    context = click.Context(cli.cli)
    found   = [cli.cli.get_command(context, name) for name in cli.COMMANDS]
    found  += [part for command in found if isinstance(command, click.Group) for part in command.commands.values()]
    known   = {option for command in found for parameter in command.params
               for option in [*parameter.opts, *parameter.secondary_opts]}
    named   = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", page))
    assert named - known == {"--help"}


def test_keys(sections, examples, shell):
    """The tables have the keys of the JSON objects, no more and no less."""
    for name, arguments in ARGUMENTS.items():
        rows = re.findall(r"^\| (`.*?) \|", sections[name].split("| key |")[1], re.MULTILINE)
        keys = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
        if name == "bench":
            keys.remove("first")        # after a failure only
        assert json.loads(shell(" ".join(["terngen", *arguments, "--json"]))).keys() == keys, name


def test_exit_codes(page):
    """As in the module that defines them."""
    table = re.findall(r"^(\d+)  +", errors.__doc__, re.MULTILINE)
    assert re.findall(r"^\| (\d+) \|", page, re.MULTILINE) == table
