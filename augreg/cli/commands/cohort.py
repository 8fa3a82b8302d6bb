"""`augreg cohort`: many images aligned to one."""

from __future__ import annotations

import argparse
import importlib
import math
import os
import time
from pathlib import Path
from typing import Any

import augreg as ar
from augreg.cli.methods import PRESETS, kind_or_preset
from augreg.cli.options import FIXED, Commands, command_of, json_option, kind_option, method_options, work_options
from augreg.cli.output import check_distinct, report, say_warning
from augreg.cohort import CohortState, Line, doubts_of, files_of, off_in, write_cohort
from augreg.cohort.folder import PAGE, TABLE
from augreg.progress import bar

_PRESET = "people"


def add(commands: Commands) -> None:
    """The parser."""
    parser = command_of(
        commands,
        "cohort",
        run,
        "align many images to FIXED, into a folder; running it again goes on",
        "augreg cohort template.nii.gz people/*.nii.gz -o aligned --report",
    )
    parser.add_argument("fixed", metavar="FIXED", help=FIXED)
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="images, or folders with DICOM series, that are aligned")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder: NAME.h5, NAME.nii.gz, cohort.csv")
    parser.add_argument(
        "--labels",
        nargs="+",
        metavar="L",
        help="label maps: FIXED's, then one for every image; they judge the result. Without FIXED's they are only carried along",
    )
    method_options(parser, PRESETS, _PRESET)
    kind_option(parser)
    work_options(parser)
    parser.add_argument("--report", action="store_true", help="also write index.html: everybody before and after, doubts first")
    parser.add_argument("--bids", action="store_true", help="names of BIDS derivatives, by the names of the images")
    json_option(parser)


def run(options: argparse.Namespace) -> None:
    """`augreg cohort`."""
    begin = time.perf_counter()
    method = kind_or_preset(options, _PRESET)
    fixed_labels, labels = _labels(options)
    space = options.fixed if options.bids else None
    _check(options, fixed_labels, labels, space)
    picture = None
    if options.report:
        # matplotlib, a broken one is told before the work
        picture = importlib.import_module("augreg.report").cohort_picture
    fixed = ar.read_image(options.fixed)
    known = None if fixed_labels is None else ar.read_labels(fixed_labels)
    if known is not None and not known.grid.matches(fixed.grid):
        raise ValueError(f"{fixed_labels}: expected labels on the grid of FIXED, {fixed.grid.shape}, got {known.grid.shape}")
    states = write_cohort(
        fixed,
        options.images,
        method,
        options.output,
        fixed_labels=known,
        labels=labels,
        space=space,
        picture=picture,
        workers=options.workers,
        scheduler=options.scheduler,
    )
    state = CohortState((), len(options.images))
    with bar("cohort", state.total) as update:
        for state in states:
            update(len(state.lines), f"{state.failed} failed" if state.failed else "")
    doubts = doubts_of(state.lines)
    if options.report:
        _write_page(options, state, doubts, space)
    for line in state.lines:
        if line.failed:
            say_warning(f"{line.image}: failed: {line.failed}")
    _report(options, state, doubts, time.perf_counter() - begin)


def _labels(options: argparse.Namespace) -> tuple[str | None, list[str]]:
    """The label map of FIXED, and those of the images."""
    given, count = options.labels or [], len(options.images)
    if len(given) == count + 1:
        return given[0], given[1:]
    if given and len(given) != count:
        raise ValueError(
            f"--labels: expected FIXED's and one for each of the {count} images, {count + 1} in all, got {len(given)}"
        )
    return None, given


def _check(options: argparse.Namespace, fixed_labels: str | None, labels: list[str], space: str | None) -> None:
    """What can be known to be wrong before the work."""
    folder = Path(options.output)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder to write to, got a file; choose another name")
    if not folder.absolute().parent.is_dir():
        raise FileNotFoundError(f"{folder}: expected an existing folder to write to, got none at {folder.absolute().parent}")
    outputs = {f"-o: {name}": str(folder / name) for name in (TABLE, PAGE)}
    for names in files_of(options.images, space):
        outputs |= {f"-o: {name}": str(folder / name) for name in (names.transform, names.warped, names.labels)}
    inputs = [options.fixed, *options.images, *labels, *([fixed_labels] if fixed_labels else [])]
    check_distinct(outputs, {path: path for path in inputs})


def _write_page(options: argparse.Namespace, state: CohortState, doubts: list[float], space: str | None) -> None:
    from augreg.report import cohort_page

    folder = Path(options.output)
    pictures = []
    for names, line in zip(files_of(options.images, space), state.lines, strict=True):
        pictures.append(None if line.failed else (folder / names.picture).read_bytes())
    with ar.io.atomic(folder / PAGE) as temporary:
        temporary.write_text(cohort_page(state.lines, doubts, pictures, Path(options.fixed).name), encoding="utf-8")


def _report(options: argparse.Namespace, state: CohortState, doubts: list[float], seconds: float) -> None:
    folder = options.output
    result: dict[str, Any] = {
        "images": state.total,
        "failed": state.failed,
        "kept": state.kept,
        "seconds": seconds,
        "table": os.path.join(folder, TABLE),
        "report": os.path.join(folder, PAGE) if options.report else None,
        "members": [_told(line, doubt) for line, doubt in zip(state.lines, doubts, strict=True)],
        "warnings": [],
    }
    lines = [f"{folder}: {state.total - state.failed} of {state.total} images aligned, {state.failed} failed"]
    lines[0] += f" ({state.kept} were there), {seconds:.1f} s"
    worst = [(doubt, line) for doubt, line in zip(doubts, state.lines, strict=True) if doubt >= 3]
    for doubt, line in sorted(worst, key=lambda one: -one[0])[:10]:
        lines.append(f"look at {line.name}: {_why(line, state)}" + (f" (doubt {doubt:.1f})" if math.isfinite(doubt) else ""))
    report(result, "\n".join(lines), as_json=options.json)
    if state.failed == state.total:
        raise ValueError(f"{folder}: expected an image that can be aligned, got none of {state.total}; see {TABLE} in it")


def _why(line: Line, state: CohortState) -> str:
    if line.failed:
        return f"failed: {line.failed}"
    return "; ".join(line.warnings) or f"unlike the others, {off_in(line, state.lines)}"


def _told(line: Line, doubt: float) -> dict[str, Any]:
    numbers = ("seconds", "objective", "similarity_before", "similarity", "folding", "growth", "dice_before", "dice")
    told = {name: getattr(line, name) for name in ("name", "image", *numbers)}
    return {**told, "doubt": doubt, "warnings": list(line.warnings), "failed": line.failed or None, "kept": line.kept}
