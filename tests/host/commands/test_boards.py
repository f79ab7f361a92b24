"""Boards on the command line: what there is, what fits, and a whole board behind a serial port."""

import json
import signal
import subprocess
import sys

import pytest

from terngen.host.device import Device
from terngen.host.models import open_model
from terngen.hw.boards import MODULES, find
from terngen.hw.contract.config import Config

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
