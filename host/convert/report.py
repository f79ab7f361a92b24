"""What a model does to the number formats: counts over a calibration text."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from terngen.hw.contract import formats
from terngen.hw.contract.tape import Op, Tape

__all__ = ["CALIBRATION_TEXT", "Calibration", "Computed", "Counts"]

#: Read where no text is given: everyday words, and sentences of more than one kind.
CALIBRATION_TEXT = (
    "Once upon a time, in a small house at the edge of a wide forest, there lived an old woman and "
    "her three sons. \"Who has been here?\" asked the eldest, but nobody knew the answer. In the "
    "year 1843 the king's road was built, twelve miles of stone, and from then on strangers came: "
    "merchants, soldiers, and one winter's evening a fox who could speak.\n"
)


class Computed(Protocol):
    """What one operation of a machine computed; see :class:`terngen.sim.golden.machine.Event`."""

    @property
    def op(self) -> Any: ...
    @property
    def beat(self) -> int: ...
    @property
    def elements(self) -> Mapping[str, NDArray[Any]]: ...
    @property
    def scalars(self) -> Mapping[str, NDArray[Any]]: ...


@dataclasses.dataclass
class Counts:
    """How the values of one place lie in their format."""

    #: Values in all.
    values:    int = 0
    #: Of the largest magnitude that the format has; int8 codes: at +-127, one in each vector by design.
    saturated: int = 0
    #: Exactly zero.
    zero:      int = 0
    #: Largest magnitude, as a number.
    largest:   float = 0.0


class Calibration:
    """Counts by operation and field, and where on the tape anything saturated.

    Parameters
    ----------
    tape : :class:`Tape`
        What is played.
    """

    #: Largest magnitude of a code.
    CODE_LIMIT = 127

    def __init__(self, tape: Tape) -> None:
        self._format   = tape.config.path
        self._sections = sorted(tape.sections, key=lambda section: section.start)
        self._starts   = [section.start for section in self._sections]
        #: By operation and field, like ``GLU.value``.
        self.sites: dict[str, Counts] = {}
        #: By section, then by operation and field: floats that saturated.
        self.saturated: dict[str, dict[str, int]] = {}

    def add(self, event: Computed) -> None:
        """Count what one operation computed."""
        for field, values in (*event.elements.items(), *event.scalars.items()):
            self._count(event, field, np.asarray(values))

    def _count(self, event: Computed, field: str, values: NDArray[Any]) -> None:
        site   = f"{Op(event.op).name}.{field}"
        counts = self.sites.setdefault(site, Counts())
        whole  = field in ("acc", "code")
        size   = np.abs(values) if whole else formats.magnitude(self._format, values)
        peak   = int(size.max(initial=0))
        counts.values += size.size
        counts.zero   += int(np.count_nonzero(size == 0))
        counts.largest = max(counts.largest, float(
            peak if whole else formats.to_float(self._format, peak)))
        if field == "acc":
            return      # wide enough for any sum
        limit = self.CODE_LIMIT if whole else self._format.largest
        count = int(np.count_nonzero(size == limit))
        counts.saturated += count
        if count and not whole:
            place = self.saturated.setdefault(self._section(event.beat), {})
            place[site] = place.get(site, 0) + count

    def _section(self, beat: int) -> str:
        """Where a descriptor stands; an embedding row has none."""
        return self._sections[max(0, bisect.bisect_right(self._starts, beat) - 1)].name

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"sites":     {site: dataclasses.asdict(counts)
                              for site, counts in sorted(self.sites.items())},
                "saturated": self.saturated}
