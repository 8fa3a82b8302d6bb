"""Shards on a Dask cluster: the same tasks as in the processes of one machine.

The task, with the generator and its model, travels once to each worker; a call carries the number of a shard. Workers need
augreg, and the folder under the same path. Processors of different kinds may round differently: bytes agree between equal ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager

from augreg.synthesis.processes import Finished, Place, Task
from augreg.synthesis.shard import ShardReport

try:
    from distributed import Client, KilledWorker, as_completed
except ModuleNotFoundError as error:
    raise ValueError(f"scheduler: expected the package {error.name}, it is missing; pip install 'augreg[cluster]'") from error

# seconds in which a scheduler answers
_PATIENCE = 5.0


@contextmanager
def cluster(address: str) -> Iterator[Place]:
    """The workers of a cluster. They may come late: shards wait for the first. Where one is killed, others take its shards.

    Raises
    ------
    ValueError : for an address that does not answer. RuntimeError : where worker after worker is killed, or the scheduler is.
    """
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"scheduler: expected the address of a Dask scheduler, none answered at {address} within {_PATIENCE:g} s; "
            "is it running, and its port open?"
        ) from error

    def run(task: Task, shards: Sequence[int]) -> Finished:
        left = set(shards)
        while left:
            before = len(left)
            for shard, report in _round(client, task, sorted(left)):
                left.remove(shard)
                yield shard, report
            if len(left) == before:
                raise RuntimeError(f"{address}: expected workers that finish shards, they were killed or left; run again")

    with client:
        yield run


def _round(client: Client, task: Task, shards: Sequence[int]) -> Finished:
    """Those shards that are finished before the task is lost with the last worker that held it."""
    try:
        client.wait_for_workers(1)
        shared = client.scatter(task, broadcast=True, hash=False)
        futures = {client.submit(_work, shared, shard, pure=False): shard for shard in shards}
        for future in as_completed(futures):
            if not future.cancelled():
                yield futures[future], future.result()
    except (CancelledError, KilledWorker, OSError):
        return


def _work(task: Task, shard: int) -> ShardReport:
    return task(shard)
