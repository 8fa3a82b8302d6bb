import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.slowpairs import Deadly, Late
from support.subjects import model

from augreg import Grid, Image, write_model
from augreg.geometry.resampling import sample
from augreg.shards import shard
from augreg.synthesis import AppearancePairs, PairBatch, make_pairs, read_shards, write_shards


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def pairs(**options):
    return AppearancePairs(model(), **options)


def test_shards_follow_the_contract(tmp_path):
    m = model()
    m = model()
    states = list(write_shards(pairs(), tmp_path, 7, seed=4, shard_size=3))
    assert [(s.written, s.total) for s in states] == [(3, 7), (6, 7), (7, 7)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dataset.json", *(f"pairs-{i:06d}.tar" for i in range(3))]
    with tarfile.open(tmp_path / "pairs-000000.tar") as tar:
        entries = tar.getmembers()
        assert all(e.mtime == 0 and e.uid == 0 and e.gid == 0 and not e.uname for e in entries)
        files = {e.name: tar.extractfile(e).read() for e in entries}
    key = entries[0].name.split(".")[0]
    assert [n.split(".", 1)[1] for n in files if n.startswith(key)] == [
        "fixed.npy",
        "moving.npy",
        "displacement.npy",
        "mask.npy",
        "reverse.npy",
        "reverse_mask.npy",
        "fixed_labels.npy",
        "moving_labels.npy",
        "json",
    ]
    arrays = {n: np.load(io.BytesIO(files[f"{key}.{n}.npy"])) for n in ("fixed", "moving", "displacement", "mask")}
    about = json.loads(files[f"{key}.json"])
    grid = Grid(**{name: tuple(value) for name, value in about["grid"].items()})
    assert grid == m.template
    assert arrays["displacement"].shape == (*grid.shape, 2)
    moved = sample(Image(arrays["moving"], grid), grid.points() + arrays["displacement"], interpolation="cubic")
    valid = (arrays["mask"] > 0) & np.isfinite(moved)
    assert np.abs(moved - arrays["fixed"])[valid].mean() < 0.01 * arrays["fixed"].std()


def test_shards_are_the_same_bytes_again_from_any_number_of_workers_and_after_interruption(tmp_path):
    torch_threads = torch.get_num_threads()
    list(write_shards(pairs(), tmp_path / "a", 6, seed=1, shard_size=2))
    list(write_shards(pairs(), tmp_path / "b", 6, seed=1, shard_size=2, workers=2))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert torch.get_num_threads() == torch_threads
    states = write_shards(pairs(), tmp_path / "c", 6, seed=1, shard_size=2)
    next(states)
    states.close()
    first = (tmp_path / "c" / "pairs-000000.tar").stat().st_mtime_ns
    # what a process killed on another machine left
    (tmp_path / "c" / ".12@elsewhere.partial.pairs-000002.tar").write_bytes(b"half")
    again = list(write_shards(pairs(), tmp_path / "c", 6, seed=1, shard_size=2))
    assert (tmp_path / "c" / "pairs-000000.tar").stat().st_mtime_ns == first
    assert [(s.written, s.kept) for s in again] == [(2, 2), (4, 2), (6, 2)]
    assert contents(tmp_path / "a") == contents(tmp_path / "c")
    with pytest.raises(ValueError, match="another seed"):
        list(write_shards(pairs(), tmp_path / "c", 6, seed=2, shard_size=2))
    with pytest.raises(ValueError, match="another generator"):
        list(write_shards(pairs(amplitude=2.0), tmp_path / "c", 6, seed=1, shard_size=2))


def test_shards_are_written_without_what_is_left_out(tmp_path):
    list(write_shards(pairs(), tmp_path / "whole", 3, seed=1, shard_size=2))
    list(write_shards(pairs(), tmp_path / "few", 3, seed=1, shard_size=2, without=("labels", "reverse")))
    whole, few = (next(read_shards(tmp_path / name, 3)) for name in ("whole", "few"))
    assert set(whole.names) - set(few.names) == {"reverse", "reverse_mask", "fixed_labels", "moving_labels"}
    for name, part in few.parts.items():
        assert torch.equal(part, whole.parts[name])
    assert (few.back, few.fixed_labels) == (None, None)
    again = list(write_shards(pairs(), tmp_path / "few", 3, seed=1, shard_size=2, without=["reverse", "labels"]))
    assert again[-1].kept == 3
    for without in ((), ("reverse",)):
        with pytest.raises(ValueError, match=r"one of another without"):
            list(write_shards(pairs(), tmp_path / "few", 3, seed=1, shard_size=2, without=without))
    with pytest.raises(ValueError, match=r"without: expected some of reverse, labels, got flow"):
        list(write_shards(pairs(), tmp_path / "other", 3, without=("flow",)))


def alive(group):
    """Processes of a group that have not ended."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state, _, its_group = (process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state not in "ZX":
            found.append(int(process.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see whether processes have ended")
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes_and_leaves_no_process(tmp_path):
    write_model(model(), tmp_path / "model.npz")
    list(write_shards(pairs(), tmp_path / "whole", 200, seed=3, shard_size=4))
    line = "synthesize model.npz -n 200 --seed 3 --shard-size 4 --workers 2 -o killed"
    command = [sys.executable, "-m", "augreg", *line.split()]
    folder, rng, before = tmp_path / "killed", np.random.default_rng(), []
    # from a moment at which there is nothing to the middle of the work
    for shards in (0, 1, 25):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True)
        with process:
            while process.poll() is None and not (folder.exists() and len(list(folder.glob("pairs-*"))) >= shards):
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.1))
            assert process.poll() is None
            process.kill()
        deadline = time.monotonic() + 20
        while alive(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not alive(process.pid)
        whole = contents(tmp_path / "whole")
        assert all(whole[name] == content for name, content in contents(folder).items() if not name.startswith("."))
        before.append(len(list(folder.glob("pairs-*"))))
    assert before[0] < before[-1] < 50
    list(write_shards(pairs(), folder, 200, seed=3, shard_size=4))
    assert contents(folder) == contents(tmp_path / "whole")


@pytest.mark.slow
def test_where_a_worker_is_killed_another_takes_its_place(tmp_path):
    late = Late(pairs(), tmp_path / "log", 0.1)
    states = write_shards(late, tmp_path / "killed", 16, shard_size=2, workers=2)
    next(states)
    workers = late.log.read_text(encoding="utf-8").split()
    os.kill(int(workers[0]), signal.SIGKILL)
    assert list(states)[-1].written == 16
    assert len(set(late.log.read_text(encoding="utf-8").split())) > len(set(workers))
    list(write_shards(pairs(), tmp_path / "whole", 16, shard_size=2))
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_workers_that_are_killed_again_and_again_are_given_up(tmp_path):
    with pytest.raises(RuntimeError, match="run again to go on"):
        list(write_shards(Deadly(pairs(), tmp_path / "log"), tmp_path / "pairs", 4, shard_size=2, workers=2))


def cut(where):
    return lambda content: content[: int(where * len(content))]


def flipped(where):
    def damage(content):
        place = int(where * len(content))
        return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]

    return damage


DAMAGES = {
    "emptied": cut(0.0),
    "cut in its first pair": cut(0.01),
    "cut in the middle": cut(0.5),
    "cut in the empty blocks at its end": lambda content: content[:-512],
    "longer": lambda content: content + bytes(512),
    "another program's": lambda content: b"\x89PNG" + content,
    **{f"changed at {where}": flipped(where) for where in (0.001, 0.2, 0.47, 0.77)},
    "changed in a description": lambda content: content.replace(b'"scale": [1.0', b'"scale": [0.5', 1),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder of finished shards."""
    folder = tmp_path_factory.mktemp("finished")
    list(write_shards(pairs(), folder, 7, shard_size=3))
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_shards_are_left_out_with_a_warning_and_written_again(damage, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "pairs")
    shard = tmp_path / "pairs" / "pairs-000001.tar"
    shard.write_bytes(DAMAGES[damage](shard.read_bytes()))
    assert shard.read_bytes() != (finished / shard.name).read_bytes()
    with pytest.warns(UserWarning, match="of 3 pairs are left out") as warned:
        batch = PairBatch.concatenate(list(read_shards(tmp_path / "pairs")))
    [message] = [str(warning.message) for warning in warned]
    assert str(shard) in message
    assert f"{7 - len(batch)} of 3 pairs" in message
    expected = PairBatch.concatenate(list(read_shards(finished)))
    read = len(batch) - 1
    assert 3 <= read <= 6
    # those before the damage, and the next shard
    assert torch.equal(batch.flow, torch.cat([expected.flow[:read], expected.flow[6:]]))
    state = list(write_shards(pairs(), tmp_path / "pairs", 7, shard_size=3))[-1]
    assert (state.written, state.kept, state.repaired) == (7, 4, 1)
    assert "1 damaged" in state.warnings[0]
    assert contents(tmp_path / "pairs") == contents(finished)


def test_nan_is_refused_when_written_and_when_read(tmp_path, monkeypatch):
    images = replace(model(), textures=np.full_like(model().textures, np.nan))
    with pytest.raises(ValueError, match="pair 0 of the generator: expected finite numbers, got NaN or infinity in fixed"):
        list(write_shards(AppearancePairs(images), tmp_path, 2))
    assert [p.name for p in tmp_path.iterdir()] == ["dataset.json"]
    with monkeypatch.context() as patched:
        patched.setattr(shard, "_check_finite", lambda *_: None)
        list(write_shards(AppearancePairs(images), tmp_path, 2))
    for use in (read_shards(tmp_path), write_shards(AppearancePairs(images), tmp_path, 2)):
        with pytest.raises(ValueError, match=r"pairs-000000.tar: pair 0: expected finite numbers"):
            list(use)


def test_many_draws_that_fold_are_a_warning(tmp_path):
    tame = list(write_shards(pairs(amplitude=0.5), tmp_path / "tame", 8))[-1]
    assert tame.warnings == ()
    wild = list(write_shards(pairs(amplitude=9.0), tmp_path / "wild", 8))[-1]
    assert wild.rejected > 2
    assert f"{wild.rejected} of {8 + wild.rejected} draws" in wild.warnings[0]
    assert f"{wild.shrunk} of 16 shapes" in wild.warnings[1]


def test_shards_are_read_in_batches(tmp_path):
    list(write_shards(pairs(), tmp_path, 5, seed=6, shard_size=2))
    batches = list(read_shards(tmp_path, 3))
    assert [len(b.fixed) for b in batches] == [3, 2]
    expected = make_pairs(pairs(), 6, range(2))
    for name in ("fixed", "moving", "flow", "reverse"):
        found = getattr(batches[0], name)
        assert found.dtype == torch.float32
        assert torch.allclose(found[:2], getattr(expected, name), atol=1e-3)
    assert torch.equal(batches[0].mask[:2], expected.mask)


def test_folders_without_pairs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a folder of pairs"):
        next(read_shards(tmp_path))
    list(write_shards(pairs(), tmp_path, 4, shard_size=2))
    (tmp_path / "pairs-000001.tar").unlink()
    with pytest.raises(ValueError, match="run synthesize again"):
        list(read_shards(tmp_path))
    manifest = json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))
    assert set(manifest) == {"kind", "version", "generator", "seed", "count", "shard_size", "grid"}
    (tmp_path / "dataset.json").write_text(json.dumps({**manifest, "version": 0}), encoding="utf-8")
    with pytest.raises(ValueError, match="expected version 1, got 0"):
        next(read_shards(tmp_path))
    with pytest.raises(ValueError, match="another version"):
        next(write_shards(pairs(), tmp_path, 4, shard_size=2))
    (tmp_path / "dataset.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="something else"):
        next(read_shards(tmp_path))
    (tmp_path / "dataset.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="not JSON"):
        next(read_shards(tmp_path))
    with pytest.raises(ValueError, match="workers"):
        next(write_shards(pairs(), tmp_path, 4, workers=0))
