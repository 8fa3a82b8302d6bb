"""Prostates in ultrasound and magnetic resonance: 69 pairs of scans of 50 patients, with gland and landmarks (`prostate`).

fixed: transrectal ultrasound; moving: T2 MR; smoothed by those who gave them, 1.5 mm. Corners of the two worlds lie together, not
organs: every registration here begins with the centres of the grids on each other. A third of the patients, every third in order,
is tested; a patient's scans are never on both sides. Of the others every fourth chooses settings.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from augreg import io, metrics
from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Transform
from augreg.registration.table import Line
from benchmarks.harness.places import DATA

GLAND = 1
_TESTED, _CHOOSING = 3, 4


@dataclass(frozen=True, eq=False)
class Scan:
    """A pair of images of a patient.

    Parameters
    ----------
    name, patient : of the pair and whose it is
    fixed, moving : ultrasound and MR
    fixed_gland, moving_gland : gland 1
    fixed_points, moving_points : centres of landmarks, (N, 3) mm, row by row the same
    """

    name: str
    patient: str
    fixed: Image
    moving: Image
    fixed_gland: Labels
    moving_gland: Labels
    fixed_points: FloatArray
    moving_points: FloatArray


@dataclass(frozen=True, eq=False)
class Glands:
    """Scans to learn from, and scans to be tested on, of other patients."""

    training: tuple[Scan, ...]
    test: tuple[Scan, ...]

    def choosing(self) -> Glands:
        """The study among the training patients, for choosing settings: every fourth of them is tested."""
        return _split(self.training, _CHOOSING)


def read_glands(folder: Path = DATA / "prostate") -> Glands:
    """The study.

    Raises
    ------
    FileNotFoundError : without the images.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected the images of the study, got nothing; they are not part of the repository")
    with (folder / "patients.csv").open(encoding="utf-8", newline="") as file:
        found = [_scan(folder, row["scan"], row["patient"]) for row in csv.DictReader(file)]
    return _split(found, _TESTED)


def lines(scans: Sequence[Scan], folder: Path = DATA / "prostate") -> list[Line]:
    """The scans as lines of a table of pairs."""
    return [Line(scan.name, _paths(folder, scan.name)) for scan in scans]


def measured(scan: Scan, phi: Transform) -> Mapping[str, float]:
    """What a transform, fixed to moving, is worth: Dice of the gland, distances of its centroid and landmarks (mm), folding."""
    moved = warp(scan.moving_gland, phi, scan.fixed.grid)
    there = phi(_centroid(scan.fixed_gland)[None])[0]
    return {
        "dice": metrics.dice(scan.fixed_gland, moved).get(GLAND) or 0.0,
        "tre": float(np.linalg.norm(phi(scan.fixed_points) - scan.moving_points, axis=1).mean()),
        "centroid": float(np.linalg.norm(there - _centroid(scan.moving_gland))),
        "folding": 100 * metrics.folding(phi, scan.fixed.grid),
    }


def _centroid(gland: Labels) -> FloatArray:
    where = np.stack(np.nonzero(gland.values), axis=-1).mean(axis=0)
    return np.asarray(gland.grid.points_at(where))


def _scan(folder: Path, name: str, patient: str) -> Scan:
    paths = {side: str(path) for side, path in _paths(folder, name).items()}
    images = {side: io.read_image(paths[side]) for side in ("fixed", "moving")}
    images = {side: image.with_values(image.values.astype(np.float32)) for side, image in images.items()}
    glands = {f"{side}_gland": io.read_labels(paths[f"{side}_labels"]) for side in images}
    points = {f"{side}_points": io.read_points(paths[f"{side}_points"]) for side in images}
    return Scan(name, patient, **images, **glands, **points)  # type: ignore[arg-type]  # names decide the type


def _paths(folder: Path, name: str) -> dict[str, Path]:
    found = {}
    for side, scanner in (("fixed", "us"), ("moving", "mr")):
        found[side] = folder / f"{name}_{scanner}.nii.gz"
        found[f"{side}_labels"] = folder / f"{name}_{scanner}_gland.nii.gz"
        found[f"{side}_points"] = folder / f"{name}_{scanner}_points.csv"
    return found


def _split(scans: Sequence[Scan], every: int) -> Glands:
    patients = list(dict.fromkeys(scan.patient for scan in scans))
    tested = set(patients[every - 1 :: every])
    return Glands(
        tuple(scan for scan in scans if scan.patient not in tested), tuple(scan for scan in scans if scan.patient in tested)
    )
