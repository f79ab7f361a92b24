"""Models as the command line takes them: a tape, or a checkpoint that becomes one."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from terngen.host import configs
from terngen.host.chain import check_pieces
from terngen.host.compile import Progress, compile_pieces
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
from terngen.host.layout import Piece, cut
from terngen.hw.contract import tape as contract
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Mark, Tape, TapeFormatError

__all__ = ["open_checkpoint", "open_geometry", "open_model", "open_pieces", "open_tape", "piece_path", "tokenizer_of"]

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
    _check_piece(path, tape)
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
    embedding = Mark(model["embedding_start"], tape.rows * model["embedding_beats"])
    if embedding.start + embedding.count > tape.beats:
        raise TapeError(f"{path} has an embedding up to beat {embedding.start + embedding.count}, "
                        f"but {tape.beats} beats")
    piece = model.get("piece")
    tiles = max(1, -(-model["vocab_size"] // tape.config.rows))
    for index in range(tiles if piece is None or piece["number"] == piece["pieces"] - 1 else 0):
        if f"head.{index}" not in tape.marks:
            raise TapeError(f"{path} has no mark 'head.{index}'; {model['vocab_size']} tokens need "
                            f"{tiles} of them")


def _check_piece(path: str | os.PathLike[str], tape: Tape) -> None:
    """Hold what a tape says of itself as a piece against what a chain of devices needs."""
    match tape.model.get("piece"):
        case None:
            return
        case {"number": int(number), "pieces": int(pieces), "family": str()} if 0 <= number < pieces:
            if number and tape.config.embedding != tape.config.path:
                raise TapeError(f"{path} must take residual vectors in the format of the path ({tape.config.path}), "
                                f"not {tape.config.embedding_format}")
            if number < pieces - 1 and not tape.config.readable:
                raise TapeError(f"{path} must be for a machine whose residual vectors can be read, because another "
                                f"piece needs them")
        case other:
            raise TapeError(f"{path} must give number, pieces and family of its piece, not {quote(other)}")


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
        [tape] = _converted(checkpoint, machine, 1, progress)
        return tape
    tape  = open_tape(path)
    given = {name: value for name, value in changes.items() if value is not None}
    for values in ({} if config is None else configs.read_config(config), given):
        _same_machine(path, tape, configs.from_values(tape.config.to_dict() | values))
    return tape


def open_pieces(paths: Sequence[str | os.PathLike[str]], count: int, *,
                config: str | os.PathLike[str] | Config | None = None,
                progress: Progress = lambda what, done, total: None, **changes: Any) -> list[Tape]:
    """The tapes of a model for so many devices.

    Parameters
    ----------
    paths
        The pieces of a model, in order; or its checkpoint folder, which is then cut.

    Raises
    ------
    InputError, ConfigError, OutputError
        As :func:`open_model`, or if the tapes do not belong together.
    """
    if len(paths) == 1 and Path(paths[0]).is_dir():
        checkpoint = Checkpoint.open(Path(paths[0]))
        machine    = configs.model_config(checkpoint.geometry, config or configs.DEFAULT, **changes)
        return _converted(checkpoint, machine, count, progress)
    for path in paths:
        if Path(path).is_dir():
            raise InputError(f"Several models must be the tapes of its pieces; {path} is a folder, which must be given "
                             f"alone")
    tapes = [open_model(path, config=config, progress=progress, **changes) for path in paths]
    check_pieces(tapes)
    if count not in (1, len(tapes)):
        raise ConfigError(f"A model of {len(tapes)} pieces needs as many devices, or one kind for all of them, "
                          f"not {count}")
    return tapes


def piece_path(path: Path, piece: Piece) -> Path:
    """Where the tape of a piece lies, if that of the whole model lay at `path`: ``model.1of2.tape``."""
    return path.with_suffix(f".{piece.number + 1}of{piece.pieces}{path.suffix}") if piece.pieces > 1 else path


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


def _converted(checkpoint: Checkpoint, config: Config, count: int, progress: Progress) -> list[Tape]:
    folder = cache_dir() / "tapes"
    label  = "".join(letter if letter.isalnum() or letter in "-_." else "-"
                     for letter in checkpoint.folder.resolve().name)[:64]
    whole  = folder / f"{label}-{_key(checkpoint, config)[:32]}.tape"
    paths  = {piece: piece_path(whole, piece) for piece in cut(checkpoint.geometry, config, count)}
    if all(path.exists() for path in paths.values()):
        try:
            tapes = [open_tape(path) for path in paths.values()]
            check_pieces(tapes)
            return tapes
        except (ConfigError, TapeError):
            pass        # damaged on the disk; what follows replaces it
    try:
        folder.mkdir(parents=True, exist_ok=True)
        compile_pieces(checkpoint, config, paths, name=label, tokenizer=tokenizer_of(checkpoint), progress=progress)
    except (OSError, OutputError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OutputError(f"Converted tapes are kept in {folder}, which fails: {reason}; set "
                          f"TERNGEN_CACHE_DIR to a folder with space") from error
    return [open_tape(path) for path in paths.values()]


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
    for source in [here / "compile.py", here / "layout.py", *sorted((here / "convert").glob("*.py")),
                   *sorted(Path(contract.__file__).parent.glob("*.py"))]:
        add(source.read_bytes())
    return digest.hexdigest()
