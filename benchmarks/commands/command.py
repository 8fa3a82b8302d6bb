"""`augreg register` beside the library: the whole command against a script that reads, registers, warps and writes.

Every way is a fresh process with one thread: the command; the script, from nothing; and the script's second call, which has
imported everything and loaded all kernels. Each repeat goes through all three. CPU seconds are user and system time of the
process (of the second call: of the call), `peak` its largest resident memory. Pairs that the output has are not run again. With
`--large`, two sections of 20 000 x 20 000 grey pixels are made of a photograph, and registered by the command alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import SimpleITK as sitk
import skimage.data
import tifffile

import augreg as ar
from benchmarks.harness.page import heading, table
from benchmarks.harness.places import DATA, ROOT
from benchmarks.harness.process import Spent, spent, surroundings
from benchmarks.harness.record import Record, Row, about, continued, write_record
from benchmarks.registration.cases import read_cases

# the command against the script from nothing, at most; memory, GB; and that of sections
_TIMES, _PEAK, _LARGE_PEAK = 1.3, 1.0, 4.0
# of the sections, pixels: sides, rows that are made at once, noise
_SIDE, _STRIP, _NOISE = 20_000, 500, 3
# name, suffix of what is written, the registration's options
_CASES: dict[str, tuple[str, str, dict[str, str]]] = {
    "affine, 512": ("affine-512/camera", ".png", {"transform": "affine"}),
    "B-spline, 512": ("elastic-512/camera", ".png", {}),
    "affine, brains of 1 mm": ("brains", ".nii.gz", {"transform": "affine"}),
    "B-spline, brains of 1 mm": ("brains", ".nii.gz", {}),
}
_LARGE: dict[str, tuple[str, str, dict[str, str]]] = {
    f"affine, {_SIDE} x {_SIDE}": ("sections", ".tif", {"transform": "affine"}),
    f"B-spline, {_SIDE} x {_SIDE}": ("sections", ".tif", {}),
}
_BRAINS = ("1000", "1006")
_SCRIPT = """
import json, resource, sys, time
import augreg as ar
fixed_path, moving_path, transform_path, warped_path, options, times = sys.argv[1:]
ar.set_threads(1)
for _ in range(int(times)):
    begin, used = time.perf_counter(), time.process_time()
    fixed, moving = ar.read_image(fixed_path), ar.read_image(moving_path)
    phi = ar.LPRegistration(**json.loads(options))(fixed, moving)
    moved = ar.warp(moving, phi, fixed.grid)
    ar.write_transform(phi, transform_path, fixed.grid)
    ar.write_image(moved, warped_path)
    print(json.dumps([time.perf_counter() - begin, time.process_time() - used]))
