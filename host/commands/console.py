"""What commands say: results on stdout, progress on stderr."""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click

__all__ = ["PATIENCE", "Progress", "emit", "note", "plural", "table", "working"]

#: Seconds after which something is worth a word.
PATIENCE = 2.0
#: Seconds between two lines where stderr is not a terminal.
_PERIOD = 5.0


def emit(as_json: bool, value: Any, lines: Iterable[str]) -> None:
    """Print a result: one JSON object, or lines for people."""
    if as_json:
        click.echo(json.dumps(value, allow_nan=False))
    else:
        for line in lines:
            click.echo(line)


def note(line: str) -> None:
    """Say something on stderr."""
    click.echo(line, err=True)


def plural(count: int, noun: str) -> str:
    """A count of things."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def table(rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Rows in aligned columns, the first to the left and the others to the right."""
    cells  = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join([row[0].ljust(len(first)), *others]).rstrip()


class Progress:
    """How far a task is, said on stderr when it takes longer than :data:`PATIENCE`.

    Called with what is being done, and how much is done of how much.
    """

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._said  = self._begin + PATIENCE - _PERIOD
        self._bar: Any = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, what: str, done: float, total: float) -> None:
        now = time.monotonic()
        if now - self._begin < PATIENCE:
            return
        if sys.stderr.isatty():
            if self._bar is None:
                from rich.console import Console
                from rich.progress import Progress as Bar
                self._bar = Bar(console=Console(stderr=True), transient=True)
                self._bar.start()
                self._task = self._bar.add_task(what, total=total)
            self._bar.update(self._task, description=what, completed=done, total=total)
        elif now - self._said >= _PERIOD:
            self._said = now
            note(f"{what}: {100 * done / max(total, 1):.0f} %")


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Something that cannot say how far it is."""
    if sys.stderr.isatty():
        from rich.console import Console
        with Console(stderr=True).status(what):
            yield
        return
    timer = threading.Timer(PATIENCE, note, [f"{what} ..."])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
