"""Every command of the documentation: it exists, and it runs here or somewhere that is named.

Three kinds. Those in a ``console`` block, and those that take no second, run with the default tests. All others
that a machine without a board can run do so with ``pytest -m long tests/docs``, each as a test of its own, in the order
of the pages, because some need what those before them made. The rest is in `ELSEWHERE`, with where it runs.
"""

import functools
import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from terngen.host import cli
from terngen.sim import performance

#: Programs whose lines are commands.
PROGRAM = r"(?:\.venv/bin/)?(?:terngen|python3?|pytest|make|pip|curl|vivado|echo|mkdir)"

TINY = "tests/data/reference/tiny"

#: What stands for something of the reader's own.
PLACEHOLDERS = {"MODEL": TINY, "CHECKPOINT": TINY, "model.tape": "models/fairy-1m", "models/NAME": "models/fairy-1m",
                "UNIT": "to-int8", "FILE": "LICENSE", "BOOK.txt": "LICENSE", "BOARD": "ulx3s-85f:sdram",
                "DIR": "found", "RESULTS": "found"}

#: Pages whose console blocks have tests of their own, beside them.
OWN_TESTS = {"cli.md": "tests/host/test_cli_docs.py", "serving.md": "tests/host/serve/test_docs.py",
             "adding-a-board.md": "tests/hw/boards/test_tutorial.py"}

#: Commands that neither run here nor under ``-m long``: how they begin, and where they run.
ELSEWHERE = {
    "terngen program": "needs a board",
    "terngen load": "needs a board; tests/sim/test_board.py loads a simulated one",
    "terngen run build/": "needs a board; tests/sim/test_board.py",
    "terngen run models/fairy-1m --config ... --device serial": "needs `terngen sim`; tests/sim/test_board.py",
    "terngen selftest": "needs a board; tests/host/commands/test_boards.py",
    "terngen run fairy.1of2.tape fairy.2of2.tape --device serial": "needs boards; tests/host/test_chain.py",
    "terngen serve": "ends when it is stopped; tests/host/serve",
    "terngen sim": "ends when it is stopped; tests/host/commands/test_boards.py",
    "terngen train": "hours without a GPU; tests/train",
    "terngen bench build/": "needs what an earlier build made",
    "terngen build": "make boards; the smallest in tests/host/commands/test_build.py",
    "terngen explore ... --scheduler": "needs a cluster; tests/host/explore/test_schedulers.py",
    "python -m terngen.host.serve.figures soak": "an hour; tests/host/serve/test_figures.py has a short one",
    "python -m terngen.sim.contract": "writes its page; tests/docs/test_contract.py",
    "python -m terngen.sim.coverage": "make coverage",
    "python -m terngen.sim.mutants": "make mutants",
    "make": "targets; .ci/run plays `make test`, and a fresh clone `make demo`",
    "pip": "installs",
    "pytest": "the tests themselves",
    "vivado": "a vendor's",
    "curl": "tests/host/serve/test_docs.py",
    "python -m terngen.sim.soak": "make soak",
    "python -m terngen.sim.lmul": "minutes, writes its page; tests/sim/lmul",
    "python -m terngen.sim.area": "a quarter of an hour, writes baselines; tests/hw/test_area.py",
}

#: What names an option, or begins a command that goes on elsewhere on its page.
NAMES = {"terngen convert ... --split 2 --config tiny", "terngen estimate --geometry", "terngen estimate --split",
         "terngen generate --board kv260", "terngen run --seed"}


def commands(text):
    """Commands of a page, without prompts and comments; and whether each stands in a console block."""
    fence, found = None, []
    for line in text.replace("\\\n", " ").splitlines():
        edge = re.match(r"\s*```(.*)$", line)
        if edge:
            fence = None if fence is not None else edge[1]
        elif fence is not None and fence.startswith("console"):
            found += [(line[2:], True)] if line.startswith("$ ") else []
        elif fence in (None, "", "sh", "bash") and re.match(rf" {{4,}}{PROGRAM} ", line) or (
                fence in ("", "sh", "bash") and re.match(rf"{PROGRAM} ", line)):
            found.append((line, False))
        elif fence is None:
            found += [(inline, False) for inline in re.findall(rf"`({PROGRAM} [^`]+)`", line)]
    return [(line.strip(), console) for line, console in found]


def words(command):
    """A command as a list, without comment, pipe and file, with something in the place of each placeholder."""
    line  = re.sub(r"\$\(.*\)", "FILE", command).partition(" | ")[0].partition(" > ")[0]
    found = [word for word in shlex.split(line, comments=True) if word not in ("...", "…")]
    return [word if before == "-o" else PLACEHOLDERS.get(word, word) for before, word in zip([None, *found], found)]


def elsewhere(command):
    return next((why for start, why in ELSEWHERE.items()
                 if command.removeprefix(".venv/bin/").startswith(start)), None)


