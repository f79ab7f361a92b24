"""Ports that machines and tape sources have, whatever is inside of them."""

from typing import Any

from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract import trace
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Play
from terngen.hw.tape.loader import load_layout

__all__ = ["machine_members", "source_members", "trace_signature"]


def trace_signature(config: Config) -> wiring.Signature:
    """Of what a machine shows of its work, see :mod:`terngen.hw.contract.trace`."""
    return wiring.Signature({"valid": Out(1), "event": Out(trace.event_layout(config))})


def source_members(config: Config) -> dict[str, Any]:
    """Of a tape source: requests, what was asked for, and writes to the memory."""
    return {
        "play":  In(stream.Signature(Play)),
        "beats": Out(stream.Signature(config.beat_bits)),
        "load":  In(stream.Signature(load_layout(config))),
    }


def machine_members(config: Config) -> dict[str, Any]:
    """Of a machine whose tape source is outside, see :class:`~terngen.hw.top.Machine`."""
    return {
        "link_i": In(stream.Signature(8)),
        "link_o": Out(stream.Signature(8)),
        **{name: member.flip() for name, member in source_members(config).items()},
        "busy":   Out(1),
        "trace":  Out(trace_signature(config)),
    }
