"""Boards on the command line: what there is, what fits, and a whole board behind a serial port."""

import hashlib
import json
import signal
import subprocess
import sys

import pytest

from terngen.host.device import Device
from terngen.host.exercises import PARTS
from terngen.host.models import open_model
from terngen.host.selftest import selftest
from terngen.hw.boards import MODULES, find
from terngen.hw.contract import regs
from terngen.hw.contract.config import Config
from terngen.hw.contract.regs import Reg
from terngen.sim.device import GoldenTransport

MAIN = "from terngen.host.cli import main; main()"


def test_every_board_is_listed(terngen):
    found = terngen("boards", "--json").values["boards"]
    assert {each["name"].partition(":")[0] for each in found} == set(MODULES)
    for each in found:
        board, memory = find(each["name"])
        assert (each["title"], each["memory_bytes"]) == (board.title, board.memories[memory].octets)


def test_fits(terngen, tiny):
    """A model that fits, with numbers; one that does not, with the reason."""
    found = {each["name"]: each for each in terngen("boards", "--fits", tiny, "--json").values["boards"]}
    small = found["ulx3s-85f:onchip"]
    assert small["fits"]
    assert 0 < small["tokens_per_second"] < small["bound_tokens_per_second"]
    assert small["load_seconds"] == 0
    found = {each["name"]: each for each in terngen("boards", "--fits", "2.7b", "--json").values["boards"]}
    large = found["ulx3s-85f:onchip"]
    assert not large["fits"]
    assert large["why"].startswith("the tape has ")
    assert "ulx3s-85f:onchip: the tape has " in terngen("boards", "--fits", "2.7b").stdout


def test_fits_wrong(refused, tiny_tape):
    refused("boards", "--fits", "huge", code=8, message="There is no checkpoint folder at huge, and no published size")
    refused("boards", "--fits", tiny_tape, code=8, message="Boards need the checkpoint folder, because a tape is made")


@pytest.mark.parametrize("command", [["build"], ["sim", "--pty"]])
def test_board_wrong(refused, tiny, command):
    refused(*command, tiny, "--board", "breadboard", code=4,
            message="There is no board 'breadboard'; there are ulx3s-85f")
    refused(*command, tiny, "--board", "ulx3s-85f:tube", code=4,
            message="Board ulx3s-85f has no memory 'tube'; it has ")
    refused(*command, tiny, "--board", "mine.py", code=4, message="Board file mine.py cannot be read: No such file")


def test_tape_too_large(refused, terngen, root):
    refused("build", root / "models/fairy-5m", "--board", "ulx3s-85f:onchip", code=4,
            message=r"Tape of [\d,]+ octets does not fit block RAM of board ulx3s-85f, which has 425,984")


@pytest.fixture
def board(cache, tiny):
    """A simulated board in a process of its own: the device to open, and the process."""
    process = subprocess.Popen([sys.executable, "-c", MAIN, "sim", str(tiny), "--board", "ulx3s-85f:onchip", "--pty",
                                "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield json.loads(process.stdout.readline()), process
    finally:
        process.kill()
        process.communicate()


def test_behind_a_serial_port(board, tiny):
    """The driver of a board, bit for bit the golden machine; and again after it has hung up."""
    found, process = board
    tape = open_model(tiny, config=Config.from_dict(found["config"]))
    assert tape.config.digest.hex() == found["digest"]
    tokens = []
    for device in (found["device"], "golden", found["device"]):
        with Device.open(device, tape) as machine:
            # The bitstream holds the tape.
            if device == "golden":
                machine.load()
            tokens.append([made[0] for made in machine.decode({0: 3}, 12, reset=[0])])
    assert tokens[0] == tokens[1] == tokens[2]
    assert len(tokens[0]) == 12
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130


def test_load(terngen, refused, tiny):
    """The golden device begins with nothing each time."""
    found = terngen("load", tiny, "--device", "golden", "--json").values
    assert found["sections"][0] == "embedding"
    assert found["loaded"]
    result = terngen("load", tiny, "--device", "golden", "--check", code=7)
    assert "Device golden does not have the tape in embedding, " in result.stderr


@pytest.mark.parametrize("device", ["golden", "sim"])
def test_selftest(terngen, tiny, device):
    found = terngen("selftest", tiny, "--device", device, "--json").values
    assert [step["name"] for step in found["steps"]] == ["link", "memory", "matrix", "layer", "token"]
    assert found["passed"]
    assert all(step["passed"] for step in found["steps"])


def test_selftest_without_a_model(terngen):
    found = terngen("selftest", "--device", "golden", "--slots", "2", "--json").values
    assert [step["name"] for step in found["steps"]] == ["link", "memory", *PARTS, "text"]
    assert found["passed"]


@pytest.mark.parametrize("register, name", [("PLAY_COUNT", "link"), ("CRC", "memory"), ("sums", "matrix"),
                                            ("results", "token")])
def test_selftest_fails(slotted, register, name):
    """A device that lies is found at the step that it spoils, and the last step says what to do."""
    class Liar(GoldenTransport):
        def read(self, address, octets, *, timeout=None):
            answer = super().read(address, octets)
            base   = {"sums": regs.SUMS_BASE, "results": regs.RESULT_BASE}.get(register)
            lie    = address == base if base is not None else address == Reg[register].value
            return bytes([answer[0] ^ 4]) + answer[1:] if lie else answer

    with Device(Liar(slotted.config), slotted) as device, Device.open("golden", slotted) as golden:
        golden.load()
        *before, last = selftest(device, golden, lambda done, total: None)
    assert all(step.passed for step in before)
    assert (last.name, last.passed) == (name, False)
    assert "; " in last.detail


@pytest.fixture
def built(work):
    """A folder as `terngen build` leaves it."""
    bitstream = b"a bitstream"
    (work / "out").mkdir()
    (work / "out" / "terngen.bit").write_bytes(bitstream)
    (work / "out" / "manifest.json").write_text(json.dumps({
        "board": "ulx3s-85f:sdram", "digest": "00" * 16,
        "files": [{"name": "terngen.bit", "sha256": hashlib.sha256(bitstream).hexdigest()}]}))
    return work / "out"


@pytest.fixture
def loader(tmp_path, monkeypatch):
    """A program of the name openFPGALoader, which writes down what it was asked for and ends with a status."""
    def loader(status):
        (tmp_path / "bin").mkdir()
        program = tmp_path / "bin" / "openFPGALoader"
        program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nexit {status}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
        return tmp_path / "asked"
    return loader


def test_program(terngen, built, loader):
    assert terngen("program", built, "--dry-run", "--flash", "--json").values["command"] == [
        "openFPGALoader", "-b", "ulx3s", "-f", str(built / "terngen.bit")]
    asked = loader(0)
    terngen("program", built)
    assert asked.read_text() == f"-b ulx3s {built / 'terngen.bit'}\n"


def test_program_fails(terngen, built, loader):
    loader(3)
    assert "Program openFPGALoader failed with status 3; " in terngen("program", built, code=3).stderr


def test_program_wrong(refused, built, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    refused("program", built, code=3, message="Program openFPGALoader is missing; install it ")
    (built / "terngen.bit").write_bytes(b"another")
    refused("program", built, code=8, message="Bitstream .*terngen.bit must be what the manifest says")
    (built / "manifest.json").write_text("[]")
    refused("program", built, code=8, message=".*manifest.json must be the manifest of a build, with board, digest and")
    refused("program", "nothing", code=8, message="nothing/manifest.json cannot be read: No such file or directory")
