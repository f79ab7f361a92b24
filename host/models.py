"""Models as the command line takes them: a tape, or a checkpoint that becomes one."""

import hashlib
import os
from pathlib import Path
from typing import Any

from terngen.host import configs
from terngen.host.compile import Progress, compile_tape
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.convert.geometry import Geometry
from terngen.host.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    OutputError,
    TapeError,
    quote,
)
from terngen.host.files import cache_dir
from terngen.hw.contract import tape as contract
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Mark, Tape, TapeFormatError

__all__ = ["open_checkpoint", "open_geometry", "open_model", "open_tape", "tokenizer_of"]

#: Facts of the model that a driver needs, all of them integers.
_FACTS = ("vocab_size", "hidden_size", "state_size", "intermediate_size", "num_hidden_layers",
          "embedding_start", "embedding_beats", "ternary_weights")


def open_checkpoint(path: str | os.PathLike[str], *, purpose: str = "This") -> Checkpoint:
    """The checkpoint in a folder.

    Parameters
    ----------
    purpose
        What needs it, the beginning of a sentence.

    Raises
    ------
    InputError
        If `path` is a file; a tape has no weights in float.
    CheckpointError
        As :meth:`Checkpoint.open`.
    """
    if Path(path).is_file():
        raise InputError(f"{purpose} needs the checkpoint folder, because a tape has lost the "
                         f"weights in float; {path} is a file")
    return Checkpoint.open(Path(path))


def open_tape(path: str | os.PathLike[str]) -> Tape:
    """An intact tape, with all facts that a driver needs.

    Raises
    ------
    TapeError
        If the file is not a tape, or is truncated or damaged.
    """
    try:
        tape = Tape.open(path)
    except TapeFormatError as error:
        raise TapeError(str(error)) from error
    except OSError as error:
        raise TapeError(f"{path} cannot be read: {error.strerror or error}") from error
    _check_model(path, tape)
    return tape


