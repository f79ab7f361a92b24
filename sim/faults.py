"""A line that spoils what it carries, between the driver and a device."""

import dataclasses
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Self

from terngen.host.transport import BytePipe
from terngen.hw.contract import wire

__all__ = ["KINDS", "FaultyPipe", "Faults"]

#: What may happen to an octet, or from it on.
KINDS = ("flip", "drop", "insert", "duplicate", "reorder", "stall", "cut")


@dataclasses.dataclass(frozen=True)
class Faults:
    """How bad a line is.

    ``flip``
        A bit of the octet is the other one.
    ``drop``, ``insert``
        The octet is lost; another one comes before it, a delimiter as often as not.
    ``duplicate``
        The frame of the octet comes once more, up to eight frames later.
    ``reorder``
        The frame of the octet comes after the next one.
    ``stall``
        Nothing comes for a while, and then everything.
    ``cut``
        What is left of the frame is lost.
    """

    #: Probability for each octet, each way.
    rate:  float
    #: Of all faults.
    seed:  int = 0
    #: Which of :data:`KINDS` there are, all equally often.
    kinds: tuple[str, ...] = KINDS
    #: Seconds of a stall.
    stall: float = 200e-6

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 0.1:
            raise ValueError(f"Rate of faults must be from 0 to 0.1 for each octet, not {self.rate!r}")
        for kind in self.kinds or ("",):
            if kind not in KINDS:
                raise ValueError(f"Faults must be {', '.join(KINDS)}, not {kind!r}")
        if not self.stall >= 0:
            raise ValueError(f"Stall must not be negative, not {self.stall!r} s")

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``RATE`` or ``RATE:KIND+KIND``, as on a command line."""
        rate, colon, kinds = text.partition(":")
        try:
            number = float(rate)
        except ValueError as error:
            raise ValueError(f"Rate of faults must be a number, not {rate!r}") from error
        return cls(number, kinds=tuple(kinds.split("+")) if colon else KINDS)


class _Line:
    """One direction."""

    def __init__(self, faults: Faults, rng: random.Random, counts: Counter[str]) -> None:
        self._faults = faults
        self._rng    = rng
        self._counts = counts
        self._gap    = self._draw()         # sound octets until the next fault
        self._late: list[tuple[int, bytes]] = []    # frames that come after so many others
        self._coming: deque[tuple[float, bytes]] = deque()
        #: Frames that were put in, a part of one counted once.
        self.frames  = 0

    def _draw(self) -> float:
        return self._rng.expovariate(self._faults.rate) if self._faults.rate else float("inf")

    def put(self, octets: bytes, now: float) -> None:
        """Take what is sent at a time."""
        pieces = octets.split(bytes([wire.DELIMITER]))
        for index, piece in enumerate(pieces):
            frame = piece if index == len(pieces) - 1 else piece + bytes([wire.DELIMITER])
            if frame:
                self.frames += len(frame) > 1
                self._spoil(frame, now)

    def take(self, now: float) -> bytes:
        """What has come out by then."""
        octets = bytearray()
        while self._coming and self._coming[0][0] <= now:
            octets += self._coming.popleft()[1]
        return bytes(octets)

    def _spoil(self, frame: bytes, now: float) -> None:
        spoilt, place, late, again, until = bytearray(), 0, 0, 0, now
        while place < len(frame):
            if self._gap >= len(frame) - place:
                self._gap -= len(frame) - place
                spoilt += frame[place:]
                break
            sound = int(self._gap)
            spoilt += frame[place:place + sound]
            place  += sound
            octet   = frame[place]
            place  += 1
            self._gap = self._draw()
            kind = self._rng.choice(self._faults.kinds)
            self._counts[kind] += 1
            match kind:
                case "flip":
                    spoilt.append(octet ^ 1 << self._rng.randrange(8))
                case "insert":
                    spoilt += bytes([self._rng.choice([wire.DELIMITER, self._rng.randrange(256)]), octet])
                case "cut":
                    break
                case "duplicate":
                    again = self._rng.randint(1, 8)
                    spoilt.append(octet)
                case "reorder":
                    late = 1
                    spoilt.append(octet)
                case "stall":
                    until = now + self._faults.stall
                    spoilt.append(octet)
        due        = b"".join(held for left, held in self._late if left == 1)
        self._late = [(left - 1, held) for left, held in self._late if left > 1]
        if again:
            self._late.append((again, frame))
        if late:
            self._late.append((late, bytes(spoilt)))
            spoilt.clear()
        spoilt += due
        # What is stalled holds up all that follows.
        if spoilt:
            last = self._coming[-1][0] if self._coming else now
            self._coming.append((max(until, last), bytes(spoilt)))


class FaultyPipe:
    """A :class:`~terngen.host.transport.BytePipe` with faults of both directions.

    Parameters
    ----------
    pipe
        Is sound.
    faults
        What happens on the way.
    clock
        Seconds that have passed.
    """

    def __init__(self, pipe: BytePipe, faults: Faults, *, clock: Callable[[], float]) -> None:
        self._pipe  = pipe
        self._clock = clock
        rng         = random.Random(faults.seed)
        #: Faults by kind.
        self.counts: Counter[str] = Counter()
        self._there, self._back = _Line(faults, rng, self.counts), _Line(faults, rng, self.counts)

    @property
    def description(self) -> str:
        return f"{self._pipe.description} behind a line with faults"

    @property
    def frames(self) -> int:
        """Frames that the line was given, both ways."""
        return self._there.frames + self._back.frames

    def send(self, octets: bytes) -> None:
        """See :class:`~terngen.host.transport.BytePipe`."""
        self._there.put(octets, self._clock())
        self._pipe.send(self._there.take(self._clock()))

    def receive(self, max_octets: int, timeout: float) -> bytes:
        """See :class:`~terngen.host.transport.BytePipe`; it may give nothing before the time is over."""
        self._pipe.send(self._there.take(self._clock()))
        self._back.put(self._pipe.receive(max_octets, timeout), self._clock())
        return self._back.take(self._clock())

    def close(self) -> None:
        """Let go of the connection."""
        self._pipe.close()
