"""Pairs on disk: WebDataset shards, tar files that any reader of the format streams.

    pairs-000000.tar, pairs-000001.tar, ...    per pair KEY.fixed.npy KEY.moving.npy KEY.displacement.npy KEY.mask.npy
                                               KEY.reverse.npy KEY.reverse_mask.npy [KEY.fixed_labels.npy KEY.moving_labels.npy]
                                               KEY.json
    dataset.json                               what was asked for, and the grid

Shard i is a function of (generator, seed, i) alone: pair k of the data set has its own stream of random numbers, a shard is
rendered in batches of one size by one thread, and tar entries carry neither time nor owner. It is written to a temporary name and
renamed, so that writing may be stopped anywhere and started again: finished shards are kept, the result is the same to the byte.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from augreg.grid import Grid
from augreg.io import atomic
from augreg.synthesis import _kernels
from augreg.synthesis.pairs import PairBatch, PairGenerator, TrainingPair, make_pairs, training_pairs

_KIND = "augreg pairs"
_MANIFEST = "dataset.json"
_BATCH = 4
# of one shard: shapes that were shrunk, draws that were replaced
Tally = tuple[int, int]
Task = Callable[[int, int], Tally]


@dataclass(frozen=True)
class ShardState:
    """Progress, earlier runs included.

    Parameters
    ----------
    written, total : pairs on disk, and asked for
    shard : the last one that was finished
    shrunk : of the shapes, would have folded
    rejected : draws that folded all the same and were replaced
    """

    written: int
    total: int
    shard: int
    shrunk: int
    rejected: int


def write_shards(
    generator: PairGenerator[Any],
    directory: str | os.PathLike[str],
    count: int,
    *,
    seed: int = 0,
    shard_size: int = 256,
    workers: int = 1,
) -> Iterator[ShardState]:
    """Write the pairs of a generator into shards, yielding a state after each.

    Parameters
    ----------
    generator : of the pairs
    directory : made if it does not exist; finished shards of the same data set are kept
    count : number of pairs
    seed : of the whole data set
    shard_size : pairs per shard; the last may hold fewer
    workers : processes

    Raises
    ------
    ValueError : for numbers below 1, or a directory that holds another data set.
    """
    for name, value in (("count", count), ("shard_size", shard_size), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {
        "kind": _KIND,
        "generator": dict(generator.describe()),
        "seed": seed,
        "count": count,
        "shard_size": shard_size,
        "grid": asdict(generator.grid),
    }
    _claim(folder, manifest)
    shards = range(-(-count // shard_size))
    sizes = {shard: min(shard_size, count - shard * shard_size) for shard in shards}
    missing = [shard for shard in shards if not _shard_path(folder, shard).exists()]
    kept = [shard for shard in shards if shard not in missing]
    written = sum(sizes[shard] for shard in kept)
    tallies = [_tally(_shard_path(folder, shard)) for shard in kept]
    shrunk, rejected = sum(tally[0] for tally in tallies), sum(tally[1] for tally in tallies)
    task = partial(_write_shard, generator, folder=folder, seed=seed, shard_size=shard_size)
    for shard, tally in _run(task, {shard: sizes[shard] for shard in missing}, workers):
        written += sizes[shard]
        shrunk, rejected = shrunk + tally[0], rejected + tally[1]
        yield ShardState(written, count, shard, shrunk, rejected)
    if not missing:
        yield ShardState(count, count, len(shards) - 1, shrunk, rejected)


def read_shards(directory: str | os.PathLike[str], batch_size: int = 8) -> Iterator[PairBatch]:
    """The pairs of a data set in order, in batches; the last may be smaller.

    Raises
    ------
    ValueError : if the directory holds no data set or shards are missing.
    """
    folder = Path(directory)
    manifest = _read_manifest(folder)
    if manifest is None:
        raise ValueError(f"{folder}: expected a folder of pairs with {_MANIFEST}, got none; write one with synthesize")
    grid = Grid(**{name: tuple(value) for name, value in manifest["grid"].items()})
    waiting: list[Mapping[str, Any]] = []
    for shard in range(-(-manifest["count"] // manifest["shard_size"])):
        path = _shard_path(folder, shard)
        if not path.exists():
            raise ValueError(f"{folder}: expected {path.name}, it is missing; run synthesize again to finish the data set")
        for sample in _samples(path):
            waiting.append(sample)
            if len(waiting) == batch_size:
                yield _batch(waiting, grid)
                waiting = []
    if waiting:
        yield _batch(waiting, grid)


def _run(task: Task, sizes: Mapping[int, int], workers: int) -> Iterator[tuple[int, Tally]]:
    """Shards as they are finished, with their tallies. A cluster runs the same task on the same arguments."""
    if workers == 1 or len(sizes) < 2:
        for shard, size in sizes.items():
            yield shard, task(shard, size)
        return
    # forked children of a process with threads may hang: they start afresh
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start, initargs=(task,)) as pool:
        futures = {pool.submit(_work, shard, size): shard for shard, size in sizes.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()


_WORKER: dict[str, Task] = {}


def _start(task: Task) -> None:
    _WORKER["task"] = task


def _work(shard: int, size: int) -> Tally:
    return _WORKER["task"](shard, size)


def _write_shard(generator: PairGenerator[Any], shard: int, size: int, *, folder: Path, seed: int, shard_size: int) -> Tally:
    """Write one shard."""
    tally = (0, 0)
    with (
        _one_thread(),
        atomic(_shard_path(folder, shard)) as temporary,
        tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for begin in range(0, size, _BATCH):
            indices = range(shard * shard_size + begin, shard * shard_size + min(begin + _BATCH, size))
            batch = make_pairs(generator, seed, indices)
            tally = tally[0] + batch.shrunk, tally[1] + int(batch.rejected.sum())
            for i, (index, pair) in enumerate(zip(indices, training_pairs(batch, generator.grid), strict=True)):
                about = {
                    "grid": asdict(generator.grid),
                    "seed": seed,
                    "index": index,
                    "least_det": float(batch.least_det[i]),
                    "residual": float(batch.residual[i]),
                    "scale": batch.scale[i].tolist(),
                    "rejected": int(batch.rejected[i]),
                }
                _add_pair(tar, f"{index:09d}", pair, about)
    return tally


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of several threads depend on their number in the last bit: one thread here, whatever the caller uses."""
    # numba's parallel loops set OpenMP's number of threads, which torch reads: both have to be set
    before = _kernels.threads(), torch.get_num_threads()
    _kernels.set_threads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        _kernels.set_threads(before[0])
        torch.set_num_threads(before[1])


