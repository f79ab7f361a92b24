"""The interface, as clients see it."""

import asyncio
import http.client
import itertools
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from terngen.host.serve.api import Limits
from terngen.host.serve.chat import Template

#: After this the model says the same again and again at temperature 0, and never ends.
ENDLESS = "x"
TEMPLATE = """{% for message in messages %}
{% if message.role == "assistant" and loop.first %}{{ raise_exception("Users come first") }}{% endif %}
{{ bos_token if loop.first }}{{ message.role[0] }}: {{ message.content }}.{% endfor %}
 a:"""


@pytest.fixture
def client():
    """OpenAI's."""
    clients = []

    def client(site, **options):
        clients.append(openai.OpenAI(base_url=site.address + "/v1", api_key="none", max_retries=0, **options))
        return clients[-1]
    yield client
    for one in clients:
        one.close()


def texts(stream):
    return "".join(chunk.choices[0].text for chunk in stream if chunk.choices)


# OpenAI's client.

def test_models(site, client):
    assert [model.id for model in client(site).models.list()] == ["speaking"]
    assert client(site).models.retrieve("speaking").owned_by == "terngen"
    with pytest.raises(openai.NotFoundError, match="Model must be speaking, which is all that is served, not 'gpt'"):
        client(site).models.retrieve("gpt")


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 2, "seed": 7},
                                      {"temperature": 1.5, "seed": 8, "extra_body": {"top_k": 3}}])
