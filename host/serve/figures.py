"""Figures of the server, with clients in the same process, on the golden machine.

``python -m terngen.host.serve.figures latency MODEL`` measures when the first token is on the way to a client that is
alone; ``... soak MODEL`` lets many come and go for long, and looks for wrong tokens and for memory that grows.
"""

import contextlib
import http.client
import json
import os
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from terngen.host.commands.console import Progress, emit, table
from terngen.host.commands.devices import opened
from terngen.host.errors import GateError
from terngen.host.models import open_model
from terngen.host.sampling import Sampling
from terngen.host.serve.api import Api
from terngen.host.serve.scheduler import Scheduler
from terngen.host.serve.server import Server, listen
from terngen.host.text import Story
from terngen.hw.contract.tape import Tape

__all__ = ["latency", "serving", "soak"]

_JSON = {"Content-Type": "application/json"}
#: Texts that are asked for again and again, tokens of the longest, and seconds that a client waits.
_TEXTS, _TOKENS, _PATIENCE = 24, 24, 120.0


@contextlib.contextmanager
def serving(tape: Tape, device: str = "golden", *, queue: int = 128) -> Iterator[tuple[Scheduler, str]]:
    """A server in a thread; its scheduler, and host and port."""
    scheduler = Scheduler(tape, lambda: opened(tape, device), queue=queue)
    scheduler.start()
    with listen("127.0.0.1", 0) as waiting:
        server = Server(scheduler, Api(scheduler, name="model"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [waiting]})
        thread.start()
        try:
            yield scheduler, f"127.0.0.1:{waiting.getsockname()[1]}"
        finally:
            scheduler.close()
            server.should_exit = True
            thread.join()


def _events(address: str, **body: Any) -> Iterator[dict[str, Any] | None]:
    """The events of a completion; None is the end."""
    connection = http.client.HTTPConnection(address, timeout=_PATIENCE)
    try:
        connection.request("POST", "/v1/completions", json.dumps({**body, "stream": True}), _JSON)
        with connection.getresponse() as answer:
            for line in answer:
                if data := line.removeprefix(b"data: ").strip():
                    yield None if data == b"[DONE]" else json.loads(data)
    finally:
        connection.close()


def latency(tape: Tape, device: str, *, requests: int = 20) -> dict[str, Any]:
    """Milliseconds until a client has the first token of a prompt of one token, and how much of that is not the pass
    of the tape that makes it.

    A pass takes longer when other programs take the cores; so the second figure is about the server.
    """
    firsts, passes = [], []
    with serving(tape, device) as (scheduler, address):
        for number in range(requests + 1):
            begin = time.perf_counter()
            times = [time.perf_counter() - begin for event in _events(address, prompt=[1], max_tokens=1, seed=number)]
            if number:      # the first one warms up
                firsts.append(1e3 * times[0])
                passes.append(1e3 * scheduler.snapshot["last"]["seconds"])
    beyond = [first - taken for first, taken in zip(firsts, passes)]
    return {"device": device, "requests": requests, "pass_ms": statistics.median(passes),
            "first_ms": statistics.median(firsts), "slowest_first_ms": max(firsts),
            "beyond_the_pass_ms": statistics.median(beyond), "most_beyond_the_pass_ms": max(beyond)}


def _resident() -> int:
    """Octets of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _Crowd:
    """Clients that know what they should get."""

    def __init__(self, tape: Tape, address: str) -> None:
        self._address = address
        self._until   = 0.0
        #: What came of the requests.
        self.counts: Counter[str] = Counter()
        #: Wrong texts.
        self.wrong: list[str] = []
        self._asked: list[tuple[dict[str, Any], str]] = []
        with opened(tape, "golden") as device:
            for number in range(_TEXTS):
                count = 1 + number % _TOKENS
                sampling: dict[str, Any] = {"temperature": number % 3 / 2, "seed": number}
                story = Story(device, "Once upon a time"[:number], Sampling(**sampling))
                self._asked.append(({"prompt": "Once upon a time"[:number], "max_tokens": count, **sampling},
                                    "".join(story.pieces(count))))

    def run(self, clients: int, seconds: float) -> Iterator[int]:
        """Let them ask; gives the memory of the process now and then."""
        self._until = time.monotonic() + seconds
        threads = [threading.Thread(target=self._client, args=[number]) for number in range(clients)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(min(1.0, seconds / 20))
            yield _resident()

    def _client(self, number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < self._until:
            body, expected = rng.choice(self._asked)
            kind = rng.choices(["read", "left", "refused"], [8, 1, 1])[0]
            if kind == "refused":
                body = {**body, "n": 2}
            text = ""
            for event in _events(self._address, **body):
                if event is None or "error" in event:
                    break
                text += event["choices"][0]["text"]
                if kind == "left":
                    break
            else:
                kind = "cut"        # no end
            if kind == "cut" or kind == "read" and text != expected:
                self.wrong.append(f"{body}: {text!r} instead of {expected!r}")
            self.counts[kind] += 1


def soak(tape: Tape, *, clients: int, seconds: float) -> dict[str, Any]:
    """What came of a crowd, and how much memory it took.

    Raises
    ------
    GateError
        If a text was wrong.
    """
    with serving(tape) as (scheduler, address), Progress() as progress:
        crowd  = _Crowd(tape, address)
        begin  = time.monotonic()
        memory = []
        for octets in crowd.run(clients, seconds):
            memory.append(octets)
            progress("Soaking", min(time.monotonic() - begin, seconds), seconds)
        totals = scheduler.snapshot["totals"]
    if crowd.wrong:
        raise GateError(f"{len(crowd.wrong)} of {crowd.counts.total()} texts are wrong, first {crowd.wrong[0]}")
    early = memory[len(memory) // 5:2 * len(memory) // 5] or memory
    late  = memory[4 * len(memory) // 5:]
    return {"seconds": time.monotonic() - begin, "clients": clients, **crowd.counts, "wrong": len(crowd.wrong),
            "tokens": totals["made"], "early_mib": statistics.median(early) / 2**20,
            "late_mib": statistics.median(late) / 2**20, "most_mib": max(memory) / 2**20}


def _shown(values: dict[str, Any], as_json: bool) -> None:
    emit(as_json, values, table([(name, f"{value:,.1f}" if isinstance(value, float) else value)
                                 for name, value in values.items()]))


@click.group()
def figures() -> None:
    """Figures of the server."""


_model = click.argument("model", type=click.Path(path_type=Path))
_slots = click.option("--slots", type=click.IntRange(min=1), default=4, show_default=True)
_json  = click.option("--json", "as_json", is_flag=True)


@figures.command("latency")
@_model
@_slots
@click.option("--device", default="golden", show_default=True)
@_json
def _latency(model: Path, slots: int, device: str, as_json: bool) -> None:
    """When the first token comes."""
    _shown(latency(open_model(model, slots=slots), device), as_json)


@figures.command("soak")
@_model
@_slots
@click.option("--clients", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=1), default=3600.0, show_default=True)
@_json
def _soak(model: Path, slots: int, clients: int, seconds: float, as_json: bool) -> None:
    """Many clients, for long."""
    _shown(soak(open_model(model, slots=slots), clients=clients, seconds=seconds), as_json)


if __name__ == "__main__":
    figures()
