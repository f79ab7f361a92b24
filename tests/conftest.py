"""What every test may rely on."""

import os
import signal
from pathlib import Path

import pytest

# As the command line does, and before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A shell ignores Ctrl-C in what it starts in the background, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the repository."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def make_tape(root, tmp_path_factory):
    """Makes the tape of a checkpoint for a machine, once."""
    from terngen.host.compile import compile_tape, default_config
    from terngen.host.convert.checkpoint import Checkpoint
    from terngen.hw.contract.tape import Tape

    made = {}

    def make(name, preset="small", **changes):
        key = repr((name, preset, changes))
        if key not in made:
            source = Checkpoint.open(root / name)
            path   = tmp_path_factory.mktemp("tapes") / "model.tape"
            compile_tape(source, default_config(source.geometry, preset, **changes), path)
            made[key] = Tape.open(path)
        return made[key]

    return make
