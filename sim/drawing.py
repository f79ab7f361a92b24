"""Plots, which are the same file whenever the figures are the same."""

from pathlib import Path
from typing import Any

from terngen.host.errors import OutputError, ToolError

__all__ = ["pyplot", "save"]

#: What a format says about time, which is left out.
_DATES = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def pyplot() -> Any:
    """``matplotlib.pyplot``, for files.

    Raises
    ------
    ToolError
        If matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ToolError("Plots need matplotlib, which is not installed; `pip install 'terngen[plot]'` installs "
                        "it") from error
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "terngen"
    from matplotlib import pyplot as module
    return module


def save(figure: Any, path: Path) -> None:
    """Write a figure, and let go of it.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    try:
        figure.savefig(path, metadata=_DATES.get(path.suffix))
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        pyplot().close(figure)
