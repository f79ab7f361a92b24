"""What the driver needs of a device, whatever stands behind it."""

from typing import Protocol

__all__ = ["BytePipe", "Transport"]


class Transport(Protocol):
    """The address space of a device: 32-bit words at addresses counted in octets.

    Addresses and numbers of octets are multiples of four. A write of several words is made in
    ascending order, and everything written has arrived before the next read. Reading changes
    nothing. After a :class:`~terngen.host.errors.LinkError` the device is in an unknown state and
    has to be opened again.
    """

    @property
    def description(self) -> str:
        """What is behind it, in a few words, for messages."""

    def read(self, address: int, octets: int, *, timeout: float | None = None) -> bytes:
        """Read `octets` from `address` on.

        Parameters
        ----------
        timeout
            Seconds within which a word must come, where a register may let its reader wait.

        Raises
        ------
        LinkError
            If the device does not answer.
        """

    def write(self, address: int, octets: bytes) -> None:
        """Write `octets` from `address` on; they have arrived when this returns.

        Raises
        ------
        LinkError
            If the device does not answer.
        """

    def abort(self) -> None:
        """Stop whatever the device is doing; it is as after power-up, but for its tape memory.

        Also after a call that was broken off.

        Raises
        ------
        LinkError
            If the device does not answer.
        """

    def clock(self) -> float:
        """Seconds of the time in which the device works, from any moment on: those of a simulation are simulated."""

    def idle(self, seconds: float) -> bool:
        """Let so much of that time pass; False if the device does nothing meanwhile.

        Raises
        ------
        LinkError
            If the device is gone.
        """

    def close(self) -> None:
        """Let go of the device. Closing twice is no error."""


class BytePipe(Protocol):
    """A connection that carries octets both ways, and may lose or spoil some."""

    @property
    def description(self) -> str:
        """What is at the other end, in a few words, for messages."""

    def send(self, octets: bytes) -> None:
        """Hand over `octets`, without waiting for :meth:`receive` to be called.

        Raises
        ------
        LinkError
            If the connection is gone.
        """

    def receive(self, max_octets: int, timeout: float) -> bytes:
        """Octets that have come, at most `max_octets`; nothing if none come within `timeout` seconds.

        Raises
        ------
        LinkError
            If the connection is gone.
        """

    def close(self) -> None:
        """Let go of the connection. Closing twice is no error."""
