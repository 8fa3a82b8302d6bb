"""Shards on a real Dask scheduler with worker processes of its own."""

import time

import pytest
from support.dask import cluster
from support.slowpairs import Deadly, Late
from support.subjects import model

from augreg import cli, write_model
from augreg.synthesis import AppearancePairs, write_shards


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.mark.slow
def test_a_cluster_writes_the_same_bytes_though_a_worker_is_killed_and_gets_the_model_once_each(tmp_path):
    pairs = AppearancePairs(model())
    list(write_shards(pairs, tmp_path / "local", 24, seed=5, shard_size=2))
    late = Late(pairs, tmp_path / "log", 0.15)
    with cluster(tmp_path / "dask", 2) as (address, _, workers):
        states = write_shards(late, tmp_path / "remote", 24, seed=5, shard_size=2, scheduler=address)
        next(states)
        received = late.log.read_text(encoding="utf-8").split()
        assert sorted(received) == sorted(str(worker.pid) for worker in workers)
        workers[0].kill()
        rest = list(states)
        assert rest[-1].written == 24
        assert len(rest) == 11
        assert late.log.read_text(encoding="utf-8").split() == received
        assert contents(tmp_path / "remote") == contents(tmp_path / "local")
        # the next run is another model's, and the command line's
        write_model(model("landmarks"), tmp_path / "model.npz")
        line = f"synthesize {tmp_path}/model.npz -n 6 --shard-size 2 -o {tmp_path}/other --scheduler {address}"
        assert cli.main(line.split()) == 0
    list(write_shards(AppearancePairs(model("landmarks")), tmp_path / "again", 6, shard_size=2))
    assert contents(tmp_path / "other") == contents(tmp_path / "again")


def test_a_cluster_that_breaks_down_is_one_line(tmp_path):
    pairs = AppearancePairs(model())
    with cluster(tmp_path / "dask", 2, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0") as (address, scheduler, _):
        deadly = Deadly(pairs, tmp_path / "log")
        with pytest.raises(RuntimeError, match="several were killed; run again"):
            list(write_shards(deadly, tmp_path / "deadly", 2, shard_size=2, scheduler=address))
        states = write_shards(Late(pairs, tmp_path / "log", 0.15), tmp_path / "pairs", 24, shard_size=2, scheduler=address)
        next(states)
        scheduler.kill()
        with pytest.raises(RuntimeError, match="it went away; run again"):
            list(states)


def test_an_address_that_does_not_answer_is_one_line_soon(tmp_path, capsys):
    write_model(model(), tmp_path / "model.npz")
    begin = time.monotonic()
    line = f"synthesize {tmp_path}/model.npz -n 1 -o {tmp_path}/pairs --scheduler 127.0.0.1:9"
    assert cli.main(line.split()) == 2
    assert time.monotonic() - begin < 15
    [message] = capsys.readouterr().err.splitlines()
    assert "127.0.0.1:9" in message
    assert not (tmp_path / "pairs").exists()
