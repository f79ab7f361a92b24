"""Sweeps over machines, from the command line."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from terngen.host.commands import exploring
from terngen.host.explore.points import AXES, FIGURES

BOARD = "ulx3s-85f:sdram"
SMALL = ["--variant", "tree,table", "--row-lanes", "1,2,4", "--lanes", "1,2", "--slots", "1,2", "--format", "e6m11",
         "--multiplier", "exact,lmul", "--prefetch", "64", "--workers", "1"]


@pytest.fixture
def explored(terngen, tiny, cache):
    """Runs a sweep, and tells how many tasks were computed."""
    def explored(*options, fresh=False, code=0):
        if fresh:
            shutil.rmtree(cache / "explore", ignore_errors=True)
        found = terngen("explore", tiny, "--board", BOARD, *SMALL, "--trace", "trace.json", *options, "--json",
                        code=code)
        trace = json.loads(Path("trace.json").read_text())
        return found, trace
    return explored


def test_sweep(explored, terngen, tiny):
    found, trace = explored("--csv", "all.csv", fresh=True)
    values = found.values
    assert values["points"] == 2 * 3 * 2 * 2 * 2
    assert values["dropped"] == {"Configuration is refused: Row lanes must be a power of two and at most the octets "
                                 "of a beat (N), not N": 16}
    assert trace["schedule"]["tasks"] == len(trace["spans"]) == 1
    # Each is what the estimator says of this machine.
    with open("all.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 32
    assert {row["digest"] for row in rows if row["front"] == "1"} == {point["digest"] for point in values["front"]}
    for point in values["front"][::3]:
        memory = "latency=14,refresh_period=0"
        config = {name: point[name] for name in ("variant", "beat_bits", "row_lanes", "lanes", "slots", "prefetch")}
        with open("machine.json", "w") as file:
            json.dump(config, file)
        alone = terngen("estimate", tiny, "--config", "machine.json", "--memory", memory, "--multiplier",
                        point["multiplier"], "--clock", 120, "--json").values
        assert alone["cycles_per_token"] == pytest.approx(point["cycles_per_token"], rel=0.05)      # refresh
        assert (alone["lut"], alone["bram"], alone["dsp"]) == (point["lut"], point["bram"], point["dsp"])
        assert point["tokens_per_second"] == point["slots"] * 120e6 / point["cycles_per_token"]
        assert point["power_mw"] == pytest.approx(point["energy_uj"] * point["tokens_per_second"] * 1e-3)


def test_again(explored, monkeypatch):
    """What was found is told again without a machine being looked at."""
    first, _ = explored(fresh=True)
    monkeypatch.setattr(exploring, "perform", None)
    again, trace = explored()
    assert again.stdout == first.stdout
    assert trace["schedule"]["tasks"] == 0


def test_program(explored, monkeypatch):
    """With another program nothing that was kept counts."""
    explored(fresh=True)
    real = exploring.program("estimate")
    monkeypatch.setattr(exploring, "program", lambda stage: {**real, "sources": "0" * 64})
    _, trace = explored()
    assert trace["schedule"]["tasks"] == 1


def test_worker_with_another_program(monkeypatch, root):
    """A worker refuses what is not meant for it."""
    from terngen.host.commands.machines import geometry_of
    from terngen.host.errors import ToolError
    [task] = exploring.estimate_tasks(geometry_of(str(root / "models/fairy-1m")), BOARD, {}, [{"beat_bits": 16}])
    json.loads(exploring.perform(task))
    monkeypatch.setattr(exploring, "program", lambda stage: {"sources": "0" * 64, "versions": {}})
    with pytest.raises(ToolError, match=r"^Worker has another program: \{'sources': '000"):
        exploring.perform(task)


def test_points_differ(terngen, tiny, cache):
    """Every axis decides about something, and so does the model."""
    from terngen.host.commands.machines import geometry_of
    geometry = geometry_of(str(tiny))
    point = {name: values[0] for name, values in AXES.items()}
    other = {name: values[1] for name, values in AXES.items()} | {"beat_bits": 32}
    known = {}
    for name in [None, *AXES]:
        changed = point if name is None else point | {name: other[name]}
        [task]  = exploring.estimate_tasks(geometry, "ulx3s-85f:onchip", {"prefetch": 16}, [changed])
        [known[name]] = json.loads(exploring.perform(task))
    different = {name: {key for key in known[None] if known[name][key] != known[None][key]} for name in AXES}
    assert all("digest" in keys and len(keys) > 1 for keys in different.values()), different
    assert {"lut", "ff", "dsp", "energy_uj"} <= different["multiplier"]
    assert "energy_uj" in different["path"]


# Schedulers.

@pytest.fixture(scope="module")
def dask():
    """Address of a Dask scheduler with two workers that are processes."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster:
        yield cluster.scheduler_address


BUILD = ["--stage", "synth", "--component", "to-int8", "--top", "3", "--format", "e6m11,e5m7"]


