"""Parts of a run: a share of the time, a hard stop, and results that are on the disk before the next part begins."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness.record import write_record
from benchmarks.harness.timing import in_turns


class OutOfTime(Exception):  # noqa: N818
    """A part has used up its share."""


@contextmanager
def hard_stop(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the block after so many seconds; blocks may lie in each other, the earliest stop counts."""
    before = signal.getsignal(signal.SIGALRM)
    left, _ = signal.getitimer(signal.ITIMER_REAL)
    begin = time.monotonic()

    def stop(*_: Any) -> None:
        raise OutOfTime(f"stopped after {time.monotonic() - begin:.0f} s")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(1e-3, min(seconds, left) if left else seconds))
    try:
        yield
    finally:
        remaining = max(1e-3, left - (time.monotonic() - begin)) if left else 0.0
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, remaining)


@dataclass(frozen=True)
class Part:
    """One of them.

    Parameters
    ----------
    name : unique
    share : of the time that is left, beside the shares of the parts that follow
    run : fills the dictionary that it is given; gets the end of its time, `time.monotonic()`
    """

    name: str
    share: float
    run: Callable[[dict[str, Any], float], None]


def run_parts(parts: list[Part], record: dict[str, Any], output: Path, end: float) -> bool:
    """All parts in turns; the record is written after each. Whether one of them failed."""
    failed = False
    for number, part in enumerate(parts):
        begin = time.monotonic()
        share = part.share / sum(one.share for one in parts[number:])
        seconds = max(1.0, share * (end - begin))
        found: dict[str, Any] = {}
        record["parts"][part.name] = found
        print(f"{part.name}: at most {seconds:.0f} s", flush=True)
        try:
            with hard_stop(seconds):
                part.run(found, begin + seconds)
        except Exception as error:  # the next part goes on
            failed = True
            found["error"] = described(error)
            print(traceback.format_exc(), flush=True)
        found["seconds"] = round(time.monotonic() - begin, 1)
        write_record(output, record)
        release()
    return failed


def described(error: BaseException) -> str:
    """An error as one line."""
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:400]


def release() -> None:
    """Give memory of the card back."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def tried(rows: list[dict[str, Any]], about: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> None:
    """A row of what was measured, or of why it was not; only a stop is no row."""
    try:
        row = {**about, **measure()}
    except OutOfTime:
        raise
    except Exception as error:  # one row is lost, not the others
        row = {**about, "error": described(error)}
        release()
    rows.append(row)
    print(row, flush=True)


def peak_memory(device: str) -> float | None:
    """GB of the card's memory that were held at once since `release`."""
    return torch.cuda.max_memory_allocated() / 1e9 if device != "cpu" else None


def median_ms(call: Callable[[], object], device: str, repeats: int, warm: int = 3) -> dict[str, float]:
    """Milliseconds of a call, by the clock, the device's work included: median and least."""
    ordered = sorted(1e3 * took["seconds"] for *_, took in in_turns({"": lambda _: call()}, repeats, device, warm))
    return {"median_ms": ordered[len(ordered) // 2], "least_ms": ordered[0]}
