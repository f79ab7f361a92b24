"""The command line as a whole: help, exit codes, processes."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest

from terngen.host import cli, errors

#: The command line in a process of its own.
PROGRAM = [sys.executable, "-c", "from terngen.host.cli import main; main()"]


def test_help(terngen):
    listed = terngen("--help").stdout
    for name in cli.COMMANDS:
        assert re.search(rf"^  {name} +[A-Z]", listed, re.MULTILINE)
    assert terngen("-h").stdout == listed
    assert terngen("--version").stdout == "terngen 0.1.0\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command(terngen, name):
    """Each explains itself, has --json, and says of every option what it does or what it is."""
    assert "--json" in terngen(name, "--help").stdout
    command = cli.cli.get_command(click.Context(cli.cli), name)
    assert command.help


def test_unknown_command(refused):
    refused("simulate", code=2, message=r"No such command 'simulate'")
    refused("run", code=2, message=r"Missing argument 'CKPT_OR_TAPE\.\.\.'")
    refused("run", "x", "--fast", code=2, message=r"No such option")


def test_exit_codes(terngen):
    """The help, the table of the module and the classes say the same."""
    said  = dict(re.findall(r"(\d+) ([^,.]+)", terngen("--help").stdout.split("Exit codes:")[1]))
    table = re.findall(r"^(\d+)  +", errors.__doc__, re.MULTILINE)
    assert list(said) == table == ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "130"]
    codes = {name: getattr(errors, name).exit_code for name in errors.__all__ if name != "quote"}
    assert codes == {
        "ToolError": 3, "ConfigError": 4, "UnsupportedError": 4, "TimingError": 5, "GateError": 6,
        "DeviceError": 7, "LinkError": 7, "InputError": 8, "CheckpointError": 8, "TapeError": 8,
        "OutputError": 9}


# In a process of its own.

@pytest.mark.parametrize("words", [["disasm", "{model}"], ["run", "{model}", "--tokens", "3"], ["doctor"]],
                         ids=lambda words: words[0])
def test_full_disk(cache, speaking_tape, words):
    """A result that could not be written is no success."""
    words = [word.format(model=speaking_tape) for word in words]
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*PROGRAM, *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 9
    assert done.stderr.splitlines()[-1] == "Error: Output cannot be written: No space left on device"
    assert "Traceback" not in done.stderr


def test_reader_goes_away(cache, speaking_tape):
    """As with `terngen disasm model | head`."""
    with subprocess.Popen([*PROGRAM, "run", str(speaking_tape), "--tokens", "100000", "--temperature", "9"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert len(process.stdout.read(20)) == 20       # text comes as it is made
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 128 + signal.SIGPIPE


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(cache, speaking_tape, work, number, code):
    """Nothing half-written is left behind."""
    np.save("tokens.npy", np.zeros(1_000_000, np.int64))
    with subprocess.Popen([*PROGRAM, "logits", str(speaking_tape), "--tokens", "tokens.npy", "--out", "out"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        limit = time.monotonic() + 60
        while len(list(work.iterdir())) < 2 and time.monotonic() < limit:      # it writes
            time.sleep(0.05)
        assert len(list(work.iterdir())) == 2
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert out == ""
    assert "Traceback" not in err
    assert [path.name for path in work.iterdir()] == ["tokens.npy"]


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_text(cache, speaking_tape, number, code):
    """Ctrl-C while a machine makes ten thousand tokens by itself."""
    with subprocess.Popen([*PROGRAM, "run", str(speaking_tape), "--tokens", "10000"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        assert len(process.stdout.read(20)) == 20
        process.send_signal(number)
        begin = time.monotonic()
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    assert time.monotonic() - begin < 20


def test_console_script(cache, speaking_tape):
    """The program that pip installs does what the tests in process do."""
    program = Path(sys.executable).with_name("terngen")
    if not program.exists():
        pytest.skip("terngen is not installed beside Python")
    done = subprocess.run([program, "run", speaking_tape, "--prompt", "a fox", "--tokens", "3", "--json"],
                          capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["prompt"] == "a fox"
    done = subprocess.run([program, "run", "none"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (8, "")
    assert done.stderr == "Error: There is no tape and no checkpoint folder at none\n"


def test_terminal_of_another_encoding(cache, speaking_tape):
    """Letters that a terminal cannot show do not end the command."""
    done = subprocess.run([*PROGRAM, "run", speaking_tape, "--prompt", "À→", "--tokens", "1"], capture_output=True,
                          env={**os.environ, "PYTHONIOENCODING": "latin-1"}, timeout=60)
    assert done.returncode == 0
    assert done.stdout.startswith(b"\xc0?")


def test_base_installation():
    """Commands run where the tools of the tests are not installed."""
    program = ("import importlib, sys; sys.modules.update(dict.fromkeys(['cocotb', 'cocotb_tools', 'find_libpython', "
               "'pytest', 'hypothesis', 'torch', 'mypy', 'starlette', 'uvicorn', 'openai'])); "
               "from terngen.host import cli; "
               "[importlib.import_module(place.partition(':')[0]) for place in cli.COMMANDS.values()]; "
               "import terngen.sim.bench, terngen.sim.gate, terngen.sim.device, terngen.sim.verilog, terngen.hw.top, "
               "terngen.sim.golden.reference, terngen.sim.golden.sequence")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_slow_imports_wait():
    """Help, and what is wrong with the words of a command, come without gateware and simulation."""
    program = ("import sys; from terngen.host import cli; "
               "[cli.cli.get_command(None, name) for name in cli.COMMANDS]; "
               "print([name for name in ('terngen.hw.top', 'terngen.sim', 'torch', 'cocotb') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("place", cli.COMMANDS.values())
def test_names_of_commands(place):
    module, _, name = place.partition(":")
    assert isinstance(getattr(importlib.import_module(module), name), click.Command)
