"""``terngen serve`` in a process of its own."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

PROGRAM = [sys.executable, "-c", "from terngen.host.cli import main; main()", "serve"]


def get(address, path):
    with urllib.request.urlopen(address + path, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_serve(cache, speaking, work, number, code):
    """It says where it is, serves, and ends at once, in the middle of an answer and while somebody watches."""
    folder = shutil.copytree(speaking, work / "talker-1.5")
    (folder / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0].content }}")
    with subprocess.Popen([*PROGRAM, str(folder), "--port", "0", "--slots", "2", "--json"], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        found = json.loads(process.stdout.readline())
        assert found.keys() == {"address", "model", "device", "digest", "slots", "chat"}
        assert (found["model"], found["device"], found["slots"], found["chat"]) == ("talker-1.5", "golden", 2, True)
        assert get(found["address"], "/v1/models")["data"][0]["id"] == "talker-1.5"
        assert get(found["address"], "/props")["chat"] is True
        watch = urllib.request.urlopen(found["address"] + "/watch", timeout=30)
        story = urllib.request.urlopen(urllib.request.Request(
            found["address"] + "/v1/chat/completions", json.dumps({
                "messages": [{"role": "user", "content": "x"}], "stream": True, "max_tokens": 2048,
                "temperature": 0}).encode(), {"Content-Type": "application/json"}), timeout=30)
        with watch, story:
            assert story.readline()
            process.send_signal(number)
            assert json.loads(story.read().split(b"data: ")[-1])["error"]["message"] == "The server is being shut down"
            assert watch.read() is not None
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert out == ""
    assert err.splitlines()[0] == "talker-1.5 is served with 2 slots; Ctrl-C ends it"
    assert "Traceback" not in err


def test_port_is_taken(refused, speaking_tape):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused("serve", speaking_tape, "--port", port, code=4,
                message=rf"Clients cannot be awaited at 127\.0\.0\.1, port {port}: Address already in use")


@pytest.mark.parametrize("words, code, message", [
    (["{speaking}", "--host", "0.0.0.0"],  2, r"Others reach 0\.0\.0\.0, so --api-key must be given\.$"),
    (["{speaking}", "--host", "::"],       2, r"Others reach ::, so --api-key must be given\.$"),
    (["{speaking}", "--host", "box.lan"],  2, r"Others reach box\.lan, so --api-key must be given\.$"),
    (["{speaking}", "--host", "no.such.host.invalid", "--api-key", "x"], 4,
     r"Clients cannot be awaited at no\.such\.host\.invalid, port 8080: "),
    (["{speaking}", "--api-key", ""],      2, r"An API key must not be empty\.$"),
    (["{speaking}", "--queue", "0"],       2, r"Invalid value for '--queue'"),
    (["{speaking}", "--device", "reference"], 2, r"Invalid value for '--device': Device must be one of golden, sim, "),
    (["{speaking}", "--memory", "rate=1", "--port", "0"], 2, r"Option --memory is for device sim, not golden\.$"),
    (["{speaking}", "--device", "serial:/dev/none", "--port", "0"], 7, r"/dev/none|.*none"),
    (["{speaking}", "--chat-template", "none"], 8, r"Text none cannot be read: No such file or directory$"),
    (["{tiny}"],                           8, r"Tape has no tokenizer, so it cannot read or write text; "),
    (["none"],                             8, r"There is no tape and no checkpoint folder at none$"),
])
def test_refused(refused, speaking, tiny, words, code, message):
    refused("serve", *(word.format(speaking=speaking, tiny=tiny) for word in words), code=code, message=message)


def test_packages_are_missing():
    """Other commands need none of them."""
    program = ("import sys; sys.modules.update(dict.fromkeys(['starlette', 'uvicorn'])); "
               "from terngen.host.cli import main; main()")
    done = subprocess.run([sys.executable, "-c", program, "serve", "model"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stderr == ("Error: Serving needs a package that is missing (starlette); pip install "
                           "'terngen[serve]'\n")
