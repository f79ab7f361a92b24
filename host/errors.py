"""Errors of the host, and the exit codes that scripts rely on.

======  ==============================================================  =============================
code    meaning                                                         raised as
======  ==============================================================  =============================
0       the command did what it says
1       anything else: a defect of ours                                 any other exception
2       wrong usage of the command line                                 (by the argument parser)
3       a compiler or tool is missing                                   :class:`ToolError`
4       does not fit the machine, or is not supported by it             :class:`ConfigError`,
                                                                        :class:`UnsupportedError`
5       the design does not meet its timing                             :class:`TimingError`
6       a device and the golden model disagree                          :class:`GateError`
7       the link or the device failed                                   :class:`DeviceError`,
                                                                        :class:`LinkError`
8       an input file is bad: checkpoint, tape, tokens, text            :class:`InputError`,
                                                                        :class:`CheckpointError`,
                                                                        :class:`TapeError`
9       a result cannot be written: no space, no permission             :class:`OutputError`
130     interrupted from the keyboard
======  ==============================================================  =============================

The message of each is one sentence that names the thing, the rule and the value.
"""

import reprlib

__all__ = [
    "CheckpointError", "ConfigError", "DeviceError", "GateError", "InputError", "LinkError",
    "OutputError", "TapeError", "TimingError", "ToolError", "UnsupportedError", "quote",
]


class DeviceError(Exception):
    """What the host raises on purpose; the command line prints it and exits with `exit_code`."""

    #: Exit status of a command that ends with this error.
    exit_code = 7


class LinkError(DeviceError):
    """The link to a device is broken: no answer, a bad frame, a wrong checksum."""

    exit_code = 7


class ConfigError(DeviceError):
    """A configuration is inconsistent, or something does not fit it."""

    exit_code = 4


class ToolError(DeviceError):
    """A compiler or another program that is needed is missing or failed."""

    exit_code = 3


class TimingError(DeviceError):
    """A design was placed and routed but misses its clock."""

    exit_code = 5


class GateError(DeviceError):
    """A device and the golden model gave different numbers."""

    exit_code = 6


class InputError(DeviceError):
    """A file given by the user cannot be used as what it claims to be."""

    exit_code = 8


class OutputError(DeviceError):
    """A file or folder for results cannot be written."""

    exit_code = 9


class TapeError(InputError):
    """A tape is truncated, corrupted, foreign, or built for another configuration."""


class CheckpointError(InputError):
    """A checkpoint is missing, truncated, corrupted or in a format that is not read."""


class UnsupportedError(CheckpointError):
    """A checkpoint is sound, but its model asks for arithmetic that the machine does not have."""

    exit_code = 4


_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 100


def quote(value: object) -> str:
    """Show a value that came from outside in a message: on one line, at a bounded length."""
    return _repr.repr(value)
