"""Pairs on disk: folders of shards.

    pairs-000000.tar, pairs-000001.tar, ...    `augreg.shards.shard`
    dataset.json                               `augreg.shards.manifest`

A shard is written to a temporary name and renamed, so that writing may be stopped anywhere and started again: finished shards are
checked and kept, the result is the same to the byte.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from augreg.geometry.grid import Grid
from augreg.io import remove_partial
from augreg.shards.manifest import SHARDS, Manifest, claim, read_manifest
from augreg.shards.shard import LEFT_OUT, DamagedShardError, Sample, finish_shard, read_shard
from augreg.synthesis.later import Later
from augreg.synthesis.pairs import PairBatch, PairGenerator
from augreg.tasks import at_work, place
from augreg.tensors import displacements_to_flows

# a larger share of draws that fold, and the pairs no longer follow the generator's distribution
_FEW = 0.2


@dataclass(frozen=True)
class ShardState:
    """Progress, earlier runs included.

    Parameters
    ----------
    written, total : number of pairs on disk, and of all pairs that are wanted
    shard : number of the shard that was finished last
    shrunk : number of shapes, of two per pair, that would have folded
    rejected : number of draws that folded all the same and were replaced
    kept : number of pairs that an earlier run has written
    repaired : number of damaged shards of an earlier run that were written again
    """

    written: int
    total: int
    shard: int
    shrunk: int
    rejected: int
    kept: int
    repaired: int

    @property
    def warnings(self) -> tuple[str, ...]:
        """What there is to doubt."""
        found = []
        draws = self.written + self.rejected
        for count, of, text in (
            (self.rejected, draws, "draws of pairs folded even when shrunk and were replaced"),
            (self.shrunk, 2 * self.written, "shapes would have folded and were shrunk"),
        ):
            if count > _FEW * of:
                found.append(
                    f"{count} of {of} {text}: the pairs do not follow the distribution that was asked for; lower the amplitude"
                )
        if self.repaired:
            found.append(f"{self.repaired} damaged shards were written again; did another program change them?")
        return tuple(found)


def write_shards(
    generator: PairGenerator[Any],
    directory: str | os.PathLike[str],
    count: int,
    *,
    seed: int = 0,
    shard_size: int = 256,
    workers: int = 1,
    scheduler: str | None = None,
    without: Sequence[str] = (),
) -> Iterator[ShardState]:
    """Write the pairs of a generator into shards, yielding a state after each.

    Parameters
    ----------
    generator : generator of the pairs
    directory : folder of the shards, made if it does not exist; finished shards of the same data set are checked and kept
    count : number of pairs
    seed : seed of the whole data set
    shard_size : number of pairs per shard; the last may hold fewer
    workers : number of processes of this machine
    scheduler : address of a Dask cluster that does the work instead; all its machines must see the directory
    without : what is neither made nor written: "reverse", the way back, and "labels"; by default all is that a pair has

    Raises
    ------
    ValueError : for numbers below 1, a directory that holds another data set, a scheduler that does not answer.
    RuntimeError : where worker after worker is killed; the same call goes on.
    """
    for name, value in (("count", count), ("shard_size", shard_size), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    if unknown := sorted({*without} - {*LEFT_OUT}):
        raise ValueError(f"without: expected some of {', '.join(LEFT_OUT)}, got {', '.join(unknown)}")
    # workers elsewhere have another current folder
    folder = Path(directory).absolute()
    manifest = Manifest(dict(generator.describe()), seed, count, shard_size, generator.grid, tuple(sorted({*without})))
    state = ShardState(0, count, 0, 0, 0, 0, 0)
    with place(workers, scheduler) as finished:
        folder.mkdir(parents=True, exist_ok=True)
        with at_work(folder) as alone:
            claim(folder, manifest)
            for shard, report in finished(partial(finish_shard, generator, manifest, folder), manifest.shards):
                path = manifest.path(folder, shard)
                if not path.exists():
                    raise ValueError(f"{path}: expected a folder that all workers share, the shard is elsewhere; choose another")
                state = ShardState(
                    state.written + report.pairs,
                    count,
                    shard,
                    state.shrunk + report.shrunk,
                    state.rejected + report.rejected,
                    state.kept + report.kept * report.pairs,
                    state.repaired + report.repaired,
                )
                yield state
            # of workers that were killed: all shards are there; who else is at work will do it when it is done
            if alone():
                remove_partial(folder, SHARDS)


def read_shards(directory: str | os.PathLike[str], batch_size: int = 8) -> Iterator[PairBatch]:
    """The pairs of a data set in order, in batches; the last may be smaller. What is damaged is left out, with a warning.

    Raises
    ------
    ValueError : if the directory holds no data set, shards are missing, or pairs have NaN.
    """
    manifest = read_manifest(directory)
    waiting: list[Sample] = []
    for _, sample in whole_pairs(directory, manifest, range(manifest.count)):
        waiting.append(sample)
        if len(waiting) == batch_size:
            yield pair_batch(waiting, manifest.grid)
            waiting = []
    if waiting:
        yield pair_batch(waiting, manifest.grid)


def whole_pairs(directory: str | os.PathLike[str], manifest: Manifest, wanted: range) -> Iterator[tuple[int, Sample]]:
    """Some neighbouring pairs of a data set with their indices; a damaged shard gives those before the damage, and a warning."""
    folder = Path(directory)
    for shard in manifest.shards:
        indices = manifest.indices(shard)
        some = range(max(indices.start, wanted.start), min(indices.stop, wanted.stop))
        if not some:
            continue
        path = manifest.path(folder, shard)
        if not path.exists():
            raise ValueError(f"{folder}: expected {path.name}, it is missing; run synthesize again to finish the data set")
        read = 0
        try:
            for index, sample in read_shard(path, indices, some):
                yield index, sample
                read += 1
        except DamagedShardError as error:
            warnings.warn(
                f"{error}: {len(some) - read} of {len(some)} pairs are left out; run synthesize again to repair it", stacklevel=3
            )


def pair_batch(samples: Sequence[Sample], grid: Grid) -> PairBatch:
    """Pairs as they were rendered, from what a shard holds: displacements in mm become flows in voxels."""

    def stacked(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([sample[name] for sample in samples]))[:, None]

    def flow(name: str) -> torch.Tensor:
        return displacements_to_flows(np.stack([sample[name] for sample in samples]), grid)

    def told(name: str) -> torch.Tensor:
        return torch.tensor([sample["json"][name] for sample in samples])

    labels = Later.known(stacked("fixed_labels"), stacked("moving_labels")) if "fixed_labels" in samples[0] else None
    back = Later.known(flow("reverse"), stacked("reverse_mask").bool()) if "reverse" in samples[0] else None
    return PairBatch(
        fixed=stacked("fixed"),
        moving=stacked("moving"),
        flow=flow("displacement"),
        mask=stacked("mask").bool(),
        back=back,
        least_det=told("least_det").double(),
        residual=told("residual").double(),
        scale=told("scale").double(),
        rejected=told("rejected"),
        labels=labels,
    )
