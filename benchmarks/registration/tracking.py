"""Loops: 500 frames in known motion registered to one fixed image, each from where the one before ended.

Photographs of 512 x 512 pixels, four of them with a fourth of the frames each, moved rigidly and by affine maps; four brains of
80 x 80 x 80 voxels moved rigidly. A frame's error is the mean distance of its transform from the truth, over lattice points
that it shows; a frame is lost if that is above two voxels. The methods take turns image by image, every one from its own last
transform: the tracker, the plain call `initial=last, search=False`, and OpenCV's ECC from the last warp, at full resolution and
on a pyramid. Time is that of the call alone, of each frame the least of `--repeats` loops: other work on the machine is left out,
and what differs from frame to frame is not. `as run` is of all loops. Images that the output has are not run again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import augreg as ar
from augreg.threads import set_threads
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row, about, continued, write_record
from benchmarks.harness.timing import timed
from benchmarks.registration.motions import BRAINS, PHOTOGRAPHS, Motion, brain, photograph

Follow = Callable[[Any, Any], Any]
_TRACKER, _PLAIN = "tracker", "plain call"
_ECC, _PYRAMID = "OpenCV ECC", "OpenCV ECC, pyramid"
_CASES = ("rigid 512", "affine 512", "rigid 80")
# voxels beyond which a frame is lost
_LOST = 2.0
# upper ends of the bins of the histogram, ms
_BINS = (5, 7.5, 10, 12.5, 15, 17.5, 20, 25, 30, 40, 60, 100, 200, float("inf"))
_BAR = 50


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--frames", type=int, default=500, help="of every case")
    parser.add_argument("--only", nargs="+", choices=_CASES, default=list(_CASES), metavar="CASE")
    parser.add_argument("--repeats", type=int, default=3, help="loops over the same frames")
    parser.add_argument("--more", type=int, default=1000, help="images of all cases that the output lacks, at most so many; all")
    parser.add_argument("--speed", type=float, default=1.0, help="of the motion, as a share of what is usual")
    parser.add_argument("--kept-frames", type=Path, metavar="FOLDER", help="frames are kept there, and not made again")
    parser.add_argument("--methods", nargs="+", choices=(_TRACKER, _PLAIN, _ECC, _PYRAMID), metavar="METHOD")


def run(options: argparse.Namespace) -> None:
    """Measure."""
    set_threads(options.threads)
    packages = ("augreg", "numba", "numpy", "opencv-python-headless")
    record = continued(options.output, about(options.threads, packages) | {"prepared": [], "steps": [], "rows": []})
    done = {(row["case"], row["image"]) for row in record["prepared"]}
    asked = [(case, motion) for case in options.only for motion in _motions(case, options.speed)]
    for case, motion in [(case, motion) for case, motion in asked if (case, motion.name) not in done][: options.more]:
        each = -(-options.frames // len(PHOTOGRAPHS))
        record["steps"].append({"case": case, "voxels": [round(step, 3) for step in motion.steps(each)]})
        for kind, row in _followed(case, motion, _frames(motion, each, options.kept_frames), options):
            record[kind].append(row)
        write_record(options.output, record)
        print(case, motion.name, file=sys.stderr, flush=True)


def _motions(case: str, speed: float) -> Iterator[Motion]:
    kind, side = case.split()
    if side == "80":
        # the same share of a smaller image's side is fewer voxels
        yield from (Motion(name, brain(name), kind, np.uint16, seed, 2 * speed) for seed, name in enumerate(BRAINS))
    else:
        yield from (Motion(name, photograph(name), kind, np.uint8, seed, speed) for seed, name in enumerate(PHOTOGRAPHS))


def _frames(motion: Motion, count: int, folder: Path | None) -> Iterable[npt.NDArray[Any]]:
    if folder is None:
        return map(motion.frame, range(count))
    path = folder / f"{motion.name}-{motion.kind}-{motion.speed:g}-{count}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(path, np.stack([motion.frame(k) for k in range(count)]))
    return np.load(path)


def _followed(
    case: str, motion: Motion, frames: Iterable[npt.NDArray[Any]], options: argparse.Namespace
) -> Iterator[tuple[str, Row]]:
    """Rows of the preparations and of all frames."""
    followers: dict[str, Follow] = {}
    for name, make in _makers(motion, options.threads).items():
        if options.methods and name not in options.methods:
            continue
        make()(motion.frame(0), None)  # compiled, and caches filled
        followers[name], took = timed(make)
        yield "prepared", {"case": case, "image": motion.name, "method": name, **took}
    all_of_them, took_of = list(frames), {name: [] for name in followers}
    for _ in range(options.repeats):
        for name, follow in followers.items():
            last, errors, took = None, [], []
            for k, frame in enumerate(all_of_them):
                last, seconds = timed(lambda: follow(frame, last))  # noqa: B023
                took.append(seconds)
                errors.append(motion.error(last, k))
            took_of[name].append((took, errors))
    for name, repeats in took_of.items():
        wall, cpu = (
            1000 * np.array([[each[part] for each in took] for took, _ in repeats]) for part in ("seconds", "cpu_seconds")
        )
        series = {"ms": wall.min(axis=0), "cpu_ms": cpu.min(axis=0), "longest": wall.max(axis=0)}
        told = {part: values.round(1).tolist() for part, values in series.items()}
        told["longest"] = [round(value) for value in told["longest"]]
        errors = np.array(repeats[0][1]).round(3).tolist()
        yield "rows", {"case": case, "image": motion.name, "method": name, **told, "error": errors}


def _makers(motion: Motion, threads: int) -> dict[str, Callable[[], Follow]]:
    """Of every method what prepares it."""
    still = ar.Affine.identity(motion.image.ndim)
    register = ar.LPRegistration(transform=motion.kind)  # type: ignore[arg-type]
    cold = ar.LPRegistration(transform=motion.kind, search=False)  # type: ignore[arg-type]

    def prepared() -> Follow:
        tracker = register.prepare(motion.fixed)
        return lambda frame, last: tracker(frame, initial=last or still)

    def plain() -> Follow:
        return lambda frame, last: cold(motion.fixed, frame, initial=last or still)

    makers = {_TRACKER: prepared, _PLAIN: plain}
    if motion.image.ndim == 2:
        try:
            from benchmarks.registration.rivals import opencv
        except ImportError:
            return makers
        opencv.use(threads)
        for name, levels in ((_ECC, 1), (_PYRAMID, 3)):
            makers[name] = lambda levels=levels: opencv.Follower(motion.fixed, motion.kind, levels).follow
    return makers


def rendered(record: Record) -> str:
    """A table for every case, and how the latencies spread."""
    parts = [heading(record)]
    for case in _CASES:
        rows = [row for row in record["rows"] if row["case"] == case]
        if rows:
            parts.append(_part(case, rows, record))
    return "\n\n".join(parts)


def _part(case: str, rows: list[Row], record: Record) -> str:
    steps = np.concatenate([row["voxels"] for row in record["steps"] if row["case"] == case])
    lines = []
    for name in (names := list(dict.fromkeys(row["method"] for row in rows))):
        once = [1000 * row["seconds"] for row in record["prepared"] if (row["case"], row["method"]) == (case, name)]
        wall, cpu, longest, errors = (_series(rows, name, part) for part in ("ms", "cpu_ms", "longest", "error"))
        times = (*np.percentile(wall, (50, 99)), wall.max(), np.percentile(longest, 99), *np.percentile(cpu, (50, 99)))
        far = [f"{value:.3f}" for value in (*np.percentile(errors, (50, 99)), errors.max())]
        prepared = f"{np.median(once):.1f}" if name == _TRACKER else ""
        lines.append([name, prepared, *(f"{value:.1f}" for value in times), *far, f"{(errors > _LOST).sum()}"])
    header = ["method", "prepare, ms", "ms, p50", "p99", "largest", "as run, p99", "CPU ms, p50", "p99"]
    header += ["error, p50", "p99", "largest", "lost"]
    frames, largest = len(_series(rows, names[0], "ms")), f"{np.median(steps):.1f}, at most {steps.max():.1f}"
    title = f"**{case}**: {frames} frames; the farthest point moves by {largest} voxels from frame to frame (median, largest)."
    return f"{title}\n\n{table(header, lines)}\n{_histogram(rows, [name for name in names if name in (_TRACKER, _PLAIN)])}"


def _series(rows: list[Row], name: str, part: str) -> npt.NDArray[np.float64]:
    """Of all frames of a method."""
    return np.concatenate([row[part] for row in rows if row["method"] == name])


def _histogram(rows: list[Row], names: list[str]) -> str:
    """Frames by their latency, of some methods; bars are shares of all frames."""
    text = []
    for name in names:
        wall = _series(rows, name, "ms")
        counts, _ = np.histogram(wall, bins=(0, *_BINS))
        text.append(f"{name}, ms by the clock")
        for upper, lower, count in zip(_BINS, (0, *_BINS), counts, strict=False):
            if count:
                span = f"{lower:g} to {upper:g}" if np.isfinite(upper) else f"above {lower:g}"
                text.append(f"{span:>14} {count:>5} {'#' * max(1, round(_BAR * count / len(wall)))}")
    return "```\n" + "\n".join(text) + "\n```\n"
