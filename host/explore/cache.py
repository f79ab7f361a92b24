"""Results that are kept by everything that they depend on."""

import contextlib
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from terngen.host.errors import OutputError

__all__ = ["Cache", "canonical", "key_of"]


def canonical(value: Any) -> bytes:
    """A value as JSON; equal values give equal octets."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def key_of(task: bytes) -> str:
    """Name of the result of a task, which says everything that it depends on."""
    return hashlib.sha256(task).hexdigest()


class Cache:
    """Results in a folder, each in a file that appears when it is complete.

    Parameters
    ----------
    folder : :class:`pathlib.Path`
        Where they are; it is made when the first comes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> bytes | None:
        """A result; None if there is none, or the file was damaged."""
        try:
            digest, octets = self._path(key).read_bytes().split(b"\n", 1)
        except (OSError, ValueError):
            return None
        return octets if hashlib.sha256(octets).hexdigest().encode() == digest else None

    def put(self, key: str, octets: bytes) -> None:
        """Keep a result.

        Raises
        ------
        OutputError
            If the folder cannot be written.
        """
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
                try:
                    file.write(hashlib.sha256(octets).hexdigest().encode() + b"\n" + octets)
                    file.close()
                    Path(file.name).replace(path)
                except OSError:
                    with contextlib.suppress(OSError):
                        Path(file.name).unlink()
                    raise
        except OSError as error:
            raise OutputError(f"Results are kept in {self._folder}, which fails: {error.strerror or error}; set "
                              f"TERNGEN_CACHE_DIR to a folder with space") from error

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key
