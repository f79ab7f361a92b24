"""A machine behind registers in the address space of the host: UIO on a Zynq, PCIe behind XDMA."""

import inspect
import mmap
import os
import time
from typing import Any, Protocol, Self

from terngen.host.errors import ConfigError, LinkError
from terngen.host.link import FrameTransport
from terngen.hw.contract.config import Config
from terngen.hw.contract.mailbox import ADDRESS_BITS, DEPTH, Register

__all__ = ["MailboxPipe", "MappedTransport", "Registers"]

#: Octets of a word of the bus.
_WORD = 4


class Registers(Protocol):
    """Where the registers are."""

    def read(self, register: Register) -> int:
        """A word."""

    def write(self, octets: bytes) -> None:
        """One octet or four to ``DATA``."""

    def close(self) -> None:
        """Let go of them."""


class _Mapped:
    """Registers in a device file that can be mapped."""

    def __init__(self, path: str, offset: int) -> None:
        try:
            file = os.open(path, os.O_RDWR | os.O_SYNC)
            try:
                self._map = mmap.mmap(file, (1 << ADDRESS_BITS) + offset % mmap.PAGESIZE,
                                      offset=offset - offset % mmap.PAGESIZE)
            finally:
                os.close(file)
        except (OSError, ValueError, OverflowError) as error:
            raise LinkError(f"Registers at {path} cannot be mapped: {getattr(error, 'strerror', None) or error}"
                            ) from error
        start = offset % mmap.PAGESIZE
        self._octets = memoryview(self._map)[start:start + (1 << ADDRESS_BITS)]
        self._words  = self._octets.cast("I")

    def read(self, register: Register) -> int:
        return self._words[register.value // _WORD]

    def write(self, octets: bytes) -> None:
        if len(octets) == _WORD:
            self._words[Register.DATA.value // _WORD] = int.from_bytes(octets, "little")
        else:
            [self._octets[Register.DATA.value]] = octets

    def close(self) -> None:
        self._words.release()
        self._octets.release()
        self._map.close()


class MailboxPipe:
    """The link of a machine through :mod:`~terngen.hw.contract.mailbox`.

    Parameters
    ----------
    registers : :class:`Registers`
    description : :class:`str`
        What is there, for messages.
    """

    #: Seconds between two looks, and after which a machine that takes nothing counts as dead.
    PAUSE, PATIENCE = 50e-6, 2.0

    def __init__(self, registers: Registers, description: str) -> None:
        self.description = description
        self._registers  = registers
        self._drain()

    def _drain(self) -> None:
        """What an earlier session has left."""
        for _ in range(DEPTH):
            if not self._registers.read(Register.WAITING):
                return
            self._registers.read(Register.OCTET)
        raise LinkError(f"{self.description} gives octets without end; are these the registers of a machine?")

    def send(self, octets: bytes) -> None:
        """See :class:`~terngen.host.transport.BytePipe`."""
        until = time.monotonic() + self.PATIENCE
        while octets:
            room = min(self._registers.read(Register.ROOM), len(octets), DEPTH)
            if not room:
                if time.monotonic() > until:
                    raise LinkError(f"{self.description} must take what is sent, but has taken nothing for "
                                    f"{self.PATIENCE:g} s")
                time.sleep(self.PAUSE)
                continue
            whole = room - room % _WORD
            for place in range(0, whole, _WORD):
                self._registers.write(octets[place:place + _WORD])
            for place in range(whole, room):
                self._registers.write(octets[place:place + 1])
            octets = octets[room:]
            until  = time.monotonic() + self.PATIENCE

    def receive(self, max_octets: int, timeout: float) -> bytes:
        """See :class:`~terngen.host.transport.BytePipe`."""
        until = time.monotonic() + timeout
        while not (waiting := min(self._registers.read(Register.WAITING), max_octets)):
            if time.monotonic() > until:
                return b""
            time.sleep(self.PAUSE)
        whole  = waiting - waiting % _WORD
        octets = b"".join(self._registers.read(Register.DATA).to_bytes(_WORD, "little")
                          for _ in range(0, whole, _WORD))
        return octets + bytes(self._registers.read(Register.OCTET) for _ in range(whole, waiting))

    def close(self) -> None:
        """Let go of the registers."""
        self._registers.close()


class MappedTransport(FrameTransport):
    """A machine behind registers.

    Parameters
    ----------
    path : :class:`str`
        Device file: ``/dev/uio0``, ``/dev/xdma0_user``.
    offset : :class:`int`
        Of the registers in it.

    Raises
    ------
    LinkError
        If they cannot be mapped, or there is no machine behind them.
    """

    def __init__(self, path: str, *, offset: int = 0):
        pipe = MailboxPipe(_Mapped(path, offset), f"machine at {path}")
        try:
            super().__init__(pipe, window=2)
        except BaseException:
            pipe.close()
            raise

    @classmethod
    def open(cls, config: Config, **options: Any) -> Self:
        """The machine at ``place``: ``/dev/uio0``, or ``/dev/xdma0_user@0x1000``.

        Raises
        ------
        ConfigError
            If no device file is given, or an option is unknown or refused.
        """
        if not (place := options.pop("place", "")):
            raise ConfigError("Device mmap must have a device file, like mmap:/dev/uio0")
        path, at, offset = place.rpartition("@")
        if at:
            try:
                options["offset"] = int(offset, 0)
            except ValueError as error:
                raise ConfigError(f"Offset of registers must be a number, not {offset!r}") from error
        known = [name for name in inspect.signature(cls).parameters if name != "path"]
        for name in options:
            if name not in known:
                raise ConfigError(f"Mapped registers have no option {name!r}; they have {', '.join(known)}")
        if options.get("offset", 0) < 0 or options.get("offset", 0) % _WORD:
            raise ConfigError(f"Offset of registers must be a multiple of {_WORD}, not {options['offset']}")
        return cls(path if at else place, **options)
