"""Machines for models, as the commands ask for them."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from terngen.host.convert.geometry import PUBLISHED, Geometry
from terngen.hw.contract.config import Config

__all__ = ["fitted", "fitted_geometry", "geometry_of", "geometry_options", "published", "source_of", "step_of"]

#: Attainment of the layers that is worth more lanes. That of the head is higher.
_ATTAINMENT = 0.97


def geometry_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--geometry``, and what may be changed of a machine."""
    for option in (
        click.option("--prefetch", type=click.IntRange(min=1), help="Beats that may be read ahead, in the same way."),
        click.option("--lanes", type=click.IntRange(min=1), help="Lanes of the vector unit, in the same way."),
        click.option("--row-lanes", type=click.IntRange(min=1), help="Rows of a matrix in a beat, in the same way."),
        click.option("--beat-bits", type=click.IntRange(min=1),
                     help="Width of the tape, instead of what the configuration says."),
        click.option("--geometry", type=click.Choice(list(PUBLISHED)),
                     help="A published size instead of a model. Without --config, the machine is one that keeps the "
                          "memory busy."),
    ):
        command = option(command)
    return command


def source_of(memory: str, *, exact: bool = True) -> Any:
    """Timing of a memory that is described as for the simulation.

    Parameters
    ----------
    exact : :class:`bool`
        Whether it must be all that decides about time; otherwise chance and channels are left out.

    Raises
    ------
    ConfigError
        If it is refused, or depends on chance and must be exact.
    """
    import dataclasses

    from terngen.host.errors import ConfigError
    from terngen.hw.estimate import Source
    from terngen.sim.memory import MemoryModel

    try:
        given = MemoryModel.parse(memory)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    plain = MemoryModel()
    for name in ("jitter", "stall", "channels"):
        if exact and (value := getattr(given, name)) != getattr(plain, name):
            raise ConfigError(f"Memory {name} cannot be estimated, so it must be left out, not {value}")
    values = dataclasses.asdict(given)
    return Source(**{field.name: values[field.name] for field in dataclasses.fields(Source)
                     if field.name in values})


def step_of(geometry: Geometry, machine: Config, source: Any, *, head: bool = True, piece: Any = None,
            active: int | None = None) -> Any:
    """What a step takes, see :func:`~terngen.hw.estimate.step`; every slot has the token whose row takes longest to
    find. Of the slots all take part unless `active` says how many; of the model all of it is played, or a `piece`."""
    from terngen.host.layout import layout_of
    from terngen.hw.estimate import step

    layout = layout_of(geometry, machine, piece)
    active = machine.slots if active is None else active
    names  = ("layers", "head") if head else ("layers",)
    parts  = [layout.marks[name] for name in names]
    items  = [item for name in names for item in layout.items[name]]
    return step(machine, [item.fields for item in items], active=active,
                tokens=dict.fromkeys(range(active), layout.rows - 1),
                hidden=geometry.hidden_size, embedding=(0, layout.row_beats), start=parts[0].start,
                count=sum(mark.count for mark in parts), source=source)


def published(name: str, config: str | None, changes: Mapping[str, Any], source: Any) -> tuple[Geometry, Config]:
    """A published size, and a machine for it: one that is given, or one that keeps the memory busy."""
    from terngen.host import configs

    values   = {"model_type": "hgrn_bit", **PUBLISHED[name]}
    geometry = Geometry.from_config(values)
    machine  = (fitted(values, changes, source) if config is None
                else configs.model_config(geometry, config, **changes))
    return geometry, machine


def geometry_of(model: str) -> Geometry:
    """The sizes of a checkpoint folder, or a published size.

    Raises
    ------
    InputError
        If it is neither.
    """
    from pathlib import Path

    from terngen.host.convert.checkpoint import Checkpoint
    from terngen.host.errors import InputError
    from terngen.host.models import open_tape

    if model in PUBLISHED:
        return Geometry.from_config({"model_type": "hgrn_bit", **PUBLISHED[model]})
    path = Path(model)
    if not path.exists():
        raise InputError(f"There is no checkpoint folder at {path}, and no published size of that name; there are "
                         f"{', '.join(PUBLISHED)}")
    if path.is_file():
        open_tape(path)     # says what is wrong with it
        raise InputError(f"Boards need the checkpoint folder, because a tape is made for one machine; {path} is a "
                         f"file")
    return Checkpoint.open(path).geometry


def fitted(values: Mapping[str, Any], changes: Mapping[str, Any], source: Any) -> Config:
    """A machine that keeps the memory busy with a model of these sizes.

    The array is one of tables, or one of adders where the first filling, which nothing hides, takes too long.
    There are as many rows in a beat as let the filling of tables hide behind the block before, or as leave adders
    two octets each: then a block is narrow and few columns are padded. Of lanes there are as few as keep the
    memory busy, or as bring no more.

    Parameters
    ----------
    values
        As in ``config.json``.
    changes
        Fields of the configuration that are given, where they are not None.

    Raises
    ------
    ConfigError
        If there is no such machine.
    """
    return fitted_geometry(Geometry.from_config(dict(values)), changes, source)


def fitted_geometry(geometry: Geometry, changes: Mapping[str, Any], source: Any,
                    fits: Callable[[Config], bool] = lambda machine: True) -> Config:
    """The same for sizes that have been read; lanes stay as few as `fits` allows."""
    import dataclasses

    from terngen.host import configs
    from terngen.hw.contract.config import ArrayVariant
    from terngen.hw.contract.trits import GRAY_STEPS

    # Layers are like each other.
    part  = dataclasses.replace(geometry, num_hidden_layers=min(2, geometry.num_hidden_layers))
    given = {name: value for name, value in changes.items() if value is not None}
    beat_bytes = given.get("beat_bits", configs.read_config(configs.DEFAULT)["beat_bits"]) // 8
    rows  = dict.fromkeys(ArrayVariant, 1)
    while (twice := 2 * rows[ArrayVariant.TABLE]) <= beat_bytes and twice * len(GRAY_STEPS) <= geometry.hidden_size:
        rows[ArrayVariant.TABLE] = twice
    while (twice := 2 * rows[ArrayVariant.TREE]) <= beat_bytes // 2:
        rows[ArrayVariant.TREE] = twice
    best: tuple[float, dict[str, Any]] = -1.0, given
    for variant in (ArrayVariant.TABLE, ArrayVariant.TREE):
        if best[0] < _ATTAINMENT:
            fixed = {"variant": variant.value, "row_lanes": rows[variant]} | given
            best  = max(best, _with_lanes(part, fixed, source, fits), key=lambda found: found[0])
    return configs.model_config(geometry, configs.DEFAULT, **best[1])


def _with_lanes(geometry: Geometry, fixed: dict[str, Any], source: Any, fits: Callable[[Config], bool]
                ) -> tuple[float, dict[str, Any]]:
    """Attainment of the layers, and the machine with the lanes that it is worth."""
    from terngen.host import configs
    from terngen.host.errors import ConfigError

    best: tuple[float, dict[str, Any]] = 0.0, fixed
    lanes = fixed.get("lanes", 1)
    while best[0] < _ATTAINMENT:
        values = {**fixed, "lanes": lanes}
        try:
            machine = configs.model_config(geometry, configs.DEFAULT, **values)
        except ConfigError:
            return best
        if best[0] and not fits(machine):
            return best
        taken  = step_of(geometry, machine, source, head=False)
        share  = taken.beats / float(taken.cycles * source.rate)
        if share < 1.005 * best[0]:
            return best
        best = share, values
        if "lanes" in fixed:
            return best
        lanes *= 2
    return best
