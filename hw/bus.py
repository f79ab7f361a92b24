"""The port between the link and the registers."""

from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.regs import Access

__all__ = ["BusSignature"]


class BusSignature(wiring.Signature):
    """Port of something that makes accesses, one after the other.

    Each read is answered by one word on ``answers``, in order; a write is not answered.
    """

    def __init__(self):
        super().__init__({
            "accesses": Out(stream.Signature(Access)),
            "answers":  In(stream.Signature(32)),
        })
