"""What is behind the links of these tests."""

import pytest

from terngen.sim.device import GoldenTransport


class GoldenBus:
    """What is behind the endpoint: the golden machine."""

    def __init__(self, config):
        self.device = GoldenTransport(config)

    def read(self, address):
        return int.from_bytes(self.device.read(address, 4), "little")

    def write(self, address, word):
        self.device.write(address, word.to_bytes(4, "little"))

    def restart(self):
        self.device.reset()


@pytest.fixture
def bus(slotted):
    return GoldenBus(slotted.config)
