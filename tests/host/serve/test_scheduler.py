"""Many requests on one device."""

import random
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from terngen.host.commands.devices import opened
from terngen.host.device import Device
from terngen.host.errors import ConfigError, DeviceError, LinkError
from terngen.host.sampling import Sampling
from terngen.host.serve.scheduler import Scheduler, Unavailable


def asked(number):
    """A request that is like no other: prompt, tokens, sampling."""
    rng = random.Random(number)
    return ([1, *(rng.randrange(3, 128) for _ in range(rng.randrange(9)))], rng.randrange(1, 14),
            {"temperature": rng.choice([0, 0.8, 3]), "top_k": rng.choice([None, 3]), "seed": number})


def test_as_alone(board, scheduled, alone, until):
    """Whatever comes, goes and is given up beside it, each request gets what it gets alone."""
    client, wrong = scheduled(board), []

    def clients(first):
        rng = random.Random(first)
        for number in range(first, first + 12):
            prompt, count, sampling = asked(number)
            scored = rng.choice([None, None, None, 0, 2])
            request, pieces = client.ask(prompt, count, sampling=Sampling(**sampling), scored=scored)
            if rng.random() < 0.2:
                client.scheduler.cancel(request)
                continue
            found = client.wait(pieces)
            if ("".join(piece.text for piece in found), found[-1].made) != expected[number]:
                wrong.append(number)

    expected = {number: alone(prompt, count, **sampling)
                for number, (prompt, count, sampling) in ((number, asked(number)) for number in range(60))}
    assert len(set(expected.values())) > 50
    threads = [threading.Thread(target=clients, args=[first]) for first in range(0, 60, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    until(lambda: client.scheduler.health["busy"] == 0)
    ended = client.scheduler.metrics.ended
    assert ended["cancelled"] > 3
    assert ended.total() == 60
    assert ended["failed"] == 0


def test_on_gateware(slotted, scheduled, alone):
    """The simulated machine, where slots read a prompt together with others that write."""
    client  = scheduled(SimpleNamespace(tape=slotted, opening=lambda: opened(slotted, "sim")))
    asks    = [asked(number) for number in range(7)]
    answers = [client.ask(prompt, count, sampling=Sampling(**sampling), scored=2 if number % 3 == 0 else None)[1]
               for number, (prompt, count, sampling) in enumerate(asks)]
    for pieces, (prompt, count, sampling) in zip(answers, asks):
        found = client.wait(pieces)
        assert ("".join(piece.text for piece in found), found[-1].made) == alone(prompt, count, **sampling)
    totals = client.scheduler.snapshot["totals"]
    assert totals["cycles"] > totals["beats"] > 0


def test_place_on_the_tape(slotted, scheduled, alone, monkeypatch):
    """Who watches is told where the machine is, and the text stays what it is."""
    monkeypatch.setattr("terngen.host.device._LOOK_SECONDS", 1e-4)
    client = scheduled(SimpleNamespace(tape=slotted, opening=lambda: opened(slotted, "sim")))
    seen   = []
    monkeypatch.setattr(client.scheduler, "_reached", seen.append)
    assert client.tell([1, 40], 4) == alone([1, 40], 4)[0]
    assert seen == []
    client.scheduler.watched = True
    assert client.tell([1, 40], 4) == alone([1, 40], 4)[0]
    layers, head = slotted.marks["layers"], slotted.marks["head"]
    assert len(set(seen)) > 8
    assert layers.start <= min(seen) < head.start < max(seen) <= head.start + head.count


@pytest.mark.parametrize("lengths", [(1, 9), (2, 12), (8, 9), (9, 8, 1), (1, 1, 12)])
def test_readers_as_alone(board, scheduled, alone, lengths):
    """Readers beside each other, and one that has slots before and behind its own when the others have ended."""
    client  = scheduled(board)
    prompts = [[1, *range(40 + 20 * place, 39 + 20 * place + length)] for place, length in enumerate(lengths)]
    with client.at_once():
        answers = [client.ask(prompt, 1 if len(prompt) < 3 else 6)[1] for prompt in prompts]
    for pieces, prompt in zip(answers, prompts):
        found = client.wait(pieces)
        assert ("".join(piece.text for piece in found), found[-1].made) == alone(prompt, 1 if len(prompt) < 3 else 6)


@pytest.mark.parametrize("count, passes", [(1, 1), (2, 1), (3, 1), (4, 2), (7, 3)])
def test_free_slots_read(board, scheduled, count, passes):
    """A prompt takes as many slots as there are."""
    client = scheduled(board)
    client.tell([1, *range(40, 40 + count - 1)], 1)
    assert client.scheduler.metrics.passes == passes
    assert client.scheduler.metrics.taken == count
    assert client.scheduler.metrics.made == 1


def test_writers_do_not_wait_for_readers(board, scheduled):
    """While one reads a long prompt, another makes a token in each pass."""
    client = scheduled(board)
    with client.at_once():
        _, writing = client.ask([1], 50)
        _, reading = client.ask([1] * 60, 1)
    client.wait(reading)
    made = writing.qsize()
    client.wait(writing)
    assert made >= 29       # two slots read while one writes


def test_scored(board, scheduled, slotted):
    """Shares are over the whole vocabulary."""
    found = scheduled(board)
    pieces = found.wait(found.ask([1, 60, 61], 3, scored=4)[1])
    with Device.open("golden", slotted) as device:
        device.load()
        device.prefill([1, 60])
        token = 61
        for piece in pieces:
            logits = device.logits({0: token})[0].astype(np.float64)
            shares = logits - np.log(np.exp(logits).sum())
            order  = np.argsort(-shares, kind="stable")
            token  = int(order[0])
            assert piece.score.logprob == pytest.approx(shares[token], abs=1e-12)
            assert [share for _, share in piece.score.best] == pytest.approx(shares[order[:4]].tolist(), abs=1e-12)
            assert piece.score.best[0][0] == piece.score.text == piece.text
    assert [piece.score.offset for piece in pieces] == [
        sum(len(piece.text) for piece in pieces[:place]) for place in range(3)]


def test_cancel(board, scheduled, alone, until):
    """A slot is free after the pass in which its request was given up; whoever waited has it."""
    client = scheduled(board)
    board.runs.clear()
    with client.at_once():
        running = [client.ask([1, 50 + number], 1000) for number in range(3)]
        _, waiting = client.ask([1, 70], 4)
    until(lambda: client.scheduler.health["busy"] == 3)
    assert client.scheduler.health["waiting"] == 1
    client.scheduler.cancel(running[1][0])
    board.runs.set()
    found = client.wait(waiting)
    assert ("".join(piece.text for piece in found), found[-1].made) == alone([1, 70], 4)
    assert client.scheduler.health["busy"] <= 2
    for request, _ in running:
        client.scheduler.cancel(request)
    until(lambda: client.scheduler.health["busy"] == 0)
    # Of each at least the pass that was under way, and none to the end.
    assert all(pieces.qsize() < 900 for _, pieces in running)


def test_cancel_while_waiting(board, scheduled, until):
    """The place in the queue is free at once."""
    client = scheduled(board, queue=1)
    board.runs.clear()
    with client.at_once():
        for _ in range(3):
            client.ask([1], 2)
    until(lambda: client.scheduler.health["busy"] == 3)
    request, pieces = client.ask([1], 2)
    with pytest.raises(Unavailable, match=r"^At most 1 requests may wait for one of 3 slots$"):
        client.ask([1], 2)
    client.scheduler.cancel(request)
    client.scheduler.cancel(request)
    _, other = client.ask([1], 2)
    board.runs.set()
    client.wait(other)
    assert pieces.empty()
    assert client.scheduler.metrics.refused == 1
    assert client.scheduler.metrics.ended["cancelled"] == 1


def test_queue_has_room_beside_slots(board, scheduled):
    """Requests that find a slot do not count as waiting, even before they have it."""
    client = scheduled(board, queue=2)
    board.runs.clear()
    answers = [client.ask([1], 2)[1] for _ in range(5)]
    with pytest.raises(Unavailable):
        client.ask([1], 2)
    board.runs.set()
    for pieces in answers:
        client.wait(pieces)


# A device that goes away.

def test_device_goes_away(board, scheduled, quick, alone, until):
    """Those who have a slot and those who wait are told; when it is back, and has the tape again, all is well."""
    client = scheduled(board)
    board.runs.clear()
    with client.at_once():
        answers = [client.ask([1, 50 + number], 1000)[1] for number in range(5)]
    until(lambda: client.scheduler.health["busy"] == 3)
    board.unplug()
    for pieces in answers:
        error = client.wait(pieces)[-1]
        assert isinstance(error, Unavailable)
        assert str(error) == "The device is lost, and is being opened again: nobody answers"
        assert error.retry_after == 1
    with pytest.raises(Unavailable, match=r"^The device is lost, and is being opened again: nobody answers$"):
        client.ask([1], 1)
    health = client.scheduler.health
    assert health["status"] == "error"
    assert health["reason"] == "The device is lost, and is being opened again: nobody answers"
    assert (health["busy"], health["waiting"]) == (0, 0)
    board.plugged = True
    until(lambda: client.scheduler.health["status"] == "ok")
    assert client.tell([1, 50], 9) == alone([1, 50], 9)[0]
    assert client.scheduler.metrics.reopened == 1
    assert client.scheduler.metrics.ended["failed"] == 5
    assert board.closed == 1


def test_idle_device_goes_away(board, scheduled, quick, monkeypatch, until):
    """It is missed before somebody needs it."""
    monkeypatch.setattr("terngen.host.serve.scheduler._HEARTBEAT", 0.02)
    client = scheduled(board)
    board.unplug()
    until(lambda: client.scheduler.health["status"] == "error")
    board.plugged = True
    until(lambda: client.scheduler.health["status"] == "ok")
    client.tell([1], 1)


@pytest.mark.parametrize("error, message", [
    (DeviceError("machine met a descriptor"), "machine met a descriptor"),
    (RuntimeError("secret"),                  "RuntimeError in the server"),
])
def test_other_failures(board, scheduled, quick, error, message, until):
    """A machine that stops, and a defect of ours, are no reason to serve no more."""
    client = scheduled(board)
    board.error = error
    assert str(client.wait(client.ask([1], 3)[1])[-1]) == f"The device is lost, and is being opened again: {message}"
    until(lambda: client.scheduler.health["status"] == "ok")
    assert len(client.wait(client.ask([1], 3)[1])) == 3


def test_there_is_no_device(board):
    """Whoever starts the server is told."""
    board.plugged = False
    scheduler = Scheduler(board.tape, board.opening)
    with pytest.raises(LinkError, match=r"^nobody answers$"):
        scheduler.start()
    with pytest.raises(ConfigError):
        Scheduler(board.tape, lambda: opened(board.tape, "tape")).start()


def test_close(board, scheduled):
    """Whoever waits is told, and the device is let go of."""
    client  = scheduled(board)
    answers = [client.ask([1], 100_000)[1] for _ in range(5)]
    client.scheduler.close()
    for pieces in answers:
        assert str(client.wait(pieces)[-1]) == "The server is being shut down"
    with pytest.raises(Unavailable, match=r"^The server is being shut down$"):
        client.ask([1], 1)
    assert board.closed == 1