@pytest.mark.parametrize("stage", [[], BUILD], ids=["estimate", "synth"])
def test_same_on_a_cluster(explored, dask, stage):
    """Local and distributed results are the same octets; the cache of one serves the other."""
    local, _      = explored(*stage, fresh=True)
    cluster, made = explored(*stage, "--scheduler", dask, fresh=True)
    assert cluster.stdout == local.stdout
    assert made["schedule"]["tasks"] == (1 if not stage else 5)
    again, made = explored(*stage, "--workers", 2)
    assert again.stdout == local.stdout
    assert made["schedule"]["tasks"] == 0
    two, made = explored(*stage, "--workers", 2, fresh=True)
    assert two.stdout == local.stdout
    assert made["schedule"]["tasks"] > 0


def test_built(explored, terngen):
    """What the tools make of a unit is what `terngen synth` says of it; machines are from all of the front."""
    values = explored(*BUILD)[0].values
    assert [entry["tokens_per_second"] for entry in values["built"]] == sorted(
        (entry["tokens_per_second"] for entry in values["built"]), reverse=True)
    first, *_, last = values["front"]
    assert {first["digest"], last["digest"]} <= {entry["digest"] for entry in values["built"]}
    plain = terngen("synth", "to-int8", "--json").values
    for entry in values["built"]:
        assert entry["result"]["fits"] and entry["result"]["why"] is None
        if entry["path"] == "e6m11":
            assert (entry["result"]["lut"], entry["result"]["ff"]) == (plain["luts"], plain["ffs"])
        else:
            assert entry["result"]["lut"] < plain["luts"]
    assert any(entry["front"] for entry in values["built"])


def test_routed(explored):
    values = explored("--stage", "route", "--component", "to-int8", "--top", 1, "--seed", 2)[0].values
    [entry] = values["built"]
    result  = entry["result"]
    assert result["mhz"] > 50
    assert result["met"] == (result["mhz"] >= 120) == entry["front"] == (result["why"] is None)


def test_clock_missed(explored, monkeypatch):
    """A machine that misses its clock is not on the front, and the table says why."""
    from terngen.hw import build
    monkeypatch.setattr(build, "place", lambda *args, **options: build.Timing(95.04, [], None))
    options = ("--stage", "route", "--component", "to-int8", "--top", 1)
    [entry] = explored(*options, fresh=True)[0].values["built"]
    assert not entry["front"]
    assert entry["result"]["why"] == "A clock is missed; the machine's reaches 95.0 MHz of 120"


@pytest.mark.long
def test_whole_board(terngen, tiny, work):
    """Everything behind the pins of a board, synthesised, and placed and routed; some three minutes."""
    words = ["explore", tiny, "--board", BOARD, "--variant", "tree", "--row-lanes", 1, "--lanes", 1, "--slots", 1,
             "--format", "e6m11", "--multiplier", "lmul", "--prefetch", 64, "--workers", 1, "--json", "--stage"]
    [entry]  = terngen(*words, "synth").values["built"]
    [routed] = terngen(*words, "route").values["built"]
    cells = ("lut", "ff", "bram", "dsp")
    assert [routed["result"][name] for name in cells] == [entry["result"][name] for name in cells]
    # The board has its memory and its link besides the machine that the estimator knows.
    assert entry["lut"] < entry["result"]["lut"] < 1.15 * entry["lut"]
    assert (entry["result"]["bram"], entry["result"]["dsp"]) == (entry["bram"], entry["dsp"])
    assert routed["result"]["met"] == (routed["result"]["mhz"] >= 120) == routed["front"]


def test_tool_fails(explored, monkeypatch):
    """One that cannot be built is told, the others are kept, and the exit code says so."""
    from terngen.host.errors import ToolError
    real = exploring._measured

    def measured(task):
        if task["point"]["path"] != "e6m11":
            raise ToolError("yosys failed with status 1: ERROR: out of luck")
        return real(task)

    monkeypatch.setattr(exploring, "_measured", measured)
    found, _ = explored(*BUILD, fresh=True, code=3)
    built  = json.loads(found.stdout)["built"]
    failed = [entry for entry in built if "error" in entry]
    assert {entry["path"] for entry in failed} == {"e5m7"}
    assert failed[0]["error"] == "yosys failed with status 1: ERROR: out of luck"
    assert f"Error: {len(failed)} of 3 machines could not be built: yosys failed" in found.stderr
    # The same command goes on with what is missing.
    monkeypatch.undo()


def test_interrupted(explored, monkeypatch):
    """What was finished is kept."""
    real, calls = exploring.perform, []

    def perform(task):
        calls.append(task)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(task)

    monkeypatch.setattr(exploring, "perform", perform)
    found, trace = explored(*BUILD, fresh=True, code=130)
    assert "What was finished is kept; the same command goes on" in found.stderr
    assert trace["schedule"]["tasks"] == 3
    found, trace = explored(*BUILD)
    assert trace["schedule"]["tasks"] == 2


# For people.

def test_table(terngen, tiny, work):
    lines = terngen("explore", tiny, "--board", BOARD, *SMALL, "--plot", "front.svg").stdout.splitlines()
    assert re.match(r"48 machines for ulx3s-85f:sdram at 120 MHz: 32 fit, \d+ on the front$", lines[0])
    assert lines[1].lstrip().startswith("16 dropped: Configuration is refused: Row lanes")
    assert lines[3].split()[:4] == ["array", "beat", "rows", "lanes"]
    svg = (work / "front.svg").read_text()
    assert svg.startswith("<?xml") and svg.count("<g id=\"axes_") == 3


