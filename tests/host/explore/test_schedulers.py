"""Local processes and a real Dask cluster: the same results, whatever dies."""

import collections
import os
import signal
import stat
import sys
import threading
import time

import pytest

from terngen.host.errors import DeviceError, ToolError
from terngen.host.explore import schedulers
from terngen.host.explore.cache import Cache, key_of
from terngen.host.explore.schedulers import Here, Local, Outcome, Span, open_scheduler, schedule
from terngen.host.explore.sweep import sweep

NUMBERS = [str(number).encode() for number in range(64)]
LIMIT   = 60


def results(scheduler, perform, tasks):
    """Results in the order of the tasks, and the outcomes."""
    with scheduler:
        found = dict(scheduler.run(perform, tasks))
    assert sorted(found) == list(range(len(tasks)))
    return [found[place].octets for place in range(len(tasks))]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition):
    limit = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


@pytest.fixture
def dask(cluster):
    """Connects to the cluster as the command line does."""
    return lambda: open_scheduler(cluster.scheduler_address, 1)


def test_same_everywhere(tasks, dask):
    """A sweep of 64 points gives the same octets in this process, in others, and on a cluster."""
    expected = results(Here(), tasks.fast, NUMBERS)
    assert results(Local(2), tasks.fast, NUMBERS) == expected
    assert results(dask(), tasks.fast, NUMBERS) == expected


@pytest.mark.parametrize("where", ["local", "dask"])
def test_worker_killed(tasks, dask, tmp_path, where):
    """A worker that is killed in mid-sweep takes no result with it that was finished, and no task."""
    work  = [f"{tmp_path} {number}".encode() for number in range(64)]
    cache = Cache(tmp_path / "cache")
    killed: list[int] = []
    finished: set[int] = set()

    def seen(place, outcome):
        if len(finished) == 10 and not killed:
            killed.append(int(outcome.span.worker.rpartition("/")[2]))
            os.kill(killed[0], signal.SIGKILL)
        if not killed:
            finished.add(place)
            assert cache.get(key_of(work[place])) == outcome.octets

    outcomes = sweep(work, tasks.noted, (lambda: Local(2)) if where == "local" else dask, cache, seen)
    assert [outcome.octets for outcome in outcomes] == [tasks.fast(number) for number in NUMBERS]
    runs = collections.Counter(int(path.name.partition(".")[0]) for path in tmp_path.glob("*.*.*"))
    assert len(killed) == 1 and len(finished) == 10
    assert all(runs[place] == 1 for place in finished)
    # Of the others those that the worker held are computed again: one; with Dask also what was on its way.
    assert sum(runs.values()) - 64 <= {"local": 1, "dask": 16}[where]
    # What was found is kept: nothing is computed a second time.
    assert sweep(work, tasks.breaks, Here, cache) == [Outcome(outcome.octets) for outcome in outcomes]


@pytest.mark.parametrize("where", ["local", "dask"])
def test_task_given_again(tasks, dask, tmp_path, where):
    scheduler = Local(1) if where == "local" else dask()
    assert results(scheduler, tasks.dies_once, [str(tmp_path / "died").encode()]) == [b"done"]


@pytest.mark.parametrize("where", ["local", "dask"])
def test_task_kills_workers(tasks, dask, cluster, monkeypatch, where):
    """A task that no worker survives is given up; the others are computed."""
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    work = [*NUMBERS[:5], b"die", *NUMBERS[5:10]]
    with Local(2) if where == "local" else dask() as scheduler:
        found = dict(scheduler.run(tasks.dies, work))
    assert found.pop(5).error.startswith("Worker died 4 times" if where == "local" else "Workers died while")
    assert {place: outcome.octets for place, outcome in found.items()} == {
        place: tasks.fast(task) for place, task in enumerate(work) if task != b"die"}


@pytest.mark.parametrize("where", ["here", "local", "dask"])
def test_task_fails(tasks, dask, tmp_path, where):
    """A tool that fails is told, and not kept; a defect is raised."""
    make  = {"here": Here, "local": lambda: Local(2), "dask": dask}[where]
    cache = Cache(tmp_path / "cache")
    first, second = sweep([b"a", b"b"], tasks.fails, make, cache)
    assert (first.octets, first.error, second.error) == (None, "Tool failed on a", "Tool failed on b")
    assert cache.get(key_of(b"a")) is None
    with pytest.raises(ZeroDivisionError):
        sweep([b"a"], tasks.breaks, make, cache)


def test_interrupted(tasks, tmp_path):
    """Ctrl-C keeps what is finished, and the same sweep goes on."""
    cache = Cache(tmp_path / "cache")
    count = []

    def seen(place, outcome):
        count.append(place)
        if len(count) == 20:
            raise KeyboardInterrupt

    for make in (Here, lambda: Local(2)):
        count.clear()
        work = [f"{make} {number}".encode() for number in range(64)]
        with pytest.raises(KeyboardInterrupt):
            sweep(work, tasks.fast, make, cache, seen)
        kept = sum(cache.get(key_of(task)) is not None for task in work)
        assert kept == 20
        rest = []
        sweep(work, tasks.fast, Here, cache, lambda place, outcome: rest.append(place))     # noqa: B023
        assert len(rest) == 64 - kept