@pytest.fixture(scope="module")
def found(pages):
    found = [(path, command, console) for path, text in pages.items() for command, console in commands(text)]
    assert len(found) > 200
    return found


def check_click(command, arguments):
    """Options exist, and there are not too many arguments."""
    parent = click.Context(cli.cli)
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        inner = command.get_command(parent, arguments[0])
        assert inner is not None, arguments[0]
        command, arguments = inner, arguments[1:]
    parser = command.make_parser(click.Context(command, parent=parent))
    if arguments[-1:] and arguments[-1] in parser._long_opt and parser._long_opt[arguments[-1]].takes_value:
        arguments = arguments[:-1]              # the page names the option, and not what is behind it
    parser.parse_args(list(arguments))


@functools.cache
def targets(root):
    return set(re.findall(r"^([\w-]+):", (root / "Makefile").read_text(), re.MULTILINE))


def check(root, command):
    """A command is one that there is; raises if not."""
    program, *arguments = words(command.removeprefix(".venv/bin/"))
    if program == "terngen":
        check_click(cli.cli, arguments)
    elif program == "make":
        assert arguments[0] in targets(root), arguments[0]
    elif program == "pytest":
        for path in (argument for argument in arguments if argument.startswith("tests")):
            assert (root / path).exists(), path
        if "-k" in arguments:
            [place] = [argument for argument in arguments if argument.startswith("tests")]
            text = (root / place).read_text() if place.endswith(".py") else ""
            assert not text or re.search(rf"def test_\w*{arguments[arguments.index('-k') + 1]}", text), arguments
    elif program.startswith("python") and arguments[:1] == ["-m"]:
        assert importlib.util.find_spec(arguments[1]), arguments[1]
        main = getattr(importlib.import_module(arguments[1]), "main", None)
        if isinstance(main, click.Command):
            check_click(main, arguments[2:])


def test_exist(root, found):
    wrong = []
    for path, command, _ in found:
        try:
            check(root, command)
        except Exception as error:
            wrong.append(f"{path.name}: {command}: {error}")
    assert not wrong, "\n".join(wrong)


def line(command):
    """A command as a shell takes it."""
    file = re.search(r" (> \S+)(?:\s+#|$)", command)
    return " ".join([shlex.join(words(command)), *([file[1]] if file else [])])


def run(folder, command):
    environment = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    done = subprocess.run(["bash", "-c", line(command)], cwd=folder, env=environment, text=True, capture_output=True,
                          timeout=1800)
    assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_console(found, folder):
    """Blocks that show a session run, from top to bottom."""
    count = 0
    for path, command, console in found:
        if console and path.name not in OWN_TESTS:
            run(folder, command)
            count += 1
    assert count > 10


def quick(command):
    """Whether it is one of those, and not only a name."""
    return re.match(r"terngen (estimate \S+ \S|estimate [^-]|boards|doctor)", command)


def test_quick(found, folder, monkeypatch):
    """What takes no second, in this process."""
    monkeypatch.chdir(folder)
    chosen = dict.fromkeys(command for _, command, console in found if quick(command) and not console)
    assert len(chosen) > 25
    for command in chosen:
        if "fairy.tape" not in command:     # of a session
            done = CliRunner().invoke(cli.cli, words(command)[1:], prog_name="terngen")
            assert done.exit_code == 0, f"{command}\n{done.output}"


def test_measured(found):
    """Commands in tables of measurements are those that are measured."""
    measured = {f"terngen {each.command}" for each in performance.MEASUREMENTS}
    page     = {command for path, command, _ in found if path.name == "performance.md"}
    assert len(measured & page) > 60


def pick(pages):
    """Everything else that can run here, once, with what its test is called."""
    measured = {f"terngen {each.command}" for each in performance.MEASUREMENTS}
    picked   = {}
    for path, text in pages.items():
        for command, console in commands(text):
            whole = len(words(command)) > 2 or command.startswith(("echo", "mkdir"))
            if not (console or quick(command) or elsewhere(command) or command in measured | NAMES) and whole:
                picked.setdefault(command, f"{path.parent.name}/{path.name}: {line(command)}")
    return picked


@pytest.mark.long
def test_long(long_command, folder):
    run(folder, long_command)


def test_picked(pages, found):
    picked = pick(pages)
    assert len(picked) > 60
    assert {command for _, command, _ in found} >= NAMES        # none that the pages no longer have
    for start in ELSEWHERE:
        assert any(command.removeprefix(".venv/bin/").startswith(start) for _, command, _ in found), start


def test_line():
    """Files that a command writes are written."""
    assert line("terngen bench  MODEL --json > a.json  # a comment") == f"terngen bench {TINY} --json > a.json"
    assert line("""echo '{"a": 1}' > b.json""") == """echo '{"a": 1}' > b.json"""
