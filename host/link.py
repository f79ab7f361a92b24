"""The host's end of the link: a :class:`~terngen.host.transport.Transport` over frames.

What is on the wire, and what makes it safe to ask again, stands in
:mod:`terngen.hw.contract.wire`.
"""

import dataclasses
import random
import time
from collections import deque
from collections.abc import Callable, Iterator

from terngen.host.errors import LinkError
from terngen.host.transport import BytePipe
from terngen.hw.contract import wire
from terngen.hw.contract.wire import Fault, Frame, Type

__all__ = ["FrameTransport"]

#: What an answer adds to the type of its request.
_ANSWER = Type.READ_REPLY.value - Type.READ.value

_REFUSALS = {
    Fault.TYPE:       "does not know {request}",
    Fault.GENERATION: "has ended this session: it was reset, or another host has opened it",
    Fault.ADDRESS:    "refuses {request}: addresses are multiples of four",
    Fault.LENGTH:     "refuses {request}: lengths are multiples of four up to 1024",
}


@dataclasses.dataclass
class _Pending:
    """A request that has been sent, and its answer once that has come."""

    request: Frame
    answer:  Frame | None = None

    def __str__(self) -> str:
        return f"{self.request.type.name} of {self.request.length} octets at 0x{self.request.address:08x}"


