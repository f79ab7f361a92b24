"""A board behind a serial port."""

import inspect
from typing import Any, Self

from terngen.host.errors import ConfigError, LinkError, ToolError
from terngen.host.link import FrameTransport
from terngen.hw.contract.config import Config

__all__ = ["BAUD", "SerialPipe", "SerialTransport"]

#: What boards have where nothing else is said.
BAUD = 3_000_000


class SerialPipe:
    """A serial port, which nobody else may have.

    Parameters
    ----------
    port : :class:`str`
        Its device file, or an address as pyserial has it.
    baud : :class:`int`
        Bits in a second.

    Raises
    ------
    LinkError
        If it cannot be opened.
    ToolError
        If pyserial is missing.
    """

    def __init__(self, port: str, *, baud: int = BAUD):
        try:
            import serial
        except ImportError as error:
            raise ToolError("Package pyserial is missing; install it with `pip install pyserial`") from error
        self.description = f"board at {port}"
        self._gone       = (serial.SerialException, OSError)
        try:
            self._port = serial.serial_for_url(port, baudrate=baud, timeout=0, write_timeout=2.0, exclusive=True)
        except (*self._gone, ValueError) as error:
            raise LinkError(f"Serial port {port} cannot be opened: {_reason(error)}") from error
        # What an earlier session has left on its way.
        self._port.reset_input_buffer()

    def send(self, octets: bytes) -> None:
        """See :class:`~terngen.host.transport.BytePipe`."""
        try:
            self._port.write(octets)
        except self._gone as error:
            raise LinkError(f"{self.description} must take what is sent, but {_reason(error)}") from error

    def receive(self, max_octets: int, timeout: float) -> bytes:
        """See :class:`~terngen.host.transport.BytePipe`."""
        try:
            self._port.timeout = timeout
            first = self._port.read(1)
            # What has come by now, and no waiting for more.
            return bytes(first + self._port.read(min(self._port.in_waiting, max_octets - 1))) if first else b""
        except self._gone as error:
            raise LinkError(f"{self.description} is gone: {_reason(error)}") from error

    def close(self) -> None:
        """Let go of the port."""
        self._port.close()


def _reason(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    if isinstance(error, PermissionError) or number == 13:
        return ("permission denied; on Debian and Ubuntu the group dialout may use serial ports "
                "(usermod -aG dialout USER, then log in again)")
    if number == 2:
        return "there is none of that name; is the board plugged in?"
    return str(error)


class SerialTransport(FrameTransport):
    """A board behind a serial port.

    Parameters
    ----------
    port : :class:`str`
    baud : :class:`int`
        See :class:`SerialPipe`.

    Raises
    ------
    LinkError
        If the port cannot be opened, or there is no machine behind it.
    """

    #: Requests on their way at once. A machine holds two; writes it takes as fast as the line brings them, so that
    #: more of those can wait in the adapters between, which hand on answers only every few milliseconds.
    READS, WRITES = 2, 16
    #: Seconds after which something is sent again: more than all writes take at 3 Mbaud, and an adapter's 16 ms.
    PATIENCE = 0.25

    def __init__(self, port: str, *, baud: int = BAUD):
        pipe = SerialPipe(port, baud=baud)
        try:
            super().__init__(pipe, window=self.READS, writes=self.WRITES, patience=self.PATIENCE)
        except BaseException:
            pipe.close()
            raise

    @classmethod
    def open(cls, config: Config, **options: Any) -> Self:
        """The board at ``place``: ``/dev/ttyUSB0``, or ``/dev/ttyUSB0@115200``.

        Raises
        ------
        ConfigError
            If no port is given, or an option is unknown or refused.
        """
        if not (place := options.pop("place", "")):
            raise ConfigError("Device serial must have a port, like serial:/dev/ttyUSB0")
        port, at, rate = place.rpartition("@")
        if at:
            try:
                options["baud"] = int(rate)
            except ValueError as error:
                raise ConfigError(f"Rate of a serial port must be a number of baud, not {rate!r}") from error
        known = [name for name in inspect.signature(cls).parameters if name != "port"]
        for name in options:
            if name not in known:
                raise ConfigError(f"Serial port has no option {name!r}; it has {', '.join(known)}")
        return cls(port if at else place, **options)
