"""A real Dask scheduler, with worker processes of its own."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import distributed


@contextmanager
def running(folder, *command, **environment):
    """A process of Dask."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part), **environment}
    settings = {"cwd": folder, "env": variables, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-m", "dask", *command], **settings) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def cluster(folder, count, **environment):
    """Address of a scheduler; its process and its workers', each with two threads."""
    folder.mkdir()
    file = folder / "scheduler.json"
    with ExitStack() as stack:
        options = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file), "--no-dashboard"]
        scheduler = stack.enter_context(running(folder, "scheduler", *options, **environment))
        options = ["--scheduler-file", str(file), "--nthreads", "2", "--no-nanny", "--no-dashboard"]
        workers = [stack.enter_context(running(folder, "worker", *options)) for _ in range(count)]
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(count, timeout=60)
            address = client.scheduler.address
        yield address, scheduler, workers
