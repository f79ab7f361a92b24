"""Commands that are cut short: by Ctrl-C at any file that they touch, by a disk that is full at any octet.

Afterwards nothing of them is there, and the same command works.
"""

import inspect
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from terngen.host import cli
from terngen.sim.device import SimPipe, SimTransport

#: Operations of files that tell of themselves, and may be interrupted.
EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "tempfile.mkdtemp",
          "tempfile.mkstemp", "shutil.rmtree", "os.listdir", "os.scandir"}

#: Commands that write, and what they leave; `{tiny}` is a checkpoint, `{tape}` a tape.
COMMANDS = {
    "convert":   (["convert", "{tiny}", "-o", "out.tape", "--calibration-tokens", "0"], ["out.tape"]),
    "generate":  (["generate", "--config", "tiny", "-o", "out"], ["out"]),
    "logits":    (["logits", "{tape}", "--tokens", "tokens.npy", "--out", "out.npy"], ["out.npy"]),
    "normalise": (["normalise", "text.txt", "-o", "out.txt"], ["out.txt"]),
    "build":     (["build", "{tiny}", "--config", "tiny", "--board", "ulx3s-85f:sdram", "-o", "out"], ["out"]),
    "train":     (["train", "--text", "stories.txt", "--valid", "stories.txt", "--hidden", "32", "--layers", "2",
                   "--vocab", "140", "--steps", "4", "--batch", "4", "--window", "16", "--state", "run.state",
                   "-o", "out"], ["out", "run.state"]),
}

#: What a command keeps on purpose to go on from there, and is whole.
KEPT = {"run.state": b"state" * 600}

#: Each time takes seconds.
SLOW = {"convert", "generate"}


def quick_build(patch):
    """Tools that leave their files at once, and no machine."""
    import json

    from terngen.hw import bitstream, build

    def run_tool(programs, arguments, folder):
        if "top.bit" in arguments:
            (folder / "top.bit").write_bytes(bytes(range(256)) * 40)
            return
        path = {"from": "posedge clk", "to": "posedge clk", "path": [{"delay": 1.0, "net": "a"}]}
        (folder / "top.config").write_bytes(bytes(5000))
        (folder / "nextpnr.log").write_text("placed")
        (folder / "report.json").write_text(json.dumps({
            "fmax": {"clk": {"constraint": 120, "achieved": 130}}, "utilization": {}, "critical_paths": [path]}))

    patch.setattr(build, "run_tool", run_tool)
    patch.setattr(build, "netlist", lambda *given, **options: {"modules": {"top": {"cells": {}, "ports": {}}}})
    patch.setattr(bitstream, "design", lambda board, *given, **options: bitstream.Design(
        "design", "constraints", "lpf", 120_000_000, {}))


def quick_train(patch):
    """A training that takes no time and needs no PyTorch; it keeps its state and writes files as the real one does."""
    import sys
    from types import SimpleNamespace

    import terngen.host.train
    from terngen.host.files import replacing

    def train(*given, state, **options):
        with replacing(state) as file:
            file.write(b"state" * 600)
        return "model", "tokenizer", {"bits_per_byte": 1.5}

    def save(folder, *given):
        for name in ("model.safetensors", "config.json", "training.json", "tokenizer.json"):
            (folder / name).write_bytes(name.encode() * 500)

    patch.setitem(sys.modules, "torch", SimpleNamespace(
        cuda=SimpleNamespace(is_available=lambda: False), zeros=lambda *given, **options: None))
    module = SimpleNamespace(train=train, save=save)
    patch.setitem(sys.modules, "terngen.host.train.recipe", module)
    patch.setattr(terngen.host.train, "recipe", module, raising=False)


#: What stands for the slow part of a command.
QUICK = {"build": quick_build, "train": quick_train}


class Interrupter:
    """Interrupts the process at one of the operations on files in a folder. Hooks cannot be taken away, so there is
    one, which rests most of the time."""

    def __init__(self):
        self.folder, self.left, self.seen = None, -1, 0
        sys.addaudithook(self._hook)

    def _hook(self, event, arguments):
        if self.folder is None or event not in EVENTS or not arguments:
            return
        path = arguments[0]
        if isinstance(path, (str, bytes, os.PathLike)) and os.path.abspath(os.fsdecode(path)).startswith(self.folder):
            self.seen += 1
            if self.seen == self.left:
                raise KeyboardInterrupt

    def run(self, folder, words, at):
        """A command, interrupted at that operation; its exit code, and how many operations there were."""
        self.folder, self.left, self.seen = os.fspath(folder), at, 0
        try:
            return cli.cli.main(words, standalone_mode=False) or 0, self.seen
        except KeyboardInterrupt:
            return cli.INTERRUPTED, self.seen
        finally:
            self.folder = None


@pytest.fixture(scope="session")
def interrupter():
    return Interrupter()


