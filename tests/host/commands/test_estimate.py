"""Figures of machines that nobody has built, from `terngen estimate`."""

import pytest

from terngen.hw import area
from terngen.hw.contract.tape import Tape


def test_tape_and_checkpoint(terngen, tiny_tape, tiny):
    """A checkpoint is not converted, and gives what its tape does."""
    figures = terngen("estimate", tiny_tape, "--json").values
    tape    = Tape.open(tiny_tape)
    beats   = sum(tape.marks[name].count for name in ("layers", "head"))
    assert figures["beats"] == beats + tape.model["embedding_beats"]
    assert figures["tape_bytes_per_token"] == 8 * figures["beats"]
    assert figures["bits_per_weight"] == 64 * beats / tape.model["ternary_weights"]
    assert figures["attainment"] == figures["beats"] / figures["cycles_per_token"]
    assert figures["tokens_per_second"] == 100e6 / figures["cycles_per_token"]
    assert terngen("estimate", tiny, "--json").values == figures
    assert area.area(tape.config).items() <= figures.items()


def test_as_the_simulation(terngen, tiny):
    """A step with the last token takes what the simulated machine takes; the bench plays the same."""
    estimated = terngen("estimate", tiny, "--slots", 3, "--memory", "latency=20", "--json").values
    played    = terngen("bench", tiny, "--slots", 3, "--memory", "latency=20", "--tokens", 3, "--json").values
    # Only the search for the rows of the embedding depends on the tokens: a cycle for each of seven bits.
    assert 0 <= estimated["cycles_per_token"] - played["cycles_per_token"] <= 3 * 7
    assert {name: played[name] for name in ("tape_bytes_per_token", "peak_bytes_per_cycle", "slots")}.items() \
        <= estimated.items()


@pytest.mark.parametrize("geometry, weights", [("370m", 341e6), ("1.3b", 1.3e9), ("2.7b", 2.6e9)])
def test_geometry(terngen, geometry, weights):
    """Published sizes fit the format, and have as many lanes as the memory needs."""
    for bits in (16, 64, 512):
        figures = terngen("estimate", "--geometry", geometry, "--beat-bits", bits, "--json").values
        assert figures["beat_bits"] == bits
        assert figures["attainment"] >= 0.97
        assert figures["bits_per_weight"] <= 1.63
        assert 8 * figures["tape_bytes_per_token"] / figures["bits_per_weight"] == pytest.approx(weights, rel=0.05)
    slower = terngen("estimate", "--geometry", geometry, "--beat-bits", 512, "--lanes", figures["lanes"] // 2,
                     "--json").values
    assert slower["cycles_per_token"] > figures["cycles_per_token"]


def test_memory(terngen):
    """A memory that is slower than the machine hides its pauses."""
    arguments = ["estimate", "--geometry", "370m", "--beat-bits", 16, "--lanes", 1, "--prefetch", 4096, "--json"]
    fast = terngen(*arguments).values
    slow = terngen(*arguments, "--memory", "rate=15/16").values
    assert slow["peak_bytes_per_cycle"] == 2 * 15 / 16
    assert fast["attainment"] < slow["attainment"] < 1
    rows = terngen(*arguments, "--memory", "rate=15/16,row_beats=512,row_pause=6").values
    assert rows["attainment"] == pytest.approx(slow["attainment"] * 512 / 518, rel=0.002)


def test_table(terngen, tiny):
    lines = terngen("estimate", tiny, "--clock", 150).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["machine", "cycles", "tape", "attainment", "speed", "ECP5"]
    assert lines[-2].endswith(" tokens per second at 150 MHz")


def test_refused(refused, tiny_tape, tiny):
    refused("estimate", code=2, message="Either a model or --geometry must be given")
    refused("estimate", tiny, "--geometry", "370m", code=2, message="Either a model or --geometry must be given")
    refused("estimate", "nowhere", code=8, message="There is no tape and no checkpoint folder at nowhere")
    refused("estimate", tiny_tape, "--beat-bits", 16, code=4, message="A tape is made for one machine, so beat_bits ")
    refused("estimate", tiny_tape, "--slots", 2, code=4, message="Tape .* was made for another machine")
    refused("estimate", tiny, "--memory", "stall=0.1", code=4, message="Memory stall cannot be estimated")
    refused("estimate", tiny, "--memory", "sdram", code=4, message="Memory has no 'sdram'")
    refused("estimate", tiny, "--beat-bits", 24, code=4, message="Configuration is refused: Beat width")
