"""The page, in Chromium without a screen."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time

import pytest

#: The browser, as distributions call it.
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here (Debian: apt-get install chromium)"),
    pytest.mark.skipif(sys.platform != "linux", reason="Chromium is driven through inherited files"),
]

LIMIT = 60


class Browser:
    """One tab, driven over Chromium's protocol for its developer tools."""

    def __init__(self, folder):
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        # It reads commands at file 3, and writes answers at file 4. As root it has no sandbox of its own.
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", BROWSER, "--headless=new",
             "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--force-color-profile=srgb", f"--user-data-dir={folder}"],
            pass_fds=[to_browser, from_browser], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self._number, self._rest, self._session = 0, b"", None
        #: What the page has complained about.
        self.complaints = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            if answer.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(answer["params"]["exceptionDetails"])
            elif answer.get("method") == "Log.entryAdded":
                self.complaints.append(answer["params"]["entry"])
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self):
        while b"\0" not in self._rest:
            part = os.read(self._in, 1 << 16)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def run(self, script):
        """The value of a script in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, script):
        limit = time.monotonic() + LIMIT
        while not self.run(script):
            assert time.monotonic() < limit, script
            time.sleep(0.05)

    def look(self, scheme="light", width=1180, height=900):
        """A picture, as PNG."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def close(self):
        self._process.terminate()
        self._process.wait(LIMIT)
        os.close(self._out)
        os.close(self._in)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def visit(browser):
    """Opens the page of a site."""
    def visit(site):
        browser.complaints.clear()
        browser.call("Page.navigate", url=site.address + "/")
        browser.until("document.readyState === 'complete' && typeof props !== 'undefined'")
    yield visit
    browser.call("Page.navigate", url="about:blank")


def text(browser, name):
    return browser.run(f"document.getElementById({name!r}).textContent")


def enter(browser, **values):
    for name, value in values.items():
        browser.run(f"document.getElementById({name.replace('_', '-')!r}).value = {json.dumps(value)}")


def test_text_appears(site, board, browser, visit, alone, until, tmp_path):
    """A prompt goes in, tokens come out as anybody gets them, and the machine is seen."""
    visit(site)
    browser.until("document.getElementById('state').textContent === 'Ready'")
    assert text(browser, "busy") == "0/3"
    assert "machine " + site.scheduler.tape.config.digest.hex()[:8] in text(browser, "model")
    enter(browser, prompt="a fox", tokens="20", temperature="2", seed="5")
    browser.run("document.getElementById('go').click()")
    browser.until("!running && document.getElementById('made').textContent")
    expected, made = alone("a fox", 20, temperature=2, seed=5)
    assert text(browser, "given") + text(browser, "made") == "a fox" + expected
    assert text(browser, "said").startswith(f"{made} tokens in ")
    browser.until("document.getElementById('played').textContent.startsWith('Pass ')")
    totals = site.scheduler.snapshot["totals"]
    browser.until(f"document.getElementById('played').textContent.startsWith('Pass {totals['passes']} played ')")
    beats = f"{site.scheduler.snapshot['last']['beats']:,} beats"
    assert beats in text(browser, "played")
    assert browser.run("document.querySelectorAll('#tape div.played').length") == 3        # two layers, the head
    assert browser.run("document.querySelectorAll('#tape i').length") == 1
    # To scale: the mark of a row lies where the tape has it.
    place = browser.run("""(() => {
        const box = document.getElementById('tape').getBoundingClientRect();
        return (document.querySelector('#tape i').getBoundingClientRect().left - box.left) / box.width; })()""")
    tape  = site.scheduler.tape
    [token] = site.scheduler.snapshot["last"]["tokens"].values()
    assert place == pytest.approx(token * tape.model["embedding_beats"] / tape.beats, abs=0.002)
    edges = browser.run("""[...document.querySelectorAll('#tape div')].map(part =>
        part.offsetLeft / document.getElementById('tape').clientWidth)""")
    assert edges == pytest.approx([section.start / tape.beats for section in tape.sections], abs=0.002)
    assert browser.run("document.getElementById('no-cycles').hidden") is False              # it is the golden machine
    # A line is where the machine is.
    board.runs.clear()
    browser.run("document.getElementById('go').click()")
    until(lambda: site.scheduler.snapshot["playing"])
    marks = tape.marks
    beat  = (marks["layers"].start + marks["head"].start) // 2
    site.scheduler._reached(beat)
    browser.until("document.querySelector('#tape b') !== null")
    assert browser.run("""(() => {
        const box = document.getElementById('tape').getBoundingClientRect();
        return (document.querySelector('#tape b').getBoundingClientRect().left - box.left) / box.width; })()
        """) == pytest.approx(beat / tape.beats, abs=0.003)
    board.runs.set()
    browser.until("!running && !document.querySelector('#tape b')")
    assert browser.complaints == []
    for scheme in ("light", "dark"):
        for width in (1180, 400):
            picture = browser.look(scheme, width)
            assert picture.startswith(b"\x89PNG")
            assert browser.run("document.documentElement.scrollWidth <= innerWidth")        # nothing sticks out
            (tmp_path / f"{scheme}-{width}.png").write_bytes(picture)
    assert browser.look("light") != browser.look("dark")


