"""Trace events of the machine, from packed words to arrays."""

import numpy as np
from amaranth.hdl import Shape
from amaranth.lib import data

from terngen.hw.contract.config import Config
from terngen.hw.contract.trace import event_layout

__all__ = ["decode", "event_words"]

#: Fields that are two's complement. The layout gives widths only.
SIGNED = frozenset({"acc", "code"})


def event_words(config: Config) -> int:
    """32-bit words of one packed event."""
    return -(-event_layout(config).size // 32)


def decode(config: Config, words: np.ndarray) -> dict[str, np.ndarray]:
    """Fields of packed events.

    Parameters
    ----------
    words : ``(events, event_words(config))`` of ``uint32``
        Events as the simulation collects them, least significant word first.

    Returns
    -------
    :class:`dict`
        For each field of :func:`~terngen.hw.contract.trace.event_layout` an ``int64`` array, of
        shape ``(events, lanes)`` where the field has an element for each lane, else ``(events,)``.

    Raises
    ------
    ValueError
        If the words are not whole events.
    """
    width = event_words(config)
    words = np.asarray(words)
    if words.dtype != np.uint32 or words.ndim != 2 or words.shape[1] != width:
        raise ValueError(f"Events must be uint32 of shape (events, {width}), not {words.dtype} of "
                         f"shape {words.shape}")
    columns = np.ascontiguousarray(words.T)                             # (words, events)
    fields = {}
    for name, field in event_layout(config):
        signed = name in SIGNED
        if isinstance(field.shape, data.ArrayLayout):
            fields[name] = np.stack([_slice(columns, field.offset + place.offset,
                                            Shape.cast(place.shape).width, signed)
                                     for _, place in field.shape], axis=1)
        else:
            fields[name] = _slice(columns, field.offset, Shape.cast(field.shape).width, signed)
    return fields


def _slice(columns: np.ndarray, offset: int, width: int, signed: bool) -> np.ndarray:
    """`width` bits, at most 32, from bit `offset` on: ``(words, events)`` to ``(events,)``."""
    first, shift = divmod(offset, 32)
    value = columns[first].astype(np.int64) >> shift
    if shift + width > 32:
        value |= columns[first + 1].astype(np.int64) << 32 - shift
    if signed:
        return value << 64 - width >> 64 - width
    return value & (1 << width) - 1
