"""Parsers take whatever they are given: a stored corpus, findings of old, and a short search for new ones."""

import base64
import importlib.util
import subprocess
import sys

import pytest

from terngen.sim.fuzz.targets import TARGETS, seeds

#: Inputs that a parser has stumbled over.
FINDINGS = {
    "tape": [
        # A header without a digest, one without the name of its model, sections that are no objects.
        lambda: seeds("tape")[1].replace(b'"digest"', b'"digesu"'),
        lambda: seeds("tape")[1].replace(b'"name": "m"', b'"game": "m"'),
        lambda: seeds("tape")[1].replace(b'"marks": {', b'"marks": [').replace(b'"head": [8, 4]}', b'"head", [8, 4]]'),
    ],
    "tokenizer": [
        lambda: seeds("tokenizer")[0].replace(b'"unk_token": "A"', b'"unk_token": ")"'),
    ],
}


@pytest.mark.parametrize("target", TARGETS)
def test_corpus(root, target):
    """Every input that once reached something new."""
    inputs = [base64.b64decode(line) for line in (root / "tests/data/fuzz" / f"{target}.txt").read_text().split()]
    assert len(inputs) >= 5
    for octets in [*seeds(target), *inputs]:
        TARGETS[target](octets)


@pytest.mark.parametrize("target, make", [(target, make) for target, makes in FINDINGS.items() for make in makes])
def test_findings(target, make):
    assert make() not in seeds(target), "the seed has changed, and the finding with it"
    TARGETS[target](make())


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this system")
@pytest.mark.parametrize("target", TARGETS)
def test_search(root, tmp_path, target):
    """A few thousand inputs that nobody has seen; ``make fuzz`` tries many more."""
    done = subprocess.run([sys.executable, "-m", "terngen.sim.fuzz", target, "--runs", "4000", "--seconds", "10",
                           "--begin", root / "tests/data/fuzz" / f"{target}.txt"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Done " in done.stderr
    assert not list(tmp_path.iterdir())


def test_search_finds(tmp_path):
    """A parser that is wrong for some input is found out."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris has no wheel for this system")
    script = tmp_path / "wrong.py"
    script.write_text(
        "import json, sys\n"
        "from terngen.sim.fuzz import targets\n"
        "targets.TARGETS['config'] = lambda octets: json.loads(octets) if octets[:1] == b'{' else None\n"
        "sys.argv = ['fuzz', 'config', '--runs', '20000']\n"
        "from terngen.sim.fuzz.__main__ import main\n"
        "main()\n")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          check=False)
    assert done.returncode != 0
    assert "JSONDecodeError" in done.stdout + done.stderr
    assert list(tmp_path.glob("config-crash-*"))
