"""The host's end of the link: a :class:`~terngen.host.transport.Transport` over frames.

What is on the wire, and what makes it safe to ask again, stands in
:mod:`terngen.hw.contract.wire`.
"""

import dataclasses
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

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
    which several are on their way at once. What is not answered in time is sent again, at growing
    intervals; a lost frame costs time and nothing else. When nothing has been answered for `timeout`
    seconds the link is given up.

    Parameters
    ----------
    pipe : :class:`~terngen.host.transport.BytePipe`
    window : :class:`int`
        Requests on their way at once. A device behind a pipe without flow control holds two.
    writes : :class:`int`
        Writes on their way at once; as many as `window` by default. A device takes them as fast as a pipe brings
        them, so they may be more.
    timeout : :class:`float`
        Seconds without any progress after which the link is given up.
    patience : :class:`float`
        Seconds after which requests are sent again; more than a window takes on its way.
    clock : callable
        Seconds that have passed, as of :func:`time.monotonic`.

    Raises
    ------
    LinkError
        If the device does not answer, or speaks another version of the link.
    """

    #: What the numbers of sessions are drawn from.
    _chance: random.Random = random.SystemRandom()

    def __init__(self, pipe: BytePipe, *, window: int = 4, writes: int | None = None,
                 timeout: float = 2.0, patience: float = 0.1, clock: Callable[[], float] = time.monotonic):
        writes = window if writes is None else writes
        for count in (window, writes):
            if not 1 <= count <= 1024:
                raise ValueError(f"Window must be from 1 to 1024 requests, not {count}")
        if not 0 < patience <= timeout:
            raise ValueError(f"Patience must be positive and at most the timeout ({timeout} s), "
                             f"not {patience} s")
        self._pipe     = pipe
        self._window   = window
        self._writes   = writes
        self._timeout  = timeout
        self._patience = patience
        self._clock    = clock
        self._decoder  = wire.Decoder()
        self._generation = self._chance.randrange(1 << 8)
        self._sequence   = 0
        self._lost: str | None = None       # why there is no session
        #: Frames sent again.
        self.resends = 0
        #: Answers that nobody waited for.
        self.stale   = 0

        self.abort()

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
        if timeout is not None and not timeout > 0:
            raise ValueError(f"Timeout must be positive, not {timeout} s")
        # A link that is slow by itself, like one to a simulation, stays as patient as it is.
        timeout = max(timeout or 0.0, self._timeout)
        answers = self._exchange(requests, timeout, self._window)
        return b"".join(answer.payload for answer in answers)

    def write(self, address: int, octets: bytes) -> None:
        _check(address, len(octets))
        view     = memoryview(octets)
        pieces   = ((place, bytes(view[place:place + wire.MAX_PAYLOAD]))
                    for place in range(0, len(octets), wire.MAX_PAYLOAD))
        requests = (Frame(type=Type.WRITE, address=address + place, length=len(piece), payload=piece)
                    for place, piece in pieces)
        for _ in self._exchange(requests, self._timeout, self._writes):
            pass

    def abort(self) -> None:
        # Another than before, and drawn, so that answers to an earlier session do not pass for answers to this one.
        self._generation = (self._generation + 1 + self._chance.randrange((1 << 8) - 1)) % (1 << 8)
        self._sequence   = self._chance.randrange(1 << 16)
        self._lost       = None
        self._pipe.send(bytes([wire.DELIMITER]))
        for _ in self._exchange(iter([Frame(type=Type.HELLO)]), self._timeout, self._window):
            pass

    def clock(self) -> float:
        return self._clock()

    def idle(self, seconds: float) -> bool:
        until = self._clock() + seconds
        while (left := until - self._clock()) > 0:
            self.stale += len(list(self._decoder.feed(self._pipe.receive(4 * wire.MAX_ENCODED, left))))
        return True

    def close(self) -> None:
        self._lost = "it was closed"
        self._pipe.close()

    def _exchange(self, requests: Iterator[Frame], timeout: float, window: int) -> Iterator[Frame]:
        """Send `requests`, `window` of them at once; their answers, in the same order."""
        if self._lost is not None:
            raise LinkError(f"Session with {self.description} must be open, but {self._lost}; open it again")
        # Whatever stops this in the middle leaves requests behind of which nobody knows the fate.
        self._lost = "an exchange was broken off"
        pending: deque[_Pending] = deque()
        since   = self._clock()             # the last progress
        resend  = since + self._patience
        resent  = False                     # since the last progress
        while True:
            fresh = [_Pending(self._number(request))
                     for request in islice(requests, window - len(pending))]
            pending.extend(fresh)
            if not pending:
                break
            self._send(fresh)
            progress, trouble = self._listen(pending, min(resend, since + timeout))
            while pending and (answer := pending[0].answer) is not None:
                pending.popleft()
                yield answer
            now = self._clock()
            if progress:
                since, resent = now, False
                resend = now + self._patience
            elif now >= since + timeout:
                self._fail(f"has not answered a {pending[0]} within {timeout} s: {self.resends} frames "
                           f"were sent again, {self.drops} came back spoilt")
            elif now >= resend or (trouble and not resent):
                # Trouble is answered once: noise, or a row of refusals, must not multiply frames.
                waiting = [each for each in pending if each.answer is None]
                self.resends += len(waiting)
                self._pipe.send(bytes([wire.DELIMITER]))
                self._send(waiting)
                resent = True
                resend = now + max(self._patience, (now - since) / 4)
        self._lost = None

    def _number(self, request: Frame) -> Frame:
        numbered = dataclasses.replace(request, generation=self._generation, sequence=self._sequence)
        self._sequence = (self._sequence + 1) % (1 << 16)
        return numbered

    def _send(self, waiting: list[_Pending]) -> None:
        if waiting:
            self._pipe.send(b"".join(wire.encode_frame(each.request) for each in waiting))

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
        self._lost = f"it {sentence}"
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
