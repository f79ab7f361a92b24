"""What workers do in the tests. A task is text: what to do, and a folder with something behind it."""

import hashlib
import os
import signal
import time
from pathlib import Path

from terngen.host.errors import ToolError


def fast(task):
    """Octets that depend on the task alone."""
    return hashlib.sha256(task).digest()


def noted(task):
    """The same, with a note of each time that it was computed."""
    folder, number = task.decode().split()
    with open(Path(folder, f"{number}.{os.getpid()}.{time.time_ns()}"), "w"):
        time.sleep(0.02)
    return fast(number.encode())


def spent(task):
    """Uses a processor for so many hundredths of a second."""
    end = time.process_time() + int(task) / 100
    while time.process_time() < end:
        pass
    return task


def dies_once(task):
    """The worker dies, unless a file says that one did."""
    path = Path(task.decode())
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return b"done"


def dies(task):
    """A worker that gets the task ``die`` dies."""
    if task == b"die":
        os.kill(os.getpid(), signal.SIGKILL)
    return fast(task)


def fails(task):
    raise ToolError(f"Tool failed on {task.decode()}")


def breaks(task):
    raise ZeroDivisionError(task)


def sleeps(task):
    """Says who it is and sleeps, with a tool that does the same."""
    import subprocess
    tool = subprocess.Popen(["sleep", "1000"])
    path = Path(task.decode())
    path.with_suffix(".partial").write_text(f"{os.getpid()} {tool.pid}")
    path.with_suffix(".partial").replace(path)
    tool.wait()
    return b""
