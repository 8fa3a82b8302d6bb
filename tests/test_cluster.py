"""Shards on a real Dask scheduler with worker processes of its own."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import distributed
import pytest
from slowpairs import Deadly, Late
from subjects import model

from augreg import cli, write_model
from augreg.synthesis import AppearancePairs, write_shards


@contextmanager
def running(folder, *command):
    """A process of Dask."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    settings = {"cwd": folder, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-m", "dask", *command], **settings) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def cluster(tmp_path):
    """Address of a scheduler, and its two workers, each with two threads."""
    folder = tmp_path / "dask"
    folder.mkdir()
    with ExitStack() as stack:
        file = folder / "scheduler.json"
        options = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file), "--no-dashboard"]
        stack.enter_context(running(folder, "scheduler", *options))
        options = ["--scheduler-file", str(file), "--nthreads", "2", "--no-nanny", "--no-dashboard"]
        workers = [stack.enter_context(running(folder, "worker", *options)) for _ in range(2)]
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            address = client.scheduler.address
        yield address, workers


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_a_cluster_writes_the_same_bytes_though_a_worker_is_killed_and_gets_the_model_once_each(cluster, tmp_path):
    address, workers = cluster
    pairs = AppearancePairs(model())
    list(write_shards(pairs, tmp_path / "local", 24, seed=5, shard_size=2))
    late = Late(pairs, tmp_path / "log", 0.15)
    states = write_shards(late, tmp_path / "remote", 24, seed=5, shard_size=2, scheduler=address)
    next(states)
    received = late.log.read_text().split()
    assert sorted(received) == sorted(str(worker.pid) for worker in workers)
    workers[0].send_signal(signal.SIGKILL)
    rest = list(states)
    assert rest[-1].written == 24
    assert len(rest) == 11
    assert late.log.read_text().split() == received
    assert contents(tmp_path / "remote") == contents(tmp_path / "local")


def test_the_command_line_uses_a_cluster_and_says_when_its_workers_are_gone(cluster, tmp_path, capsys):
    address, workers = cluster
    write_model(model(), tmp_path / "model.npz")
    line = f"synthesize {tmp_path}/model.npz -n 6 --shard-size 2 -o {tmp_path}/remote --scheduler {address}"
    assert cli.main(line.split()) == 0
    capsys.readouterr()
    list(write_shards(AppearancePairs(model()), tmp_path / "local", 6, shard_size=2))
    assert contents(tmp_path / "remote") == contents(tmp_path / "local")
    with pytest.raises(RuntimeError, match="run again"):
        list(
            write_shards(
                Deadly(AppearancePairs(model()), tmp_path / "log"), tmp_path / "deadly", 8, shard_size=2, scheduler=address
            )
        )
    assert all(worker.wait(10) == -signal.SIGKILL for worker in workers)


def test_an_address_that_does_not_answer_is_one_line_soon(tmp_path, capsys):
    write_model(model(), tmp_path / "model.npz")
    begin = time.monotonic()
    line = f"synthesize {tmp_path}/model.npz -n 1 -o {tmp_path}/pairs --scheduler 127.0.0.1:9"
    assert cli.main(line.split()) == 2
    assert time.monotonic() - begin < 15
    [message] = capsys.readouterr().err.splitlines()
    assert "127.0.0.1:9" in message
    assert not (tmp_path / "pairs").exists()
