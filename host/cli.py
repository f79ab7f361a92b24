"""``terngen``, the command line.

Each command lives in a module of its own that is imported when it is asked for, and is a thin layer
over the Python interface: results go to stdout, progress to stderr, errors are one sentence and an
exit code of :mod:`terngen.host.errors`.
"""

import importlib
import io
import os
import signal
import sys
from typing import Any, NoReturn

import click

from terngen.host.errors import DeviceError

__all__ = ["cli", "main"]

#: Where each command is.
COMMANDS = {
    "accuracy":   "terngen.host.commands.accuracy:accuracy",
    "bench":      "terngen.host.commands.bench:bench",
    "boards":     "terngen.host.commands.boards:boards",
    "build":      "terngen.host.commands.build:build",
    "convert":    "terngen.host.commands.convert:convert",
    "demo":       "terngen.host.commands.demo:demo",
    "disasm":     "terngen.host.commands.disasm:disasm",
    "doctor":     "terngen.host.commands.doctor:doctor",
    "energy":     "terngen.host.commands.energy:energy",
    "estimate":   "terngen.host.commands.estimate:estimate",
    "explore":    "terngen.host.commands.explore:explore",
    "generate":   "terngen.host.commands.generate:generate",
    "load":       "terngen.host.commands.load:load",
    "lmul":       "terngen.host.commands.lmul:lmul",
    "logits":     "terngen.host.commands.logits:logits",
    "normalise":  "terngen.host.commands.normalise:normalise",
    "perplexity": "terngen.host.commands.perplexity:perplexity",
    "program":    "terngen.host.commands.program:program",
    "report":     "terngen.host.commands.report:report",
    "run":        "terngen.host.commands.run:run",
    "selftest":   "terngen.host.commands.selftest:selftest",
    "serve":      "terngen.host.commands.serve:serve",
    "sim":        "terngen.host.commands.sim:sim",
    "synth":      "terngen.host.commands.synth:synth",
    "train":      "terngen.host.train.command:train",
}

#: A process that was interrupted, or whose reader went away, ends as if the signal had ended it.
INTERRUPTED = 128 + signal.SIGINT
TERMINATED  = 128 + signal.SIGTERM
NO_READER   = 128 + signal.SIGPIPE


class _Failure(click.ClickException):
    """An error that was raised on purpose."""

    def __init__(self, error: DeviceError) -> None:
        super().__init__(str(error))
        self.exit_code = error.exit_code    # type: ignore[misc]    # of the class, says click


class _Commands(click.Group):
    """Commands that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            # Here, where a full disk still has someone to tell.
            sys.stdout.flush()
        except DeviceError as error:
            raise _Failure(error) from error
        except KeyboardInterrupt:
            click.echo("Interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            _drop_stdout()
            ctx.exit(NO_READER)
        except OSError as error:
            if error.filename is not None:
                raise       # not about stdout
            from terngen.host.errors import OutputError
            _drop_stdout()
            raise _Failure(OutputError(f"Output cannot be written: {error.strerror}")) from error
        return result


def _drop_stdout() -> None:
    """Nothing may be written at exit any more."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError:     # not a file, as in a test
        return


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]},
             epilog="Exit codes: 0 done, 1 a defect of this program, 2 wrong usage, 3 a tool is "
                    "missing or failed, 4 it does not fit the machine, 5 timing is missed, 6 device "
                    "and golden model disagree, 7 link or device failed, 8 bad input, 9 output "
                    "cannot be written, 130 interrupted.")
@click.version_option(package_name="terngen", message="%(prog)s %(version)s")
def cli() -> None:
    """Accelerators for MatMul-free language models.

    Models are given as a folder in the public checkpoint format or as a .tape file. Results go to
    stdout, as one JSON object with --json; progress goes to stderr.
    """


def main() -> NoReturn:
    """Run the command line."""
    def terminate(number: int, frame: object) -> NoReturn:
        # As an exception, so that temporary files are removed on the way.
        raise SystemExit(TERMINATED)

    signal.signal(signal.SIGTERM, terminate)
    # Matrices of these models are too small to be worth two threads, and where others use the cores
    # as well, threads that wait for each other made the golden machine five times slower.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # A model may say what the terminal cannot show.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    cli.main(prog_name="terngen")
    raise SystemExit(0)
