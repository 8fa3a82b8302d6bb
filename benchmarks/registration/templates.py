"""Templates of brains: 14 slices, and six volumes at 2 mm, by augreg and by ANTs' `build_template`, in the same run.

Beside CPU seconds (all threads; images in memory for augreg, which is warm; for ANTs what its process needs more than one that
only reads the images) stand the sharpness of the template, its mean squared gradient over its variance (1/mm^2), and the mean
Dice of all pairs of people through it: label maps are carried to the template by one registration, `LPRegistration.for_people()`
for both templates, and ANTs' own SyN for its own.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.ndimage

import augreg as ar
from augreg.atlas import template_rounds
from augreg.threads import set_threads
from benchmarks.harness.page import heading, table
from benchmarks.harness.places import DATA, TEST_BRAINS
from benchmarks.harness.process import finished, surroundings
from benchmarks.harness.record import Record, Row, Unusable, about, read_record, write_record

_SLICES, _VOLUMES = "14 slices, 1 mm", "6 volumes, 2 mm"
CASES = {"slices": _SLICES, "volumes": _VOLUMES}
# CPU seconds that a template should need at most
_GOALS = {_SLICES: 30.0, _VOLUMES: 240.0}
_ANTS = """
import glob, sys
import ants
folder, dimension, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
images = [ants.image_read(path) for path in sorted(glob.glob(folder + "/image*.nii.gz"))]
maps = [ants.image_read(path) for path in sorted(glob.glob(folder + "/labels*.nii.gz"))]
if what == "build":
    ants.image_write(ants.build_template(image_list=images), folder + "/ants.nii.gz")
if what == "carry":
    found = ants.image_read(folder + "/ants.nii.gz")
    for i, (image, one) in enumerate(zip(images, maps)):
        phi = ants.registration(found, image, "SyN", random_seed=1)["fwdtransforms"]
        moved = ants.apply_transforms(found, one, phi, interpolator="nearestNeighbor")
        ants.image_write(moved, f"{folder}/moved{i:02d}.nii.gz")
