"""The serial port: a pseudo-terminal with the model of the device's end behind it."""

import os
import select
import threading
import tty

import numpy as np
import pytest

from terngen.host.device import Device
from terngen.host.errors import ConfigError, LinkError
from terngen.host.transports.serial import SerialTransport
from terngen.hw.contract.tape import Tape
from terngen.sim.endpoint import EndpointModel


class Port:
    """A pseudo-terminal with a device behind it, in a thread."""

    def __init__(self, bus):
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path      = os.ttyname(self._slave)
        self._endpoint = EndpointModel(bus)
        self._ended    = threading.Event()
        self._thread   = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while not self._ended.is_set():
            if select.select([self._master], [], [], 0.02)[0]:
                answers = self._endpoint.feed(os.read(self._master, 4096))
                while answers:
                    answers = answers[os.write(self._master, answers):]

    def close(self):
        self._ended.set()
        self._thread.join()
        for end in (self._master, self._slave):
            os.close(end)


@pytest.fixture
def port(bus):
    made = Port(bus)
    yield made
    made.close()


def test_same_tokens(slotted: Tape, port):
    """A board behind a port is a device like every other."""
    with Device.open(f"serial:{port.path}", slotted) as board, Device.open("golden", slotted) as golden:
        found = []
        for device in (board, golden):
            device.load()
            device.step({0: 3}, reset=[0])
            results = device.results(0)
            found.append((results.tokens.tolist(), results.sums.tolist()))
        assert found[0] == found[1]
        assert np.isfinite(results.scale)
        assert board.transport.resends == 0


def test_nobody_else(slotted, port):
    message = r"^Serial port .* cannot be opened: "
    with Device.open(f"serial:{port.path}", slotted), pytest.raises(LinkError, match=message):
        SerialTransport(port.path)


def test_no_such_port(slotted):
    with pytest.raises(LinkError, match=r"^Serial port /dev/ttyNONE cannot be opened: there is none of that name; "
                                        r"is the board plugged in\?$"):
        Device.open("serial:/dev/ttyNONE", slotted)


def test_nothing_answers(slotted):
    master, slave = os.openpty()
    try:
        with pytest.raises(LinkError, match=r"^board at .* has not answered a HELLO of 0 octets at 0x00000000 within "):
            Device.open(f"serial:{os.ttyname(slave)}", slotted)
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("spec, message", [
    ("serial", r"^Device serial must have a port, like serial:/dev/ttyUSB0$"),
    ("serial:/dev/ttyUSB0@fast", r"^Rate of a serial port must be a number of baud, not 'fast'$"),
])
def test_wrong_place(slotted, spec, message):
    with pytest.raises(ConfigError, match=message):
        Device.open(spec, slotted)


def test_unknown_option(slotted):
    with pytest.raises(ConfigError, match=r"^Serial port has no option 'memory'; it has baud$"):
        Device.open("serial:/dev/ttyUSB0", slotted, memory="sdr")
