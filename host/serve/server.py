"""The server: a socket, the interface behind it, and how both end."""

import ipaddress
import socket
from types import FrameType

import uvicorn

from terngen.host.errors import ConfigError
from terngen.host.serve.api import Api
from terngen.host.serve.scheduler import Scheduler

__all__ = ["Server", "is_local", "listen"]

#: Connections at the same time; more are answered with 503.
_CONNECTIONS = 1000
#: Seconds that answers have to end after the server was told to.
_GRACE = 5


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A socket that waits for clients.

    Parameters
    ----------
    port
        Zero takes any that is free.

    Raises
    ------
    ConfigError
        If there is no such address, or somebody else has it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(f"Clients cannot be awaited at {host}, port {port}: {error.strerror or error}") from error


class Server(uvicorn.Server):
    """Serves until it is interrupted; the requests that are under way end with an error then.

    Parameters
    ----------
    scheduler : :class:`Scheduler`
    api : :class:`Api`
    """

    def __init__(self, scheduler: Scheduler, api: Api) -> None:
        self._scheduler = scheduler
        super().__init__(uvicorn.Config(
            api.application, log_config=None, log_level="warning", access_log=False, lifespan="off", http="h11",
            ws="none", server_header=False, proxy_headers=False, limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called when a signal arrives."""
        self._scheduler.stop()
        super().handle_exit(sig, frame)
