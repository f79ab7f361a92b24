"""The interface: OpenAI's, with a few more places for people, monitors and the page.

An answer to a request that is refused, for whatever reason, is an ``error`` in OpenAI's shape.
"""

import asyncio
import contextlib
import dataclasses
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from terngen.host.errors import DeviceError, InputError
from terngen.host.sampling import Sampling
from terngen.host.serve import bodies, page, writing
from terngen.host.serve.bodies import BodyError, Chat, Completion, Detokenize, Options, Tokenize
from terngen.host.serve.chat import Template
from terngen.host.serve.metrics import exposition
from terngen.host.serve.scheduler import Scheduler, Unavailable
from terngen.host.serve.shapes import ChatShape, Shape, TextShape
from terngen.host.serve.writing import Piece

__all__ = ["Api", "Limits"]

#: Seconds within which a body must have come.
_BODY_SECONDS = 30.0
#: Seconds between two looks at the machine, and after which one is sent although nothing has changed.
_WATCH_SECONDS, _WATCH_ANYWAY = 0.2, 5.0
#: Those who may watch at the same time.
_WATCHERS = 16
#: Tokens of a completion that does not say how many, as OpenAI has it.
_COMPLETION_TOKENS = 16
#: Names of a server that only this machine reaches.
_LOCAL = ("127.0.0.1", "localhost", "[::1]")
#: Where no key is asked for.
_OPEN = ("/", "/health")

_Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a request may ask for."""

    #: Octets of a body.
    body:   int = 1 << 20
    #: Characters of a text, and tokens of one that are given: a tokenizer takes some hundred octets for each.
    text:   int = 1 << 17
    #: Tokens of a prompt.
    prompt: int = 4096
    #: Tokens to be made.
    tokens: int = 2048


class Api:
    """The interface of a model on a device.

    Parameters
    ----------
    scheduler : :class:`Scheduler`
        What computes.
    name : :class:`str`
        By which clients know the model.
    limits : :class:`Limits`
    template : :class:`Template` or None
        Of conversations.
    key : :class:`str` or None
        What clients must have.
    """

    def __init__(self, scheduler: Scheduler, *, name: str, limits: Limits | None = None,
                 template: Template | None = None, key: str | None = None) -> None:
        self.name       = name
        self.limits     = limits or Limits()
        self._scheduler = scheduler
        self._language  = scheduler.language
        self._template  = template
        self._key       = key
        self._page      = page.read()
        self._watchers  = 0
        self._started   = int(time.time())

    @property
    def chats(self) -> bool:
        """Whether the model holds conversations."""
        return self._template is not None

    @property
    def application(self) -> Starlette:
        """For a server."""
        def route(path: str, endpoint: _Endpoint, method: str = "GET") -> Route:
            return Route(path, endpoint, methods=[method])

        return Starlette(
            routes=[
                route("/", self._get_page),
                route("/health", self._get_health),
                route("/metrics", self._get_metrics),
                route("/props", self._get_props),
                route("/watch", self._get_watch),
                route("/v1/models", self._get_models),
                route("/v1/models/{name:path}", self._get_model),
                route("/v1/completions", self._post_completion, "POST"),
                route("/v1/chat/completions", self._post_chat, "POST"),
                route("/tokenize", self._post_tokenize, "POST"),
                route("/detokenize", self._post_detokenize, "POST"),
            ],
            middleware=[Middleware(_Guard, key=self._key)],
            exception_handlers=dict.fromkeys((BodyError, DeviceError, HTTPException, ClientDisconnect, Exception),
                                             _refused))

    # For people, monitors and the page.

    async def _get_page(self, request: Request) -> Response:
        return Response(self._page.octets, media_type="text/html",
                        headers={"Content-Security-Policy": self._page.policy})

    async def _get_health(self, request: Request) -> Response:
        health = self._scheduler.health
        return _json(health, 200 if health["status"] == "ok" else 503)

    async def _get_metrics(self, request: Request) -> Response:
        text = exposition(self._scheduler.snapshot["totals"], self._scheduler.health)
        return Response(text, media_type="text/plain; version=0.0.4")

    async def _get_props(self, request: Request) -> Response:
        tape  = self._scheduler.tape
        model = tape.model
        return _json({
            "model": self.name, "digest": tape.config.digest.hex(), "slots": tape.config.slots,
            "candidates": tape.config.top_k, "chat": self.chats,
            "limits": dataclasses.asdict(self.limits),
            "vocab_size": model["vocab_size"], "ternary_weights": model["ternary_weights"],
            "embedding": {"start": model["embedding_start"], "beats": model["embedding_beats"]},
            "tape": {"beats": tape.beats, "beat_bytes": tape.config.beat_bytes,
                     "sections": [{"name": section.name, "start": section.start, "count": section.count}
                                  for section in tape.sections],
                     "marks": {name: {"start": mark.start, "count": mark.count} for name, mark in tape.marks.items()
                               if name in ("layers", "head")}}})

    async def _get_watch(self, request: Request) -> Response:
        """What the machine does, as it does it."""
        if self._watchers >= _WATCHERS:
            raise Unavailable(f"At most {_WATCHERS} may watch at the same time")
        self._watchers += 1
        self._scheduler.watched = True

        def leave() -> None:
            self._watchers -= 1
            self._scheduler.watched = self._watchers > 0

        return _Events(self._watch(), leave)

    async def _watch(self) -> AsyncIterator[bytes]:
        seen, due = b"", 0.0
        while not self._scheduler.closing:
            now = msgspec.json.encode(self._scheduler.snapshot)
            if now != seen or time.monotonic() >= due:
                seen, due = now, time.monotonic() + _WATCH_ANYWAY
                yield _event(now)
            await asyncio.sleep(_WATCH_SECONDS)

    # For clients of OpenAI's interface.

    @property
    def _model(self) -> dict[str, Any]:
        return {"id": self.name, "object": "model", "created": self._started, "owned_by": "terngen"}

    async def _get_models(self, request: Request) -> Response:
        return _json({"object": "list", "data": [self._model]})

    async def _get_model(self, request: Request) -> Response:
        self._check_model(request.path_params["name"])
        return _json(self._model)

    def _check_model(self, name: str | None) -> None:
        if name is not None and name != self.name:
            raise HTTPException(404, f"Model must be {self.name}, which is all that is served, not {name[:100]!r}")

    async def _post_completion(self, request: Request) -> Response:
        body = await self._body(request, Completion)
        self._check(body)
        given = body.text_or_tokens
        return await self._answer(request, body, lambda: self._prompt(given), TextShape(), _COMPLETION_TOKENS)

    async def _post_chat(self, request: Request) -> Response:
        body = await self._body(request, Chat)
        if (template := self._template) is None:
            raise BodyError(f"Model {self.name} has no chat template, so it cannot hold conversations; use "
                            f"/v1/completions")
        self._check(body)
        return await self._answer(request, body, lambda: self._prompt(template.render(body.messages), whole=True),
                                  ChatShape(), self.limits.tokens)

    async def _post_tokenize(self, request: Request) -> Response:
        body   = await self._body(request, Tokenize)
        self._check_text(body.content)
        tokens = (await asyncio.to_thread(self._language.encode, body.content)).tokens
        begin  = self._language.begin is not None and not body.add_special
        return _json({"tokens": tokens[begin:]})

    async def _post_detokenize(self, request: Request) -> Response:
        body = await self._body(request, Detokenize)
        self._check_tokens(body.tokens)
        return _json({"content": await asyncio.to_thread(self._language.decode, body.tokens)})

    async def _body(self, request: Request, kind: type[bodies.Body]) -> bodies.Body:
        """The body of a request, which must not be too large, too slow, or something that a form can send."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "Body must be JSON, and Content-Type application/json")
        octets = bytearray()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                async for part in request.stream():
                    octets += part
                    if len(octets) > self.limits.body:
                        raise HTTPException(413, f"Body must have at most {self.limits.body} octets",
                                            headers={"Connection": "close"})
        except TimeoutError as error:
            raise HTTPException(408, f"Body must come within {_BODY_SECONDS:.0f} seconds",
                                headers={"Connection": "close"}) from error
        return bodies.decode(bytes(octets), kind)

    def _check(self, body: Options) -> None:
        """What depends on the model and the machine."""
        self._check_model(body.model)
        body.check()
        candidates = self._scheduler.tape.config.top_k
        if body.top_k is not None and body.top_k > candidates:
            raise BodyError(f"Top_k must be at most {candidates}, the candidates that this machine keeps, not "
                            f"{body.top_k}", "top_k")
        if body.count is not None and body.count > self.limits.tokens:
            raise BodyError(f"Max_tokens must be at most {self.limits.tokens}, not {body.count}", "max_tokens")

    def _check_text(self, text: str) -> None:
        if len(text) > self.limits.text:
            raise BodyError(f"Text must have at most {self.limits.text} characters, not {len(text)}")

    def _check_tokens(self, tokens: list[int]) -> None:
        if len(tokens) > self.limits.text:
            raise BodyError(f"Tokens must be at most {self.limits.text}, not {len(tokens)}")
        for token in tokens:
            if not 0 <= token < self._language.vocab:
                raise InputError(f"Token must be from 0 to {self._language.vocab - 1}, not {token}")

    def _prompt(self, given: str | list[int], *, whole: bool = False) -> list[int]:
        """Tokens of a prompt; a `whole` one may have the token that begins a text in itself."""
        if isinstance(given, list):
            self._check_tokens(given)
            tokens = given
        else:
            self._check_text(given)
            tokens = self._language.prompt(given)
            if whole and tokens[:2] == [self._language.begin] * 2:
                del tokens[0]
        if len(tokens) > self.limits.prompt:
            raise BodyError(f"Prompt must have at most {self.limits.prompt} tokens, not {len(tokens)}", "prompt")
        return tokens

    async def _answer(self, request: Request, body: Options, prompt: Callable[[], list[int]], shape: Shape,
                      count: int) -> Response:
        # Long texts take a while, which others need not wait for.
        tokens = await asyncio.to_thread(prompt)
        seed   = secrets.randbits(63) if body.seed is None else body.seed % (1 << 64)
        answer = _Answer(request, self._scheduler)
        ask    = writing.Request(
            tokens, min(body.count or count, self.limits.tokens), answer.deliver,
            Sampling(temperature=1.0 if body.temperature is None else body.temperature, top_k=body.top_k, seed=seed),
            body.stops, body.scored)
        head = {"id": f"{shape.prefix}-{secrets.token_hex(12)}", "object": shape.part if body.stream else shape.whole,
                "created": int(time.time()), "model": self.name}
        try:
            # Before anything is sent, so that an error can still be one.
            first = await answer.begin(ask)
            if not body.stream:
                pieces = [first, *[piece async for piece in answer.rest(first)]]
                scores = [piece.score for piece in pieces if piece.score is not None]
                text   = "".join(piece.text for piece in pieces)
                choice = shape.choice(text, scores if body.scored is not None else None, pieces[-1].reason)
                answer.end()
                return _json({**head, "choices": [choice], "usage": answer.usage})
        except BaseException:
            answer.end()
            raise
        return _Events(_chunks(answer, first, body, shape, head), answer.end)


