"""Many requests on one device: they join and leave between two passes of the tape."""

import contextlib
import dataclasses
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terngen.host.device import Counters, Device
from terngen.host.errors import DeviceError
from terngen.host.serve.metrics import Metrics
from terngen.host.serve.writing import Piece, Request, Writer
from terngen.host.text import Language
from terngen.hw.contract.tape import Tape

__all__ = ["Scheduler", "Unavailable"]

#: Seconds between two attempts to open a device that was lost: the first, and the longest.
_BACKOFF = (0.5, 10.0)
#: Seconds after which a device that has nothing to do is asked whether it is still there.
_HEARTBEAT = 2.0
#: Seconds that a pass may take when the scheduler ends.
_PATIENCE = 30.0

_log = logging.getLogger(__name__)

Logits = NDArray[np.float32]


class Unavailable(DeviceError):
    """A request cannot be served now."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        #: Seconds after which it is worth another attempt.
        self.retry_after = max(1, math.ceil(retry_after))


class _Sequence:
    """A request, and how far it is."""

    def __init__(self, request: Request, language: Language) -> None:
        self.request = request
        self.writer  = Writer(language, request)
        #: Tokens that the model has not taken.
        self.due     = deque(request.prompt)
        #: Whether it has taken none.
        self.fresh   = True


@dataclasses.dataclass(frozen=True)
class _Pass:
    """What the slots do while the tape is played once."""

    #: By slot.
    tokens: dict[int, int]
    states: dict[int, int]
    #: Slots that begin a sequence.
    reset:  list[int]
    #: Slots that carry the last token of what is due: another one is to be made.
    makers: dict[int, _Sequence]

    @property
    def scored(self) -> list[int]:
        """Makers of which all logits are wanted."""
        return [slot for slot, sequence in self.makers.items() if sequence.request.scored is not None]


class Scheduler:
    """Owns a device, in a thread of its own.

    A request gets a recurrent state of the device while it runs, and in each pass the slot of that number; slots that
    nobody has take more tokens of the prompts that are being read. A token depends on nothing but its own sequence, so
    what else is running never changes what a request gets.

    A device that is lost ends all requests, those that wait as well, and is opened again, at growing intervals.

    Parameters
    ----------
    tape : :class:`Tape`
        The model.
    opening : callable
        Gives a context in which the device is open and has the tape.
    queue : :class:`int`
        Requests that may wait for a slot.
    """

    def __init__(self, tape: Tape, opening: Callable[[], contextlib.AbstractContextManager[Device]], *,
                 queue: int = 128) -> None:
        self.tape     = tape
        #: What the device has done.
        self.metrics  = Metrics()
        self.language = Language.of_tape(tape)
        self._opening = opening
        self._limit   = queue
        self._changed = threading.Condition()
        # What follows is looked at by other threads, under the lock of `_changed`.
        self._waiting: deque[_Sequence] = deque()
        self._running: dict[int, _Sequence] = {}        # by state, in the order in which they came
        self._closing = False
        self._reason: str | None = "The device is being opened"     # why there is none
        self._since   = time.monotonic()
        self._retry   = 0.0                             # when the next attempt is made
        self._under_way: _Pass | None = None
        self._place: int | None = None                  # beat of the tape that it has got to, if it was asked
        #: Whether somebody wants to know where on the tape the machine is.
        self.watched  = False
        self._last: dict[str, Any] = {}                 # the pass that was made last
        self._refusal: BaseException | None = None      # of the first attempt
        self._tried   = threading.Event()
        self._thread  = threading.Thread(target=self._run, name="device", daemon=True)

    # Called by others.

    def start(self) -> None:
        """Open the device.

        Raises
        ------
        DeviceError
            If that fails; the scheduler has ended then.
        """
        self._thread.start()
        self._tried.wait()
        if self._refusal is not None:
            self._thread.join()
            raise self._refusal

    def stop(self) -> None:
        """End all requests with an error, and take no more. It does not wait."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self) -> None:
        """Let go of the device."""
        self.stop()
        self._thread.join(_PATIENCE)

    def submit(self, request: Request) -> None:
        """Let a request wait for its turn.

        Raises
        ------
        Unavailable
            If there is no device, or too many requests wait.
        """
        sequence = _Sequence(request, self.language)
        with self._changed:
            if self._closing:
                raise Unavailable("The server is being shut down")
            if self._reason is not None:
                raise Unavailable(self._reason, self._retry - time.monotonic())
            # Whoever finds a slot at once does not wait.
            if len(self._waiting) - (self.tape.config.slots - len(self._running)) >= self._limit:
                self.metrics.refused += 1
                raise Unavailable(f"At most {self._limit} requests may wait for one of {self.tape.config.slots} slots")
            self._waiting.append(sequence)
            self._changed.notify_all()

    def cancel(self, request: Request) -> None:
        """Nobody waits for this request any more; no error if it has ended."""
        request.gone.set()
        with self._changed:
            for sequence in self._waiting:
                if sequence.request is request:
                    self._waiting.remove(sequence)
                    self.metrics.ended["cancelled"] += 1
                    break

    @property
    def closing(self) -> bool:
        """Whether it was stopped."""
        return self._closing

    @property
    def health(self) -> dict[str, Any]:
        """Whether there is a device, and what it has to do."""
        with self._changed:
            now = time.monotonic()
            return {"status": "ok" if self._reason is None else "error", "reason": self._reason,
                    "seconds": round(now - self._since, 1),
                    "retry_seconds": None if self._reason is None else round(max(0.0, self._retry - now), 1),
                    "slots": self.tape.config.slots, "busy": len(self._running), "waiting": len(self._waiting),
                    "reopened": self.metrics.reopened}

    @property
    def snapshot(self) -> dict[str, Any]:
        """What the machine does now, for those who watch it."""
        with self._changed:
            slots: list[dict[str, Any] | None] = [None] * self.tape.config.slots
            for state, sequence in self._running.items():
                request = sequence.request
                slots[state] = {"request": request.number, "prompt": len(request.prompt),
                                "read": len(request.prompt) - (0 if sequence.writer.made else len(sequence.due)),
                                "made": sequence.writer.made, "count": request.count}
            playing = None if self._under_way is None else {**_described(self._under_way), "beat": self._place}
            return {"reason": self._reason, "slots": slots, "waiting": len(self._waiting), "playing": playing,
                    "last": self._last, "totals": self.metrics.totals}

    # The thread.

    def _run(self) -> None:
        delay = _BACKOFF[0]
        while not self._closing:
            try:
                with self._opening() as device:
                    self._found()
                    delay = _BACKOFF[0]
                    self._serve(device)
            except BaseException as error:
                if not self._tried.is_set():
                    self._refusal = error
                    self._closing = True
                    self._tried.set()
                    break
                if not isinstance(error, DeviceError):
                    _log.exception("The device is opened again after a defect of this program")
                self._lost(error, delay)
                delay = min(2 * delay, _BACKOFF[1])
        self._end(Unavailable("The server is being shut down"))

    def _found(self) -> None:
        with self._changed:
            self.metrics.reopened += self._tried.is_set()
            self._reason, self._since = None, time.monotonic()
        self._tried.set()

    def _lost(self, error: BaseException, delay: float) -> None:
        """Tell everybody, and wait."""
        text = str(error) if isinstance(error, DeviceError) else f"{type(error).__name__} in the server"
        _log.warning("The device is lost: %s", text)
        with self._changed:
            now = time.monotonic()
            if self._reason is None:
                self._since = now
            self._reason = f"The device is lost, and is being opened again: {text}"
            self._retry  = now + delay
        self._end(Unavailable(self._reason, delay))
        with self._changed:
            self._changed.wait_for(lambda: self._closing, delay)

    def _end(self, error: Unavailable) -> None:
        """End all requests."""
        with self._changed:
            requests = [sequence.request for sequence in (*self._running.values(), *self._waiting)]
            self._running.clear()
            self._waiting.clear()
            self._under_way = None
            self.metrics.ended["failed"] += len(requests)
        for request in requests:
            request.deliver(error)

    def _serve(self, device: Device) -> None:
        """Make one pass after the other."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._waiting or self._running, _HEARTBEAT)
                if self._closing:
                    return
                self._admit()
                plan = self._plan()
                self._under_way = plan if plan.tokens else None
                self._place     = None
            if plan.tokens:
                self._play(device, plan)
            else:
                device.ping()

    def _admit(self) -> None:
        """Let those go whom nobody waits for, and let others have their states."""
        for state, sequence in list(self._running.items()):
            if sequence.request.gone.is_set():
                del self._running[state]
                self.metrics.ended["cancelled"] += 1
        for state in range(self.tape.config.slots):
            if self._waiting and state not in self._running:
                self._running[state] = self._waiting.popleft()

    def _plan(self) -> _Pass:
        """Who takes which slots; of the slots that are left over, those who came first have as many as they need."""
        plan = _Pass({}, {}, [], {})
        free = [slot for slot in range(self.tape.config.slots) if slot not in self._running]
        for state, sequence in self._running.items():
            # A sequence passes through its slots in the order of their numbers.
            more  = len(sequence.due) - 1
            slots = sorted([state, *free[:more]])
            free  = free[more:]
            for slot, token in zip(slots, sequence.due):
                plan.tokens[slot] = token
                plan.states[slot] = state
            if sequence.fresh:
                plan.reset.append(slots[0])
            if len(slots) > more:
                plan.makers[slots[-1]] = sequence
        return plan

    def _play(self, device: Device, plan: _Pass) -> None:
        begin  = time.monotonic()
        device.watcher = self._reached if self.watched else None
        logits: Mapping[int, Logits] = {}
        if plan.scored:
            logits   = device.logits(plan.tokens, reset=plan.reset, states=plan.states, wanted=plan.scored)
            counters = Counters.total(device.counters)
        else:
            counters = device.step(plan.tokens, reset=plan.reset, states=plan.states, head=bool(plan.makers))
        pieces = {}
        for slot, sequence in plan.makers.items():
            token = sequence.request.sampling.choose(device.results(slot))
            pieces[slot] = token, sequence.writer.push(token, logits.get(slot))
        self._advance(plan, counters, time.monotonic() - begin, pieces)
        for slot, (_, piece) in pieces.items():
            plan.makers[slot].request.deliver(piece)

    def _reached(self, beat: int) -> None:
        with self._changed:
            self._place = beat

    def _advance(self, plan: _Pass, counters: Counters, seconds: float, pieces: Mapping[int, tuple[int, Piece]]
                 ) -> None:
        """Write down what a pass has brought."""
        with self._changed:
            self._under_way = None
            for slot, state in plan.states.items():
                sequence = self._running[state]
                sequence.due.popleft()
                sequence.fresh = False
                if slot in pieces:
                    token, piece = pieces[slot]
                    sequence.due.append(token)
                    if piece.reason is not None:
                        del self._running[state]
                        self.metrics.ended[piece.reason] += 1
            self.metrics.add(counters, seconds, slots=len(plan.tokens), made=len(pieces))
            self._last = {**_described(plan), "seconds": seconds, **dataclasses.asdict(counters)}


def _described(plan: _Pass) -> dict[str, Any]:
    return {"head": bool(plan.makers), "tokens": {str(slot): token for slot, token in sorted(plan.tokens.items())}}
