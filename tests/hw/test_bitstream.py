"""What the tools are given, and what is read out of their reports. Bitstreams themselves: tests/sim/test_boards.py."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import pytest

from terngen.hw import bitstream, build
from terngen.hw.boards import find
from terngen.hw.contract.config import PRESETS, Config

CONFIG = Config(beat_bits=16, row_lanes=1, lanes=1, hidden=64, wide=256, rows=256, state=128, prefetch=16)

#: A netlist of a look-up table, a carry cell, two flip-flops and a block RAM, in two parts.
NETLIST = {"modules": {"top": {"cells": {
    "system.machine.vector.a_LUT4_Z":      {"type": "LUT4", "connections": {}, "port_directions": {}},
    "system.machine.vector.b_CCU2C_S0":    {"type": "CCU2C", "connections": {"COUT": [9]},
                                            "port_directions": {"COUT": "output"}},
    "system.machine.vector.x.c_FF_Q":      {"type": "TRELLIS_FF", "connections": {}, "port_directions": {}},
    "system.tape.store.d_FF_Q":            {"type": "TRELLIS_FF", "connections": {}, "port_directions": {}},
    "system.tape.store.memory.0.0":        {"type": "DP16KD", "connections": {}, "port_directions": {}},
}, "ports": {}}}}


def report(achieved):
    """What nextpnr reports."""
    step = {"delay": 3.5, "net": "system.machine.vector.a", "type": "routing"}
    return {
        "fmax": {"$glbnet$led.clk": {"achieved": achieved, "constraint": 80.0},
                 "$glbnet$pll.late_clk": {"achieved": 400.0, "constraint": 80.0}},
        "utilization": {"TRELLIS_FF": {"used": 2, "available": 83640}, "DP16KD": {"used": 1, "available": 208},
                        "MULT18X18D": {"used": 0, "available": 156}},
        "critical_paths": [{"from": "posedge $glbnet$led.clk", "to": "posedge $glbnet$led.clk", "path": [step]}],
    }


@pytest.fixture
def tools(monkeypatch):
    """Tools that say what they are told to, and a list of what they were asked."""
    asked = []

    def tools(achieved=90.0, error=None):
        def run(programs, arguments, folder):
            asked.append(arguments)
            if error is not None:
                raise build.BuildError(error)
            (folder / "report.json").write_text(json.dumps(report(achieved)))
            (folder / "top.bit").write_bytes(b"bits")

        monkeypatch.setattr(build, "netlist", lambda text, target, sources: NETLIST)
        monkeypatch.setattr(build, "run_tool", run)
        return asked
    return tools


BOARD, _ = find("ulx3s-85f")
GIVEN    = bitstream.Design("rtlil", "constraints", "lpf", 80_000_000)


def test_met(tools, tmp_path):
    asked = tools()
    built = bitstream.build_bitstream(BOARD, GIVEN, tmp_path, seed=7, digest=bytes.fromhex("0000010200"))
    assert built.met
    assert built.bitstream == b"bits"
    assert [(clock.name, clock.met) for clock in built.clocks] == [("sync", True), ("late", True)]
    assert built.cells == {"lut": 3, "ff": 2, "bram": 1}
    assert built.modules == {"system.machine.vector": {"lut": 3, "ff": 1}, "system.tape.store": {"ff": 1, "bram": 1}}
    assert built.used == {"TRELLIS_FF": 2, "DP16KD": 1}
    place, pack = asked
    assert place[place.index("--seed") + 1] == "7"
    assert ["--85k", "--package", "CABGA381", "--speed", "6"] == place[:5]
    # The first four octets of the digest, 0x0102.
    assert pack[pack.index("--usercode") + 1] == "258"


def test_missed(tools, tmp_path):
    """There is no bitstream, and nothing is packed."""
    asked = tools(achieved=79.9)
    built = bitstream.build_bitstream(BOARD, GIVEN, tmp_path)
    assert not built.met
    assert built.bitstream is None
    assert len(asked) == 1


def test_does_not_fit(tools, tmp_path):
    tools(error="nextpnr failed with status 255: ERROR: Unable to place cell 'x', no BELs remaining")
    with pytest.raises(bitstream.FitError, match=r"^Design does not fit a LFE5U-85F-6BG381C: "):
        bitstream.build_bitstream(BOARD, GIVEN, tmp_path)
    tools(error="nextpnr failed with status 1: ERROR: something else")
    with pytest.raises(build.BuildError, match="something else"):
        bitstream.build_bitstream(BOARD, GIVEN, tmp_path)


def test_design():
    """Pins where the board has them, clocks as they come in, and the delay of the memory's clock in the PLL."""
    given = bitstream.design(BOARD, BOARD.system(CONFIG, "sdram"))
    assert 'LOCATE COMP "sdram_0__dq__io[15]" SITE "J17";' in given.constraints
    assert 'FREQUENCY PORT "clk25_0__io" 25000000.0 HZ;' in given.constraints
    assert r"parameter \CLKOS_FPHASE" in given.rtlil
    assert given.clock_hz == BOARD.clock_hz
    found = bitstream.files(BOARD, given, digest=bytes.fromhex("00000102"))
    assert found.keys() == {"terngen.v", "terngen.lpf", "build.sh"}
    assert "--usercode 258 " in found["build.sh"]
    assert "module top(" in found["terngen.v"]


