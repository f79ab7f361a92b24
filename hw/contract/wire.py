"""Frames on the link between a host and a device.

The host asks, the device answers. A frame is a header, a payload and a CRC-32 of both, the least
significant octet first; it is COBS-encoded, so that it holds no zero, and ended by a zero. Empty
frames are nothing: a sender may put zeros before a frame to end what noise has begun.

::

    octets   0 ................ 11 | 12 ... | 4 octets
             header                | payload| CRC-32        at most 1040, then COBS and a zero

A session begins with ``HELLO``: it resets the machine, and its generation and sequence number are
those of the session. Every other request carries the generation and counts one further. The device
executes requests in that order, each once:

=========================  ======================================================================
a request                  is
=========================  ======================================================================
of the number that         executed and answered; also an ``ERROR`` takes a number
is due
of an earlier number       answered again. A ``WRITE`` is not executed again; a ``READ`` is read
                           anew, for reading changes nothing
of a later number          refused (``Fault.SEQUENCE``): something before it was lost
of another generation      refused (``Fault.GENERATION``): another host has begun a session
that is the ``HELLO`` of   answered again, without a reset
the session once more
=========================  ======================================================================

So an answer to a ``WRITE`` says that all requests up to it have been executed, and a host may have
several on their way. Frames that are not intact are dropped without a word, here and there.

A ``HELLO`` of a new session is also how a run is stopped: it gets in whatever the machine is doing, also while a
``READ`` waits for its answer, and when it is answered the machine stands still. The memory keeps the tape.

A frame that has begun and does not go on is dropped after ``IDLE_CYCLES`` without an octet.
"""

import binascii
import dataclasses

from amaranth.lib import data, enum

from terngen.hw.contract import bits

__all__ = ["Type", "Fault", "Header", "Frame", "WireError", "Decoder", "encode_frame",
           "decode_frame", "cobs_encode", "cobs_decode", "VERSION", "DELIMITER", "HEADER_BYTES",
           "CRC_BYTES", "MAX_PAYLOAD", "MAX_FRAME", "MAX_ENCODED", "BLOCK", "IDLE_CYCLES", "octets_on_link"]

#: Version of everything on this page.
VERSION = 1
#: Octet that ends a frame.
DELIMITER = 0
#: Octets of the longest payload.
MAX_PAYLOAD = 1024
#: Octets of a CRC-32.
CRC_BYTES = 4
#: Longest run without a zero that one COBS code octet stands for.
BLOCK = 254
#: Cycles of a device without an octet after which a frame that has begun is dropped: 42 ms at 100 MHz, more than a
#: host pauses within a frame. One that pauses longer sends the frame again.
IDLE_CYCLES = 1 << 22


class Type(enum.Enum, shape=4):
    """What a frame is. The answer to a request has the request's number plus eight."""

    #: Begin a session.
    HELLO       = 1
    #: Read ``length`` octets from ``address`` on.
    READ        = 2
    #: Write the payload from ``address`` on.
    WRITE       = 3
    #: The session has begun.
    HELLO_REPLY = 9
    #: The payload is what was read.
    READ_REPLY  = 10
    #: Written, and so is everything before it.
    WRITE_REPLY = 11
    #: Refused; ``fault`` says why.
    ERROR       = 15


class Fault(enum.Enum, shape=8):
    """Why a request is refused. The first that applies is answered."""

    #: It is not refused.
    NONE       = 0
    #: Version of the frame; the answer carries the version of the device.
    VERSION    = 1
    #: The device does not know the type.
    TYPE       = 2
    #: There is no session of this generation.
    GENERATION = 3
    #: An earlier request has not arrived.
    SEQUENCE   = 4
    #: The address is not a multiple of four.
    ADDRESS    = 5
    #: The length is not a multiple of four from 4 to ``MAX_PAYLOAD``.
    LENGTH     = 6


class Header(data.Struct):
    """First octets of a frame, little-endian."""

    version:    4       #: of this page
    type:       Type    #: what it is
    generation: 8       #: of the session, chosen by the host
    sequence:   16      #: of the request in its session
    address:    32      #: of the first word, in octets
    length:     16      #: octets of payload; in a READ, octets wanted
    fault:      Fault   #: in an ERROR
    reserved:   8       #: zero


