"""Statistical shape models of contours, leave-one-out.

Each training person of `brain2d` (z08) is left out in turn. Its landmarks, contours of all structures, are projected onto a model
of the others: their mean distance is the generalisation, at the ranks below and at the model's own. Specificity is the mean
distance of random shapes of the model to the nearest of all people, the one left out among them. The same for the left ventricles
of `cardiac2d`. Test people are not read.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from augreg import read_labels
from augreg.sam import Contours, Gaussian, Locality, Nested, Subspace, Threshold, WeightedSum, Wendland, choose_scale
from augreg.sam.alignment import procrustes
from augreg.sam.factors import Factor, Local, RepairedFactor
from augreg.sam.locality import LandmarkPlaces, local_subspace
from benchmarks.harness.page import heading, table
from benchmarks.harness.places import DATA, TEST_BRAINS
from benchmarks.harness.record import Record, Row, about, write_record
from benchmarks.harness.timing import timed

RANKS = (5, 10, 20, 40, 80)
# of the variance, at every level: at 0.95, as published, a ventricle has five modes and little is left to compare
_LOCAL = partial(Locality, retained=0.99)
METHODS = {
    "PCA": _LOCAL(levels=1),
    "threshold, nested (2017)": _LOCAL(taper=Threshold(), merge=Nested("coarse"), scale=1.0),
    "Gaussian, nested (2020)": _LOCAL(taper=Gaussian(), merge=Nested("fine"), scale=1.0),
    "Gaussian, nested, coarse variance": _LOCAL(taper=Gaussian(), merge=Nested("coarse"), scale=1.0),
    "Gaussian, sum": _LOCAL(taper=Gaussian(), merge=WeightedSum(), scale=1.0),
    "Wendland, sum": _LOCAL(taper=Wendland(), merge=WeightedSum(), scale=1.0),
    "Gaussian, nested, chosen scale": _LOCAL(taper=Gaussian(), merge=Nested("coarse")),
    "Gaussian, sum, chosen scale": _LOCAL(taper=Gaussian(), merge=WeightedSum()),
}


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--landmarks", type=int, default=200, help="most, evenly taken from the contours")
    parser.add_argument("--samples", type=int, default=200)


def run(options: argparse.Namespace) -> None:
    """Leave everybody out in turn."""
    record: Record = about(1, ("numpy", "scipy")) | {"rows": []}
    for name, shapes, extent in _sets(options.landmarks):
        for method, locality in METHODS.items():
            row = {"set": name, "method": method, "shapes": len(shapes), "landmarks": shapes.shape[1]}
            record["rows"].append(row | left_out(shapes, extent, locality, options.samples))
            write_record(options.output, record)
            print(record["rows"][-1], flush=True)


def _sets(most: int) -> Iterator[tuple[str, np.ndarray, float]]:
    brains = [p for p in sorted((DATA / "brain2d").glob("*_z08_labels.nii.gz")) if not p.name.startswith(TEST_BRAINS)]
    hearts = sorted((DATA / "cardiac2d").glob("*_ed_lv.png"))[:20]
    for name, paths, count in (("brain", brains, 400), ("heart", hearts, 100)):
        labels = [read_labels(path) for path in paths]
        shapes = procrustes(Contours.from_labels(labels, count).corresponding(labels), "translation").points
        shapes = shapes[:, np.linspace(0, shapes.shape[1] - 1, min(most, shapes.shape[1])).astype(int)]
        yield name, shapes, float(np.linalg.norm(labels[0].grid.extent))


def left_out(shapes: np.ndarray, extent: float, locality: Locality, samples: int) -> Row:
    """Means over the shapes (n, m, D) left out, with standard errors."""
    own, ranks, scales, changes, seconds = [], [], [], [], []
    at: dict[int, list[tuple[float, float]]] = {rank: [] for rank in RANKS}
    for i, x in enumerate(shapes):
        (model, scale, change), took = timed(lambda: fitted(np.delete(shapes, i, axis=0), extent, locality))  # noqa: B023
        seconds.append(took["cpu_seconds"])
        own.append(_qualities(model, x, shapes, samples, i))
        ranks.append(model.rank)
        scales.append(scale)
        changes += change
        for rank in RANKS:
            if rank <= model.rank:
                at[rank].append(_qualities(model.truncate(rank), x, shapes, samples, i))
    return {
        "rank": float(np.mean(ranks)),
        "scale": float(np.median(scales)),
        "repair": float(np.mean(changes)) if changes else None,
        "cpu_seconds": float(np.median(seconds)),
        "own": _summary(own),
        "at": {str(rank): _summary(values) for rank, values in at.items() if len(values) == len(shapes)},
    }


def fitted(train: np.ndarray, extent: float, locality: Locality) -> tuple[Subspace, float, list[float]]:
    """A model, its scale, and how much its levels' correlations had to be repaired."""
    if locality.scale is None and locality.levels > 1:
        locality = Locality.from_json(locality.to_json() | {"scale": choose_scale(train, locality, extent).scale})
    mean, changes = train.mean(axis=0), []
    places = _NotedPlaces(LandmarkPlaces(mean, extent), changes)
    model = local_subspace(mean.ravel(), train - mean, places, locality, mean.size, "shapes")
    return model, locality.scale or 1.0, changes


