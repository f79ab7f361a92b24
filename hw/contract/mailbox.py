"""Registers of the link of a machine behind AXI4-Lite.

Octets of the link go through two queues. A host never writes more than there is room for, because what does not fit
is lost, and the bus never waits for the machine.
"""

from amaranth.lib import enum

__all__ = ["ADDRESS_BITS", "DEPTH", "Register"]

#: Octets in each direction that the device holds.
DEPTH = 2048
#: Of the registers.
ADDRESS_BITS = 4


class Register(enum.Enum, shape=ADDRESS_BITS):
    """Addresses of the registers, in octets."""

    #: Write: octets for the machine, those with a strobe, the lowest first. Read: the next four octets from it; zeros
    #: where there are fewer.
    DATA    = 0x0
    #: Read: the next octet from the machine, in the lowest eight bits.
    OCTET   = 0x4
    #: Read: octets that wait to be read.
    WAITING = 0x8
    #: Read: octets that may be written.
    ROOM    = 0xC
