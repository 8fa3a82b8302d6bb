"""`augreg series`: the frames of a series aligned, with the motion as a curve."""

from __future__ import annotations

import argparse
import importlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

import augreg as ar
from augreg.cli.arguments import positive
from augreg.cli.methods import network_file
from augreg.cli.options import Commands, command_of, json_option
from augreg.cli.output import report, say_warning
from augreg.io.series import Series, read_series
from augreg.progress import bar
from augreg.series import Aligned, Moved, write_aligned
from augreg.series.folder import MEAN, PAGE, TABLE, motion_of, moved_frames

_KINDS = ("rigid", "similarity", "affine", "bspline")


def add(commands: Commands) -> None:
    """The parser."""
    parser = command_of(
        commands,
        "series",
        run,
        "align the frames of a series, into a folder with the motion as a curve; running it again goes on",
        "augreg series bold.nii.gz -o bold-aligned --report",
    )
    parser.add_argument("series", metavar="SERIES", help="4-D NIfTI, or a TIFF with many pages")
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIR", help=f"folder: moved frames, {MEAN}, {TABLE}, transforms/0000.tfm"
    )
    parser.add_argument(
        "--to",
        choices=("mean", "first", "previous"),
        default="mean",
        help="what frames are aligned to: the mean of the aligned frames, the first, or each the one before (default mean)",
    )
    parser.add_argument("--transform", choices=_KINDS, help="kind (default rigid)")
    parser.add_argument("--criterion", choices=("ncc", "ssd", "mi"), help="what is compared (default ncc)")
    parser.add_argument("--model", metavar="WEIGHTS", help="register with this network instead: a file, or sunnybrook-sax")
    parser.add_argument("--threads", type=positive(int), metavar="T", help="at most the number of cores, the default")
    parser.add_argument("--report", action="store_true", help=f"also write {PAGE}: the curve, and the mean before and after")
    json_option(parser)


def run(options: argparse.Namespace) -> None:
    """`augreg series`."""
    begin = time.perf_counter()
    folder = Path(options.output)
    _check(options, folder)
    if options.threads is not None:
        ar.set_threads(options.threads)
    series = read_series(options.series)
    method, elastic = _method(options)
    suffix = ".nii.gz" if options.series.lower().endswith((".nii", ".nii.gz", ".hdr", ".img")) else ".tif"
    rounds = 2 if options.to == "mean" else 1
    found: dict[int, Aligned] = {}
    kept = 0
    with bar("series", rounds * len(series)) as update:
        for done, state in enumerate(write_aligned(series, method, folder, options.to, elastic=elastic, suffix=suffix), 1):
            found[state.number] = state.aligned
            kept += state.kept
            update(done, f"{sum(one.lost for one in found.values())} lost")
    aligned = [found[k] for k in range(len(series))]
    motion = motion_of(aligned, series)
    if options.report:
        _write_page(folder, series, aligned, motion, options.to)
    for k, one in enumerate(aligned):
        if one.warnings:
            say_warning(f"frame {k}: {'; '.join(one.warnings)}")
    _report(options, aligned, motion, kept, time.perf_counter() - begin)


def _check(options: argparse.Namespace, folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder to write to, got a file; choose another name")
    if not folder.absolute().parent.is_dir():
        raise FileNotFoundError(f"{folder}: expected an existing folder to write to, got none at {folder.absolute().parent}")
    source = os.path.realpath(options.series)
    if os.path.dirname(source) == os.path.realpath(folder) and Path(source).name.startswith(("moved.", "mean.")):
        raise ValueError(f"{options.series}: expected a series elsewhere, got one that would be replaced; choose another folder")
    asked = [name for name in ("transform", "criterion") if getattr(options, name) is not None]
    if options.model is not None and asked:
        raise ValueError(f"--model: expected no --{asked[0]}, which a network knows nothing of; leave one of them out")
    if options.report:
        importlib.import_module("augreg.report")


def _method(options: argparse.Namespace) -> tuple[Any, bool]:
    """The registration, and whether each frame begins anew."""
    if options.model is not None:
        return network_file(options.model, "cpu", None), True
    kind: Any = options.transform or "rigid"
    return ar.LPRegistration(transform=kind, criterion=options.criterion or "ncc"), kind == "bspline"


def _write_page(folder: Path, series: Series, aligned: list[Aligned], motion: list[Moved], to: str) -> None:
    from augreg.report import series_page

    with ar.io.atomic(folder / PAGE) as temporary:
        temporary.write_text(series_page(series, moved_frames(series, aligned), aligned, motion, to), encoding="utf-8")


def _report(options: argparse.Namespace, aligned: list[Aligned], motion: list[Moved], kept: int, seconds: float) -> None:
    folder, lost = options.output, [k for k, one in enumerate(aligned) if one.lost]
    agree = [float(np.nanmean([getattr(one, name) for one in aligned])) for name in ("similarity_before", "similarity")]
    result: dict[str, Any] = {
        "frames": len(aligned),
        "lost": lost,
        "kept": kept,
        "seconds": seconds,
        "step_mean": float(np.mean([one.step for one in motion])),
        "step_max": max(one.step for one in motion),
        "shift_max": max(one.shift for one in motion),
        "similarity_before": agree[0],
        "similarity": agree[1],
        "table": os.path.join(folder, TABLE),
        "report": os.path.join(folder, PAGE) if options.report else None,
        "warnings": [],
    }
    text = (
        f"{folder}: {len(aligned)} frames aligned to the {options.to}, {len(lost)} lost, {seconds:.1f} s\n"
        f"motion     {result['step_mean']:.3g} mm from frame to frame, at most {result['step_max']:.3g}; "
        f"{result['shift_max']:.3g} mm from the first at most\n"
        f"similarity {agree[0]:.3f} to {agree[1]:.3f}"
    )
    report(result, text, as_json=options.json)
