"""Complete boards, with everything behind their pins: every value inside equals the golden machine's."""

import pytest
from amaranth.hdl import Fragment

from terngen.host.commands.building import chosen, tape_on
from terngen.hw.boards import find
from terngen.sim.bench import Bench, greedy
from terngen.sim.board import virtual_board


@pytest.mark.parametrize("board", ["ulx3s-85f:sdram", "ulx3s-85f:onchip", "ulx3s-85f:onchip-narrow",
                                   "colorlight-i9:sdram", "icebreaker"])
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


def test_attainment(root):
    """A whole token with its head, out of the SDRAM behind the pins: at least 95 % of what they could give."""
    board = "ulx3s-85f:sdram"
    tape  = tape_on(chosen(board), root / "models/fairy-5m", None)
    with Bench(tape, board=board, onchip=tape) as bench:
        assert not bench.device.damaged()
        [step]  = greedy(bench.device, 1, seed=1)
        outcome = bench.gate()
    assert (outcome["gate"], outcome["mismatches"]) == ("pass", 0)
    words = step.beats * tape.config.beat_bits // find(board)[0].memories["sdram"].chip.width
    assert step.beats == tape.beats - tape.section("embedding").count + tape.model["embedding_beats"]
    assert words / step.cycles >= 0.95


def test_pins(root):
    """A system has the pins of its parts."""
    board, _ = find("ulx3s-85f")
    tape     = tape_on(chosen("ulx3s-85f"), root / "tests/data/reference/tiny", None)
    for memory, pins in (("sdram", {"pins"}), ("onchip", set())):
        system = board.system(tape.config, memory, bytes(64))
        assert set(system.signature.members) == {"busy", "trace", "rx", "tx"} | pins
        Fragment.get(system, None)


def test_real_time(root):
    """Bits that last as long as on the board."""
    board, memory = find("ulx3s-85f:sdram")
    tape = tape_on(chosen("ulx3s-85f:sdram"), root / "tests/data/reference/tiny", None)
    real = virtual_board(tape.config, "ulx3s-85f:sdram", image=bytes(64), real_time=True)
    Fragment.get(real, None)
    assert real._divisor == round(board.clock_of(memory) / board.link.baud) == 40
