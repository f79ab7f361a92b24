"""The device's end of the link in Python: what :mod:`terngen.hw.link` does, without time."""

import binascii
from typing import Protocol

from terngen.hw.contract import bits, wire
from terngen.hw.contract.wire import CRC_BYTES, HEADER_BYTES, Fault, Frame, Type

__all__ = ["Bus", "EndpointModel"]

_TYPES = {Type.HELLO.value, Type.READ.value, Type.WRITE.value}


class Bus(Protocol):
    """What is behind the endpoint."""

    def read(self, address: int) -> int:
        """The word at an address."""

    def write(self, address: int, word: int) -> None:
        """Write a word."""

    def restart(self) -> None:
        """A session begins."""


class EndpointModel:
    """Executes the requests of a host, at once.

    Parameters
    ----------
    bus : :class:`Bus`
        Takes the accesses.
    """

    def __init__(self, bus: Bus):
        self._bus     = bus
        self._held    = bytearray()
        self._session: tuple[int, int] | None = None
        self._due     = 0
        #: Frames that were not intact.
        self.drops    = 0

    def feed(self, octets: bytes) -> bytes:
        """Take octets from the host; the octets of the answers."""
        answers = bytearray()
        *ended, rest = octets.split(bytes([wire.DELIMITER]))
        for piece in ended:
            answers += self._frame(bytes(self._held + piece))
            self._held.clear()
        # One octet more than a frame may have is as good as many.
        self._held += rest
        del self._held[wire.MAX_ENCODED + 1:]
        return bytes(answers)

    def _frame(self, encoded: bytes) -> bytes:
        try:
            octets = wire.cobs_decode(encoded)
        except wire.WireError:
            octets = b"broken"
        if not octets:
            return b""
        fields = bits.unpack(wire.Header, octets[:HEADER_BYTES].ljust(HEADER_BYTES, b"\0"))
        body, crc = octets[:-CRC_BYTES], octets[-CRC_BYTES:]
        intact = (len(octets) <= wire.MAX_FRAME and len(body) >= HEADER_BYTES
                  and binascii.crc32(body).to_bytes(CRC_BYTES, "little") == crc)
        if fields["version"] == wire.VERSION and fields["type"] in _TYPES:
            payload = fields["length"] if fields["type"] == Type.WRITE.value else 0
            intact &= len(body) == HEADER_BYTES + payload
        if not intact:
            self.drops += 1
            return b""
        return self._answer(fields, body[HEADER_BYTES:])

    def _answer(self, fields, payload: bytes) -> bytes:
        echo  = {name: fields[name] for name in ("generation", "sequence", "address")}
        fault = self._judge(fields)
        if fault in (Fault.NONE, Fault.ADDRESS, Fault.LENGTH) and fields["type"] != Type.HELLO.value:
            repeat = fields["sequence"] != self._due
            self._due = self._due if repeat else (self._due + 1) % 65536
        if fault is not Fault.NONE:
            return wire.encode_frame(Frame(type=Type.ERROR, fault=fault, **echo))

        words = range(fields["address"], fields["address"] + fields["length"], 4)
        match Type(fields["type"]):
            case Type.HELLO:
                if self._session != (fields["generation"], fields["sequence"]):
                    self._session = fields["generation"], fields["sequence"]
                    self._due     = (fields["sequence"] + 1) % 65536
                    self._bus.restart()
                return wire.encode_frame(Frame(type=Type.HELLO_REPLY, **echo))
            case Type.READ:
                read = b"".join(self._bus.read(word % 2**32).to_bytes(4, "little") for word in words)
                return wire.encode_frame(Frame(type=Type.READ_REPLY, length=len(read), payload=read, **echo))
            case _:
                if not repeat:
                    for index, word in enumerate(words):
                        octets = payload[4 * index:4 * index + 4]
                        self._bus.write(word % 2**32, int.from_bytes(octets, "little"))
                return wire.encode_frame(Frame(type=Type.WRITE_REPLY, **echo))

    def _judge(self, fields) -> Fault:
        if fields["version"] != wire.VERSION:
            return Fault.VERSION
        if fields["type"] not in _TYPES:
            return Fault.TYPE
        if fields["type"] == Type.HELLO.value:
            return Fault.NONE
        if self._session is None or fields["generation"] != self._session[0]:
            return Fault.GENERATION
        if 0 < (fields["sequence"] - self._due) % 65536 < 32768:
            return Fault.SEQUENCE
        if fields["address"] % 4:
            return Fault.ADDRESS
        if fields["length"] % 4 or not 4 <= fields["length"] <= wire.MAX_PAYLOAD:
            return Fault.LENGTH
        return Fault.NONE
