"""Arrays in files: tokens that come in, logits that go out."""

import contextlib
import os
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from terngen.host.errors import InputError
from terngen.host.files import replacing

__all__ = ["check_tokens", "logits_file", "read_tokens"]


def read_tokens(path: str | os.PathLike[str]) -> NDArray[np.int64]:
    """Tokens from a ``.npy`` file: int64, ``(T,)`` or ``(B, T)``.

    Raises
    ------
    InputError
        If the file is missing, truncated or of another kind, or the array of another type or shape.
    """
    try:
        with open(path, "rb") as file:
            begin = file.read(len(np.lib.format.MAGIC_PREFIX))
        if begin != np.lib.format.MAGIC_PREFIX:
            raise InputError(f"Tokens {path} must be a .npy file, but it begins with {begin!r}")
        # As a map, so that the size of the file is checked before memory is touched.
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise InputError(f"Tokens {path} cannot be read: {error.strerror or error}") from error
    except (EOFError, OverflowError, SyntaxError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"Tokens {path} must be an intact .npy file: {reason}") from error
    if stored.dtype != np.int64:
        raise InputError(f"Tokens {path} must be int64, not {stored.dtype}; convert them with "
                         f"astype(\"int64\")")
    if stored.ndim not in (1, 2) or stored.size == 0:
        raise InputError(f"Tokens {path} must have shape (T,) or (B, T) with at least one token, "
                         f"not {stored.shape}")
    return np.array(stored)


def check_tokens(tokens: NDArray[np.int64], vocab: int) -> None:
    """Hold tokens against a vocabulary.

    Raises
    ------
    InputError
        If a token is not in it; the message says which, and where.
    """
    foreign = np.argwhere((tokens < 0) | (tokens >= vocab))
    if len(foreign):
        place = tuple(int(index) for index in foreign[0])
        raise InputError(f"Token must be from 0 to {vocab - 1}, not {tokens[place]} at place "
                         f"{', '.join(map(str, place))}")


@contextlib.contextmanager
def logits_file(path: str | os.PathLike[str], shape: tuple[int, ...]
                ) -> Iterator[Callable[[NDArray[np.float32]], None]]:
    """A ``.npy`` file of float32 that is written row after row, and appears when it is complete.

    Yields
    ------
    callable
        Takes the next rows.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with replacing(path) as file:
        np.lib.format.write_array_header_1_0(file, {
            "descr": "<f4", "fortran_order": False, "shape": shape})

        def write(rows: NDArray[np.float32]) -> None:
            file.write(rows.astype("<f4").tobytes())

        yield write