#: Octets of a header.
HEADER_BYTES = bits.size(Header)
#: Octets of the longest frame before it is encoded.
MAX_FRAME = HEADER_BYTES + MAX_PAYLOAD + CRC_BYTES
#: Octets of the longest frame after it is encoded, without its delimiter.
MAX_ENCODED = MAX_FRAME + -(-MAX_FRAME // BLOCK)


def octets_on_link(payload: int) -> int:
    """Octets of the frames that carry so many octets of payload, one way, if they are as long as can be."""
    octets = 0
    while payload > 0:
        frame    = HEADER_BYTES + min(payload, MAX_PAYLOAD) + CRC_BYTES
        octets  += frame + -(-frame // BLOCK) + 1
        payload -= MAX_PAYLOAD
    return octets


class WireError(ValueError):
    """Octets from the link are not an intact frame."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame; the fields are those of :class:`Header`."""

    type:       Type
    generation: int   = 0
    sequence:   int   = 0
    address:    int   = 0
    length:     int   = 0
    fault:      Fault = Fault.NONE
    payload:    bytes = b""
    version:    int   = VERSION


# COBS (Cheshire and Baker, "Consistent Overhead Byte Stuffing", 1999): zeros are cut out, and each
# piece between them is led by the distance to where the next zero was.

def cobs_encode(octets: bytes) -> bytes:
    """`octets` without zeros, one longer and another for each full block."""
    encoded = bytearray()
    for piece in octets.split(b"\0"):
        full = len(piece) // BLOCK
        for index in range(full):
            encoded += bytes([BLOCK + 1]) + piece[index * BLOCK:(index + 1) * BLOCK]
        rest = piece[full * BLOCK:]
        encoded += bytes([len(rest) + 1]) + rest
    # A full block stands for no zero; at the end nothing has to follow it.
    if full and not rest:
        del encoded[-1]
    return bytes(encoded)


def cobs_decode(octets: bytes) -> bytes:
    """The inverse of :func:`cobs_encode`.

    Raises
    ------
    WireError
        If there is a zero in `octets`, or they end within a block.
    """
    decoded, place, full = bytearray(), 0, True
    while place < len(octets):
        code = octets[place]
        if not full:
            decoded.append(0)
        block = octets[place + 1:place + code]
        if code == 0 or 0 in block:
            raise WireError("Frame must not hold a zero")
        if len(block) != code - 1:
            raise WireError(f"Frame must not end within a block of {code - 1} octets, but does after "
                            f"{len(block)}")
        decoded += block
        place   += code
        full     = code == BLOCK + 1
    return bytes(decoded)


def encode_frame(frame: Frame) -> bytes:
    """The octets of a frame, delimiter included.

    Raises
    ------
    ValueError
        If a field does not fit, or the payload is not what ``length`` says.
    """
    if len(frame.payload) > MAX_PAYLOAD:
        raise ValueError(f"Payload must have at most {MAX_PAYLOAD} octets, not {len(frame.payload)}")
    if frame.type is not Type.READ and frame.length != len(frame.payload):
        raise ValueError(f"Length of a {frame.type.name} must be that of its payload "
                         f"({len(frame.payload)}), not {frame.length}")
    if frame.type is Type.READ and frame.payload:
        raise ValueError(f"A READ must have no payload, not one of {len(frame.payload)} octets")
    octets = bits.pack(Header, version=frame.version, type=frame.type.value,
                       generation=frame.generation, sequence=frame.sequence, address=frame.address,
                       length=frame.length, fault=frame.fault.value) + frame.payload
    octets += binascii.crc32(octets).to_bytes(CRC_BYTES, "little")
    return cobs_encode(octets) + bytes([DELIMITER])


def decode_frame(octets: bytes) -> Frame:
    """The frame in `octets`, which have been encoded and have no delimiter.

    Frames of another version are refused; an ``ERROR`` is of all versions.

    Raises
    ------
    WireError
        If they are not an intact frame.
    """
    if len(octets) > MAX_ENCODED:
        raise WireError(f"Frame must have at most {MAX_ENCODED} octets, not {len(octets)}")
    decoded = cobs_decode(octets)
    if len(decoded) < HEADER_BYTES + CRC_BYTES:
        raise WireError(f"Frame must have at least {HEADER_BYTES + CRC_BYTES} octets, not "
                        f"{len(decoded)}")
    body, crc = decoded[:-CRC_BYTES], int.from_bytes(decoded[-CRC_BYTES:], "little")
    if binascii.crc32(body) != crc:
        raise WireError(f"CRC-32 of a frame must be {binascii.crc32(body):08x}, not {crc:08x}")
    fields, payload = bits.unpack(Header, body[:HEADER_BYTES]), body[HEADER_BYTES:]
    try:
        type_, fault = Type(fields["type"]), Fault(fields["fault"])
    except ValueError as error:
        raise WireError(f"Frame has type {fields['type']} and fault {fields['fault']}; there is no "
                        f"such") from error
    if fields["version"] != VERSION and type_ is not Type.ERROR:
        raise WireError(f"Frame must be of version {VERSION}, not {fields['version']}")
    if len(payload) != (0 if type_ is Type.READ else fields["length"]):
        raise WireError(f"Frame of type {type_.name} with length {fields['length']} has a payload "
                        f"of {len(payload)} octets")
    return Frame(type=type_, fault=fault, payload=payload,
                 **{name: fields[name] for name in ("version", "generation", "sequence", "address",
                                                    "length")})


class Decoder:
    """Finds the frames in octets that come in pieces, and holds one frame at most.

    What is not an intact frame is dropped and counted; the next zero starts afresh.
    """

    def __init__(self) -> None:
        self._held     = bytearray()
        self._too_long = False
        #: Frames dropped.
        self.drops = 0
        #: Why the last of them was.
        self.error: WireError | None = None

    def feed(self, octets: bytes) -> list[Frame]:
        """Take `octets`; the frames that end in them."""
        frames = []
        *ended, rest = octets.split(bytes([DELIMITER]))
        for piece in ended:
            self._hold(piece)
            frame = self._end()
            if frame is not None:
                frames.append(frame)
        self._hold(rest)
        return frames

    def _hold(self, piece: bytes) -> None:
        if len(self._held) + len(piece) > MAX_ENCODED:
            self._too_long = True
        if self._too_long:
            self._held.clear()
        else:
            self._held += piece

    def _end(self) -> Frame | None:
        held, too_long = bytes(self._held), self._too_long
        self._held.clear()
        self._too_long = False
        try:
            if too_long:
                raise WireError(f"Frame must have at most {MAX_ENCODED} octets")
            return decode_frame(held) if held else None
        except WireError as error:
            self.drops += 1
            self.error  = error
            return None
