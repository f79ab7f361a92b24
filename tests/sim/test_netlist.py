"""What becomes a bitstream, before it is placed: machines of an ECP5's cells tell what the golden machine tells."""

import pytest

from terngen.host.device import Device
from terngen.host.link import FrameTransport
from terngen.hw import build
from terngen.hw.contract.config import ArrayVariant
from terngen.hw.top import Machine
from terngen.hw.vendor.ecp5_cells import trim_carries
from terngen.sim.compiled import CompiledModel, compile_machine
from terngen.sim.device import GoldenTransport, SimPipe
from terngen.sim.memory import MemoryModel
from terngen.sim.netlist import netlist_verilog

MACHINES = {
    # The smallest one.
    "tiny":  ("tiny", {}),
    # Block RAM of every width, and several slots.
    "table": pytest.param("small", {"variant": ArrayVariant.TABLE, "row_lanes": 1, "slots": 3}, marks=pytest.mark.long),
}


def netlist(config):
    """Cells of a machine, its registers in the blocks, as they go to nextpnr."""
    cells = build.netlist(build.convert(Machine(config), "ecp5"), "ecp5")
    trim_carries(cells["modules"]["top"])
    return cells


def told(transport, tape):
    """All that a host sees of a few tokens in every slot, after it has loaded the tape and read it back."""
    device = Device(transport, tape)
    slots  = range(tape.config.slots)
    device.load()
    device.verify()
    tokens = list(device.decode({slot: 3 + slot for slot in slots}, 12, reset=slots))
    found  = [device.results(slot) for slot in slots]
    return tokens, [(each.tokens.tolist(), each.sums.tolist()) for each in found]


@pytest.mark.parametrize("preset, changes", MACHINES.values(), ids=MACHINES)
def test_tells_the_same(make_tape, preset, changes):
    tape    = make_tape("tests/data/reference/tiny", preset, **changes)
    cells   = netlist(tape.config)
    moved   = [value for cell in cells["modules"]["top"]["cells"].values()
               for value in cell["parameters"].values() if value in ("OUTREG", "CLK0")]
    library = compile_machine(netlist_verilog(cells), config=tape.config, optimisation="-O1")
    model   = CompiledModel(library, memory=MemoryModel(latency=17, stall=0.15), stall_in=0.1, stall_out=0.1, seed=1)
    pipe    = SimPipe(model, quiet=10_000_000)
    assert len(moved) > 20
    assert told(FrameTransport(pipe, timeout=1e9, patience=1e9, clock=pipe.clock), tape) \
        == told(GoldenTransport(tape.config), tape)
    pipe.close()
