"""Tasks on a Dask cluster: the same as in the processes of one machine.

The task, with all that it holds, is a plug-in of the workers: it travels once to each, also to those that come later; a
call carries a number. Workers need augreg, and the folder under the same path. Processors of different kinds may
round differently: bytes agree between equal ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from augreg.missing import missing
from augreg.tasks.processes import Finished, Place, Task

try:
    from distributed import Client, KilledWorker, WorkerPlugin, as_completed, get_worker
except ModuleNotFoundError as error:
    raise missing("scheduler", error, "cluster") from error

# seconds in which a scheduler answers
_PATIENCE = 5.0


@contextmanager
def cluster(address: str) -> Iterator[Place]:
    """The workers of a cluster. They may come late: tasks wait for the first. Where one is killed, others take its tasks.

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
    # a task that another run left under its name must not serve this one
    name = f"augreg-{uuid4()}"

    def run(task: Task, numbers: Sequence[int]) -> Finished:
        if not client.nthreads():
            warnings.warn(f"{address}: no workers yet, waiting for the first", stacklevel=2)
        client.register_plugin(_Held(task), name=name)
        futures = {client.submit(_work, name, number, pure=False): number for number in numbers}
        try:
            for future in as_completed(futures, loop=client.loop):
                yield futures[future], future.result()
        except KilledWorker as error:
            raise RuntimeError(f"{address}: expected workers several were killed; run again to go on") from error
        except CancelledError as error:
            raise RuntimeError(f"{address}: expected a scheduler until the end, it went away; run again to go on") from error
        finally:
            client.cancel(list(futures))
        client.unregister_worker_plugin(name)

    with client:
        yield run


class _Held(WorkerPlugin):
    """A task that a worker holds."""

    def __init__(self, task: Task) -> None:
        self.task = task


def _work(name: str, number: int) -> Any:
    return get_worker().plugins[name].task(number)
