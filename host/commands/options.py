"""Options that several commands have."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import click

from terngen.host.configs import DEFAULT
from terngen.hw.contract.config import Sites

__all__ = ["Multipliers", "config_option", "device_option", "devices_option", "json_option", "model_argument",
           "models_argument", "multiplier_option", "optional_model_argument", "plot_option", "seed_option",
           "simulation_options", "slots_option", "split_option", "temperature_option", "text_option"]

model_argument = click.argument("model", metavar="CKPT_OR_TAPE", type=click.Path(path_type=Path))

models_argument = click.argument("models", metavar="CKPT_OR_TAPE...", nargs=-1, required=True,
                                 type=click.Path(path_type=Path))

optional_model_argument = click.argument("model", metavar="[CKPT_OR_TAPE]", required=False,
                                         type=click.Path(path_type=Path))

config_option = click.option(
    "--config", metavar="NAME_OR_FILE",
    help=f"Machine: a preset, a JSON or TOML file, or the manifest of a generated one.  "
         f"[default: {DEFAULT}, or that of the tape]")

class _Split(click.ParamType):
    """How many pieces, or the layers of each."""

    name = "split"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        parts = str(value).split(",")
        if not all(part.isascii() and part.isdigit() and 0 < int(part) for part in parts):
            self.fail(f"Split must be a number of pieces, or a list with the layers of each, not {value!r}.", param,
                      ctx)
        return int(parts[0]) if len(parts) == 1 else [int(part) for part in parts]


split_option = click.option(
    "--split", type=_Split(), metavar="N",
    help="Cut the model by layers into N pieces, one for each device; or into pieces of as many layers as a list like "
         "13,11 says.")

slots_option = click.option("--slots", type=click.IntRange(min=1),
                            help="Slots of the machine, instead of what the configuration says.")


#: Names of multipliers by product, as a configuration has them.
Multipliers: TypeAlias = dict[str, str]


class _Multipliers(click.ParamType):
    """Multipliers of the products of a machine; becomes what a configuration says of them."""

    name = "multipliers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return Sites.parse(value).to_dict()
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


multiplier_option = click.option(
    "--multiplier", "sites", metavar="NAME", type=_Multipliers(),
    help="Multiplier of every element-wise product, instead of what the configuration says: exact, lmul, "
         "lmul-mitchell, lmul-unbiased or lmul-<offset>; or a list like recurrence=lmul,gate=lmul, in which the others "
         "are exact.")


def simulation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--memory`` and ``--waveform``."""
    command = click.option(
        "--waveform", metavar="FILE:FIRST-LAST",
        help="Write these cycles of the simulated machine to a .vcd file, counted from power-up.")(command)
    return click.option(
        "--memory", metavar="LIST",
        help="Timing of the simulated tape memory, a list of latency=N, jitter=N, rate=N/D, row_beats=N, "
             "row_pause=N, refresh_period=N, refresh_pause=N, stall=SHARE and channels=N, with commas between "
             "them; it may begin with sdr, or a chip like sdram:IS42S16160G-7@80.")(command)


json_option = click.option("--json", "as_json", is_flag=True,
                           help="Print one JSON object on stdout.")


#: Devices of which there is only one.
_PLACELESS = ("golden", "reference")


class _Device(click.ParamType):
    """A kind of device; what stands behind a colon says more about it."""

    name = "device"

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self._kinds = kinds

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        kind, colon, _ = value.partition(":")
        if kind not in self._kinds:
            self.fail(f"Device must be one of {', '.join(self._kinds)}, not {value!r}.", param, ctx)
        if colon and kind in _PLACELESS:
            self.fail(f"Device {kind} has nothing to choose from, so it must stand alone, not "
                      f"{value!r}.", param, ctx)
        return value

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "[" + "|".join(self._kinds) + "]"


def devices_option(*kinds: str) -> Callable[[Any], Any]:
    """``--device``, once for each piece of the model; the first kind is the default."""
    return click.option("--device", "devices", type=_Device(kinds), multiple=True, default=[kinds[0]],
                        show_default=True, help="What computes; given more than once, the model is cut by layers into "
                                                "as many pieces, and each device has one.")


def device_option(*kinds: str) -> Callable[[Any], Any]:
    """``--device``; the first kind is the default."""
    return click.option("--device", type=_Device(kinds), default=kinds[0], show_default=True,
                        help="What computes.")


class _Plot(click.Path):
    """A file whose suffix says what is drawn."""

    suffixes = (".svg", ".png", ".pdf")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if path.suffix not in self.suffixes:
            self.fail(f"Plot must be a file that ends in {', '.join(self.suffixes)}, not {str(value)!r}.", param, ctx)
        # What is missing is told before what takes long.
        from terngen.sim.drawing import pyplot
        pyplot()
        return path


plot_option = click.option("--plot", "plot_file", type=_Plot(path_type=Path), metavar="FILE",
                           help="Draw the figures into a .svg, .png or .pdf file.")


def text_option(*, required: bool, help: str) -> Callable[[Any], Any]:
    """``--text``."""
    return click.option("--text", "text_file", type=click.Path(path_type=Path), required=required,
                        help=help)


class _Temperature(click.ParamType):
    """A finite number, zero or more."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            self.fail(f"Temperature must be a number, zero or more, not {value!r}.", param, ctx)
        return number


def temperature_option(default: float) -> Callable[[Any], Any]:
    """``--temperature``."""
    return click.option("--temperature", type=_Temperature(), default=default, show_default=True,
                        help="0 takes the best token, 1 follows the model.")


def seed_option(default: int) -> Callable[[Any], Any]:
    """``--seed``."""
    return click.option("--seed", type=click.IntRange(min=0), default=default, show_default=True,
                        help="Of the choice of tokens: equal seeds choose equally.")
