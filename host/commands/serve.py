"""``terngen serve``."""

from pathlib import Path
from typing import Any

import click

from terngen.host.commands.options import (
    config_option,
    device_option,
    json_option,
    model_argument,
    simulation_options,
    slots_option,
)

__all__ = ["serve"]


@click.command()
@model_argument
@device_option("golden", "sim", "serial", "mmap")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Where clients are awaited. Addresses that others reach need --api-key.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True,
              help="0 takes one that is free.")
@click.option("--api-key", envvar="TERNGEN_API_KEY", show_envvar=True, metavar="KEY",
              help="What clients must send as Authorization: Bearer KEY.")
@click.option("--name", help="By which clients know the model.  [default: the name of the folder or file]")
@click.option("--queue", type=click.IntRange(min=1), default=128, show_default=True,
              help="Requests that may wait for a slot; more are told to come back.")
@click.option("--max-prompt", type=click.IntRange(min=1), default=4096, show_default=True,
              help="Tokens that a prompt may have.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=2048, show_default=True,
              help="Tokens that a request may ask for.")
@click.option("--chat-template", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Template of conversations, in Jinja.  [default: that of the checkpoint folder]")
@config_option
@slots_option
@simulation_options
@json_option
def serve(model: Path, device: str, host: str, port: int, api_key: str | None, name: str | None, queue: int,
          max_prompt: int, max_tokens: int, chat_template: Path | None, config: str | None, slots: int | None,
          memory: str | None, waveform: str | None, as_json: bool) -> None:
    """Serve a model to the clients of OpenAI's interface, and a page to people, until interrupted.

    Each slot of the machine serves one request at a time. The first line of the output is the address.
    """
    try:
        from terngen.host.serve.api import Api, Limits
        from terngen.host.serve.server import Server, is_local, listen
    except ImportError as error:
        from terngen.host.errors import ToolError
        package = str(error.name).partition(".")[0]
        raise ToolError(f"Serving needs a package that is missing ({package}); pip install 'terngen[serve]'"
                        ) from error
    import sys

    from terngen.host.commands.console import emit, note, plural
    from terngen.host.commands.devices import opened, tape_of
    from terngen.host.serve.scheduler import Scheduler

    if api_key == "":
        raise click.UsageError("An API key must not be empty.")
    if not is_local(host) and api_key is None:
        raise click.UsageError(f"Others reach {host}, so --api-key must be given.")
    tape      = tape_of(model, config=config, slots=slots)
    scheduler = Scheduler(tape, lambda: opened(tape, device, memory=memory, waveform=waveform), queue=queue)
    path      = model.resolve()
    api       = Api(scheduler, name=name or (path.stem if path.is_file() else path.name), key=api_key,
                    limits=Limits(prompt=max_prompt, tokens=max_tokens, text=max(Limits.text, 32 * max_prompt)),
                    template=_template(model, chat_template, scheduler.language))
    with listen(host, port) as waiting:
        try:
            scheduler.start()
            address = f"http://{f'[{host}]' if ':' in host else host}:{waiting.getsockname()[1]}"
            emit(as_json, {"address": address, "model": api.name, "device": device, "digest": tape.config.digest.hex(),
                           "slots": tape.config.slots, "chat": api.chats}, [address])
            sys.stdout.flush()
            note(f"{api.name} is served with {plural(tape.config.slots, 'slot')}; Ctrl-C ends it")
            Server(scheduler, api).run(sockets=[waiting])
        finally:
            scheduler.close()


def _template(model: Path, file: Path | None, language: Any) -> Any:
    """The template of conversations, if there is one."""
    from terngen.host.serve.chat import Template
    from terngen.host.text import read_text

    texts = {name: language.tokenizer.id_to_token(token) for name, token in
             (("bos_token", language.begin), ("eos_token", language.end)) if token is not None}
    return Template.find(model, **texts) if file is None else Template(read_text(file), **texts)
