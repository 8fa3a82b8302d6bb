"""Pairs for torch's DataLoader, straight from a generator or from shards.

Every pair comes once an epoch, whatever the number of ranks and of workers: the pairs are shared out among the ranks, a rank's
among its workers. The ranks' shares differ by one pair at most; where no rank may run dry before another, take a count that their
number divides. Ranks and workers change the order of pairs, not what they are: a pair follows from seed and index alone.

Items are dictionaries of tensors, a pair each: the parts of `augreg.synthesis.PairBatch` without its first axis, and `index`. The
way back and label maps cost about as much as the rest of a pair: name the parts that you want, and the others are not made.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from augreg.shards.folder import pair_batch, whole_pairs
from augreg.shards.manifest import Manifest, read_manifest
from augreg.shards.shard import one_thread
from augreg.synthesis.pairs import PairGenerator, make_pairs

Item = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class PairStream(IterableDataset[Item]):
    """Pairs of a generator, made when they are asked for.

    Parameters
    ----------
    generator : generator of the pairs
    seed : seed of all pairs
    count : number of pairs of an epoch, the same pairs in each; None for an epoch without end
    start : number of the first pair, to go on with fresh ones
    together : number of pairs that are rendered at once
    device : device that renders, and where the items lie; by default the CPU. A GPU wants a DataLoader without workers.
    ranks : number of this rank, and of all ranks; by default those of torch.distributed, or of RANK and WORLD_SIZE
    parts : names of what is wanted, such as ("fixed", "moving", "flow", "mask"); by default all, see `PairBatch.names`

    Raises
    ------
    ValueError : for numbers that make no sense.
    """

    generator: PairGenerator[Any]
    seed: int = 0
    count: int | None = None
    start: int = 0
    together: int = 8
    device: str = "cpu"
    ranks: tuple[int, int] | None = None
    parts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("start", 0), ("together", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: expected at least {least}, got {value}")
        _check_ranks(self.ranks)

    def __iter__(self) -> Iterator[Item]:
        """The pairs of this rank and worker.

        Raises
        ------
        ValueError : where draw after draw folds; for parts that the pairs do not have.
        """
        worker, workers = _worker()
        own = self._of_rank[worker::workers]
        # workers share the processors among themselves
        threads = nullcontext if get_worker_info() is None else one_thread
        while own:
            some, own = own[: self.together], own[self.together :]
            with threads():
                parts = make_pairs(self.generator, self.seed, some, self.device).chosen(self.parts)
            yield from _items(parts, some)

    def __len__(self) -> int:
        """Pairs of this rank in an epoch. TypeError : where it has no end."""
        if self.count is None:
            raise TypeError("PairStream: expected a count of pairs for a length, got None: this stream has no end")
        return len(self._of_rank)

    @property
    def _of_rank(self) -> range:
        rank, ranks = _known_ranks(self.ranks) or (0, 1)
        return range(self.start, sys.maxsize if self.count is None else self.start + self.count)[rank::ranks]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "ranks": _known_ranks(self.ranks)}


@dataclass(frozen=True, eq=False)
class ShardStream(IterableDataset[Item]):
    """Pairs of a folder of shards, in their order; each share reads neighbours. What is damaged is left out, with a warning.

    Parameters
    ----------
    directory : folder that `write_shards` has written
    ranks : number of this rank, and of all ranks; by default those of torch.distributed, or of RANK and WORLD_SIZE
    parts : names of what is wanted, by default all that the shards have
    """

    directory: str | os.PathLike[str]
    ranks: tuple[int, int] | None = None
    parts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_ranks(self.ranks)

    def __len__(self) -> int:
        """Pairs of this rank."""
        return len(self._of_rank(read_manifest(self.directory)))

    def __iter__(self) -> Iterator[Item]:
        """The pairs of this rank and worker.

        Raises
        ------
        ValueError : if the directory holds no data set, shards are missing, pairs have NaN or lack a part.
        """
        manifest = read_manifest(self.directory)
        for index, sample in whole_pairs(self.directory, manifest, _block(self._of_rank(manifest), *_worker())):
            yield from _items(pair_batch([sample], manifest.grid).chosen(self.parts), [index])

    def _of_rank(self, manifest: Manifest) -> range:
        return _block(range(manifest.count), *(_known_ranks(self.ranks) or (0, 1)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "ranks": _known_ranks(self.ranks)}


def _items(parts: Item, indices: Sequence[int]) -> Iterator[Item]:
    for i, index in enumerate(indices):
        yield {**{name: part[i] for name, part in parts.items()}, "index": torch.tensor(index)}


def _block(indices: range, number: int, of: int) -> range:
    """Neighbouring indices: one of several parts of about the same length."""
    return indices[len(indices) * number // of : len(indices) * (number + 1) // of]


def _worker() -> tuple[int, int]:
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)


def _known_ranks(given: tuple[int, int] | None) -> tuple[int, int] | None:
    """Rank and number of ranks. Asked where the stream is handed to workers, which torch.distributed does not know."""
    if given is not None:
        return given
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return None


def _check_ranks(ranks: tuple[int, int] | None) -> None:
    if ranks is not None and not 0 <= ranks[0] < ranks[1]:
        raise ValueError(f"ranks: expected a rank and the number of ranks above it, got {ranks}")
