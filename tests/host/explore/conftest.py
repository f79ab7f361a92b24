"""Tasks for workers, in a module that they can import."""

import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def tasks():
    """The module :mod:`sweep_tasks`; workers get the same path to look for it."""
    here = str(Path(__file__).parent)
    sys.path.insert(0, here)
    import sweep_tasks
    yield sweep_tasks
    sys.path.remove(here)
    del sys.modules["sweep_tasks"]


@pytest.fixture(scope="module")
def cluster(tasks):
    """A Dask cluster: a scheduler, and two workers that are processes."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True) as cluster:
        yield cluster
