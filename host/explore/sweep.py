"""A sweep: tasks whose results are taken from the cache, or computed and put there as they come."""

from collections.abc import Callable, Sequence
from typing import Any

from terngen.host.explore.cache import Cache, key_of
from terngen.host.explore.schedulers import Outcome, Perform, Scheduler

__all__ = ["sweep"]


def sweep(tasks: Sequence[bytes], perform: Perform, open_scheduler: Callable[[], Scheduler], cache: Cache,
          seen: Callable[[int, Outcome], Any] = lambda place, outcome: None,
          progress: Callable[[int, int], Any] = lambda done, total: None) -> list[Outcome]:
    """Outcome of each task, in their order; what comes from the cache has no span.

    Parameters
    ----------
    open_scheduler
        Gives the scheduler, if anything is to be computed.
    seen
        Called with the place of a task and its outcome, as it is computed.
    progress
        Called with how many are done of how many.
    """
    keys     = [key_of(task) for task in tasks]
    outcomes = [Outcome(cache.get(key)) for key in keys]
    missing  = [place for place, outcome in enumerate(outcomes) if outcome.octets is None]
    done     = len(tasks) - len(missing)
    progress(done, len(tasks))
    if missing:
        with open_scheduler() as scheduler:
            for index, outcome in scheduler.run(perform, [tasks[place] for place in missing]):
                place = missing[index]
                outcomes[place] = outcome
                if outcome.octets is not None:
                    cache.put(keys[place], outcome.octets)
                seen(place, outcome)
                done += 1
                progress(done, len(tasks))
    return outcomes