def test_cycles(site, board, browser, visit):
    """What the machine counts is shown in shares."""
    board.counts = True
    visit(site)
    browser.until("document.getElementById('state').textContent === 'Ready'")
    enter(browser, prompt="x", tokens="30", temperature="3")
    browser.run("document.getElementById('go').click()")
    browser.until("!running && document.getElementById('attainment').textContent !== '–'")
    assert text(browser, "attainment") == "50.0 %"
    assert re.findall(r"([\d.]+) %", text(browser, "shares")) == ["50.0", "25.0", "12.5", "6.2", "6.3"]
    widths = browser.run("[...document.querySelectorAll('.bar i')].map(part => parseFloat(part.style.width))")
    assert widths == pytest.approx([50, 25, 12.5, 6.25, 6.25], abs=0.05)
    assert browser.run("document.getElementById('no-cycles').hidden") is True
    totals = site.scheduler.snapshot["totals"]
    assert int(text(browser, "cycles").replace(",", "")) == pytest.approx(totals["cycles"] / totals["passes"], rel=0.02)


def test_stop(site, board, browser, visit, until):
    """Whoever has seen enough frees the slot."""
    visit(site)
    enter(browser, prompt="x", tokens="2000", temperature="0")     # it never ends by itself
    browser.run("document.getElementById('go').click()")
    browser.until("document.getElementById('made').textContent.length > 3")
    browser.until("document.getElementById('busy').textContent === '1/3'")
    browser.run("document.getElementById('stop').click()")
    browser.until("document.getElementById('said').textContent === 'Stopped'")
    until(lambda: site.scheduler.health["busy"] == 0)
    browser.until("document.getElementById('busy').textContent === '0/3'")
    assert browser.complaints == []


def test_trouble(site, board, browser, visit, quick):
    """What is refused, and a device that goes away, are told."""
    visit(site)
    browser.run("document.getElementById('ask').noValidate = true")
    enter(browser, tokens="5000")
    browser.run("document.getElementById('go').click()")
    browser.until("document.getElementById('said').textContent === 'Max_tokens must be at most 2048, not 5000'")
    enter(browser, prompt="x", tokens="2000", temperature="0")
    browser.run("document.getElementById('go').click()")
    browser.until("document.getElementById('made').textContent")
    board.unplug()
    browser.until("document.getElementById('said').textContent.startsWith('The device is lost')")
    browser.until("document.getElementById('state').textContent.startsWith('The device is lost')")
    board.plugged = True
    browser.until("document.getElementById('state').textContent === 'Ready'")


def test_key(served, board, browser, visit):
    """The page asks for the key when it is asked for one."""
    visit(served(board, key="secret"))
    browser.until("!document.getElementById('key-row').hidden")
    enter(browser, key="secret", prompt="x", tokens="2")
    browser.until("document.getElementById('state').textContent === 'Ready'")
    browser.run("document.getElementById('go').click()")
    browser.until("document.getElementById('said').textContent.includes('tokens in')")


def test_everything_is_labelled(site, browser, visit):
    """Each field and button has a name for those who do not see it."""
    visit(site)
    browser.call("Accessibility.enable")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    found = [(node["role"]["value"], node["name"]["value"]) for node in nodes
             if node.get("role", {}).get("value") in ("textbox", "spinbutton", "button", "img", "region", "heading")]
    assert len(found) > 12
    assert [role for role, name in found if not name] == []


def test_nothing_foreign_runs(site, browser, visit):
    """The browser holds to the policy: another script does not run, and no other server is asked."""
    visit(site)
    browser.run("document.body.append(Object.assign(document.createElement('script'), {text: 'window.bad = 1'}))")
    assert browser.run("window.bad") is None
    assert browser.run("fetch('http://127.0.0.1:9/').then(() => 'asked', error => error.name)") == "TypeError"
    browser.run("0")
    assert any("Content Security Policy" in json.dumps(complaint) for complaint in browser.complaints)