def test_completion(site, client, alone, sampling):
    """At once, as a stream, or made by a machine alone: it is the same text."""
    choice = {"temperature": sampling["temperature"], "seed": sampling.get("seed", 0),
              "top_k": sampling.get("extra_body", {}).get("top_k")}
    expected, made = alone("a fox", 25, **choice)
    whole = client(site).completions.create(model="speaking", prompt="a fox", max_tokens=25, **sampling)
    assert whole.choices[0].text == expected
    assert whole.choices[0].finish_reason == ("length" if made == 25 else "stop")
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens) == (6, made, 6 + made)
    *parts, last = client(site).completions.create(model="speaking", prompt="a fox", max_tokens=25, stream=True,
                                                   stream_options={"include_usage": True}, **sampling)
    assert texts(parts) == expected
    assert [part.choices[0].finish_reason for part in parts][:-1] == [None] * (len(parts) - 1)
    assert parts[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert (last.choices, last.usage) == ([], whole.usage)
    assert len({part.id for part in parts}) == 1


def test_prompt_of_tokens(site, client, alone):
    for prompt in ([1, 50, 60], ["x"]):
        found = client(site).completions.create(model="speaking", prompt=prompt, max_tokens=9, temperature=0)
        assert found.choices[0].text == alone(prompt if prompt != ["x"] else "x", 9)[0]


def test_seed(site, client):
    """Without one, each request is another; negative ones are seeds as well."""
    def told(**options):
        return client(site).completions.create(model="speaking", prompt="x", max_tokens=20, temperature=3,
                                               **options).choices[0].text
    assert len({told() for _ in range(3)}) == 3
    assert told(seed=-1) == told(seed=-1) != told(seed=1)


def test_stop(site, client, alone):
    text = alone("a fox", 30)[0]
    stop = text[7:9]
    found = client(site).completions.create(model="speaking", prompt="a fox", max_tokens=30, temperature=0, stop=[stop])
    assert found.choices[0].text == text[:text.index(stop)]
    assert found.choices[0].finish_reason == "stop"
    assert texts(client(site).completions.create(model="speaking", prompt="a fox", max_tokens=30, temperature=0,
                                                 stop=stop, stream=True)) == found.choices[0].text


def test_logprobs(site, client):
    options = {"model": "speaking", "prompt": "a fox", "max_tokens": 8, "temperature": 0, "logprobs": 2}
    whole   = client(site).completions.create(**options)
    scores  = whole.choices[0].logprobs
    assert "".join(scores.tokens) == whole.choices[0].text
    assert [max(best.values()) for best in scores.top_logprobs] == scores.token_logprobs
    assert all(1 <= len(best) <= 2 for best in scores.top_logprobs)
    assert scores.text_offset == [0, *itertools.accumulate(map(len, scores.tokens[:-1]))]
    parts = [part.choices[0].logprobs for part in client(site).completions.create(**options, stream=True)]
    assert [token for part in parts for token in part.tokens] == scores.tokens
    assert [share for part in parts for share in part.token_logprobs] == scores.token_logprobs
    # Nothing beside the token.
    none = client(site).completions.create(**{**options, "logprobs": 0}).choices[0].logprobs
    assert none.token_logprobs == scores.token_logprobs
    assert none.top_logprobs == [{}] * len(scores.tokens)


def test_chat(served, board, client, alone):
    """The template makes a prompt, in which the token that begins a text stands once."""
    site = served(board, template=Template(TEMPLATE, bos_token="<s>"))
    said = [{"role": "user", "content": "x"}, {"role": "assistant", "content": [{"type": "text", "text": "y"}]}]
    text, made = alone("u: x.a: y. a:", 15)
    whole = client(site).chat.completions.create(model="speaking", messages=said, max_tokens=15, temperature=0,
                                                 logprobs=True, top_logprobs=3)
    assert whole.choices[0].message.content == text
    assert whole.choices[0].message.role == "assistant"
    assert whole.usage.completion_tokens == made
    content = whole.choices[0].logprobs.content
    assert "".join(score.token for score in content) == text
    assert bytes(octet for score in content for octet in score.bytes).decode() == text
    assert [score.top_logprobs[0].logprob for score in content] == [score.logprob for score in content]
    first, *parts = client(site).chat.completions.create(model="speaking", messages=said, max_completion_tokens=15,
                                                         temperature=0, stream=True)
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert "".join(part.choices[0].delta.content or "" for part in parts) == text
    with pytest.raises(openai.BadRequestError, match="Chat template refuses the messages: Users come first"):
        client(site).chat.completions.create(model="speaking", messages=said[1:])


def test_chat_without_template(site, client):
    with pytest.raises(openai.BadRequestError, match="Model speaking has no chat template, so it cannot hold "
                                                     "conversations; use /v1/completions"):
        client(site).chat.completions.create(model="speaking", messages=[{"role": "user", "content": "x"}])


@pytest.mark.parametrize("options, message", [
    ({"n": 2},                     "N must be 1, which is all that is supported, not 2"),
    ({"max_tokens": 2049},         "Max_tokens must be at most 2048, not 2049"),
    ({"extra_body": {"top_k": 9}}, "Top_k must be at most 8, the candidates that this machine keeps, not 9"),
    ({"prompt": [1, 128]},         "Token must be from 0 to 127, not 128"),
    ({"prompt": [-1]},             "Token must be from 0 to 127, not -1"),
    ({"prompt": "x" * 4096},       "Prompt must have at most 4096 tokens, not 4097"),
    ({"extra_body": {"tools": []}}, "Object contains unknown field `tools`"),
])
def test_refused(site, client, options, message):
    with pytest.raises(openai.BadRequestError) as caught:
        client(site).completions.create(**{"model": "speaking", "prompt": "x", **options})
    assert message in caught.value.body["message"]
    assert caught.value.body["type"] == "invalid_request_error"
    assert caught.value.body.keys() == {"message", "type", "param", "code"}


def test_hundred_clients(served, board, alone):
    """A hundred at once, streams and whole answers, some of which go away: no token is wrong or somebody else's."""
    site  = served(board)
    asked = [(chr(97 + number % 26) * (1 + number % 7), 2 + number % 7,
              {"temperature": number % 3, "seed": number}) for number in range(100)]
    expected = [alone(prompt, count, **sampling) for prompt, count, sampling in asked]
    assert len(set(expected)) > 50

    async def one(client, number):
        prompt, count, sampling = asked[number]
        options = {"model": "speaking", "prompt": prompt, "max_tokens": count, **sampling}
        if number % 2:
            found = await client.completions.create(**options)
            return found.choices[0].text, found.usage.completion_tokens
        async with await client.completions.create(**options, stream=True,
                                                   stream_options={"include_usage": True}) as stream:
            parts = []
            async for part in stream:
                if number % 10 == 0:
                    return None         # gone in mid-stream
                parts.append(part)
        return texts(parts), parts[-1].usage.completion_tokens

    async def everybody():
        async with openai.AsyncOpenAI(base_url=site.address + "/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(one(client, number) for number in range(100)))

    found = asyncio.run(everybody())
    assert [number for number in range(100) if found[number] not in (None, expected[number])] == []
    assert found.count(None) == 10


# Others.

def test_curl(site, alone):
    """A stream is lines that anybody can read."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    printed = subprocess.run(["curl", "-sN", site.address + "/v1/completions", "-H", "Content-Type: application/json",
                              "-d", '{"prompt": "a fox", "max_tokens": 5, "temperature": 0, "stream": true}'],
                             capture_output=True, text=True, timeout=60).stdout
    *events, done, end = printed.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    assert "".join(json.loads(event.removeprefix("data: "))["choices"][0]["text"] for event in events) == alone(
        "a fox", 5)[0]


def test_tokenize(site):
    assert site.fetch("/tokenize", {"content": "a fox"})[2] == {"tokens": [68, 3, 73, 82, 91]}
    assert site.fetch("/tokenize", {"content": "a", "add_special": True})[2] == {"tokens": [1, 68]}
    assert site.fetch("/detokenize", {"tokens": [68, 3, 73, 82, 91]})[2] == {"content": "a fox"}
    assert site.fetch("/detokenize", {"tokens": [128]})[0] == 400


def test_health_and_metrics(site, client):
    status, _, health = site.fetch("/health")
    assert (status, health["status"], health["slots"], health["busy"]) == (200, "ok", 3, 0)
    client(site).completions.create(model="speaking", prompt="a fox", max_tokens=4, temperature=0)
    status, headers, text = site.fetch("/metrics")
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values["terngen_up"] == "1"
    assert values["terngen_tokens_made_total"] == "4"
    assert values["terngen_tokens_taken_total"] == "9"
    assert values["terngen_passes_total"] == "5"        # three tokens in a pass, then three, and three by themselves
    assert values['terngen_requests_total{reason="length"}'] == "1"
    named = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert {name.partition("{")[0] for name in values} == set(named)
    assert len(named) == len(set(named))


def test_watch(site, client):
    """What the page shows comes from the machine."""
    with urllib.request.urlopen(site.address + "/watch", timeout=30) as stream:
        events = (json.loads(line.removeprefix(b"data: ")) for line in stream if line != b"\n")
        idle   = next(events)
        assert (idle["slots"], idle["playing"], idle["last"], idle["totals"]["passes"]) == ([None] * 3, None, {}, 0)
        client(site).completions.create(model="speaking", prompt="ab", max_tokens=2, temperature=0)
        now = next(event for event in events if event["last"])
    assert now["totals"]["taken"] >= 3
    assert now["last"]["tokens"].keys() <= {"0", "1", "2"}
    props = site.fetch("/props")[2]
    assert [section["name"] for section in props["tape"]["sections"]] == ["embedding", "layer.0", "layer.1", "head"]
    marks = props["tape"]["marks"]
    beats = marks["layers"]["count"] + marks["head"]["count"]
    assert now["last"]["beats"] == beats + len(now["last"]["tokens"]) * props["embedding"]["beats"]


def test_too_many_watch(site, monkeypatch, until):
    monkeypatch.setattr("terngen.host.serve.api._WATCHERS", 1)
    with urllib.request.urlopen(site.address + "/watch", timeout=30):
        status, headers, body = site.fetch("/watch")
        assert (status, headers["Retry-After"]) == (503, "1")
        assert body["error"]["message"] == "At most 1 may watch at the same time"

    def free():
        connection = http.client.HTTPConnection(site.address.removeprefix("http://"), timeout=30)
        connection.request("GET", "/watch")
        answer = connection.getresponse()
        answer.close()
        connection.close()
        return answer.status == 200

    until(free)


@pytest.mark.parametrize("path, method, status", [
    ("/none", "GET", 404), ("/v1/completions", "GET", 405), ("/health", "POST", 405), ("/v1/models/x/y", "GET", 404),
    ("/v1/chat/completions", "PUT", 405), ("/../etc/passwd", "GET", 404), ("/v1/embeddings", "POST", 404),
])
def test_no_such_place(site, path, method, status):
    found, _, body = site.fetch(path, method=method)
    assert (found, body["error"]["type"]) == (status, "invalid_request_error")


def test_bodies_that_are_too_much(served, board):
    site = served(board, limits=Limits(body=100))
    assert site.fetch("/tokenize", octets=b'{"content": "' + b"x" * 90 + b'"}')[0] == 413
    assert site.fetch("/tokenize", octets=b'{"content": "' + b"x" * 80 + b'"}')[0] == 200
    status, _, body = site.fetch("/tokenize", octets=b'{"content": "x"}', Content_Type="text/plain")
    assert (status, body["error"]["message"]) == (415, "Body must be JSON, and Content-Type application/json")
    assert site.fetch("/tokenize", octets=b'{"content": "x"}', Content_Type="application/json; charset=utf-8")[0] == 200


def test_slow_body(site, monkeypatch):
    monkeypatch.setattr("terngen.host.serve.api._BODY_SECONDS", 0.05)
    host, port = site.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"POST /tokenize HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                           f"Content-Length: 50\r\n\r\n{{".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_key(served, board, client):
    """Who has it comes in; the page and /health are for all."""
    site = served(board, key="ключ")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
        for path in ("/v1/models", "/metrics", "/watch", "/props", "/none"):
            status, answer, body = site.fetch(path, **headers)
            assert (status, body["error"]["code"]) == (401, "invalid_api_key")
            assert answer["WWW-Authenticate"] == "Bearer"
    assert site.fetch("/")[0] == site.fetch("/health")[0] == 200
    assert site.fetch("/health", Host="elsewhere")[0] == 200


def test_key_of_clients(served, board):
    site = served(board, key="secret")
    with openai.OpenAI(base_url=site.address + "/v1", api_key="secret") as client:
        assert client.completions.create(model="speaking", prompt="x", max_tokens=1).usage.completion_tokens <= 1
    with openai.OpenAI(base_url=site.address + "/v1", api_key="other") as client:
        with pytest.raises(openai.AuthenticationError, match="API key is missing or wrong"):
            client.models.list()


@pytest.mark.parametrize("host, status", [("localhost:80", 200), ("127.0.0.1", 200), ("[::1]:8080", 200),
                                          ("[::1]", 200),
                                          ("evil.example", 403), ("evil.example:8080", 403), ("", 403),
                                          ("127.0.0.1.evil.example", 403)])
def test_foreign_names(site, host, status):
    """A page elsewhere cannot make its own name mean this server."""
    assert site.fetch("/props", Host=host)[0] == status


def test_page_is_safe(site):
    status, headers, text = site.fetch("/")
    assert status == 200
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    for element in ("src=", "url(", "http://", "https://", "style=", "onclick", "innerHTML", "@import"):
        assert element not in text, element


# Trouble.

def gone(site, until):
    until(lambda: site.scheduler.health["busy"] == site.scheduler.health["waiting"] == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_client_goes_away(site, board, until, stream):
    """The slot is free after the pass that is under way, whether tokens were sent or not."""
    host = site.address.removeprefix("http://")
    body = json.dumps({"prompt": ENDLESS, "temperature": 0, "max_tokens": 2000, "stream": stream})
    for pause in (False, True):
        if pause:
            board.runs.clear()
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        until(lambda: site.scheduler.health["busy"] == 1)
        if stream and not pause:
            answer = connection.getresponse()
            answer.read(20)
            answer.close()
        connection.close()
        if pause:
            time.sleep(0.1)
            board.runs.set()
        gone(site, until)
    assert site.scheduler.metrics.ended["cancelled"] == 2
    assert site.scheduler.metrics.made < 1500


def test_queue_is_full(served, board, client, until):
    """Whoever comes too late is told to come back."""
    site = served(board, queue=2)
    board.runs.clear()
    threads = [threading.Thread(target=client(site).completions.create,
                                kwargs={"model": "speaking", "prompt": "x", "max_tokens": 2}) for _ in range(5)]
    for thread in threads:
        thread.start()
    until(lambda: site.scheduler.health["busy"] + site.scheduler.health["waiting"] == 5)
    for stream in (False, True):
        status, headers, body = site.fetch("/v1/completions", {"prompt": "x", "stream": stream})
        assert (status, headers["Retry-After"]) == (503, "1")
        assert body["error"] == {"message": "At most 2 requests may wait for one of 3 slots", "type": "server_error",
                                 "param": None, "code": "unavailable"}
    board.runs.set()
    for thread in threads:
        thread.join()


def test_device_goes_away(site, board, client, quick, until):
    """A stream ends with an error and without [DONE], requests are answered with 503, and then all is well again."""
    stream = client(site).completions.create(model="speaking", prompt=ENDLESS, temperature=0, max_tokens=2000,
                                              stream=True)
    next(stream)
    board.unplug()
    with pytest.raises(openai.APIError, match="The device is lost, and is being opened again: nobody answers"):
        list(stream)
    with pytest.raises(openai.InternalServerError) as caught:
        client(site).completions.create(model="speaking", prompt="x")
    assert caught.value.status_code == 503
    assert caught.value.response.headers["Retry-After"] == "1"
    status, _, health = site.fetch("/health")
    assert (status, health["status"]) == (503, "error")
    assert health["reason"] == "The device is lost, and is being opened again: nobody answers"
    assert "\nterngen_up 0\n" in site.fetch("/metrics")[2]
    board.plugged = True
    until(lambda: site.fetch("/health")[0] == 200)
    # OpenAI's client tries again by itself.
    with openai.OpenAI(base_url=site.address + "/v1", api_key="none") as patient:
        assert patient.completions.create(model="speaking", prompt="x", max_tokens=2).choices[0].text != ""


values = some.recursive(
    some.none() | some.booleans() | some.integers(-9, 1 << 70) | some.floats(allow_nan=False) | some.sampled_from(
        ["", "a", "<s>", "\0", "é\ud800", "user", "text"]),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.sampled_from(["role", "content", "type"]),
                                                                    inner, max_size=3), max_leaves=6)
fields = some.sampled_from(["prompt", "messages", "max_tokens", "temperature", "top_k", "seed", "stop", "stream", "n",
                            "logprobs", "model", "content", "tokens", "stream_options", "echo"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(path=some.sampled_from(["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"]),
       body=some.dictionaries(fields, values, max_size=4), cut=some.none() | some.integers(0, 40))
def test_any_body(served, site, path, body, cut):
    """It is answered, or refused in OpenAI's shape: never a defect."""
    octets = json.dumps({"prompt": "x", "max_tokens": 1} | body if path == "/v1/completions" else body).encode()[:cut]
    status, _, answer = site.fetch(path, octets=octets)
    assert status in (200, 400, 404), answer
    if status != 200:
        assert answer["error"]["message"]
