"""Several devices with one model: each has a piece of it, and hands its residual vector to the next one.

The driver is between them. A pass goes from device to device; while one has it, the others have those before and after
it, if there are any: chunks of a prompt, or groups of slots that each make a text.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from terngen.host.device import Counters, Device, Result
from terngen.host.errors import ConfigError
from terngen.host.sampling import Sampling
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Tape

__all__ = ["Chain", "Computer", "check_pieces"]


def check_pieces(tapes: Sequence[Tape]) -> None:
    """Hold tapes that are given together against each other.

    Raises
    ------
    ConfigError
        If they are not one whole model, or all pieces of one in their order.
    """
    pieces = []
    for place, tape in enumerate(tapes, 1):
        if (piece := tape.model.get("piece")) is not None:
            pieces.append(piece)
        elif len(tapes) == 1:
            return
        else:
            raise ConfigError(f"Tape {place} of {len(tapes)} is a whole model, so it must be given alone; convert the "
                              f"checkpoint with --split to have pieces")
    families = [str(piece["family"]) for piece in pieces]
    for place, family in enumerate(families, 1):
        if family != families[0]:
            raise ConfigError(f"Tapes must be pieces of one conversion, but tape 1 is one of {families[0]} and tape "
                              f"{place} one of {family}; convert the checkpoint again and give what comes of it")
    numbers = [piece["number"] + 1 for piece in pieces]
    count   = pieces[0]["pieces"]
    if len(numbers) != count or numbers != [*range(1, count + 1)]:
        raise ConfigError(f"Model was cut into {count} pieces, which must all be given in their order, not "
                          f"{', '.join(map(str, numbers))}")


@dataclasses.dataclass
class _Pass:
    """Tokens on their way through the devices."""

    tokens:   dict[int, int]
    reset:    Collection[int]
    head:     bool = True
    states:   Mapping[int, int] | None = None
    #: What the last device that had it hands on, by slot.
    vectors:  dict[int, NDArray[np.uint32]] = dataclasses.field(default_factory=dict)
    #: What each device counted.
    counters: list[Counters] = dataclasses.field(default_factory=list)


class Chain:
    """Devices that together have a model, used like a :class:`Device`.

    Parameters
    ----------
    devices : sequence of :class:`Device`
        Those with the pieces, in order.

    Raises
    ------
    ConfigError
        If their tapes do not belong together, see :func:`check_pieces`.
    """

    def __init__(self, devices: Sequence[Device]) -> None:
        check_pieces([device.tape for device in devices])
        self.devices = list(devices)
        #: What the devices counted together in the passes of the last :meth:`decode` or :meth:`logits`.
        self.counters: list[Counters] = []
        #: What each device counted in the last :meth:`step`.
        self.parts: list[Counters] = []
        #: What each device has just had.
        self._under_way: list[_Pass | None] = [None] * len(devices)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the devices."""
        for device in self.devices:
            device.close()

    @property
    def tape(self) -> Tape:
        """That of the first device, with the facts of the model and its tokenizer."""
        return self.devices[0].tape

    @property
    def config(self) -> Config:
        """That of the last device, which has the candidates."""
        return self.devices[-1].config

    def ping(self) -> None:
        """Ask whether all devices are still there; see :meth:`Device.ping`."""
        for device in self.devices:
            device.ping()

    # Passes.

    def _advance(self, entering: _Pass | None) -> _Pass | None:
        """Let every device do the next pass, all at the same time.

        Returns
        -------
        The pass that is done, if the last device had one.
        """
        works = [entering, *self._under_way[:-1]]
        self._under_way = [None] * len(works)       # unless all goes well
        for device, work in zip(self.devices, works, strict=True):
            if work is None:
                continue
            rows = work.tokens
            if work.vectors:
                for slot, vector in work.vectors.items():
                    device.take_vector(slot, vector)
                rows = {slot: slot for slot in work.tokens}
            device.begin(rows, reset=work.reset, head=work.head, states=work.states)
        for device, work in zip(self.devices, works, strict=True):
            if work is not None:
                work.counters.append(device.end())
                if device is not self.devices[-1]:
                    work.vectors = {slot: device.vector(slot) for slot in work.tokens}
        self._under_way = works
        return works[-1]

    def _flow(self, waiting: deque[_Pass]) -> Iterator[_Pass]:
        """Let passes enter one after the other, until none waits and none is on its way; each when it is done."""
        self._under_way = [None] * len(self.devices)
        while waiting or any(self._under_way[:-1]):
            if (done := self._advance(waiting.popleft() if waiting else None)) is not None:
                yield done

    def step(self, tokens: Mapping[int, int], *, reset: Collection[int] = (), head: bool = True,
             states: Mapping[int, int] | None = None) -> Counters:
        """See :meth:`Device.step`; counters are sums over the devices."""
        [done] = self._flow(deque([_Pass(dict(tokens), reset, head, states)]))
        self.parts = done.counters
        return Counters.total(done.counters)

    def prefill(self, tokens: Sequence[int], *, state: int = 0, reset: bool = True) -> list[Counters]:
        """See :meth:`Device.prefill`. While a device reads one part of the tokens, the one before it reads the next."""
        count = self.config.slots
        parts = [dict(enumerate(tokens[start:start + count])) for start in range(0, len(tokens), count)]
        passes = deque(_Pass(part, [0] if reset and place == 0 else (), False, dict.fromkeys(part, state))
                       for place, part in enumerate(parts))
        return [Counters.total(done.counters) for done in self._flow(passes)]

    def decode(self, tokens: Mapping[int, int], count: int, *, reset: Collection[int] = (), stop: int | None = None,
               sampling: Mapping[int, Sampling] | None = None) -> Iterator[dict[int, int]]:
        """See :meth:`Device.decode`. Slots take turns in as many groups as there are devices; the driver chooses, and
        hands each its next token."""
        self.counters.clear()
        choosing = {slot: (sampling or {}).get(slot, Sampling()) for slot in tokens}
        for each in choosing.values():
            each.check(self.config)
        slots   = sorted(tokens)
        groups  = [slots[place::len(self.devices)] for place in range(min(len(slots), len(self.devices)))]
        waiting = deque(_Pass({slot: tokens[slot] for slot in group}, [slot for slot in group if slot in reset])
                        for group in groups if count > 0)
        made: dict[int, int] = {}
        going, left, steps = 0, len(waiting), 0         # groups that go on, and that have not made their token; steps
        flow = self._flow(waiting)
        try:
            for done in flow:
                self.counters.append(Counters.total(done.counters))
                chosen = {slot: choosing[slot].choose(self.results(slot)) for slot in done.tokens}
                made |= chosen
                left -= 1
                after = {slot: token for slot, token in chosen.items() if token != stop}
                if after and steps + 1 < count:
                    waiting.append(_Pass(after, ()))
                    going += 1
                if left == 0:
                    whole, made = made, {}
                    going, left, steps = 0, going, steps + 1
                    yield {slot: whole[slot] for slot in sorted(whole)}
        finally:
            # What is on its way is not left half done.
            waiting.clear()
            for _ in flow:
                pass

    def results(self, slot: int) -> Result:
        """See :meth:`Device.results`."""
        return self.devices[-1].results(slot)

    def logits(self, tokens: Mapping[int, int], *, reset: Collection[int] = (),
               states: Mapping[int, int] | None = None, wanted: Collection[int] | None = None
               ) -> dict[int, NDArray[np.float32]]:
        """See :meth:`Device.logits`."""
        last     = self.devices[-1]
        counters = [self.step(tokens, reset=reset, head=False, states=states)]
        last.counters = counters
        logits   = last.head_logits(tokens.keys(), tokens.keys() if wanted is None else wanted)
        self.counters = counters
        return logits


#: What computes a model.
Computer: TypeAlias = Device | Chain
