"""``terngen program``."""

from pathlib import Path
from typing import Any

import click

from terngen.host.commands.options import json_option

__all__ = ["program"]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--flash", is_flag=True,
              help="Into the flash memory of the board, from which it starts, instead of for as long as it has power.")
@click.option("--dry-run", is_flag=True, help="Only print the command.")
@json_option
def program(folder: Path, flash: bool, dry_run: bool, as_json: bool) -> None:
    """Put the bitstream that `terngen build` made into its board, with openFPGALoader or the board's own program."""
    import shlex
    import shutil
    import subprocess

    from terngen.host.commands.building import chosen
    from terngen.host.commands.console import emit, note
    from terngen.host.errors import ConfigError, ToolError

    manifest  = _manifest(folder)
    choice    = chosen(manifest["board"])
    bitstream = _bitstream(folder, manifest)
    words     = choice.board.programmer(str(bitstream), flash)
    if words is None:
        raise ConfigError(f"Board {choice.board.name} is programmed with its maker's tools, from {folder}")
    if dry_run:
        return emit(as_json, {"command": words}, [shlex.join(words)])
    if shutil.which(words[0]) is None:
        raise ToolError(f"Program {words[0]} is missing; install it (Debian and Ubuntu: apt-get install "
                        f"{words[0].lower()}), or run this where it is: {shlex.join(words)}")
    note(shlex.join(words))
    code = subprocess.run(words, check=False, stdin=subprocess.DEVNULL).returncode
    if code:
        raise ToolError(f"Program {words[0]} failed with status {code}; is the board plugged in, and may you use it "
                        f"(udev rules of {words[0]})?")
    emit(as_json, {"command": words, "digest": manifest["digest"]}, [f"{choice.board.title} has {bitstream}"])


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a build."""
    import json

    from terngen.host.errors import InputError, quote

    path = folder / "manifest.json"
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}; `terngen build` makes it") from error
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} must be the manifest of a build, in JSON: {error}") from error
    if not (isinstance(found, dict) and isinstance(found.get("board"), str) and isinstance(found.get("digest"), str)
            and isinstance(found.get("files"), list)):
        raise InputError(f"{path} must be the manifest of a build, with board, digest and files, not {quote(found)}")
    return found


def _bitstream(folder: Path, manifest: dict[str, Any]) -> Path:
    """The bitstream of a build, as it was made."""
    import hashlib

    from terngen.host.errors import InputError

    for file in manifest["files"]:
        if isinstance(file, dict) and str(file.get("name")).endswith((".bit", ".bin", ".fs")):
            path = folder / Path(file["name"]).name
            try:
                octets = path.read_bytes()
            except OSError as error:
                raise InputError(f"Bitstream {path} cannot be read: {error.strerror or error}") from error
            if hashlib.sha256(octets).hexdigest() != file.get("sha256"):
                raise InputError(f"Bitstream {path} must be what the manifest says, but its sum differs; build it "
                                 f"again")
            return path
    raise InputError(f"{folder / 'manifest.json'} names no bitstream; `terngen build` makes one")
