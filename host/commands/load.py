"""``terngen load``."""

from pathlib import Path

import click

from terngen.host.commands.options import (
    Multipliers,
    config_option,
    device_option,
    json_option,
    model_argument,
    multiplier_option,
    slots_option,
)

__all__ = ["load"]


@click.command()
@model_argument
@device_option("serial", "mmap", "sim", "golden")
@click.option("--check", is_flag=True, help="Only tell which sections the device does not have.")
@config_option
@slots_option
@multiplier_option
@json_option
def load(model: Path, device: str, check: bool, config: str | None, slots: int | None, sites: Multipliers | None,
         as_json: bool) -> None:
    """Write a tape into the memory of a device, and let the device read it back.

    What the device has already, by the check sums that it finds itself, is not sent again: a load that was
    interrupted goes on where it ended.
    """
    import time

    from terngen.host.commands.console import Progress, emit
    from terngen.host.commands.devices import connected, tape_of
    from terngen.host.errors import DeviceError

    tape = tape_of(model, piece=True, config=config, slots=slots, sites=sites)
    with connected(tape, device) as machine, Progress() as progress:
        begin   = time.monotonic()
        missing = machine.damaged(lambda done, total: progress("Reading the tape back", done, total))
        if not check:
            machine.complete(lambda done, total: progress("Loading the tape", done, total))
        seconds = time.monotonic() - begin
    octets = sum(section.count for section in missing) * tape.config.beat_bytes
    names  = [section.name for section in missing]
    emit(as_json, {"device": device, "digest": tape.config.digest.hex(), "sections": names, "octets": octets,
                   "loaded": not check, "intact": not names or not check, "seconds": round(seconds, 3)},
         [f"{'missing' if check else 'loaded'}: {', '.join(names) or 'nothing'}, {octets:,} of {len(tape.image):,} "
          f"octets in {seconds:.1f} s"])
    if check and names:
        raise DeviceError(f"Device {device} does not have the tape in {', '.join(names)}; `terngen load` sends it")