def _check_model(path: str | os.PathLike[str], tape: Tape) -> None:
    """Hold the facts of the model against the image, so that no driver stumbles over them."""
    model = tape.model
    if not isinstance(model.get("name"), str):
        raise TapeError(f"{path} must give name of its model as a text, not {quote(model.get('name'))}")
    for name in _FACTS:
        if type(model.get(name)) is not int or model[name] < 0:
            raise TapeError(f"{path} must give {name} of its model as a number, "
                            f"not {quote(model.get(name))}")
    for name in ("bos_token_id", "eos_token_id"):
        token = model.get(name)
        if name not in model or not (token is None or type(token) is int
                                     and 0 <= token < model["vocab_size"]):
            raise TapeError(f"{path} must give {name} of its model as null or a token below "
                            f"{model['vocab_size']}, not {quote(token)}")
    if not 0 < model["hidden_size"] <= tape.config.hidden:
        raise TapeError(f"{path} has residual vectors of {model['hidden_size']}, its machine "
                        f"{tape.config.hidden}")
    if model["embedding_beats"] < tape.config.embedding_beats(model["hidden_size"]):
        raise TapeError(f"{path} has embedding rows of {model['embedding_beats']} beats, the model "
                        f"needs {tape.config.embedding_beats(model['hidden_size'])}")
    embedding = Mark(model["embedding_start"], model["vocab_size"] * model["embedding_beats"])
    if embedding.start + embedding.count > tape.beats:
        raise TapeError(f"{path} has an embedding up to beat {embedding.start + embedding.count}, "
                        f"but {tape.beats} beats")
    tiles = max(1, -(-model["vocab_size"] // tape.config.rows))
    for index in range(tiles):
        if f"head.{index}" not in tape.marks:
            raise TapeError(f"{path} has no mark 'head.{index}'; {model['vocab_size']} tokens need "
                            f"{tiles} of them")


def open_model(path: str | os.PathLike[str], *, config: str | os.PathLike[str] | Config | None = None,
               progress: Progress = lambda what, done, total: None, **changes: Any) -> Tape:
    """The tape of a model.

    A checkpoint folder is converted, and kept in the cache under everything that decides about the
    result: its files (weights by place, size and times, the others by content), the configuration,
    and the program itself.

    Parameters
    ----------
    path
        Tape file, or checkpoint folder.
    config
        Machine, see :func:`~terngen.host.configs.read_config`; for a tape it must be the one it was made for.
    changes
        Values instead of those of `config`, where they are not None.

    Raises
    ------
    InputError
        If there is nothing at `path`, or it is neither.
    ConfigError
        If the model does not fit the machine, or a tape was made for another one.
    OutputError
        If the cache cannot be written.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no tape and no checkpoint folder at {path}")
    if path.is_dir():
        checkpoint = Checkpoint.open(path)
        machine    = configs.model_config(checkpoint.geometry, config or configs.DEFAULT, **changes)
        return _converted(checkpoint, machine, progress)
    tape  = open_tape(path)
    given = {name: value for name, value in changes.items() if value is not None}
    for values in ({} if config is None else configs.read_config(config), given):
        _same_machine(path, tape, configs.from_values(tape.config.to_dict() | values))
    return tape


def open_geometry(path: Path, config: str | os.PathLike[str] | Config | None = None) -> tuple[Geometry, Config]:
    """The sizes of a model, and a machine for it; of a checkpoint its config.json is enough.

    Raises
    ------
    InputError, ConfigError
        As :func:`open_model`.
    """
    if not path.exists():
        raise InputError(f"There is no tape and no checkpoint folder at {path}")
    if not path.is_dir():
        raise InputError(f"Operations are counted of a checkpoint folder or a published size, not of a tape; {path} is "
                         f"a file")
    geometry = Checkpoint.open(path).geometry
    return geometry, configs.model_config(geometry, config or configs.DEFAULT)


def _same_machine(path: Path, tape: Tape, wanted: Config) -> None:
    if tape.config.digest == wanted.digest:
        return
    ours, theirs = wanted.to_dict(), tape.config.to_dict()
    differing = ", ".join(f"{name} = {theirs[name]} instead of {value}"
                          for name, value in ours.items() if theirs[name] != value)
    raise ConfigError(f"Tape {path} was made for another machine ({tape.config.digest.hex()}: "
                      f"{differing}); convert the checkpoint for {wanted.digest.hex()}")


def _converted(checkpoint: Checkpoint, config: Config, progress: Progress) -> Tape:
    folder = cache_dir() / "tapes"
    label  = "".join(letter if letter.isalnum() or letter in "-_." else "-"
                     for letter in checkpoint.folder.resolve().name)[:64]
    path   = folder / f"{label}-{_key(checkpoint, config)[:32]}.tape"
    if path.exists():
        try:
            return open_tape(path)
        except TapeError:
            pass        # damaged on the disk; what follows replaces it
    try:
        folder.mkdir(parents=True, exist_ok=True)
        compile_tape(checkpoint, config, path, name=label, tokenizer=tokenizer_of(checkpoint),
                     progress=progress)
    except (OSError, OutputError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OutputError(f"Converted tapes are kept in {folder}, which fails: {reason}; set "
                          f"TERNGEN_CACHE_DIR to a folder with space") from error
    return open_tape(path)


def tokenizer_of(checkpoint: Checkpoint) -> bytes:
    """Contents of ``tokenizer.json``; nothing if there is none.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    if checkpoint.tokenizer is None:
        return b""
    try:
        return checkpoint.tokenizer.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{checkpoint.tokenizer} cannot be read: "
                              f"{error.strerror or error}") from error


def _key(checkpoint: Checkpoint, config: Config) -> str:
    """Name of a conversion in the cache."""
    digest = hashlib.sha256(config.digest + contract.VERSION.to_bytes(4, "little"))

    def add(octets: bytes) -> None:
        digest.update(len(octets).to_bytes(8, "little") + octets)

    add(repr(checkpoint.geometry).encode())
    add(tokenizer_of(checkpoint))
    for path in checkpoint.weight_files:
        status = path.stat()
        add(f"{path.resolve()} {status.st_ino} {status.st_size} {status.st_mtime_ns} "
            f"{status.st_ctime_ns}".encode())
    # The program: the same file must not be taken for the result of another conversion.
    here = Path(__file__).parent
    for source in [here / "compile.py", *sorted((here / "convert").glob("*.py")),
                   *sorted(Path(contract.__file__).parent.glob("*.py"))]:
        add(source.read_bytes())
    return digest.hexdigest()