@pytest.fixture
def words(tiny, speaking_tape, work, cache, monkeypatch):
    """Makes the words of a command; what it needs is in the current folder."""
    np.save("tokens.npy", np.arange(20))
    Path("text.txt").write_text("A fox – and a hen.\n" * 1000)
    Path("stories.txt").write_text("A fox and a hen.\n" * 50)

    def words(name):
        QUICK.get(name, lambda patch: None)(monkeypatch)
        return [word.format(tiny=tiny, tape=speaking_tape) for word in COMMANDS[name][0]]
    return words


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.long] if name in SLOW else [])
                                  for name in COMMANDS])
def test_interrupted_at_each_file(name, words, work, interrupter, capfd):
    before = names(work)
    for _ in range(2):          # the first time modules are looked for in the folder as well
        for path in COMMANDS[name][1]:
            subprocess.run(["rm", "-rf", path], check=True)
        code, count = interrupter.run(work, words(name), -1)
        assert code == 0
    assert count > 3
    expected = contents(work)
    for at in range(1, count + 1):
        for path in COMMANDS[name][1]:
            subprocess.run(["rm", "-rf", path], check=True)
        assert names(work) == before
        code, seen = interrupter.run(work, words(name), at)
        assert seen >= at
        assert code in (cli.INTERRUPTED, 0), at
        left = set(names(work)) - set(before)
        assert left <= set(COMMANDS[name][1]), at
        # What is there under its name is whole.
        assert contents(work).items() <= (expected | KEPT).items(), at
        assert not list(work.rglob(".*")), at
    if name == "train":         # it does not write over a model, and the last one is there
        assert contents(work).items() >= expected.items()
        subprocess.run(["rm", "-rf", "out"], check=True)
    code, _ = interrupter.run(work, words(name), -1)
    assert code == 0
    assert contents(work) == expected


#: The command line in a process that may write files up to a size.
LIMITED = """
import resource, sys
from terngen.host import cli
{quick}
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
cli.main()
"""


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.long] if name in SLOW else [])
                                  for name in COMMANDS])
def test_disk_is_full(name, words, work):
    """At the beginning, in the middle, and at the last octet."""
    before = names(work)

    quick  = QUICK.get(name)
    script = LIMITED.format(quick=f"import pytest\n{inspect.getsource(quick)}{quick.__name__}(pytest.MonkeyPatch())"
                            if quick else "")

    def run(limit):
        return subprocess.run([sys.executable, "-c", script, str(limit), *words(name)], capture_output=True, text=True,
                              timeout=120, check=False)

    whole = run(resource.RLIM_INFINITY)
    assert whole.returncode == 0, whole.stderr
    expected = contents(work)
    largest  = max(len(octets) for path, octets in expected.items() if path not in before)
    for limit in (0, largest // 2, largest - 1):
        for path in COMMANDS[name][1]:
            subprocess.run(["rm", "-rf", path], check=True)
        done = run(limit)
        # A tool that needs files of its own may be the first to fail.
        assert done.returncode == 9 or done.returncode == 3 and name == "generate", done.stderr
        assert "File too large" in done.stderr
        assert "Traceback" not in done.stderr
        assert set(names(work)) - set(before) - KEPT.keys() <= ({"out"} if name in ("generate", "build") else set())
        left = contents(work)
        assert left.keys() - KEPT.keys() == set(before)
        assert all(octets == left.get(path, octets) for path, octets in KEPT.items())
    assert run(largest).returncode == 0
    assert contents(work) == expected


@pytest.fixture
def kept_machine(monkeypatch):
    """A simulated machine that stays between commands, as a board does; `sends` counts what it is sent, and Ctrl-C
    comes with the one at `left`."""
    kept  = SimpleNamespace(machine=None, sends=0, left=-1)
    whole = SimTransport.open
    send  = SimPipe.send

    def opened(config, **options):
        if kept.machine is None:
            kept.machine = whole(config, **options)
            kept.close   = kept.machine.close
            monkeypatch.setattr(kept.machine, "close", lambda: None)
        else:
            kept.machine._connect()
        return kept.machine

    def sent(pipe, octets):
        kept.sends += 1
        if kept.sends == kept.left:
            raise KeyboardInterrupt
        send(pipe, octets)

    monkeypatch.setattr(SimTransport, "open", opened)
    monkeypatch.setattr(SimPipe, "send", sent)
    yield kept
    kept.close()


def test_load_interrupted(kept_machine, tiny_tape, work, cache, capfd):
    """At any time: no file is there afterwards, and the same command sends what is missing."""
    def load(*words, at=-1):
        kept_machine.sends, kept_machine.left = 0, at
        return cli.cli.main(["load", str(tiny_tape), "--device", "sim", "--json", *words], standalone_mode=False) or 0

    def sent():
        return json.loads(capfd.readouterr().out)["octets"]

    assert load() == 0
    octets, count = sent(), kept_machine.sends
    assert octets > 10_000 and count > 10
    assert load() == 0
    assert sent() == 0
    lost = np.random.default_rng(1).bytes(octets)
    for at in (1, 2, count // 3, count // 2, count - 2, count):
        kept_machine.machine.model.memory_write(0, lost)
        assert load(at=at) == cli.INTERRUPTED
        assert not list(work.iterdir())
        capfd.readouterr()
        assert load() == 0
        assert (sent() > 0) or at > count // 2      # at the end it only looks whether all is there
        assert load("--check") == 0
        capfd.readouterr()