"""


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--methods", nargs="+", choices=("augreg", "ANTs"), default=["augreg", "ANTs"])
    parser.add_argument("--rounds", type=int, default=4, help="of augreg; the table has all up to it (default 4)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ants-python", type=Path, metavar="PATH", help="an interpreter that has antspyx; left out without")


def run(options: argparse.Namespace) -> None:
    """Make the templates that are asked for; other rows of the output stay, each with the commit that made it."""
    set_threads(options.threads)
    record: Record = about(options.threads, ("augreg", "numba", "numpy")) | {"rows": []}
    if options.output.exists():
        known = read_record(options.output)
        if known["machine"] != record["machine"] or known["threads"] != options.threads:
            raise Unusable(f"{options.output}: expected rows of this machine and {options.threads} threads; give another name")
        record["rows"] = known["rows"]
    for name in options.only:
        images, labels = people(name)
        if "augreg" in options.methods:
            # kernels
            list(template_rounds(images[:2], ar.LPRegistration.for_people(), 1))
            _add(record, options, _own(CASES[name], images, labels, options.rounds))
        if "ANTs" in options.methods and options.ants_python is not None:
            _add(record, options, _ants(CASES[name], images, labels, options))


def people(name: str) -> tuple[list[ar.Image], list[ar.Labels]]:
    """Training people: slices z08 of `brain2d`, or the volumes of `brain3d`, means of cells of 2 mm."""
    if name == "slices":
        paths = sorted((DATA / "brain2d").glob("*_z08.nii.gz"))
        paths = [path for path in paths if path.name.split("_")[0] not in TEST_BRAINS]
    else:
        paths = sorted(path for path in (DATA / "brain3d").glob("*.nii.gz") if "labels" not in path.name)
    images = [ar.read_image(path) for path in paths]
    labels = [ar.read_labels(str(path).replace(".nii.gz", "_labels.nii.gz")) for path in paths]
    return (images, labels) if name == "slices" else ([_halved(image) for image in images], labels)


def _halved(image: ar.Image) -> ar.Image:
    smooth = scipy.ndimage.gaussian_filter(image.values.astype(np.float32), [1.0 / size for size in image.grid.spacing])
    return ar.resample(image.with_values(smooth), image.grid.with_spacing(2.0))


def sharpness(image: ar.Image) -> float:
    """mean |grad T|^2 / var T, 1/mm^2: of scale and offset it knows nothing."""
    values = image.values.astype(np.float64)
    slopes = np.gradient(values, *image.grid.spacing)
    return float(sum(np.mean(slope**2) for slope in slopes) / values.var())


def _own(case: str, images: list[ar.Image], labels: list[ar.Labels], rounds: int) -> list[Row]:
    rows, spent, begin = [], 0.0, time.process_time()
    for found in template_rounds(images, ar.LPRegistration.for_people(), rounds):
        spent += time.process_time() - begin
        row: Row = {"case": case, "method": f"augreg, {found.round} rounds", "cpu": spent, "shift": found.shift}
        row |= {"sharpness": sharpness(found.image), "dice": _through(found.image, images, labels)}
        rows.append(row)
        begin = time.process_time()
    return rows


def _ants(case: str, images: list[ar.Image], labels: list[ar.Labels], options: argparse.Namespace) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        for i, (image, one) in enumerate(zip(images, labels, strict=True)):
            ar.write_image(image.with_values(image.values.astype(np.float32)), f"{folder}/image{i:02d}.nii.gz")
            ar.write_image(one.with_values(one.values.astype(np.int32)), f"{folder}/labels{i:02d}.nii.gz")
        environment = surroundings(options.threads)
        command = [str(options.ants_python), "-c", _ANTS, folder, str(images[0].ndim)]
        _, _, idle = finished([*command, "read"], environment, Path(folder))
        _, _, spent = finished([*command, "build"], environment, Path(folder))
        found = ar.read_image(f"{folder}/ants.nii.gz")
        row: Row = {"case": case, "method": "ANTs", "cpu": spent - idle, "sharpness": sharpness(found)}
        row["dice"] = _through(found, images, labels)
        finished([*command, "carry"], environment, Path(folder))
        row["own"] = _pairs([ar.read_labels(path) for path in sorted(Path(folder).glob("moved*.nii.gz"))])
    return [row]


def _through(found: ar.Image, images: list[ar.Image], labels: list[ar.Labels]) -> float:
    register = ar.LPRegistration.for_people()
    return _pairs([ar.warp(one, register(found, image), found.grid) for image, one in zip(images, labels, strict=True)])


def _pairs(maps: list[ar.Labels]) -> float:
    """Mean Dice over all pairs of maps, each the mean over the labels that both have."""
    return float(np.mean([ar.metrics.mean_overlap(ar.dice(a, b)) for a, b in itertools.combinations(maps, 2)]))


def _add(record: Record, options: argparse.Namespace, rows: list[Row]) -> None:
    for row in rows:
        kept = [one for one in record["rows"] if (one["case"], one["method"]) != (row["case"], row["method"])]
        record["rows"] = [*kept, row | {"commit": record.get("commit", "")}]
        print(row, file=sys.stderr, flush=True)
    record["rows"].sort(key=lambda row: (row["case"] != _SLICES, row["method"] == "ANTs"))
    write_record(options.output, record)


def rendered(record: Record) -> str:
    """The table."""
    rows = []
    for row in record["rows"]:
        share = ""
        rival = next((one for one in record["rows"] if one["case"] == row["case"] and one["method"] == "ANTs"), None)
        if rival is not None and row is not rival:
            share = f"{row['cpu'] / rival['cpu']:.3f}"
        own = f" ({row['own']:.3f} by its own SyN)" if "own" in row else ""
        goal = f"{_GOALS[row['case']]:g}" if row["method"] != "ANTs" else ""
        shift = f"{row['shift']:.2f}" if "shift" in row else ""
        cells = [row["case"], row["method"], f"{row['cpu']:.1f}", goal, share, f"{row['sharpness']:.4f}"]
        rows.append([*cells, f"{row['dice']:.3f}{own}", shift])
    header = ("case", "method", "CPU s", "goal", "share of ANTs' time", "sharpness, 1/mm²", "Dice of pairs", "shift, mm")
    return f"{heading(record)}\n\n{table(header, rows)}"