def test_tools_end(tasks, tmp_path, monkeypatch):
    """Workers and their tools end with the sweep."""
    path = tmp_path / "pids"
    monkeypatch.setattr(Local, "_worker", lambda local, real=Local._worker: threading.Timer(
        0.1, lambda: until(path.exists) or os.kill(os.getpid(), signal.SIGINT)).start() or real(local))
    with pytest.raises(KeyboardInterrupt):
        results(Local(1), tasks.sleeps, [str(path).encode()])
    worker, tool = map(int, path.read_text().split())
    until(lambda: not alive(worker) and not alive(tool))


def test_tools_end_with_the_sweep(tmp_path, root):
    """Even if it is killed."""
    import subprocess
    path   = tmp_path / "pids"
    script = ("import sys; sys.path.insert(0, sys.argv[1]); import sweep_tasks\n"
              "from terngen.host.explore.schedulers import Local\n"
              "if __name__ == '__main__':\n"
              "    with Local(2) as scheduler: list(scheduler.run(sweep_tasks.sleeps, [sys.argv[2].encode()]))\n")
    (tmp_path / "script.py").write_text(script)
    sweeper = subprocess.Popen([sys.executable, tmp_path / "script.py", root / "tests/host/explore", path])
    until(path.exists)
    worker, tool = map(int, path.read_text().split())
    assert alive(worker) and alive(tool)
    sweeper.kill()
    sweeper.wait()
    until(lambda: not alive(worker) and not alive(tool))


# Speed-up.

def span(worker, begin, processor):
    return Span(worker, begin, begin + 2 * processor, processor)


def test_schedule():
    """By hand: 12 seconds of work, of which the busiest worker has 5."""
    spans = [span("a", 0, 2), span("b", 0, 4), span("c", 0, 3), span("a", 4, 3)]
    assert schedule(spans) == {"tasks": 4, "workers": 3, "processor_seconds": 12, "busiest_seconds": 5,
                               "speedup": 12 / 5, "seconds": 10}
    assert schedule(spans[:1])["speedup"] == 1
    assert schedule([]) == {"tasks": 0, "workers": 0, "processor_seconds": 0, "busiest_seconds": 0, "speedup": 1.0,
                            "seconds": 0}


def test_processor_time(tasks):
    """What a task costs is measured in the worker, and is not what others cost."""
    with Local(2) as scheduler:
        spans = {place: outcome.span for place, outcome in scheduler.run(tasks.spent, [b"40", b"5", b"20"])}
    assert 0.4 <= spans[0].processor < 0.8
    assert 0.2 <= spans[2].processor < 0.6
    assert spans[1].processor < 0.4
    assert len({each.worker for each in spans.values()}) == 2
    assert all(each.begin < each.end for each in spans.values())


# What can be wrong.

def test_no_scheduler(monkeypatch):
    monkeypatch.setattr(schedulers, "PATIENCE", 0.5)
    with pytest.raises(DeviceError, match=r"^There is no Dask scheduler at tcp://127\.0\.0\.1:1: "):
        open_scheduler("tcp://127.0.0.1:1", 1)
    with pytest.raises(DeviceError, match=r"^There is no Dask scheduler at nonsense: "):
        open_scheduler("nonsense", 1)


def test_no_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ToolError, match=r"^Clusters need Dask, which is not installed; `pip install "):
        open_scheduler("tcp://127.0.0.1:1", 1)
    assert isinstance(open_scheduler("local", 1), Here)
    assert isinstance(open_scheduler("local", 3), Local)


# SLURM: programs of these names that start the job at once.

_SBATCH = """#!/bin/sh
cp "$1" {folder}/job
setsid bash {folder}/job >{folder}/log 2>&1 </dev/null &
echo $! > {folder}/pid
echo "Submitted batch job $!"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with sbatch and scancel, which has what they were told."""
    for name, text in (("sbatch", _SBATCH), ("scancel", "#!/bin/sh\necho $1 >> {folder}/cancelled\nkill -- -$1\n")):
        path = tmp_path / name
        path.write_text(text.format(folder=tmp_path))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_slurm(tasks, slurm, root, monkeypatch):
    """Jobs are submitted as asked, compute the same, and are cancelled in the end."""
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root / "tests/host/explore"), *filter(
        None, [os.environ.get("PYTHONPATH")])]))
    scheduler = open_scheduler("slurm", 1, {"queue": "long", "memory": "1GB", "walltime": "01:00:00",
                                            "interface": "lo"})
    assert results(scheduler, tasks.fast, NUMBERS) == list(map(tasks.fast, NUMBERS))
    job = (slurm / "job").read_text()
    assert "#SBATCH -p long" in job and "#SBATCH -t 01:00:00" in job and "--nthreads 1" in job
    until((slurm / "cancelled").exists)
    assert (slurm / "cancelled").read_text() == (slurm / "pid").read_text()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")     # a cluster that was never made
def test_slurm_refuses(slurm):
    pytest.importorskip("dask_jobqueue")
    with pytest.raises(ToolError, match=r"^Jobs cannot be submitted to SLURM: "):
        open_scheduler("slurm", 1, {"nonsense": "1"})
