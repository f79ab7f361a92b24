"""How the memory behind a simulated machine behaves in time."""

import dataclasses
from typing import Self

__all__ = ["MemoryModel"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryModel:
    """A tape memory that gives at most one beat per cycle.

    Requests are served one after the other, without a gap between them where their latency has
    passed in the meantime; four can wait. A refresh pause stops a transfer that has not been
    offered yet. The default is a memory that always has the beat one cycle after the request.

    Parameters
    ----------
    latency : :class:`int`
        Cycles from a request to its first beat, at least 1.
    refresh_period : :class:`int`
        Cycles from the start of one refresh pause to the next; zero for none.
    refresh_pause : :class:`int`
        Cycles of a refresh pause, fewer than the period.
    stall : :class:`float`
        Probability with which a transfer is held back in a cycle, drawn for each of the streams
        ``play``, ``beats`` and ``load``; less than 1.
    """

    latency:        int   = 1
    refresh_period: int   = 0
    refresh_pause:  int   = 0
    stall:          float = 0.0

    def __post_init__(self) -> None:
        for name, lowest in (("latency", 1), ("refresh_period", 0), ("refresh_pause", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"Memory {name} must be an integer, not {value!r}")
            if not lowest <= value < 1 << 32:
                raise ValueError(f"Memory {name} must be from {lowest} to {(1 << 32) - 1} cycles, "
                                 f"not {value}")
        if self.refresh_pause and not self.refresh_pause < self.refresh_period:
            raise ValueError(f"Memory refresh_pause must be less than the period "
                             f"({self.refresh_period}), not {self.refresh_pause}")
        if not 0 <= self.stall < 1:
            raise ValueError(f"Memory stall must be a probability less than 1, not {self.stall!r}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The model that `text` describes, like ``latency=20,refresh_period=780``.

        Raises
        ------
        ValueError
            If it does not describe one; the message says why.
        """
        kinds  = {field.name: field.type for field in dataclasses.fields(cls)}
        values = {}
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            if name not in kinds:
                raise ValueError(f"Memory has no {name!r}; it has {', '.join(kinds)}")
            try:
                values[name] = kinds[name](value)
            except ValueError as error:
                raise ValueError(f"Memory {name} must be a number, not {value!r}") from error
        return cls(**values)

    @property
    def share(self) -> float:
        """Share of the cycles that refresh leaves, 1 without it."""
        return 1 - self.refresh_pause / self.refresh_period if self.refresh_period else 1.0