def test_seed_of_the_board():
    """A script begins where `make boards` met timing."""
    assert f"--seed {BOARD.memories['onchip'].seed} " in BOARD.files(CONFIG, "onchip")["build.sh"]
    memories = {"sdram": dataclasses.replace(BOARD.memories["sdram"], seed=7)}
    assert "--seed 7 " in dataclasses.replace(BOARD, memories=memories).files(CONFIG, "sdram")["build.sh"]


def test_design_gowin():
    """Pads of the memory in the package, and the options of other tools."""
    board, _ = find("tang-nano-20k")
    given    = bitstream.design(board, board.system(dataclasses.replace(CONFIG, beat_bits=32), "sdram"))
    assert 'IO_LOC "sdram_0__dq__io[0]" IOL3A;' in given.constraints
    assert r"cell \rPLL" in given.rtlil
    found = bitstream.files(board, given)
    assert found.keys() == {"terngen.v", "terngen.cst", "build.sh"}
    assert "--device GW2AR-LV18QN88C8/I7 --vopt family=GW2A-18C --vopt cst=top.cst --freq 54 " in found["build.sh"]
    assert found["build.sh"].endswith("-d GW2A-18C -o top.bit placed.json\nmv top.bit terngen.fs\n")


def test_design_ice40():
    """A PLL behind the pad of the clock, and the memories of the device."""
    board, _ = find("icebreaker")
    config   = PRESETS["processor"].sized(hidden=64, state=64, intermediate=64, layers=1)
    given    = bitstream.design(board, board.system(config, "spram"))
    assert "set_io clk12_0__io 35" in given.constraints
    assert given.rtlil.count(r"cell \SB_SPRAM256KA") == 4
    assert r"cell \SB_PLL40_PAD" in given.rtlil
    found = bitstream.files(board, given)
    assert found.keys() == {"terngen.v", "terngen.pcf", "build.sh"}
    assert "--up5k --package sg48 --freq 12 --json top.json --pcf top.pcf --asc top.asc\n" in found["build.sh"]
    assert found["build.sh"].endswith("top.asc top.bit\nmv top.bit terngen.bin\n")


@pytest.mark.parametrize("cell, places", [
    ("LUT3", ("lut", 1)), ("ALU", ("lut", 1)), ("RAM16SDP4", ("lut", 4)), ("DFFRE", ("ff", 1)), ("DFF", ("ff", 1)),
    ("DPX9B", ("bram", 1)), ("SDPB", ("bram", 1)), ("pROM", ("bram", 1)), ("MULT18X18", ("dsp", 1)),
    ("MULT18X18D", ("dsp", 1)), ("SB_LUT4", ("lut", 1)), ("SB_DFFESR", ("ff", 1)), ("SB_RAM40_4K", ("bram", 1)),
    ("SB_MAC16", ("dsp", 1)), ("SB_CARRY", None), ("MUX2_LUT5", None), ("TBUF", None), ("rPLL", None)])
def test_places(cell, places):
    assert bitstream._kind(cell) == places


@pytest.mark.skipif(importlib.util.find_spec("litedram") is None, reason="LiteDRAM is not installed")
def test_design_ddr3():
    """The controller of somebody else goes along."""
    board, _ = find("ecpix-5")
    given    = bitstream.design(board, board.system(dataclasses.replace(CONFIG, beat_bits=128, row_lanes=4), "ddr3"))
    assert given.sources.keys() == {"litedram_core.v"}
    assert r"cell \litedram_core \memory" in given.rtlil
    assert 'LOCATE COMP "ddr3_0__dqs__p[0]" SITE "V4";' in given.constraints
    found = bitstream.files(board, given)
    assert "read_verilog terngen.v litedram_core.v; " in found["build.sh"]
    assert found["litedram_core.v"] == given.sources["litedram_core.v"]


#: Prints a sum of the RTLIL of a machine on its board.
DESIGN = """
import hashlib
from terngen.hw import bitstream
from terngen.hw.boards import find
from terngen.hw.contract.config import Config
board, memory = find("ulx3s-85f")
config = Config(beat_bits=16, row_lanes=1, lanes=1, hidden=64, wide=256, rows=256, state=128, prefetch=16)
print(hashlib.sha256(bitstream.design(board, board.system(config, memory)).rtlil.encode()).hexdigest())
"""


def test_design_reproducible():
    """Whatever the order of sets, which differs from run to run."""
    made = {subprocess.run([sys.executable, "-c", DESIGN], stdout=subprocess.PIPE, check=True,
                           env={**os.environ, "PYTHONHASHSEED": str(seed)}).stdout for seed in range(3)}
    assert len(made) == 1