def _add_pair(tar: tarfile.TarFile, key: str, pair: TrainingPair, about: Mapping[str, Any]) -> None:
    for part in (field.name for field in fields(pair)):
        values = getattr(getattr(pair, part), "values", None)
        if values is None:
            continue
        buffer = io.BytesIO()
        np.save(buffer, values.astype(np.float32) if values.dtype == np.float64 else values, allow_pickle=False)
        _add(tar, f"{key}.{part}.npy", buffer.getvalue())
    _add(tar, f"{key}.json", json.dumps(about, sort_keys=True).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    # a fresh TarInfo has time and owner 0: equal pairs are equal bytes
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _tally(path: Path) -> Tally:
    """The tally of a finished shard, from the descriptions of its pairs."""
    with tarfile.open(path) as tar:
        files = [tar.extractfile(entry) for entry in tar if entry.name.endswith(".json")]
        pairs = [json.load(file) for file in files if file is not None]
    return sum(scale < 1 for pair in pairs for scale in pair["scale"]), sum(pair["rejected"] for pair in pairs)


def _samples(path: Path) -> Iterator[dict[str, Any]]:
    sample: dict[str, Any] = {}
    current = ""
    with tarfile.open(path) as tar:
        for entry in tar:
            key, part = entry.name.split(".", 1)
            file = tar.extractfile(entry)
            content = b"" if file is None else file.read()
            if key != current and sample:
                yield sample
                sample = {}
            current = key
            stem = part.removesuffix(".npy")
            sample[stem] = json.loads(content) if part == "json" else np.load(io.BytesIO(content), allow_pickle=False)
    if sample:
        yield sample


def _batch(samples: list[Mapping[str, Any]], grid: Grid) -> PairBatch:
    def stacked(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([sample[name] for sample in samples]))[:, None]

    def flow(name: str) -> torch.Tensor:
        voxels = np.stack([sample[name] for sample in samples]) @ grid.world_to_index.T.astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(voxels, -1, 1)))

    def told(name: str) -> torch.Tensor:
        return torch.tensor([sample["json"][name] for sample in samples])

    labelled = "fixed_labels" in samples[0]
    return PairBatch(
        fixed=stacked("fixed"),
        moving=stacked("moving"),
        flow=flow("displacement"),
        mask=stacked("mask").bool(),
        reverse=flow("reverse"),
        reverse_mask=stacked("reverse_mask").bool(),
        least_det=told("least_det").double(),
        residual=told("residual").double(),
        scale=told("scale").double(),
        rejected=told("rejected"),
        fixed_labels=stacked("fixed_labels") if labelled else None,
        moving_labels=stacked("moving_labels") if labelled else None,
    )


def _shard_path(folder: Path, shard: int) -> Path:
    return folder / f"pairs-{shard:06d}.tar"


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / _MANIFEST
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected the description of a data set, got text that is not JSON") from error
    if not isinstance(found, dict) or found.get("kind") != _KIND:
        raise ValueError(f"{path}: expected the description of a set of augreg pairs, got something else")
    return found


def _claim(folder: Path, manifest: Mapping[str, Any]) -> None:
    wanted = json.loads(json.dumps(manifest))
    found = _read_manifest(folder)
    if found is None:
        with atomic(folder / _MANIFEST) as temporary:
            Path(temporary).write_text(json.dumps(wanted, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    elif found != wanted:
        other = sorted(name for name in wanted if found.get(name) != wanted[name])
        raise ValueError(
            f"{folder}: expected an empty folder or the same data set, got one of another {', '.join(other)}; choose another"
        )