async def _chunks(answer: "_Answer", piece: Piece, body: Options, shape: Shape, head: dict[str, Any]
                  ) -> AsyncIterator[bytes]:
    """The events of a stream."""
    def chunk(**values: Any) -> bytes:
        return _event(msgspec.json.encode({**head, **values, **({"usage": None} if body.usage_follows else {})}))

    for choice in shape.opening():
        yield chunk(choices=[choice])
    rest = answer.rest(piece)
    while True:
        if piece.text or piece.score is not None or piece.reason is not None:
            scores = None if body.scored is None else [] if piece.score is None else [piece.score]
            yield chunk(choices=[shape.delta(piece.text, scores, piece.reason)])
        try:
            piece = await anext(rest)
        except StopAsyncIteration:
            break
        except ClientDisconnect:
            return
        except DeviceError as error:
            # The status has been sent; an end without [DONE] is none.
            yield _event(msgspec.json.encode(_problem(503, str(error))))
            return
    if body.usage_follows:
        yield _event(msgspec.json.encode({**head, "choices": [], "usage": answer.usage}))
    yield _event(b"[DONE]")


class _Answer:
    """The pieces of one request, in the loop of the server."""

    def __init__(self, request: Request, scheduler: Scheduler) -> None:
        self._loop      = asyncio.get_running_loop()
        self._request   = request
        self._scheduler = scheduler
        self._pieces: asyncio.Queue[Piece | DeviceError | None] = asyncio.Queue()
        self._ask: writing.Request | None = None
        self._watch: asyncio.Task[None] | None = None
        self._made = 0

    def deliver(self, piece: Piece | DeviceError) -> None:
        """Called by the thread of the device."""
        # A loop that has ended has nobody who waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

    async def begin(self, ask: writing.Request) -> Piece:
        """Hand the request over; the first piece."""
        self._ask   = ask
        self._watch = asyncio.create_task(self._until_gone())
        await asyncio.to_thread(self._scheduler.submit, ask)
        return await self._next()

    async def _until_gone(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._pieces.put_nowait(None)

    async def _next(self) -> Piece:
        piece = await self._pieces.get()
        if piece is None:
            raise ClientDisconnect
        if isinstance(piece, DeviceError):
            raise piece
        self._made = piece.made
        return piece

    async def rest(self, piece: Piece) -> AsyncIterator[Piece]:
        """The pieces that follow."""
        while piece.reason is None:
            piece = await self._next()
            yield piece

    def end(self) -> None:
        """Nobody waits any more."""
        if self._watch is not None:
            self._watch.cancel()
        if self._ask is not None:
            self._scheduler.cancel(self._ask)

    @property
    def usage(self) -> dict[str, int]:
        assert self._ask is not None
        prompt = len(self._ask.prompt)
        return {"prompt_tokens": prompt, "completion_tokens": self._made, "total_tokens": prompt + self._made}


class _Events(StreamingResponse):
    """Events of a server. However it ends, `ended` is called once."""

    def __init__(self, content: AsyncIterator[bytes], ended: Callable[[], None]) -> None:
        super().__init__(content, media_type="text/event-stream",
                         headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


class _Guard:
    """Lets in who may come in, and says with each answer what browsers must not do.

    Without a key only this machine reaches the server, and so do the browsers on it: a foreign page can make a name
    of its own mean this machine, so the name must be one of this machine.
    """

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self._app = app
        self._key = None if key is None else key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = MutableHeaders(scope=message)
                added["X-Content-Type-Options"] = "nosniff"
                added["Referrer-Policy"] = "no-referrer"
                added.setdefault("Cache-Control", "no-store")
            await send(message)

        app: ASGIApp = self._app
        if self._key is None:
            name, colon, port = headers.get("host", "").rpartition(":")
            if (name if colon and port.isdigit() else name + colon + port) not in _LOCAL:
                app = _error(403, f"Host must be one of {', '.join(_LOCAL)} where no API key is asked for")
        elif scope["path"] not in _OPEN:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._key):
                app = _error(401, "API key is missing or wrong; send it as Authorization: Bearer KEY",
                             headers={"WWW-Authenticate": "Bearer"})
        await app(scope, receive, marked)


def _event(octets: bytes) -> bytes:
    return b"data: " + octets + b"\n\n"


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, "application/json")


#: What OpenAI calls errors, by status; the others are requests that are wrong.
_TYPES = {401: "authentication_error", 403: "permission_error", 500: "server_error", 503: "server_error"}
_CODES = {401: "invalid_api_key", 404: "not_found", 503: "unavailable"}


def _problem(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": _TYPES.get(status, "invalid_request_error"), "param": param,
                      "code": _CODES.get(status)}}


def _error(status: int, message: str, *, param: str | None = None, headers: Any = None) -> Response:
    return _json(_problem(status, message, param), status, headers)


async def _refused(request: Request, error: Exception) -> Response:
    """The answer to a request that ended with an error."""
    match error:
        case BodyError():
            return _error(400, str(error), param=error.param)
        case InputError():
            return _error(400, str(error))
        case DeviceError():
            after = error.retry_after if isinstance(error, Unavailable) else 1
            return _error(503, str(error), headers={"Retry-After": str(after)})
        case HTTPException():
            return _error(error.status_code, error.detail, headers=error.headers)
        case ClientDisconnect():
            return _error(400, "Client went away")      # nobody reads it
    return _error(500, "This is a defect of the server; its log has more")
