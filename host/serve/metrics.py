"""What a server counts, in the text format of Prometheus."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from terngen.host.device import Counters

__all__ = ["Metrics", "exposition"]


class Metrics:
    """What a device has done since the server began."""

    def __init__(self) -> None:
        #: Requests that ended, by reason: as :class:`~terngen.host.serve.writing.Piece` has it, or another.
        self.ended: Counter[str] = Counter(dict.fromkeys(("stop", "length", "cancelled", "failed"), 0))
        #: Requests for which there was no room.
        self.refused  = 0
        #: Passes of the tape, and the seconds that they took.
        self.passes, self.seconds = 0, 0.0
        #: Tokens that the model took, and those that it made.
        self.taken, self.made = 0, 0
        #: What the machine counted.
        self.counters = Counters(0, 0, 0, 0, 0)
        #: Times that a device which was lost came back.
        self.reopened = 0

    def add(self, counters: Counters, seconds: float, *, slots: int, made: int) -> None:
        """A pass has been made."""
        self.passes  += 1
        self.seconds += seconds
        self.taken   += slots
        self.made    += made
        self.counters = Counters.total([self.counters, counters])

    @property
    def totals(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {"passes": self.passes, "seconds": self.seconds, "taken": self.taken, "made": self.made,
                "refused": self.refused, "reopened": self.reopened, "ended": dict(self.ended),
                **dataclasses.asdict(self.counters)}


#: A name without its prefix, its kind, what it says, and its values by labels.
_Family = tuple[str, str, str, Sequence[tuple[str, float]]]


def exposition(totals: Mapping[str, Any], health: Mapping[str, Any]) -> str:
    """The page that Prometheus reads, from :attr:`Metrics.totals` and
    :attr:`~terngen.host.serve.scheduler.Scheduler.health`."""
    lines = []
    for name, kind, says, values in _families(totals, health):
        lines += [f"# HELP terngen_{name} {says}", f"# TYPE terngen_{name} {kind}"]
        lines += [f"terngen_{name}{labels} {value:.15g}" for labels, value in values]
    return "\n".join(lines) + "\n"


def _families(totals: Mapping[str, Any], health: Mapping[str, Any]) -> Iterator[_Family]:
    def one(name: str, kind: str, says: str, value: float) -> _Family:
        return name, kind, says, [("", value)]

    yield one("up", "gauge", "Whether the device is there.", health["status"] == "ok")
    yield one("device_reopened_total", "counter", "Times that a lost device came back.", totals["reopened"])
    yield one("slots", "gauge", "Slots of the device.", health["slots"])
    yield one("slots_busy", "gauge", "Requests that have a slot.", health["busy"])
    yield one("queue_length", "gauge", "Requests that wait for a slot.", health["waiting"])
    yield ("requests_total", "counter", "Requests that ended, by reason.",
           [*((f'{{reason="{reason}"}}', count) for reason, count in totals["ended"].items()),
            ('{reason="refused"}', totals["refused"])])
    yield one("tokens_taken_total", "counter", "Tokens that the model took, of prompts as well.", totals["taken"])
    yield one("tokens_made_total", "counter", "Tokens that the model made.", totals["made"])
    yield one("passes_total", "counter", "Passes of the tape.", totals["passes"])
    yield one("pass_seconds_total", "counter", "Seconds that passes took, as the host saw them.", totals["seconds"])
    yield one("cycles_total", "counter", "Cycles of the machine in passes.", totals["cycles"])
    yield one("beats_total", "counter", "Beats of the tape that the machine took.", totals["beats"])
    yield ("stall_cycles_total", "counter", "Cycles in which no beat was taken, by what was waited for.",
           [(f'{{unit="{unit}"}}', totals[f"stall_{unit}"]) for unit in ("tape", "array", "vector")])
