"""``terngen build``: bitstreams made by the real tools."""

import hashlib
import json

import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from terngen.host.models import open_model
from terngen.hw.boards import ecpix5, find
from terngen.hw.boards.board import Board
from terngen.hw.build import BuildError
from terngen.hw.vendor import litedram

BOARD = "ulx3s-85f:sdram"
#: What the smallest machine is built with.
SMALLEST = ("--board", BOARD, "--config", "tiny", "--tries", 1, "--json")
#: The same board with a clock that this machine reaches whatever the seed.
SLOWER = """
import dataclasses
from terngen.hw.boards.ulx3s import BOARD
BOARD = dataclasses.replace(BOARD, clock_hz=100_000_000)
"""


class Counter(wiring.Component):
    """What stands for a machine where that does not matter: a long counter behind the pins of the serial port."""

    rx:   In(1)
    tx:   Out(1)
    busy: Out(1)

    def __init__(self, clock_hz):
        super().__init__()
        self.clock_hz = clock_hz

    def elaborate(self, platform):
        m = Module()
        count = Signal(64)
        m.d.sync += count.eq(count + self.rx)
        m.d.comb += [self.tx.eq(count[-1]), self.busy.eq(count[-2])]
        return m


@pytest.fixture
def counter(monkeypatch):
    """Boards have a counter for a machine from now on, at a frequency."""
    def counter(clock_hz):
        monkeypatch.setattr(Board, "system", lambda *arguments: Counter(clock_hz))
    return counter


def bitstream(folder):
    """A bitstream, which is the one of its manifest."""
    octets   = (folder / "terngen.bit").read_bytes()
    manifest = json.loads((folder / "manifest.json").read_text())
    [named]  = [file for file in manifest["files"] if file["name"] == "terngen.bit"]
    assert (named["octets"], named["sha256"]) == (len(octets), hashlib.sha256(octets).hexdigest())
    return octets


def test_smallest_machine(terngen, work, tiny):
    """Timing is met at the clock of the board, the report has what the device has, and the digest is everywhere."""
    (work / "slower.py").write_text(SLOWER)
    report = terngen("build", tiny, *SMALLEST, "--board", "slower.py:sdram", "-o", "out").values
    board, memory = find(str(work / "slower.py") + ":sdram")
    tape   = open_model(work / "out" / "terngen.tape")
    digest = tape.config.digest
    assert report["met"]
    wanted = {"input": 25} | dict.fromkeys(("sync", "late"), board.clock_of(memory) / 1e6)
    assert {clock["name"]: clock["wanted"] for clock in report["clocks"]} == pytest.approx(wanted, rel=1e-3)
    assert all(clock["achieved"] >= clock["wanted"] for clock in report["clocks"])
    assert all(0 < report["cells"][kind] < there for kind, there in report["available"].items())
    for kind in ("bram", "dsp"):
        assert report["cells"][kind] == report["estimated"][kind]
    assert {"system.machine.vector", "system.machine.matvec", "system.tape"} <= report["modules"].keys()
    assert report["digest"] == digest.hex() == json.loads((work / "out/manifest.json").read_text())["digest"]
    # The command that programs the user code, and its first four octets.
    assert b"\xc2\x80\0\0" + digest[:4] in bitstream(work / "out")


def test_reproducible(terngen, counter, work, tiny):
    """The same seed gives the same bitstream, another one gives another."""
    counter(80_000_000)
    made = []
    for place, seed in enumerate((1, 1, 2)):
        terngen("build", tiny, *SMALLEST, "--seed", seed, "-o", f"out{place}")
        made.append(bitstream(work / f"out{place}"))
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize("command", ["build", "generate"])
def test_tool_missing(refused, monkeypatch, counter, tiny, command):
    """One that designs need to be made."""
    counter(75_000_000)
    def missing(**options):
        raise BuildError("Package litedram is missing")

    monkeypatch.setattr(litedram, "generate", missing)
    ecpix5.core.cache_clear()
    refused(command, tiny, "--board", "ecpix-5", "-o", "out", code=3, message="Package litedram is missing")


def test_timing_missed(terngen, counter, work, tiny):
    """A clock that is out of reach: a report with the worst path, and no bitstream, nor a manifest that names one."""
    counter(400_000_000)
    result = terngen("build", tiny, *SMALLEST, "-o", "out", code=5)
    board, memory = find(BOARD)
    seed = board.memories[memory].seed
    assert f"Timing is missed with 1 seeds from {seed} on: clock sync reaches " in result.stderr
    assert {path.name for path in (work / "out").iterdir()} == {"nextpnr.log", "report.json"}
    report = json.loads((work / "out/report.json").read_text())
    assert not report["met"]
    assert sum(ns for ns, _ in report["path"]) > 2.5
