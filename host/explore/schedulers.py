"""Where the tasks of a sweep are computed: processes of this machine, a Dask cluster, or jobs of SLURM.

A task is octets, and so is its result, which depends on nothing else: not on the scheduler, nor on the order. Results
come to the sweep as they are made, so that a worker which dies takes none of them with it.
"""

import collections
import concurrent.futures
import dataclasses
import multiprocessing
import os
import platform
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, Self, TypeAlias

from terngen.host.errors import DeviceError, ToolError

__all__ = ["PATIENCE", "RETRIES", "Dask", "Here", "Local", "Outcome", "Perform", "Scheduler", "Span", "open_scheduler",
           "schedule"]

#: What computes a result; a function of a module, because other processes import it.
Perform: TypeAlias = Callable[[bytes], bytes]

#: Times that a task is tried again after its worker has died.
RETRIES = 3
#: Seconds in which a Dask scheduler must answer.
PATIENCE = 10


@dataclasses.dataclass(frozen=True)
class Span:
    """Who computed a task, and when: seconds since the epoch, and seconds of a processor, its tools' included."""

    worker:    str
    begin:     float
    end:       float
    processor: float


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a task: its result, or one sentence about why there is none."""

    octets: bytes | None = None
    error:  str          = ""
    span:   Span | None  = None


class Scheduler(Protocol):
    """Computes tasks, in a ``with`` statement; leaving it early stops what is still being computed."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...

    def run(self, perform: Perform, tasks: Sequence[bytes]) -> Iterator[tuple[int, Outcome]]:
        """Place and outcome of each task, as they come."""


def _processor() -> float:
    """Processor time of this process and of those that it has waited for."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def _measured(perform: Perform, task: bytes) -> Outcome:
    """In the worker."""
    begin, spent = time.time(), _processor()
    octets, sentence = None, ""
    try:
        octets = perform(task)
    except DeviceError as error:
        sentence = str(error)
    worker = f"{platform.node()}/{os.getpid()}"
    return Outcome(octets, sentence, Span(worker, begin, time.time(), _processor() - spent))


class Here:
    """This process, one task after the other."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing is to be let go of."""

    def run(self, perform: Perform, tasks: Sequence[bytes]) -> Iterator[tuple[int, Outcome]]:
        for place, task in enumerate(tasks):
            yield place, _measured(perform, task)


def _alone() -> None:
    """A worker and its tools are a group of processes, which ends as one: with the worker's parent, or before."""
    os.setsid()
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


class Local:
    """Processes of this machine.

    Each worker is a pool of its own, so that one which dies says which task it was busy with.

    Parameters
    ----------
    workers : :class:`int`
        How many.
    """

    def __init__(self, workers: int) -> None:
        self._count   = workers
        self._context = multiprocessing.get_context("spawn")
        self._others: list[Any] = []

    def __enter__(self) -> Self:
        self._others = multiprocessing.active_children()
        return self

    def __exit__(self, *exception: object) -> None:
        for child in multiprocessing.active_children():
            if child not in self._others and child.pid is not None:
                try:
                    os.killpg(child.pid, signal.SIGKILL)
                except ProcessLookupError:      # it ended by itself, or has not got so far
                    child.kill()

    def run(self, perform: Perform, tasks: Sequence[bytes]) -> Iterator[tuple[int, Outcome]]:
        waiting = collections.deque(range(len(tasks)))
        tries   = collections.Counter[int]()
        idle    = [self._worker() for _ in range(min(self._count, len(tasks)))]
        running: dict[concurrent.futures.Future[Outcome], tuple[Any, int]] = {}
        while waiting or running:
            while waiting and idle:
                pool, place = idle.pop(), waiting.popleft()
                running[pool.submit(_measured, perform, tasks[place])] = pool, place
            for future in concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done:
                pool, place = running.pop(future)
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    pool.shutdown(wait=False)
                    idle.append(self._worker())
                    tries[place] += 1
                    if tries[place] <= RETRIES:
                        waiting.appendleft(place)
                        continue
                    outcome = Outcome(error=f"Worker died {tries[place]} times while it computed this")
                else:
                    idle.append(pool)
                yield place, outcome
        for pool in idle:
            pool.shutdown()

    def _worker(self) -> concurrent.futures.ProcessPoolExecutor:
        return concurrent.futures.ProcessPoolExecutor(1, mp_context=self._context, initializer=_alone)


