"""The link through registers: a mailbox in Python, with the model of the device's end behind it."""

from collections import deque

import pytest

from terngen.host.device import Device
from terngen.host.errors import ConfigError, LinkError
from terngen.host.link import FrameTransport
from terngen.host.transports.mapped import MailboxPipe
from terngen.hw.contract.mailbox import DEPTH, Register
from terngen.sim.endpoint import EndpointModel


class Mailbox:
    """The registers: little is taken from the host at a time, and octets without room are lost."""

    def __init__(self, bus, room=13, dead=False):
        self.endpoint = EndpointModel(bus)
        self.outgoing = deque()
        self.room     = self.size = room
        self.dead     = dead
        self.closed   = False

    def read(self, register):
        match register:
            case Register.ROOM:
                self.room = 0 if self.dead else self.size
                return self.room
            case Register.WAITING:
                return min(len(self.outgoing), DEPTH)
            case Register.OCTET:
                return self.outgoing.popleft() if self.outgoing else 0
            case Register.DATA:
                return int.from_bytes(bytes(self.read(Register.OCTET) for _ in range(4)), "little")

    def write(self, octets):
        assert len(octets) in (1, 4)
        assert self.room >= len(octets), "there was no room"
        self.room -= len(octets)
        self.outgoing += self.endpoint.feed(octets)

    def close(self):
        self.closed = True


def transport(registers):
    return FrameTransport(MailboxPipe(registers, "mailbox"), window=2)


def test_same_tokens(slotted, bus):
    registers = Mailbox(bus)
    registers.outgoing += b"left over"
    with Device(transport(registers), slotted) as board, Device.open("golden", slotted) as golden:
        found = []
        for device in (board, golden):
            device.load()
            device.step({0: 3}, reset=[0])
            found.append(device.results(0).tokens.tolist())
        assert found[0] == found[1]
        assert board.transport.drops == 0
    assert registers.closed


def test_takes_nothing(bus, monkeypatch):
    monkeypatch.setattr(MailboxPipe, "PATIENCE", 0.01)
    with pytest.raises(LinkError, match=r"^mailbox must take what is sent, but has taken nothing for 0\.01 s$"):
        transport(Mailbox(bus, dead=True))


def test_no_mailbox():
    class Ones:
        def read(self, register):
            return 0xFFFF_FFFF

        def close(self):
            """Nothing to let go of."""

    with pytest.raises(LinkError, match=r"^mailbox gives octets without end; are these the registers of a machine\?$"):
        MailboxPipe(Ones(), "mailbox")


@pytest.mark.parametrize("spec, message", [
    ("mmap", r"^Device mmap must have a device file, like mmap:/dev/uio0$"),
    ("mmap:/dev/uio0@here", r"^Offset of registers must be a number, not 'here'$"),
    ("mmap:/dev/uio0@2", r"^Offset of registers must be a multiple of 4, not 2$"),
])
def test_wrong_place(slotted, spec, message):
    with pytest.raises(ConfigError, match=message):
        Device.open(spec, slotted)


def test_no_such_file(slotted):
    with pytest.raises(LinkError, match=r"^Registers at /dev/uioNONE cannot be mapped: No such file or directory$"):
        Device.open("mmap:/dev/uioNONE", slotted)


def test_a_file(slotted, tmp_path):
    """A file of zeros can be mapped, but takes nothing."""
    path = tmp_path / "registers"
    path.write_bytes(bytes(8192))
    with pytest.raises(LinkError, match="must take what is sent"):
        Device.open(f"mmap:{path}@0x1000", slotted)
