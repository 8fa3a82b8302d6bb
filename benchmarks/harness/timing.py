"""Time of calls: by the clock, and of all threads together, which other work on the machine disturbs less."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeVar

T = TypeVar("T")
Took = dict[str, float]


def wait_for(device: str) -> None:
    """Until a card has done what it was told."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()


def timed(call: Callable[[], T], device: str = "cpu") -> tuple[T, Took]:
    """What a call gives, and the `seconds` and `cpu_seconds` that it took, with the device's work."""
    wait_for(device)
    begin, spent = time.perf_counter(), time.process_time()
    result = call()
    wait_for(device)
    return result, {"seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - spent}


def in_turns(
    calls: Mapping[str, Callable[[int], object]], repeats: int, device: str = "cpu", warm: int = 1
) -> Iterator[tuple[str, int, Took]]:
    """Name, repeat and time of calls that get the number of the repeat.

    Every repeat goes through all of them: what disturbs the machine disturbs all alike. The first rounds are not told: there
    algorithms are chosen and caches filled.
    """
    for repeat in range(-warm, repeats):
        for name, call in calls.items():
            _, took = timed(partial(call, max(repeat, 0)), device)
            if repeat >= 0:
                yield name, repeat, took
