"""One shard: a tar file of some pairs, as WebDataset readers stream it.

    per pair KEY.fixed.npy KEY.moving.npy KEY.displacement.npy KEY.mask.npy [KEY.reverse.npy KEY.reverse_mask.npy]
             [KEY.fixed_labels.npy KEY.moving_labels.npy] KEY.json

Its bytes are a function of (generator, seed, number) alone: a pair has its own stream of random numbers, pairs are rendered in
batches of one size by one thread, entries carry neither time nor owner. KEY.json ends a pair and holds a checksum of it, so a
reader knows a pair that was cut or changed.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from augreg.io import array_of, atomic
from augreg.shards.manifest import Manifest
from augreg.synthesis.pairs import PARTS, PairGenerator, TrainingPair, make_pairs, training_pairs
from augreg.threads import get_threads, set_threads

_BATCH = 4
# what shards may be without
LEFT_OUT = {"reverse": ("reverse", "reverse_mask"), "labels": ("fixed_labels", "moving_labels")}
_ONE_AT_A_TIME = Lock()


def _after_fork() -> None:
    # a thread of the parent may have held it
    global _ONE_AT_A_TIME
    _ONE_AT_A_TIME = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

Sample = dict[str, Any]


class DamagedShardError(ValueError):
    """A shard that another program cut or changed."""


@dataclass(frozen=True)
class ShardReport:
    """A finished shard.

    Parameters
    ----------
    pairs : number of pairs in the shard
    shrunk : number of their shapes that would have folded
    rejected : number of draws that folded all the same and were replaced
    kept : whether an earlier run has written the shard
    repaired : whether a damaged shard was written again
    """

    pairs: int
    shrunk: int
    rejected: int
    kept: bool = False
    repaired: bool = False


def finish_shard(generator: PairGenerator[Any], manifest: Manifest, folder: Path, shard: int) -> ShardReport:
    """Write a shard unless it is there and whole.

    Raises
    ------
    ValueError : where the generator makes pairs with NaN.
    """
    path = manifest.path(folder, shard)
    there = path.exists()
    if there:
        try:
            return _report([sample["json"] for _, sample in read_shard(path, manifest.indices(shard))], kept=True)
        except DamagedShardError:
            pass
    with atomic(path) as temporary:
        return _report(_write(generator, manifest, shard, temporary), repaired=there)


def read_shard(path: Path, indices: range, wanted: range | None = None) -> Iterator[tuple[int, Sample]]:
    """Pairs of a shard with their indices; arrays by the names of their entries, and what KEY.json says as "json".

    Parameters
    ----------
    path : path of the shard
    indices : numbers of all pairs that the shard should hold
    wanted : numbers of the pairs to read; by default all

    Raises
    ------
    DamagedShardError : where it ends early or a checksum is wrong. ValueError : for NaN.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            for index in indices:
                entries = _entries(tar, path, index)
                if wanted is None or index in wanted:
                    yield index, _sample(tar, path, entries)
            _check_end(tar, path)
    except (tarfile.TarError, EOFError, OverflowError, UnicodeError) as error:
        raise DamagedShardError(f"{path}: expected a whole tar file, got one that was cut or changed ({error})") from error


