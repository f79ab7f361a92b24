"""A machine with L-Mul everywhere has no multiplier, neither in its netlist nor anywhere before."""

import re

import pytest
from amaranth.back import rtlil

from terngen.hw import area, build
from terngen.hw.contract.config import PRESETS, Config, Sites
from terngen.hw.contract.formats import Multiplier
from terngen.hw.top import Machine

#: Operators that become multipliers, or are made of them. A product with a constant is additions; there are some, of
#: small indices and the width of what they select.
OPERATORS = {"$mul", "$macc", "$macc_v2", "$div", "$mod", "$divfloor", "$modfloor", "$pow"}
#: Blocks that multiply, of the families that we build for.
BLOCKS = r"MULT\d+|ALU\d+|MAC|DSP"
SMALL  = {"lanes": 2, "hidden": 64, "wide": 64, "rows": 64, "state": 64}


def operators(config):
    text = rtlil.convert(machine := Machine(config), "top", ports=build.component_ports(machine), emit_src=False)
    cells = re.findall(r"^ *cell (\$\w+) .*?\n(.*?)^ *end$", text, re.MULTILINE | re.DOTALL)
    return {kind for kind, inside in cells
            if not (kind == "$mul" and re.search(r"^ *connect \\[AB] (\d+'|\{ +\})", inside, re.MULTILINE))}


@pytest.mark.parametrize("policy", ["lmul", "lmul-unbiased", "lmul-mitchell"])
@pytest.mark.parametrize("preset", ["small", "compact"])
def test_no_operator(preset, policy):
    sites = Sites.all(Multiplier.parse(policy))
    found = operators(Config.from_dict({**PRESETS[preset].choices, **SMALL, "sites": sites.to_dict()}))
    assert found and not found & OPERATORS


@pytest.mark.parametrize("site", list(Sites().to_dict()))
def test_one_exact_site_has_one(site):
    """So the operators are those of the sites, and each site has one."""
    sites = Sites.parse(f"lmul,{site}=exact")
    assert operators(Config(**SMALL, sites=sites)) & OPERATORS == {"$mul"}


@pytest.mark.long
@pytest.mark.parametrize("target", ["ecp5", "xc7"])
def test_netlist(target):
    """Synthesis may use DSP blocks, and finds nothing to put into them."""
    config  = Config(**SMALL, sites=Sites.all(Multiplier("lmul")))
    found   = build.synthesise(Machine(config), target)
    assert found.dsps == area.dsps(config) == 0
    assert found.luts > 1000
    assert not [cell for cell in found.cells if re.match(BLOCKS, cell)]
