"""docs/serving.md says what clients see."""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import urllib.request

import pytest

PROGRAM = [sys.executable, "-c", "from terngen.host.cli import main; main()"]


@pytest.fixture(scope="module")
def page(root):
    return (root / "docs" / "serving.md").read_text()


@pytest.fixture(scope="module")
def address(root, page, tmp_path_factory):
    """Where the server of the page is."""
    [words] = re.findall(r"^    terngen (serve .*)$", page, re.MULTILINE)
    with subprocess.Popen([*PROGRAM, *words.split(), "--port", "0", "--json"], cwd=root, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True) as process:
        try:
            found = json.loads(process.stdout.readline())
            assert found.keys() == {"address", "model", "device", "digest", "slots", "chat"}
            yield found["address"].removeprefix("http://127.0.0.1:")
        finally:
            process.terminate()


def without_chance(text):
    """Equal for equal answers."""
    text = re.sub(r'"(cmpl|chatcmpl)-[0-9a-f]+"', '"ID"', text)
    return re.sub(r'"(created|seconds)":[\d.]+', r'"\1":N', text).strip()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_console(page, address):
    """Each command prints what is below it."""
    [block] = re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    examples = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    assert len(examples) == 7
    for line, _, printed in (example.partition("\n") for example in examples):
        actual = subprocess.run(["bash", "-c", line.replace(":8080", ":" + address)], text=True, capture_output=True,
                                timeout=60).stdout
        assert without_chance(actual) == without_chance(printed), line


def test_python(page, address):
    """OpenAI's client, as it is shown."""
    [block] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        names = {}
        exec(compile(block.replace(":8080", ":" + address), "serving.md", "exec"), names)
    names["client"].close()
    assert len(said.getvalue()) > 20


def test_metrics(page, address):
    """The table has what the server has, in its words."""
    with urllib.request.urlopen(f"http://127.0.0.1:{address}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    helps  = re.findall(r"^# HELP (\w+) (.*)\.$", text, re.MULTILINE)
    actual = {name: says[0].lower() + says[1:] for name, says in helps}
    assert dict(re.findall(r"^\| `(terngen_\w+)` \| (.*) \|$", page, re.MULTILINE)) == actual
    with urllib.request.urlopen(f"http://127.0.0.1:{address}/health", timeout=30) as answer:
        names = json.load(answer).keys()
    assert all(f"`{name}`" in page for name in names)


def test_options(page, terngen):
    """An option on the page is one of the command, but for one of `terngen run` and one of the figures."""
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", page))
    known = set(re.findall(r"--[a-z][\w-]*", terngen("serve", "--help").stdout))
    assert named - known == {"--seed", "--seconds"}
    assert known - named == {"--config", "--memory", "--waveform", "--help"}