class FrameTransport:
    """Reads and writes the address space of a device through frames on a pipe.

    Opening begins a session, which resets the machine. Long reads and writes are cut into frames, of
    which several are on their way at once. What is not answered in time is sent again, after twice as
    long each time; a lost frame costs time and nothing else. When nothing has come for `timeout`
    seconds the link is given up.

    Parameters
    ----------
    pipe : :class:`~terngen.host.transport.BytePipe`
    window : :class:`int`
        Requests on their way at once. A device behind a pipe without flow control holds two.
    timeout : :class:`float`
        Seconds without any progress after which the link is given up.
    patience : :class:`float`
        Seconds after which a request is sent again for the first time.
    clock : callable
        Seconds that have passed, as of :func:`time.monotonic`.

    Raises
    ------
    LinkError
        If the device does not answer, or speaks another version of the link.
    """

    def __init__(self, pipe: BytePipe, *, window: int = 4, timeout: float = 2.0,
                 patience: float = 0.1, clock: Callable[[], float] = time.monotonic):
        if not 1 <= window <= 1024:
            raise ValueError(f"Window must be from 1 to 1024 requests, not {window}")
        if not 0 < patience <= timeout:
            raise ValueError(f"Patience must be positive and at most the timeout ({timeout} s), "
                             f"not {patience} s")
        self._pipe     = pipe
        self._window   = window
        self._timeout  = timeout
        self._patience = patience
        self._clock    = clock
        self._decoder  = wire.Decoder()
        self._lost: str | None = None       # why there is no session
        #: Frames sent again.
        self.resends = 0
        #: Answers that nobody waited for.
        self.stale   = 0

        # Drawn, so that answers to an earlier session do not pass for answers to this one.
        chance = random.SystemRandom()
        self._generation = chance.randrange(1 << 8)
        self._sequence   = chance.randrange(1 << 16)
        self._pipe.send(bytes([wire.DELIMITER]))
        for _ in self._exchange(iter([Frame(type=Type.HELLO)]), timeout):
            pass

    @property
    def description(self) -> str:
        return self._pipe.description

    @property
    def drops(self) -> int:
        """Frames from the device that were not intact."""
        return self._decoder.drops

    def read(self, address: int, octets: int, *, timeout: float | None = None) -> bytes:
        _check(address, octets)
        requests = (Frame(type=Type.READ, address=address + place,
                          length=min(octets - place, wire.MAX_PAYLOAD))
                    for place in range(0, octets, wire.MAX_PAYLOAD))
        answers = self._exchange(requests, self._timeout if timeout is None else timeout)
        return b"".join(answer.payload for answer in answers)

    def write(self, address: int, octets: bytes) -> None:
        _check(address, len(octets))
        view     = memoryview(octets)
        pieces   = ((place, bytes(view[place:place + wire.MAX_PAYLOAD]))
                    for place in range(0, len(octets), wire.MAX_PAYLOAD))
        requests = (Frame(type=Type.WRITE, address=address + place, length=len(piece), payload=piece)
                    for place, piece in pieces)
        for _ in self._exchange(requests, self._timeout):
            pass

    def close(self) -> None:
        self._lost = "it was closed"
        self._pipe.close()

    def _exchange(self, requests: Iterator[Frame], timeout: float) -> Iterator[Frame]:
        """Send `requests`; their answers, in the same order."""
        if self._lost is not None:
            raise LinkError(f"Session with {self.description} has ended: {self._lost}; open it again")
        # Whatever stops this in the middle leaves requests behind of which nobody knows the fate.
        self._lost = "an exchange was broken off"
        pending: deque[_Pending] = deque()
        patience = self._patience
        now      = self._clock()
        deadline, resend = now + timeout, now + patience
        resent   = False        # since the last progress
        while True:
            fresh = []
            while len(pending) + len(fresh) < self._window:
                request = next(requests, None)
                if request is None:
                    break
                fresh.append(_Pending(self._number(request)))
            pending.extend(fresh)
            if not pending:
                break
            if fresh:
                self._send(fresh)

            progress, trouble = self._listen(pending, min(resend, deadline))
            while pending and pending[0].answer is not None:
                yield pending.popleft().answer
            now = self._clock()
            if progress:
                patience, resent = self._patience, False
                deadline, resend = now + timeout, now + patience
            elif now >= deadline:
                self._lost = f"no answer to a {pending[0]} within {timeout} s"
                raise LinkError(f"Device must answer within {timeout} s, but {self.description} has "
                                f"not answered a {pending[0]}, sent {self.resends} frames again "
                                f"and received {self.drops} bad ones")
            elif now >= resend or (trouble and not resent):
                # Trouble is answered once; noise or a row of refusals must not multiply frames.
                self.resends += len(pending)
                self._send(pending, after=bytes([wire.DELIMITER]))
                patience, resent = 2 * patience, True
                resend = now + patience
        self._lost = None

    def _number(self, request: Frame) -> Frame:
        numbered = dataclasses.replace(request, generation=self._generation, sequence=self._sequence)
        self._sequence = (self._sequence + 1) % (1 << 16)
        return numbered

    def _send(self, pending, after: bytes = b"") -> None:
        self._pipe.send(after + b"".join(wire.encode_frame(each.request) for each in pending
                                         if each.answer is None))

    def _listen(self, pending: deque[_Pending], until: float) -> tuple[bool, bool]:
        """Take what comes next: whether a request was answered, whether something went wrong."""
        drops  = self._decoder.drops
        octets = self._pipe.receive(4 * wire.MAX_ENCODED, max(0.0, until - self._clock()))
        progress = trouble = False
        for frame in self._decoder.feed(octets):
            if frame.fault is Fault.VERSION:
                self._fail(f"speaks version {frame.version} of the link, not {wire.VERSION}")
            place = (frame.sequence - pending[0].request.sequence) % (1 << 16)
            if frame.generation != self._generation or place >= len(pending):
                self.stale += 1
            elif frame.fault is Fault.SEQUENCE:
                trouble = True
            elif frame.fault is not Fault.NONE:
                self._fail(_REFUSALS[frame.fault].format(request=f"a {pending[place]}"))
            elif _answers(frame, pending[place].request):
                progress |= self._settle(pending, place, frame)
            else:
                self.stale += 1
        return progress, trouble or self._decoder.drops > drops

    def _settle(self, pending: deque[_Pending], place: int, frame: Frame) -> bool:
        """Note an answer; it also answers the writes before it, for they have been executed."""
        progress = pending[place].answer is None
        pending[place].answer = frame
        for index in range(place):
            each = pending[index]
            if each.request.type is Type.WRITE and each.answer is None:
                each.answer = frame
        return progress

    def _fail(self, sentence: str) -> None:
        self._lost = sentence
        raise LinkError(f"{self.description} {sentence}")


def _answers(frame: Frame, request: Frame) -> bool:
    """Whether a frame with the right number is what the request asked for."""
    wanted = request.length if request.type is Type.READ else 0
    return (frame.type.value == request.type.value + _ANSWER and frame.address == request.address
            and len(frame.payload) == wanted)


def _check(address: int, octets: int) -> None:
    if address % 4 or octets % 4:
        raise ValueError(f"Address and number of octets must be multiples of four, not {address:#x} "
                         f"and {octets}")
    if not (0 <= address and 0 <= octets and address + octets <= 1 << 32):
        raise ValueError(f"Octets must lie within the 32-bit address space, not from {address:#x} to "
                         f"{address + octets:#x}")
