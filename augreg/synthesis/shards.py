"""Pairs on disk: WebDataset shards, tar files that any reader of the format streams.

    pairs-000000.tar, pairs-000001.tar, ...    per pair KEY.fixed.npy KEY.moving.npy KEY.displacement.npy KEY.mask.npy KEY.json
    dataset.json                               what was asked for, and the grid

Shard i is a function of (model, seed, i) alone: its generator is seeded with both numbers, it is rendered in batches of one size
by one thread, and tar entries carry neither time nor owner. It is written to a temporary name and renamed, so that writing may be
stopped anywhere and started again: finished shards are kept, the result is the same to the byte.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from augreg.grid import Grid
from augreg.io import atomic
from augreg.sam.files import read_model, write_model
from augreg.sam.model import SHARPNESS, AppearanceModel
from augreg.synthesis import _kernels
from augreg.synthesis.draw import draw_pairs
from augreg.synthesis.render import PairBatch, TrainingPair, render_pairs, training_pairs

_KIND = "augreg pairs"
_MANIFEST = "dataset.json"
_BATCH = 4
_PARTS = ("fixed", "moving", "displacement", "mask")


@dataclass(frozen=True)
class DrawOptions:
    """How the pairs of a data set are drawn: the keywords of `draw_pairs`."""

    appearance: float | str = "shared"
    amplitude: float = 1.0
    mosaic: float = SHARPNESS
    modes: float = 0.0
    pose: float = 1.0
    intensity: float = 0.0


@dataclass(frozen=True)
class ShardState:
    """Progress: `written` of `total` pairs are on disk, `shrunk` of their shapes would have folded; earlier runs count too."""

    written: int
    total: int
    shard: int
    shrunk: int


def write_shards(
    model: AppearanceModel,
    directory: str | os.PathLike[str],
    count: int,
    *,
    seed: int = 0,
    shard_size: int = 256,
    workers: int = 1,
    options: DrawOptions | None = None,
) -> Iterator[ShardState]:
    """Write pairs drawn from a model into shards, yielding a state after each.

    Parameters
    ----------
    model : the appearance model
    directory : made if it does not exist; finished shards of the same data set are kept
    count : number of pairs
    seed : of the whole data set
    shard_size : pairs per shard; the last may hold fewer
    workers : processes
    options : how pairs are drawn

    Raises
    ------
    ValueError : for numbers below 1, or a directory that holds another data set.
    """
    for name, value in (("count", count), ("shard_size", shard_size), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    options = options or DrawOptions()
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {
        "kind": _KIND,
        "model": _fingerprint(model),
        "seed": seed,
        "count": count,
        "shard_size": shard_size,
        "options": asdict(options),
        "grid": asdict(model.template),
    }
    _claim(folder, manifest)
    shards = range(-(-count // shard_size))
    sizes = {shard: min(shard_size, count - shard * shard_size) for shard in shards}
    missing = [shard for shard in shards if not _shard_path(folder, shard).exists()]
    kept = [shard for shard in shards if shard not in missing]
    written = sum(sizes[shard] for shard in kept)
    shrunk = sum(_shrunk_in(_shard_path(folder, shard)) for shard in kept)
    task = partial(_write_shard, folder=folder, seed=seed, options=options)
    for shard, more in _run(model, task, {shard: sizes[shard] for shard in missing}, workers):
        written += sizes[shard]
        shrunk += more
        yield ShardState(written, count, shard, shrunk)
    if not missing:
        yield ShardState(count, count, len(shards) - 1, shrunk)


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


def _run(model: AppearanceModel, task: Any, sizes: Mapping[int, int], workers: int) -> Iterator[tuple[int, int]]:
    """Shards as they are finished, with the number of shrunk shapes. A cluster runs the same task on the same arguments."""
    if workers == 1 or len(sizes) < 2:
        for shard, size in sizes.items():
            yield shard, task(model, shard, size)
        return
    # the model travels as a file: a fresh process reads it once, whatever the number of its shards
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.npz"
        write_model(model, path)
        # forked children of a process with threads may hang: they start afresh
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start, initargs=(path,)) as pool:
            futures = {pool.submit(_work, task, shard, size): shard for shard, size in sizes.items()}
            for future in as_completed(futures):
                yield futures[future], future.result()


_WORKER: dict[str, AppearanceModel] = {}


def _start(path: Path) -> None:
    _WORKER["model"] = read_model(path)


def _work(task: Any, shard: int, size: int) -> int:
    return int(task(_WORKER["model"], shard, size))


def _write_shard(model: AppearanceModel, shard: int, size: int, *, folder: Path, seed: int, options: DrawOptions) -> int:
    """Write one shard; returns how many shapes were shrunk."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(shard,)))
    shrunk = 0
    with (
        _one_thread(),
        atomic(_shard_path(folder, shard)) as temporary,
        tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for begin in range(0, size, _BATCH):
            draw = draw_pairs(model, rng, min(_BATCH, size - begin), **asdict(options))
            shrunk += draw.shrunk
            batch = render_pairs(model, draw)
            for i, pair in enumerate(training_pairs(batch, model.template)):
                about = {
                    "grid": asdict(model.template),
                    "seed": seed,
                    "shard": shard,
                    "index": begin + i,
                    "least_det": float(batch.least_det[i]),
                    "residual": float(batch.residual[i]),
                    "scale": draw.scale[i].tolist(),
                }
                _add_pair(tar, f"{shard:06d}-{begin + i:06d}", pair, about)
    return shrunk


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
    arrays = (pair.fixed.values, pair.moving.values, pair.displacement.values.astype(np.float32), pair.mask.values)
    for part, array in zip(_PARTS, arrays, strict=True):
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        _add(tar, f"{key}.{part}.npy", buffer.getvalue())
    _add(tar, f"{key}.json", json.dumps(about, sort_keys=True).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    # a fresh TarInfo has time and owner 0: equal pairs are equal bytes
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _shrunk_in(path: Path) -> int:
    """How many shapes of a finished shard were shrunk, from the descriptions of its pairs."""
    with tarfile.open(path) as tar:
        files = [tar.extractfile(entry) for entry in tar if entry.name.endswith(".json")]
        return sum(scale < 1 for file in files if file is not None for scale in json.load(file)["scale"])


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

    flow = np.stack([sample["displacement"] for sample in samples]) @ grid.world_to_index.T.astype(np.float32)
    return PairBatch(
        fixed=stacked("fixed"),
        moving=stacked("moving"),
        flow=torch.from_numpy(np.ascontiguousarray(np.moveaxis(flow, -1, 1))),
        mask=stacked("mask").bool(),
        least_det=torch.tensor([sample["json"]["least_det"] for sample in samples], dtype=torch.float64),
        residual=torch.tensor([sample["json"]["residual"] for sample in samples], dtype=torch.float64),
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


def _fingerprint(model: AppearanceModel) -> str:
    """A hash of everything pairs depend on."""
    digest = hashlib.sha256()
    for array in (model.shape.mean, model.shape.basis, model.shape.variance, model.appearance.basis, model.textures, model.poses):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(repr((model.template, model.locality, model.intensities, model.smoothing.tobytes())).encode())
    return digest.hexdigest()[:16]
