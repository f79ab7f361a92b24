"""Complete boards, with everything behind their pins: every value inside equals the golden machine's."""

import pytest

from terngen.host.commands.building import chosen, tape_on
from terngen.hw.boards import find
from terngen.hw.boards.board import Serial
from terngen.hw.boards.system import System
from terngen.hw.link.uart import Uart
from terngen.sim.bench import Bench, greedy
from terngen.sim.board import virtual_board

# Some are only looked at from outside.
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl._ir.UnusedElaboratable")


@pytest.mark.parametrize("board", ["ulx3s-85f:sdram", "ulx3s-85f:onchip", "colorlight-i9:sdram"])
def test_gate(root, board):
    """A model is loaded over the wires of the serial port, read back, and played."""
    tape = tape_on(chosen(board), root / "tests/data/reference/tiny", None)
    with Bench(tape, board=board, onchip=tape.beats) as bench:
        bench.device.load()
        bench.device.verify()
        greedy(bench.device, 6, seed=1)
        outcome = bench.gate()
    assert (outcome["gate"], outcome["mismatches"]) == ("pass", 0)
    assert outcome["values_compared"] > 40_000


def test_loading_fills_the_wire(root):
    """At least 90 % of the octets that 3 Mbaud carry are the tape's."""
    board = "ulx3s-85f:onchip"
    tape  = tape_on(chosen(board), root / "tests/data/reference/tiny", None)
    with Bench(tape, board=board, onchip=tape.beats) as bench:
        before = bench.simulated.model.counters
        bench.device.load()
        after  = bench.simulated.model.counters
    # Ten bits for an octet, and here four cycles for a bit: all else is in proportion to what the wire takes.
    cycles = after.cycles - before.cycles
    assert len(tape.image) * 40 / cycles >= 0.9


def test_pins(root):
    """A system has the pins of its parts, and no two of a name."""
    board, _ = find("ulx3s-85f")
    tape     = tape_on(chosen("ulx3s-85f"), root / "tests/data/reference/tiny", None)
    assert set(board.system(tape.config, "sdram").signature.members) == {"busy", "trace", "pins", "rx", "tx"}
    assert set(board.system(tape.config, "onchip", bytes(64)).signature.members) == {"busy", "trace", "rx", "tx"}
    message = r"^Tape source and link must have pins of different names, but both have 'rx'$"
    with pytest.raises(ValueError, match=message):
        System(tape.config, tape=Uart(divisor=4), link=Uart(divisor=4), clock_hz=1)


def test_real_time(root):
    """Bits that last as long as on the board: 40 cycles of 120 MHz."""
    tape = tape_on(chosen("ulx3s-85f:onchip"), root / "tests/data/reference/tiny", None)
    real = virtual_board(tape.config, "ulx3s-85f:onchip", image=bytes(64), real_time=True)
    assert isinstance(find("ulx3s-85f")[0].link, Serial)
    assert real._divisor == 40
