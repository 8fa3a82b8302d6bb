"""Where tasks are done."""

from __future__ import annotations

from contextlib import AbstractContextManager

from augreg.tasks.processes import Place, processes


def place(workers: int = 1, scheduler: str | None = None) -> AbstractContextManager[Place]:
    """The processes of this machine, or the workers of a Dask cluster.

    Parameters
    ----------
    workers : number of processes of this machine; one is this process itself
    scheduler : address of a Dask cluster that does the work instead; all its machines must see the folders that tasks write to

    Raises
    ------
    ValueError : for a number below 1, and when entered, for an address that does not answer.
    RuntimeError : while tasks are done, where worker after worker is killed; the same call goes on.
    """
    if workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}")
    if scheduler is None:
        return processes(workers)
    from augreg.tasks.cluster import cluster  # brings packages of an extra

    return cluster(scheduler)
