"""What is counted, and where it stands."""

import json
import tomllib

import pytest

from terngen.host.convert.checkpoint import Checkpoint
from terngen.hw.link.cobs import CobsDecoder, CobsEncoder
from terngen.hw.top import Machine
from terngen.sim import coverage
from terngen.sim.coverage import Listing, Point, points
from terngen.sim.hostile import hostile_tape
from terngen.sim.verilog import verilog


@pytest.fixture(scope="module")
def listing():
    return Listing(verilog(CobsDecoder(), "top.decoder", sources=True))


def written(listing, text: str, kind: str, what: str, count: int) -> str:
    """As Verilator writes it."""
    line = next(number for number, line in enumerate(listing.text.splitlines(), 1) if line.strip() == text)
    return f"C '\1f\2top.v\1l\2{line}\1n\0023\1t\2{kind}\1page\2v_{kind}/decoder\1o\2{what}\1h\2TOP' {count}\n"


def source(root, point: Point) -> str:
    """The line of Python where a point stands."""
    path, _, line = point.source.partition(":")
    return (root / path).read_text().splitlines()[int(line) - 1].strip()


def test_points(root, listing):
    text = (written(listing, "reg [7:0] left = 8'h00;", "toggle", "left[2]:0->1", 3)
            + written(listing, "wire says;", "toggle", "says:1->0", 0)
            + written(listing, r"end else if (\$11 ) begin", "line", "elsif", 5)
            + written(listing, r"if (\$9 ) begin", "branch", "else", 0))
    counts = points(listing, text)
    assert sorted(counts.values()) == [0, 0, 3, 5]
    assert {point.module for point in counts} == {"decoder"}
    lines = {point.what.partition(":")[0]: source(root, point) for point in counts}
    assert lines["left[2]"].startswith("left ")
    assert lines["says"].startswith("says.eq(")
    assert lines["elsif"].startswith("with m.Elif(left ")
    assert lines["else"].startswith("with m.If(self.i.valid & self.i.ready)")


def test_memories():
    """Bits of words in a memory are told from those of signals."""
    listing = Listing(verilog(CobsEncoder(), "top.encoder", sources=True))
    text    = next(line.strip() for line in listing.text.splitlines() if f"[{CobsEncoder.DEPTH - 1}:0];" in line)
    (point, count), = points(listing, written(listing, text, "toggle", "memory[3][1]:0->1", 2)).items()
    assert (point.module, point.kind, point.what, count) == ("encoder.ring", "memory", "memory[3][1]:0->1", 2)


@pytest.mark.parametrize("name", coverage.MACHINES)
def test_parts(root, name):
    """Each machine can be made for the model, and each of its modules belongs to a part."""
    config  = coverage.machine_of(name, Checkpoint.open(root / "tests/data/reference/tiny"))
    modules = Machine(config).elaborate(None)._named_submodules
    assert {coverage.part_of(module) for module in modules} >= {"datapath", "link", "control", "tape"}


def test_kept(root, tmp_path, monkeypatch):
    """A machine that was measured is not measured again, unless there are other stimuli."""
    monkeypatch.setenv("TERNGEN_CACHE_DIR", str(tmp_path))
    model  = Checkpoint.open(root / "tests/data/reference/tiny")
    counts = {Point("endpoint", "line", "hw/a.py:1", "a"): 3, Point("endpoint", "line", "hw/a.py:2", "b"): 0}
    asked  = []
    monkeypatch.setattr(coverage, "measure", lambda config, tapes, say: asked.append(len(tapes)) or counts)
    for hostile in (1, 1, 2):
        assert coverage.kept("tree", model, hostile, print) == counts
    assert asked == [2, 3]


def test_counted_once(listing):
    """A net is counted where it is made: not as an input, not under another name, not inside of an expression."""
    counted = [line for line in listing.text.splitlines() if line.startswith(("  wire", "  reg"))]
    names   = {line.split("=")[0].rstrip(" ;").split()[-1] for line in counted if "$auto" not in line}
    assert names == {"full", "left", "says", "i__ready", "o__valid", "o__payload"}


def test_excluded():
    """A rule takes what nobody has covered; one that takes nothing is refused, and so is one that is not true."""
    here, there = Point("link", "toggle", "hw/a.py:1", "a"), Point("link", "toggle", "hw/a.py:1", "b")
    counts = {here: 0, there: 2}
    rule   = {"module": "link", "what": "a", "reason": "why"}
    assert coverage.excluded(counts, [rule]) == {here: "why"}
    with pytest.raises(ValueError, match=r"^Exclusion of .* excludes nothing$"):
        coverage.excluded(counts, [{**rule, "what": "c"}])
    with pytest.raises(ValueError, match=r"^Exclusion of .* excludes what is covered: link b$"):
        coverage.excluded(counts, [{**rule, "what": "[ab]"}])


def test_page():
    """The tables say what was counted; a part that is excluded does not count."""
    counts = {Point("endpoint", "line", "hw/a.py:1", what): count for what, count in (("a", 3), ("b", 0), ("c", 0))}
    made   = coverage.report(counts, [{"what": "b", "reason": "why"}], ["tree", "lmul"])
    assert made["missing"] == [("endpoint", "line", "hw/a.py:1", "c")]
    text   = "".join(f"<!-- {name} -->\n<!-- end -->\n" for name in ("coverage", "worst", "excluded"))
    told   = coverage.page(text, made)
    assert "Machines: tree, lmul.\n" in told
    assert "| link | all of it | 50.0 |  |  |  | 3 | 1 |" in told
    assert "| link | endpoint | 50.0 |  |  |  | 3 | 1 |" in told
    assert "| endpoint | line | 50.0 | 1 |" in told
    assert "| why | 1 |" in told
    assert coverage.page(told, made) == told


def test_by_name():
    """Bits of a signal are stored together, lines and branches each by itself."""
    missing = [("link", "toggle", "hw/a.py:1", "left[2]:0->1"), ("link", "toggle", "hw/a.py:1", "left[3]:1->0 #2"),
               ("link", "line", "hw/a.py:1", "if: left[2]"), ("link", "line", "hw/a.py:1", "if: left[3]")]
    assert coverage.by_name(missing) == [["link", "line", "hw/a.py:1", "if: left[2]", 1],
                                         ["link", "line", "hw/a.py:1", "if: left[3]", 1],
                                         ["link", "toggle", "hw/a.py:1", "left", 2]]


def test_stored(root):
    """The page says what is stored, of all machines, with the exclusions that there are; the aims are reached."""
    made = json.loads((root / "docs/coverage.json").read_text())
    text = (root / "docs/trust.md").read_text()
    assert coverage.page(text, made) == text
    assert made["machines"] == list(coverage.MACHINES)
    rules = tomllib.loads(coverage.EXCLUSIONS.read_text())["exclude"]
    assert set(made["excluded"]) == {rule["reason"] for rule in rules}
    rows = {row["part"]: row for row in made["units"] if not row["unit"]}
    for part in coverage.AIMED:
        for kind, aim in coverage.AIMS.items():
            assert coverage.share(rows[part][kind]) >= aim


@pytest.mark.long
def test_measure(make_tape):
    """A machine, with few stimuli: most of its lines are executed."""
    tape   = make_tape("tests/data/reference/tiny", slots=2)
    counts = coverage.measure(tape.config, [tape, hostile_tape(tape.config, 0)])
    rows   = {row["part"]: row for row in coverage.summary(counts, {}) if not row["unit"]}
    for part in "datapath", "link":
        assert rows[part]["line"]["points"] > 100
        assert coverage.share(rows[part]["line"]) > 80
