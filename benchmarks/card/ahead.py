"""Pairs of training steps whose random numbers are drawn ahead by other processes: the card never waits for one thread to draw.

A pair is what `make_pairs` makes of it, number by number.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from augreg.synthesis import PairBatch, PairGenerator, make_pairs, pair_rngs

_generator: PairGenerator[Any] | None = None


def _hold(generator: PairGenerator[Any]) -> None:
    global _generator
    _generator = generator
    torch.set_num_threads(1)


def _drawn(seed: int, begin: int, end: int) -> Any:
    assert _generator is not None
    return _generator.draw(pair_rngs(seed, range(begin, end)))


class DrawnAhead:
    """Batches for `augreg.training.train`, to be closed by `with`.

    Parameters
    ----------
    generator : of the pairs
    batch : pairs of a step
    seed : of everything
    device : where they are rendered
    workers : processes that draw
    together : steps whose pairs are rendered at once: a card has too little to do with those of one
    """

    def __init__(
        self, generator: PairGenerator[Any], batch: int, seed: int, device: str, workers: int, together: int = 1
    ) -> None:
        self.generator, self.batch, self.seed, self.device, self.together = generator, batch * together, seed, device, together
        self.rendered: tuple[int, PairBatch] | None = None
        self.ahead = 3 * workers
        spawn = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(workers, spawn, _hold, (generator,))
        self.waiting: dict[int, Future[Any]] = {}

    def __enter__(self) -> Self:
        """Workers start."""
        self._ask(0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Workers end."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    def __call__(self, step: int) -> PairBatch:
        """The pairs of a step."""
        group, number = divmod(step, self.together)
        if self.rendered is None or self.rendered[0] != group:
            self.rendered = group, self._group(group)
        size = self.batch // self.together
        return self.rendered[1][number * size : (number + 1) * size]

    def _group(self, group: int) -> PairBatch:
        self._ask(group)
        draw = self.waiting.pop(group).result()
        indices = range(group * self.batch, (group + 1) * self.batch)
        return make_pairs(_Ready(self.generator, [draw]), self.seed, indices, self.device)

    def _ask(self, group: int) -> None:
        self.waiting = {number: future for number, future in self.waiting.items() if number >= group}
        for number in range(group, group + self.ahead):
            if number not in self.waiting:
                begin = number * self.batch
                self.waiting[number] = self.pool.submit(_drawn, self.seed, begin, begin + self.batch)


@dataclass(frozen=True, eq=False)
class _Ready:
    """A generator whose first draw is there; what folds is drawn again."""

    generator: PairGenerator[Any]
    ready: list[Any] = field(default_factory=list)

    def draw(self, rngs: Sequence[np.random.Generator]) -> Any:
        return self.ready.pop() if self.ready else self.generator.draw(rngs)

    def render(self, draw: Any, device: torch.device | str | None = None) -> PairBatch:
        return self.generator.render(draw, device)
