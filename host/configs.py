"""Configurations as the command line takes them: a name, or a file."""

import dataclasses
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from terngen.host.compile import check_fit
from terngen.host.convert.geometry import Geometry
from terngen.host.errors import ConfigError, quote
from terngen.hw.contract.config import BUFFERS, PRESETS, Config

__all__ = ["DEFAULT", "from_values", "like", "machine_config", "model_config", "read_config"]

#: The machine that is meant where none is named.
DEFAULT = "small"

#: Dots of a line of TOML, that is the depth of a key; no key of a machine has more than one.
_TOML_DOTS = 16


def read_config(name: str | os.PathLike[str] | Config) -> dict[str, Any]:
    """What a named machine, or a file of one, says: the keys of :meth:`Config.from_dict`.

    Parameters
    ----------
    name
        One of :data:`PRESETS`, a JSON or TOML file, or the manifest of a generated machine; or a machine.

    Raises
    ------
    ConfigError
        If there is no such machine, or the file describes none.
    """
    if isinstance(name, Config):
        return name.to_dict()
    if name in PRESETS:
        # Buffers of a preset are only a default: those that a model asks for come first.
        return PRESETS[str(name)].choices
    path = Path(name)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"There is no configuration {str(name)!r}, and no file of that name; "
                          f"there are {', '.join(PRESETS)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Configuration {path} cannot be read: {error}") from error
    try:
        if path.suffix != ".toml":
            values = json.loads(text)
        elif any(line.count(".") > _TOML_DOTS for line in text.splitlines()):
            raise ValueError(f"Lines must have at most {_TOML_DOTS} dots")      # tomllib takes their square
        else:
            values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"Configuration {path} must be JSON, or TOML in a .toml file: "
                          f"{error}") from error
    if isinstance(values, dict) and isinstance(values.get("config"), dict):
        values = values["config"]       # a manifest
    if not isinstance(values, dict):
        raise ConfigError(f"Configuration {path} must be an object, not {quote(values)}")
    from_values(values)
    return values


def from_values(values: Mapping[str, Any]) -> Config:
    """The configuration that `values` describe, see :meth:`Config.from_dict`.

    Raises
    ------
    ConfigError
        If they describe none.
    """
    try:
        return Config.from_dict(values)
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"Configuration is refused: {error}") from error


def _given(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in changes.items() if value is not None}


def machine_config(name: str | os.PathLike[str] = DEFAULT, **changes: Any) -> Config:
    """A machine without a model: buffers have their defaults where they are not given.

    Raises
    ------
    ConfigError
        As :func:`read_config`, or if a value is refused.
    """
    return from_values(read_config(name) | _given(changes))


def model_config(geometry: Geometry, name: str | os.PathLike[str] | Config = DEFAULT,
                 **changes: Any) -> Config:
    """A machine for a model: buffers are as large as it needs where they are not given.

    Parameters
    ----------
    changes
        Values instead of those of the configuration, where they are not None.

    Raises
    ------
    ConfigError
        As :func:`read_config`, or if a value is refused or the model does not fit.
    """
    values = read_config(name) | _given(changes)
    bare   = from_values({key: value for key, value in values.items() if key not in BUFFERS})
    try:
        sized = bare.sized(hidden=geometry.hidden_size, state=geometry.state_size,
                           intermediate=geometry.intermediate_size,
                           layers=geometry.num_hidden_layers)
        given  = {key: values[key] for key in BUFFERS if key in values}
        config = dataclasses.replace(sized, **given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"Configuration is refused: {error}") from error
    check_fit(geometry, config)
    return config


def like(other: Config, name: str | os.PathLike[str] | None = None, **changes: Any) -> Config:
    """Another machine again, or a named one with its buffers where they are not given.

    Raises
    ------
    ConfigError
        As :func:`read_config`, or if a value is refused.
    """
    values = other.to_dict()
    if name is not None:
        values = {key: values[key] for key in BUFFERS} | read_config(name)
    return from_values(values | _given(changes))
