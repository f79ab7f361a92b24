"""A server in process, on a golden machine that can be slowed down and taken away."""

import contextlib
import json
import logging
import queue
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from terngen.host.device import Device
from terngen.host.errors import DeviceError, LinkError
from terngen.host.sampling import Sampling
from terngen.host.serve.api import Api
from terngen.host.serve.scheduler import Scheduler
from terngen.host.serve.server import Server, listen
from terngen.host.serve.writing import Request
from terngen.host.text import Decoder, Language, Story
from terngen.hw.contract.regs import Reg
from terngen.sim.device import GoldenTransport

#: Seconds after which something that does not happen is an error.
LIMIT = 60


class Board:
    """A golden machine behind a plug."""

    description = "machine behind a plug"

    def __init__(self, tape):
        self.tape    = tape
        #: Whether it is there.
        self.plugged = True
        #: What it does wrong when a pass ends.
        self.error   = None
        #: Passes end while this is set.
        self.runs    = threading.Event()
        self.runs.set()
        #: Whether it counts cycles, as gateware does: two for a beat, and a half, a quarter, an eighth of it in stalls.
        self.counts  = False
        #: Times that it was opened, and let go of.
        self.opened, self.closed = 0, 0
        self.inner   = GoldenTransport(tape.config)

    @contextlib.contextmanager
    def opening(self):
        """As the command opens one."""
        if not self.plugged:
            raise LinkError("nobody answers")
        self.opened += 1
        with Device(self, self.tape) as device:
            device.complete()
            yield device

    def unplug(self):
        """Its memory forgets the tape."""
        self.plugged = False
        self.inner   = GoldenTransport(self.tape.config)
        self.runs.set()

    def read(self, address, octets, *, timeout=None):
        if address == Reg.WAIT.value:
            assert self.runs.wait(LIMIT)
            if self.error is not None:
                error, self.error = self.error, None
                raise error
        if not self.plugged:
            raise LinkError("nobody answers")
        answer = self.inner.read(address, octets)
        if address == Reg.WAIT.value and self.counts:
            status, _, beats, *_ = np.frombuffer(answer, "<u4").tolist()
            answer = np.array([status, 2 * beats, beats, beats // 2, beats // 4, beats // 8], "<u4").tobytes()
        return answer

    def write(self, address, octets):
        if not self.plugged:
            raise LinkError("nobody answers")
        self.inner.write(address, octets)

    def abort(self):
        if not self.plugged:
            raise LinkError("nobody answers")
        self.inner.abort()

    def clock(self):
        return time.monotonic()

    def idle(self, seconds):
        return False

    def close(self):
        self.closed += 1


class Client:
    """Asks a scheduler."""

    def __init__(self, scheduler):
        self.scheduler = scheduler

    def ask(self, prompt, count, *, sampling=None, **options):
        pieces  = queue.Queue()
        request = Request(prompt, count, pieces.put, sampling or Sampling(), **options)
        self.scheduler.submit(request)
        return request, pieces

    def at_once(self):
        """A context: what is asked in it comes between the same two passes."""
        return self.scheduler._changed

    def wait(self, pieces):
        """All pieces of an answer."""
        found = [pieces.get(timeout=LIMIT)]
        while not isinstance(found[-1], DeviceError) and found[-1].reason is None:
            found.append(pieces.get(timeout=LIMIT))
        return found

    def tell(self, *words, **options):
        """The text of an answer."""
        return "".join(piece.text for piece in self.wait(self.ask(*words, **options)[1]))


class Site:
    """A server, as a client sees it."""

    def __init__(self, scheduler, api, address):
        self.scheduler, self.api, self.address = scheduler, api, address

    def fetch(self, path, body=None, *, octets=None, method=None, **headers):
        """Status, headers, and JSON or text."""
        data = octets if body is None else json.dumps(body).encode()
        if data is not None:
            headers.setdefault("Content_Type", "application/json")
        request = urllib.request.Request(self.address + path, data, method=method, headers={
            name.replace("_", "-"): value for name, value in headers.items()})
        try:
            with urllib.request.urlopen(request, timeout=LIMIT) as answer:
                return answer.status, answer.headers, _read(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, _read(error)


def _read(answer):
    text = answer.read().decode()
    return json.loads(text) if answer.headers["Content-Type"] == "application/json" else text


@pytest.fixture
def until():
    """Waits for something."""
    def until(condition):
        limit = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < limit, "waited in vain"
            time.sleep(0.005)
    return until


@pytest.fixture
def board(slotted):
    return Board(slotted)


@pytest.fixture
def quick(monkeypatch):
    """Nobody waits long for a device that was lost."""
    monkeypatch.setattr("terngen.host.serve.scheduler._BACKOFF", (0.02, 0.1))


@pytest.fixture
def scheduled():
    """Starts schedulers."""
    with contextlib.ExitStack() as stack:
        def scheduled(board, **options):
            scheduler = Scheduler(board.tape, board.opening, **options)
            scheduler.start()
            stack.callback(scheduler.close)
            return Client(scheduler)
        yield scheduled


@pytest.fixture
def served(scheduled):
    """Starts servers."""
    with contextlib.ExitStack() as stack:
        def served(board, *, name="speaking", queue=128, **options):
            scheduler = scheduled(board, queue=queue).scheduler
            api       = Api(scheduler, name=name, **options)
            waiting   = listen("127.0.0.1", 0)
            complaints = []
            handler   = logging.Handler(logging.ERROR)
            handler.emit = complaints.append
            logging.getLogger("uvicorn.error").addHandler(handler)
            server    = Server(scheduler, api)
            thread    = threading.Thread(target=server.run, kwargs={"sockets": [waiting]})
            thread.start()

            def end():
                scheduler.stop()
                server.should_exit = True
                thread.join(LIMIT)
                waiting.close()
                assert not thread.is_alive()
                logging.getLogger("uvicorn.error").removeHandler(handler)
                assert [record.getMessage() for record in complaints] == []

            stack.callback(end)
            return Site(scheduler, api, f"http://127.0.0.1:{waiting.getsockname()[1]}")
        yield served


@pytest.fixture
def site(served, board):
    return served(board)


@pytest.fixture(scope="session")
def alone(slotted):
    """What a request gives that has a golden machine for itself: text, and the number of tokens."""
    language = Language.of_tape(slotted)
    with Device.open("golden", slotted) as device:
        device.load()

        def alone(prompt, count, **sampling):
            if isinstance(prompt, str):
                story = Story(device, prompt, Sampling(**sampling))
                return "".join(story.pieces(count)), len(story.tokens)
            *given, token = prompt
            choice, decoder, pieces, made = Sampling(**sampling), Decoder(language), [], 0
            device.prefill(given)
            for one in prompt:
                decoder.push(one)
            while made < count:
                device.step({0: token}, reset=[0] if not given and not made else [])
                token = choice.choose(device.results(0))
                if token == language.end:
                    break
                pieces.append(decoder.push(token))
                made += 1
            return "".join(pieces) + decoder.finish(), made
        yield alone