"""
_WAYS = ("command", "script", "script, second call")


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[*_CASES, *_LARGE], metavar="CASE", help="such as 'affine, 512'")
    parser.add_argument("--large", action="store_true", help="sections of 20 000 x 20 000 pixels too, once, by the command alone")


def run(options: argparse.Namespace) -> None:
    """Measure what the output lacks."""
    record = continued(options.output, about(1, ("augreg", "numba", "numpy", "SimpleITK")) | {"rows": []})
    done = {row["case"] for row in record["rows"]}
    wanted = {name: case for name, case in (_CASES | _LARGE).items() if name in (options.only or (_CASES | _LARGE))}
    with tempfile.TemporaryDirectory() as folder:
        for name, (images, suffix, asked) in wanted.items():
            large = name in _LARGE
            if name in done or (large and not options.large):
                continue
            pair = _pair(images, Path(folder))
            outputs = [str(Path(folder) / f"transform{'.tfm' if asked else '.h5'}"), str(Path(folder) / f"warped{suffix}")]
            record["rows"] += _measured(name, [*pair, *outputs], asked, 1 if large else options.repeats, large)
            write_record(options.output, record)
            print(name, file=sys.stderr, flush=True)


def _measured(name: str, paths: Sequence[str], asked: dict[str, str], repeats: int, large: bool) -> list[Row]:
    """Rows of all ways; the first round, which fills caches, is not told, but of sections there is one only."""
    fixed, moving, transform, warped = paths
    words = [word for key, value in asked.items() for word in (f"--{key}", value)]
    command = [sys.executable, "-m", "augreg", "register", fixed, moving, "-o", transform, "--warped", warped, "--threads", "1"]
    script = [sys.executable, "-c", _SCRIPT, *paths, json.dumps(asked)]
    rows: list[Row] = []
    for repeat in range(0 if large else -1, repeats):
        ways = {"command": spent([*command, *words], surroundings(1), ROOT)}
        if not large:
            ways["script"] = spent([*script, "1"], surroundings(1), ROOT)
            twice = spent([*script, "2"], surroundings(1), ROOT)
            seconds, used = json.loads(twice.said.splitlines()[1])
            ways["script, second call"] = Spent("", seconds, used, twice.peak)
        for way, took in ways.items():
            if repeat >= 0:
                figures = {"seconds": took.seconds, "cpu_seconds": took.cpu_seconds, "peak_gb": took.peak / 1e9}
                rows.append({"case": name, "way": way, "repeat": repeat} | figures)
    return rows


def _pair(images: str, folder: Path) -> list[str]:
    """Paths of the fixed and the moving image."""
    if images == "brains":
        return [str(DATA / f"brain3d/{person}.nii.gz") for person in _BRAINS]
    paths = [str(folder / f"{name}-{images.replace('/', '-')}") for name in ("fixed", "moving")]
    if images == "sections":
        return _sections([f"{path}.tif" for path in paths])
    case = next(read_cases((images,)))
    for path, values in zip(paths, (case.fixed, case.moving), strict=True):
        sitk.WriteImage(sitk.GetImageFromArray(np.rint(values).astype(np.uint8).T), f"{path}.png")
    return [f"{path}.png" for path in paths]


def _sections(paths: list[str]) -> list[str]:
    """A photograph seen through two affine maps, strip by strip, with noise; grey pixels of eight bits."""
    values = skimage.data.immunohistochemistry().mean(axis=-1).astype(np.float32).T.copy()
    image = ar.Image(values, ar.Grid(values.shape))
    fine = (values.shape[0] - 1) / _SIDE
    # of one strip, shifted for each: drawing it takes longer than all else
    noise = np.random.default_rng(0).standard_normal((_STRIP, _SIDE), np.float32) * _NOISE
    # of the sections' pixels to those of the photograph
    onto = ar.Affine(np.eye(2) * fine, np.zeros(2))
    apart = ar.Affine.about(np.array([[0.99, -0.06], [0.05, 1.01]]), (_SIDE / 2, _SIDE / 2), (300.0, -200.0))
    rng = np.random.default_rng(1)
    for path, phi in zip(paths, (onto, onto @ apart), strict=True):
        pixels = tifffile.memmap(path, shape=(_SIDE, _SIDE), dtype=np.uint8)
        for start in range(0, _SIDE, _STRIP):
            strip = ar.Grid((_SIDE, _STRIP), (1.0, 1.0), (0.0, float(start)))
            seen = ar.warp(image, phi, strip, fill=200.0).values.T
            shift = int(rng.integers(_SIDE))
            pixels[start : start + _STRIP] = (seen + np.roll(noise, shift, axis=1)).clip(0, 255)
        pixels.flush()
    return paths


def rendered(record: Record) -> str:
    """Medians of every case and way, and what the command takes beside the script."""
    lines = []
    for name in dict.fromkeys(row["case"] for row in record["rows"]):
        mine = {way: [row for row in record["rows"] if (row["case"], row["way"]) == (name, way)] for way in _WAYS}
        for way, rows in mine.items():
            if not rows:
                continue
            seconds, used, peak = (median(row[key] for row in rows) for key in ("seconds", "cpu_seconds", "peak_gb"))
            beside = [median(row["cpu_seconds"] for row in mine["command"]) / used] if way != "command" else []
            ratio = f"{beside[0]:.2f}" if beside else ""
            lines.append([name, way, str(len(rows)), f"{used:.2f}", f"{seconds:.2f}", ratio, f"{peak:.2f}"])
    head = ["case", "way", "n", "CPU s", "s", "command's CPU s, divided by it", "peak GB"]
    goal = f"aimed for: at most {_TIMES}, below {_PEAK:g} GB; sections below {_LARGE_PEAK:g} GB"
    return f"{heading(record, goal)}\n\n{table(head, lines)}"