def test_on_chip(terngen, tiny, work):
    """Widths of the tape are swept where the memory leaves them open; what does not fit is told by reason."""
    options = ["--row-lanes", 1, "--lanes", 1, "--slots", "1,8", "--format", "e6m11", "--multiplier", "exact",
               "--prefetch", 16, "--workers", 1, "--json"]
    values = terngen("explore", tiny, "--board", "ulx3s-85f:onchip", *options).values
    assert values["axes"]["beat_bits"] == list(AXES["beat_bits"])
    assert values["clock_mhz"] == 87.5
    large = terngen("explore", "370m", "--board", "ulx3s-85f:onchip", "--beat-bits", 512, *options).values
    assert large["front"] == [] and large["dropped"] == {"The tape does not fit the memory": 6}
    assert terngen("explore", "370m", "--board", "ulx3s-85f:onchip", "--beat-bits", 512, *options[:-1]).stdout
    wrong = terngen("explore", tiny, "--board", BOARD, "--beat-bits", 64, *options).values
    assert wrong["dropped"] == {"The memory has beats of 16 bits": 6}


def test_board_of_a_file(terngen, tiny, work):
    """Workers read the file; when it changes, nothing that was kept counts."""
    text = "from terngen.hw.boards.ulx3s import BOARD\n"
    (work / "mine.py").write_text(text)
    words = ["explore", tiny, *SMALL, "--workers", 2, "--trace", "trace.json", "--json"]
    known = terngen(*words, "--board", BOARD).values
    assert terngen(*words, "--board", "mine.py").values == known
    assert json.loads((work / "trace.json").read_text())["schedule"]["tasks"] == 1
    assert terngen(*words, "--board", f"{work / 'mine.py'}:sdram").values == known
    assert json.loads((work / "trace.json").read_text())["schedule"]["tasks"] == 0
    (work / "mine.py").write_text(f"{text}# again\n")
    assert terngen(*words, "--board", "mine.py:sdram").values == known
    assert json.loads((work / "trace.json").read_text())["schedule"]["tasks"] == 1


def test_front_is_best(explored):
    values = explored()[0].values
    names  = list(FIGURES)
    assert values["front"]
    assert all(name in point for point in values["front"] for name in names)


@pytest.mark.parametrize("words, code, message", [
    (["none", "--board", BOARD],                         8, "There is no checkpoint folder at none, and no published"),
    (["370m", "--board", "none"],                        4, "There is no board 'none'"),
    (["370m", "--board", BOARD, "--lanes", "1,x"],       2, "Invalid value for '--lanes': Values of lanes must be"),
    (["370m", "--board", BOARD, "--slots", "0"],         2, "Invalid value for '--slots': Values of slots must be"),
    (["370m", "--board", BOARD, "--variant", "bush"],    2, "Invalid value for '--variant': Variant must be one of"),
    (["370m", "--board", BOARD, "--format", "float"],    2, "Invalid value for '--format': "),
    (["370m", "--board", BOARD, "--multiplier", "best"], 2, "Invalid value for '--multiplier': "),
    (["370m", "--board", BOARD, "--component", "soul"],  2, "Invalid value for --component: Component must be one of"),
    (["370m", "--board", "kv260", "--stage", "route"],   4, "Board kv260 cannot be placed and routed by open tools; "),
    (["370m", "--board", "tang-nano-20k", "--stage", "route", "--component", "add"], 4,
     "Component add on board tang-nano-20k cannot be placed"),
    (["370m", "--board", BOARD, "--slurm", "queue=x"],   2, "Options of SLURM need --scheduler slurm"),
    (["370m", "--board", BOARD, "--scheduler", "slurm", "--slurm", "x"], 2, "Invalid value for --slurm: Option of"),
    (["370m", "--board", BOARD, "--plot", "x.gif"],      2, "Invalid value for '--plot': Plot must be a file"),
    (["370m", "--board", BOARD, "--config", "none"],     4, "There is no configuration 'none'"),
])
def test_refused(refused, words, code, message):
    refused("explore", *words, code=code, message=message)


def test_no_matplotlib(refused, tiny, monkeypatch):
    """It is told before anything is computed."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(exploring, "perform", None)
    refused("explore", tiny, "--board", BOARD, "--plot", "front.svg", code=3,
            message="Plots need matplotlib, which is not installed; ")


def test_no_scheduler(refused, tiny, monkeypatch, cache):
    pytest.importorskip("distributed")
    from terngen.host.explore import schedulers
    monkeypatch.setattr(schedulers, "PATIENCE", 0.5)
    shutil.rmtree(cache / "explore", ignore_errors=True)
    refused("explore", tiny, "--board", BOARD, "--scheduler", "tcp://127.0.0.1:1", code=7,
            message="There is no Dask scheduler at tcp://127.0.0.1:1: ")
