"""``terngen selftest``."""

from pathlib import Path

import click

from terngen.host.commands.options import (
    Multipliers,
    config_option,
    device_option,
    json_option,
    multiplier_option,
    optional_model_argument,
    simulation_options,
    slots_option,
)

__all__ = ["selftest"]


@click.command()
@optional_model_argument
@device_option("serial", "mmap", "sim", "golden")
@config_option
@slots_option
@multiplier_option
@simulation_options
@json_option
def selftest(model: Path | None, device: str, config: str | None, slots: int | None, sites: Multipliers | None,
             memory: str | None, waveform: str | None,
             as_json: bool) -> None:
    """Bring up a board step by step: link, memory, each operation in each of its ways, tokens in a row.

    With a model: link, memory, a matrix, a layer, a token. What the device says is compared with the golden machine.
    The first step that fails says what to do next. The memory of the device holds the tape of the test, or that of
    the model, afterwards.
    """
    import dataclasses

    from terngen.host import selftest as steps
    from terngen.host.commands.console import Progress, emit, note
    from terngen.host.commands.devices import connected, load, tape_of
    from terngen.host.configs import DEFAULT, machine_config
    from terngen.host.device import Device
    from terngen.host.errors import GateError
    from terngen.host.exercises import exercises

    tape  = (exercises(machine_config(config or DEFAULT, slots=slots, sites=sites)) if model is None
             else tape_of(model, config=config, slots=slots, sites=sites))
    found = []
    with connected(tape, device, memory=memory, waveform=waveform) as machine, Device.open("golden", tape) as golden:
        load(golden)
        with Progress() as progress:
            for step in steps.selftest(machine, golden, lambda done, total: progress("Loading the tape", done, total)):
                found.append(step)
                if not as_json:
                    click.echo(f"{'pass' if step.passed else 'FAIL'}  {step.name:8} {step.detail}")
    passed = all(step.passed for step in found)
    emit(as_json, {"device": device, "digest": tape.config.digest.hex(), "passed": passed,
                   "steps": [dataclasses.asdict(step) for step in found]}, [])
    if not passed:
        raise GateError(f"Device {device} failed at step {found[-1].name}")
    if not as_json:
        note("All steps passed")