class Dask:
    """Workers of a Dask cluster, which import this program.

    Parameters
    ----------
    client : ``distributed.Client``
        Connected; it is closed in the end.
    cluster
        What is closed with it.
    """

    def __init__(self, client: Any, cluster: Any = None) -> None:
        self._client, self._cluster = client, cluster

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for each in (self._client, self._cluster):
            if each is not None:
                each.close()

    def run(self, perform: Perform, tasks: Sequence[bytes]) -> Iterator[tuple[int, Outcome]]:
        import distributed

        def submit(place: int) -> Any:
            return self._client.submit(_measured, perform, tasks[place], pure=False)

        suspects: list[int] = []
        try:
            # Dask gives a task whose worker died to another one, and makes results again that were lost with it.
            places = {submit(place): place for place in range(len(tasks))}
            for future in distributed.as_completed(places, loop=self._client.loop):
                place = places.pop(future)
                try:
                    outcome = future.result()
                except distributed.scheduler.KilledWorker:
                    suspects.append(place)
                    continue
                future.release()
                yield place, outcome
            # Tasks that only waited at workers which died are blamed as well. Alone, each shows what it does.
            for place in suspects:
                try:
                    yield place, submit(place).result()
                except distributed.scheduler.KilledWorker as error:
                    yield place, Outcome(error=f"Workers died while they computed this: {error.args[0]}")
        except (OSError, distributed.client.FutureCancelledError) as error:
            raise DeviceError(f"The Dask scheduler went away: {error}; what was finished is kept, and the same "
                              f"command goes on") from error


def _slurm_value(text: str) -> Any:
    return int(text) if text.isdecimal() else text


def open_scheduler(spec: str, workers: int, options: Mapping[str, str] | None = None) -> Scheduler:
    """What the command line names.

    Parameters
    ----------
    spec
        ``local``, ``slurm``, or the address of a Dask scheduler.
    workers
        Processes, or jobs of SLURM.
    options
        Of ``dask_jobqueue.SLURMCluster``, for SLURM.

    Raises
    ------
    ToolError
        If Dask is not installed, or SLURM refuses.
    DeviceError
        If no scheduler answers.
    """
    if spec == "local":
        return Here() if workers == 1 else Local(workers)
    try:
        import distributed
    except ImportError as error:
        raise ToolError("Clusters need Dask, which is not installed; `pip install 'terngen[explore]'` installs "
                        "it") from error
    if spec != "slurm":
        try:
            return Dask(distributed.Client(spec, timeout=PATIENCE, set_as_default=False))
        except (OSError, ValueError) as error:
            raise DeviceError(f"There is no Dask scheduler at {spec}: {error}") from error
    try:
        from dask_jobqueue.slurm import SLURMCluster
        given   = {"cores": 1, "processes": 1, "memory": "4GB", "scheduler_options": {"dashboard_address": ":0"},
                   **{name: _slurm_value(text) for name, text in (options or {}).items()}}
        cluster = SLURMCluster(**given)
        cluster.scale(jobs=workers)
        return Dask(distributed.Client(cluster, set_as_default=False), cluster)
    except ImportError as error:
        raise ToolError("SLURM needs dask-jobqueue, which is not installed; `pip install 'terngen[explore]'` installs "
                        "it") from error
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise ToolError(f"Jobs cannot be submitted to SLURM: {error}") from error


def schedule(spans: Sequence[Span]) -> dict[str, Any]:
    """What a sweep took: by its workers' processor time, as on a machine that has a core for each.

    The speed-up is all processor time by that of the busiest worker, whose tasks came one after the other.
    """
    busy: collections.Counter[str] = collections.Counter()
    for span in spans:
        busy[span.worker] += span.processor     # type: ignore[assignment]
    total, longest = sum(busy.values()), max(busy.values(), default=0)
    return {
        "tasks":             len(spans),
        "workers":           len(busy),
        "processor_seconds": total,
        "busiest_seconds":   longest,
        "speedup":           total / longest if longest else 1.0,
        "seconds":           max(span.end for span in spans) - min(span.begin for span in spans) if spans else 0,
    }
