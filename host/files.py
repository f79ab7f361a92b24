"""Files: texts that are read, results that are written whole or not at all, and where they are kept."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from terngen.host.errors import InputError, OutputError

__all__ = ["cache_dir", "check_folder", "output_folder", "read_text", "replacing", "write_folder"]


def cache_dir() -> Path:
    """Folder of everything that can be made again: ``TERNGEN_CACHE_DIR``, or ``~/.cache/terngen``."""
    return Path(os.environ.get("TERNGEN_CACHE_DIR") or Path.home() / ".cache" / "terngen")


def read_text(path: str | os.PathLike[str], *, encoding: str = "utf-8") -> str:
    """A text file, octet by octet as it is.

    Raises
    ------
    InputError
        If it cannot be read, or is not in this encoding.
    """
    try:
        return Path(path).read_bytes().decode(encoding)
    except OSError as error:
        raise InputError(f"Text {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"Text {path} must be {encoding.upper()}, but at octet {error.start} it is not: "
                         f"{error.reason}") from error


@contextlib.contextmanager
def _writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors of the system are errors about the output `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _folder(prefix: str, place: Path) -> Iterator[Path]:
    """A folder that is gone afterwards, also when whoever waits for that interrupts it once."""
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        yield folder
    finally:
        if folder is not None:
            try:
                shutil.rmtree(folder)
            except KeyboardInterrupt:
                shutil.rmtree(folder, ignore_errors=True)
                raise


def _beside(target: Path) -> contextlib.AbstractContextManager[Path]:
    if target.exists() and not target.is_file():
        raise OSError(None, "It is not a file")
    return _folder(f".{target.name}.", target.parent)


@contextlib.contextmanager
def output_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty folder beside `path`, in which its contents are prepared; it is gone afterwards.

    Raises
    ------
    OutputError
        If the system refuses something, in here or in the body: no space, no permission.
    """
    with _writing(path), _beside(Path(path)) as folder:
        yield folder


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file that takes its place at `path` when the body ends, and only then.

    A link stays a link to the new file; a device or a pipe is written to as it is.

    Raises
    ------
    OutputError
        As :func:`output_folder`.
    """
    target = Path(path).resolve()
    with _writing(path):
        if target.is_char_device() or target.is_fifo():
            with open(target, "wb") as file:
                yield file
            return
        with _beside(target) as folder:
            complete = folder / "complete"
            with open(complete, "wb") as file:
                yield file
            os.replace(complete, target)


def check_folder(path: str | os.PathLike[str]) -> None:
    """Find out whether a folder could be made and written, without making it.

    Raises
    ------
    OutputError
        If not.
    """
    place = Path(path).absolute()
    with _writing(path):
        while not place.exists() and place != place.parent:
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            pass


def write_folder(path: str | os.PathLike[str], files: Mapping[str, bytes]) -> None:
    """Put files into a folder, which may exist; each appears whole, and the last one last.

    Raises
    ------
    OutputError
        If something of it cannot be written.
    """
    target = Path(path)
    *_, last = files
    with _writing(path):
        target.mkdir(parents=True, exist_ok=True)
        with _folder(".writing.", target) as folder:
            for name, octets in files.items():
                (folder / name).write_bytes(octets)
            # The last file describes the others, so that it must not stand beside foreign ones.
            (target / last).unlink(missing_ok=True)
            for name in files:
                os.replace(folder / name, target / name)