def _write(generator: PairGenerator[Any], manifest: Manifest, shard: int, path: Path) -> list[Mapping[str, Any]]:
    """Write a shard; what is said of each pair."""
    said: list[Mapping[str, Any]] = []
    indices, spared = manifest.indices(shard), {name for kind in manifest.without for name in LEFT_OUT[kind]}
    with one_thread(), tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for begin in range(0, len(indices), _BATCH):
            some = indices[begin : begin + _BATCH]
            batch = make_pairs(generator, manifest.seed, some)
            for i, (index, pair) in enumerate(zip(some, training_pairs(batch, generator.grid), strict=True)):
                about = {
                    "grid": asdict(generator.grid),
                    "seed": manifest.seed,
                    "index": index,
                    "least_det": float(batch.least_det[i]),
                    "residual": float(batch.residual[i]),
                    "scale": batch.scale[i].tolist(),
                    "rejected": int(batch.rejected[i]),
                }
                _add_pair(tar, index, pair, [name for name in pair.names if name not in spared], about)
                said.append(about)
    return said


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums of several threads depend on their number in the last bit: one thread here, whatever the caller uses.

    Threads that come here together, as those of a cluster's worker may, go one after the other.
    """
    with _ONE_AT_A_TIME:
        before = get_threads(), torch.get_num_threads()
        set_threads(1)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            set_threads(before[0])
            torch.set_num_threads(before[1])


def _add_pair(tar: tarfile.TarFile, index: int, pair: TrainingPair, parts: Sequence[str], about: Mapping[str, Any]) -> None:
    key, contents = f"{index:09d}", []
    for part in parts:
        values = getattr(pair, part).values
        _check_finite(f"pair {index} of the generator", part, values)
        buffer = io.BytesIO()
        np.save(buffer, values.astype(np.float32) if values.dtype == np.float64 else values, allow_pickle=False)
        contents.append(buffer.getvalue())
        _add(tar, f"{key}.{part}.npy", contents[-1])
    _add(tar, f"{key}.json", json.dumps({**about, "crc32": _checksum(contents, about)}, sort_keys=True).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    # a fresh TarInfo has time and owner 0: equal pairs are equal bytes
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _checksum(contents: list[bytes], about: Mapping[str, Any]) -> int:
    crc = zlib.crc32(json.dumps(about, sort_keys=True).encode())
    for content in contents:
        crc = zlib.crc32(content, crc)
    return crc


def _entries(tar: tarfile.TarFile, path: Path, index: int) -> list[tarfile.TarInfo]:
    """The entries of the next pair, which should be that of an index."""
    entries: list[tarfile.TarInfo] = []
    while not entries or not entries[-1].name.endswith(".json"):
        entry = tar.next()
        if entry is None or not entry.name.startswith(f"{index:09d}."):
            raise DamagedShardError(f"{path}: expected pair {index}, got {'the end' if entry is None else ascii(entry.name)}")
        if not entry.isreg() or entry.sparse is not None:
            raise DamagedShardError(f"{path}: expected files, got a link or something else at {entry.name}")
        entries.append(entry)
    return entries


def _sample(tar: tarfile.TarFile, path: Path, entries: list[tarfile.TarInfo]) -> Sample:
    contents = []
    for entry in entries:
        file = tar.extractfile(entry)
        contents.append(b"" if file is None else file.read())
    *arrays, last = contents
    try:
        about = json.loads(last)
        whole = about.pop("crc32") == _checksum(arrays, about)
    except (ValueError, KeyError, AttributeError, IndexError, RecursionError):
        whole = False
    if not whole:
        raise DamagedShardError(f"{path}: expected {entries[0].name} to {entries[-1].name} as written, got other bytes")
    sample = {"json": about}
    try:
        for entry, content in zip(entries, arrays, strict=False):
            sample[entry.name.split(".")[1]] = array_of(content)
        named = sample.keys() - {"json"}
        shapes = {part: sample[part].shape[: len(about["grid"]["shape"])] for part in {*PARTS[:4], *named}}
        # what a pair may be without comes in twos
        paired = named <= {*PARTS} and all(named & {*two} in (set(), {*two}) for two in LEFT_OUT.values())
        fitting = paired and set(shapes.values()) == {tuple(about["grid"]["shape"])}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DamagedShardError(f"{path}: expected the arrays of a pair in {entries[0].name}, got something else") from error
    if not fitting:
        raise DamagedShardError(f"{path}: expected arrays of the pair's grid in {entries[0].name}, got {shapes}")
    for part, values in sample.items():
        if part != "json":
            _check_finite(f"{path}: pair {about['index']}", part, values)
    return sample


def _check_end(tar: tarfile.TarFile, path: Path) -> None:
    """A tar file ends with two empty blocks and fills its last record."""
    if tar.next() is not None:
        raise DamagedShardError(f"{path}: expected the end after the last pair, got more entries")
    last = tar.getmembers()[-1]
    data = -(-last.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    records = -(-(last.offset_data + data + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE)
    if path.stat().st_size != records * tarfile.RECORDSIZE:
        raise DamagedShardError(f"{path}: expected {records * tarfile.RECORDSIZE} bytes, got {path.stat().st_size}")


def _check_finite(where: str, part: str, values: npt.NDArray[Any]) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"{where}: expected finite numbers, got NaN or infinity in {part}; see to the model or images behind it")


def _report(said: Sequence[Mapping[str, Any]], *, kept: bool = False, repaired: bool = False) -> ShardReport:
    shrunk = sum(scale < 1 for about in said for scale in about["scale"])
    return ShardReport(len(said), shrunk, sum(about["rejected"] for about in said), kept, repaired)
