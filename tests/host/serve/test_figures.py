"""The figures of the server, on the smallest model."""

import pytest

from terngen.host.device import Device
from terngen.host.errors import GateError
from terngen.host.serve import figures


def test_latency(slotted):
    """The first octet comes with the first token; the slowest of them depends on what else the computer does."""
    found = figures.latency(slotted, "golden", requests=5)
    assert found["slowest_first_ms"] >= found["first_ms"] > found["pass_ms"] > 0
    assert found["most_beyond_the_pass_ms"] >= found["beyond_the_pass_ms"] > 0
    assert found["beyond_the_pass_ms"] < 50


def test_soak(slotted):
    found = figures.soak(slotted, clients=4, seconds=1)
    assert found["wrong"] == 0
    assert found["read"] > 0
    assert found["late_mib"] > 10


def test_soak_finds_wrong_texts(slotted, monkeypatch):
    """A token of a neighbour is noticed."""
    step = Device.step

    def mixed(self, tokens, **options):
        if len(tokens) == 3 and len(set(options["states"].values())) == 3:
            tokens = dict(zip(tokens, [*list(tokens.values())[1:], tokens[0]]))
        return step(self, tokens, **options)

    monkeypatch.setattr(Device, "step", mixed)
    with pytest.raises(GateError, match=r"^\d+ of \d+ texts are wrong, first "):
        figures.soak(slotted, clients=6, seconds=1)


@pytest.mark.long
def test_soak_long(slotted):
    """Ten minutes: the server has no more memory in the end than soon after the beginning."""
    found = figures.soak(slotted, clients=8, seconds=600)
    assert found["late_mib"] < found["early_mib"] + 2