@dataclass(frozen=True, eq=False)
class _NotedPlaces:
    """Landmarks whose tapers note how much was repaired."""

    places: LandmarkPlaces
    changes: list[float]

    def taper(self, locality: Locality, level: int) -> Local:
        """One level's taper at the landmarks."""
        return _Noted(self.places.taper(locality, level), self.changes)


@dataclass(frozen=True)
class _Noted:
    """A taper that notes how much was repaired."""

    taper: Local
    changes: list[float]

    def localised(self, residuals: np.ndarray) -> Factor:
        factor = self.taper.localised(residuals)
        if isinstance(factor, RepairedFactor):
            self.changes.append(factor.change)
        return factor


def _qualities(model: Subspace, x: np.ndarray, shapes: np.ndarray, samples: int, seed: int) -> tuple[float, float]:
    def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a - b, axis=-1).mean(axis=-1)

    drawn = model.sample(np.random.default_rng(seed), samples).reshape(samples, *x.shape)
    nearest = [apart(one, shapes).min() for one in drawn]
    return float(apart(model.project(x.ravel()).reshape(x.shape), x)), float(np.mean(nearest))


def _summary(values: list[tuple[float, float]]) -> dict[str, float]:
    g, s = np.asarray(values).T
    root = np.sqrt(len(values))
    return {
        "generalisation": float(g.mean()),
        "generalisation_error": float(g.std(ddof=1) / root),
        "specificity": float(s.mean()),
        "specificity_error": float(s.std(ddof=1) / root),
    }


def rendered(record: Record) -> str:
    """Tables of generalisation / specificity."""
    parts = [heading(record) + "\n"]
    for name in dict.fromkeys(row["set"] for row in record["rows"]):
        rows = [row for row in record["rows"] if row["set"] == name]
        lines = []
        for row in rows:
            cells = [_pair(row["at"].get(str(rank))) for rank in RANKS] + [_pair(row["own"])]
            lines.append([row["method"], f"{row['scale']:g}", f"{row['rank']:.0f}", *cells])
        head = ["method", "scale", "rank", *[f"at {rank}" for rank in RANKS], "at its own"]
        parts.append(f"### {name}: {rows[0]['shapes']} shapes, {rows[0]['landmarks']} landmarks\n\n" + table(head, lines))
    return "\n".join(parts)


def _pair(summary: dict[str, float] | None) -> str:
    return "" if summary is None else f"{summary['generalisation']:.2f} / {summary['specificity']:.2f}"
