"""How exact the pairs are.

A pair is judged by what it delivers, with maps that its renderer has no part in: psi_k = `model.transform(b_k, pose_k)` in double
precision and its Newton inverse to 1e-9 mm. With the displacement u of the pair and J_1 = D psi_1, in voxels,

    x = psi_2^-1(y + u(y)),      r = psi_1(x) - y,      error |J_1^-1 r|,

over every pixel y whose true target psi_2(psi_1^-1(y)) lies inside image 2, before any mask. Beside it:

    twin            |u - u*| with u*(y) = psi_2(psi_1^-1(y)) - y
    photometric     |moving(y + u) - fixed(y)|, cubic, over the standard deviation of fixed: with u* the level of interpolation
    itself          u_11 = 0
    transitivity    u_13 = u_23 o (id + u_12) + u_12, the second field by cubic interpolation
    reverse         reverse(y + u) + u = 0, alike
    folding         det D(id + u) at the pixels, for all combinations of one-sided differences

Two shortcuts are measured by the same yardsticks: a thin-plate spline through the landmarks of both images, and minus the
displacement in place of the inverse, psi_1^-1(y) ~ y - (psi_1(y) - y).
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import scipy.interpolate

import augreg as ar
from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.resampling import sample
from augreg.geometry.splines import MARGIN, REACH, anchors
from augreg.geometry.transforms import Transform
from augreg.sam import AppearanceModel
from augreg.sam.alignment import pose_transform
from augreg.synthesis import AppearancePairs, TrainingPair, make_pairs, pair_rngs, training_pairs
from augreg.synthesis.pairs import TOLERANCE
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row, about, read_record, write_record
from benchmarks.synthesis.people import PEOPLE

# pairs that are made together
_BATCH = 10
# pixels at the border that interpolated fields are not judged at: there the interpolation itself is one-sided
_BORDER = 4
_DATA = ["brain2d", "cardiac2d", "brain3d"]
_SHORTCUTS = "thin-plate spline of landmarks", "minus the displacement"


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--only", nargs="+", default=_DATA, choices=list(PEOPLE), help="data sets; others' rows stay")
    parser.add_argument("--pairs", type=int, default=1000, help="of every 2-D data set")
    parser.add_argument("--volumes", type=int, default=50, help="pairs of every 3-D data set")
    parser.add_argument("--shortcuts", type=int, default=20, help="the first so many pairs, for the wrong shortcuts")
    parser.add_argument("--device", default="cpu", help="where pairs are rendered")


def run(options: argparse.Namespace) -> None:
    """Measure every data set."""
    record: Record = read_record(options.output) if options.output.exists() else {"rows": []}
    record["rows"] = [row for row in record["rows"] if row["data"] not in options.only]
    for name in options.only:
        people = PEOPLE[name]()
        count = options.pairs if people.images[0].grid.ndim == 2 else options.volumes
        row = measured(people.model(), count, options.shortcuts, options.device)
        record["rows"].append({"data": name, "device": options.device, **row})
        record |= about(2, ("numpy", "scipy", "numba", "torch"))
        write_record(options.output, record)
        print(json.dumps(record["rows"][-1], indent=1), file=sys.stderr, flush=True)


@dataclass(frozen=True, eq=False)
class Twin:
    """A pair of maps in double precision, psi_1 and psi_2, on the grid of the images.

    Parameters
    ----------
    grid : of both images
    maps : psi_1, psi_2
    poses : their affine parts
    landmarks : of both images, (m, D) mm each
    """

    grid: Grid
    maps: tuple[Transform, Transform]
    poses: tuple[Transform, Transform]
    landmarks: tuple[FloatArray, FloatArray]

    def displacement(self) -> tuple[FloatArray, FloatArray]:
        """u* and psi_1^-1 at all pixels, (*shape, D) mm each."""
        y = self.grid.points()
        x = self.maps[0].solve(y, tolerance=1e-9)
        return self.maps[1](x) - y, x

    def error(self, u: FloatArray) -> FloatArray:
        """|J_1^-1 r| of a displacement (*shape, D) mm, voxels (*shape)."""
        y = self.grid.points()
        x = self.maps[1].solve(y + u, tolerance=1e-9)
        r = self.maps[0](x) - y
        return self._voxels(np.linalg.solve(self.maps[0].jacobian(x), r[..., None])[..., 0])

    def distance(self, u: FloatArray, other: FloatArray) -> FloatArray:
        """|u - other|, voxels."""
        return self._voxels(u - other)

    def _voxels(self, vectors: FloatArray) -> FloatArray:
        return np.linalg.norm(vectors @ self.grid.world_to_index.T, axis=-1)


def twins(model: AppearanceModel, generator: AppearancePairs, seed: int, indices: Sequence[int], batch: Any) -> Iterator[Twin]:
    """The twins of the pairs of a batch: of the draws that were kept, shrunk as they were."""
    rejected, scale = batch.rejected.cpu().numpy(), batch.scale.cpu().numpy()
    for i, index in enumerate(indices):
        draw = generator.draw(pair_rngs(seed, [index], int(rejected[i])))
        yield twin(model, scale[i, :, None] * draw.shape[0], draw.pose[0])


def twin(model: AppearanceModel, shapes: FloatArray, poses: FloatArray) -> Twin:
    """Of shape coefficients (2, Ks) and poses (2, P)."""
    first, second = (model.transform(b, pose) for b, pose in zip(shapes, poses, strict=True))
    T = [pose_transform(pose, model.center) for pose in poses]
    return Twin(model.template, (first, second), (T[0], T[1]), (first(model.landmarks), second(model.landmarks)))


def measured(model: AppearanceModel, count: int, shortcuts: int, device: str, seed: int = 0) -> dict[str, Any]:
    """All figures of one model."""
    generator = AppearancePairs(model)
    columns: dict[str, list[FloatArray]] = {name: [] for name in ("error", "distance", "reverse")}
    means: dict[str, list[float]] = {name: [] for name in ("kept", "inside", "photometric", "photometric twin", "none")}
    least: dict[str, list[float]] = {name: [] for name in ("psi", "psi at pixels", "id + u")}
    wrong: dict[str, dict[str, list[Any]]] = {name: {"error": [], "distance": [], "photometric": []} for name in _SHORTCUTS}
    shrunk = rejected = 0
    begin = time.perf_counter()
    for start in range(0, count, _BATCH):
        indices = range(start, min(start + _BATCH, count))
        batch = make_pairs(generator, seed, indices, device)
        shrunk, rejected = shrunk + batch.shrunk, rejected + int(batch.rejected.sum())
        least["psi"] += batch.least_det.tolist()
        for index, pair, maps in zip(
            indices, training_pairs(batch, model.template), twins(model, generator, seed, indices, batch), strict=True
        ):
            u, (exact, x) = pair.displacement.values, maps.displacement()
            inside = maps.grid.contains(maps.grid.points() + exact, margin=0.0)
            mask = inside & (pair.mask.values > 0)
            columns["error"].append(maps.error(u)[inside].astype(np.float32))
            columns["distance"].append(maps.distance(u, exact)[inside].astype(np.float32))
            means["kept"].append(float(mask.sum() / inside.sum()))
            means["inside"].append(float(inside.mean()))
            for name, field in (("photometric", u), ("photometric twin", exact), ("none", np.zeros_like(u))):
                means[name].append(photometric(pair, field, inside))
            back = _at(maps.grid, pair.reverse.values, u) + u
            columns["reverse"].append(maps.distance(back, 0 * u)[_inner(maps.grid, u) & mask].astype(np.float32))
            least["psi at pixels"].append(float(np.linalg.det(maps.maps[0].jacobian(x)).min()))
            least["id + u"].append(_least_determinant(maps.grid, u, mask))
            if index < shortcuts:
                for name, made in zip(_SHORTCUTS, (_direct_spline(model, maps), _negated(maps)), strict=True):
                    wrong[name]["error"].append(maps.error(made)[inside])
                    wrong[name]["distance"].append(maps.distance(made, exact)[inside])
                    wrong[name]["photometric"].append(photometric(pair, made, inside))
        print(f"{indices[-1] + 1} of {count} pairs, {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    return {
        "shape": model.template.shape,
        "pairs": count,
        "shrunk": shrunk,
        "rejected": rejected,
        "inside": float(np.mean(means["inside"])),
        "kept": float(np.mean(means["kept"])),
        "least_kept": float(np.min(means["kept"])),
        **{name: _quantiles(values) for name, values in columns.items()},
        "itself": itself(generator, device),
        "transitivity": transitivity(generator, device),
        "photometric": float(np.mean(means["photometric"])),
        "photometric_twin": float(np.mean(means["photometric twin"])),
        "photometric_none": float(np.mean(means["none"])),
        "least_det": {name: float(np.min(values)) for name, values in least.items()},
        "shortcuts": {
            name: {
                "pairs": len(found["photometric"]),
                "error": _quantiles(found["error"]),
                "distance": _quantiles(found["distance"]),
                "below_tolerance": float(np.mean(np.concatenate(found["error"]) < TOLERANCE)),
                "photometric": float(np.mean(found["photometric"])),
            }
            for name, found in wrong.items()
        },
    }


def photometric(pair: TrainingPair, u: FloatArray, inside: FloatArray) -> float:
    """Mean |moving(y + u) - fixed(y)| over `inside`, relative to the standard deviation of fixed."""
    moved = sample(pair.moving, pair.fixed.grid.points() + u, interpolation="cubic", fill=np.nan)
    return float(np.nanmean(np.abs(moved - pair.fixed.values)[inside]) / pair.fixed.values.std())


def itself(generator: AppearancePairs, device: str, count: int = 10) -> float:
    """The largest |u_11|, voxels: pairs whose two images are one."""
    draw = generator.draw(pair_rngs(1, range(count)))
    same = replace(draw, **{part.name: np.repeat(getattr(draw, part.name)[:, :1], 2, axis=1) for part in fields(draw)})
    return float(generator.render(same, device).flow.abs().max())


def transitivity(generator: AppearancePairs, device: str, count: int = 10) -> dict[str, float]:
    """|u_13 - (u_23 o (id + u_12) + u_12)|, voxels, for triples of images."""
    grid = generator.grid
    draw = generator.draw(pair_rngs(2, range(2 * count)))
    # images 1 and 2 of a pair, and the first image of the next: pairs 12, 23, 13
    images = [((i, 0), (i, 1), (i + 1, 0)) for i in range(0, 2 * count, 2)]
    order = [two for a, b, c in images for two in ((a, b), (b, c), (a, c))]
    parts = {p.name: np.stack([[getattr(draw, p.name)[one] for one in two] for two in order]) for p in fields(draw)}
    errors = []
    for begin in range(0, len(order), 3):
        batch = generator.render(type(draw)(**{name: values[begin : begin + 3] for name, values in parts.items()}), device)
        ab, bc, ac = (pair.displacement.values for pair in training_pairs(batch, grid))
        inner = _inner(grid, ab)
        difference = (_at(grid, bc, ab) + ab - ac) @ grid.world_to_index.T
        errors.append(np.linalg.norm(difference, axis=-1)[inner])
    return _quantiles(errors)


def _direct_spline(model: AppearanceModel, maps: Twin) -> FloatArray:
    """u of the thin-plate spline from the landmarks of image 1 to those of image 2, the model's anchors in their poses."""
    template = model.template
    ndim = template.ndim
    reach = REACH * float(np.mean(template.extent))
    still = anchors(template, MARGIN, model.landmarks, reach, per_axis=9 if ndim == 2 else 5)
    here, there = (np.concatenate([s, T(still)]) for s, T in zip(maps.landmarks, maps.poses, strict=True))
    size = template.diagonal
    _, first = np.unique(np.round(here / size, 9), axis=0, return_index=True)
    # 1e-9 keeps the system solvable where contours meet
    spline = scipy.interpolate.RBFInterpolator(
        here[first] / size, (there - here)[first], kernel="thin_plate_spline", smoothing=1e-9
    )
    return spline(template.points().reshape(-1, ndim) / size).reshape(*template.shape, ndim)


def _negated(maps: Twin) -> FloatArray:
    """u with y - (psi_1(y) - y) in place of psi_1^-1(y)."""
    y = maps.grid.points()
    return maps.maps[1](2 * y - maps.maps[0](y)) - y


def _at(grid: Grid, field: FloatArray, u: FloatArray) -> FloatArray:
    """A field (*shape, D) mm at y + u(y), cubic; NaN outside."""
    points = grid.points() + u
    parts = [
        sample(ar.Image(np.ascontiguousarray(field[..., d]), grid), points, interpolation="cubic", fill=np.nan)
        for d in range(grid.ndim)
    ]
    return np.stack(parts, axis=-1)


def _inner(grid: Grid, u: FloatArray) -> FloatArray:
    """Pixels that lie, with their targets, _BORDER pixels inside."""
    last = np.asarray(grid.shape) - 1 - _BORDER
    here = grid.indices_at(grid.points())
    there = grid.indices_at(grid.points() + u)
    return np.all((here >= _BORDER) & (here <= last) & (there >= _BORDER) & (there <= last), axis=-1)


def _least_determinant(grid: Grid, u: FloatArray, mask: FloatArray) -> float:
    """The least det D(id + u) where a pixel and its neighbours lie in the mask, for all combinations of one-sided differences."""
    phi = grid.indices_at(grid.points() + u)
    ndim = grid.ndim
    least = np.inf
    core = (slice(1, -1),) * ndim
    for sides in itertools.product((-1, 1), repeat=ndim):
        columns, known = [], mask[core]
        for axis, side in enumerate(sides):
            beside = tuple(slice(1 + side, n - 1 + side) if a == axis else slice(1, n - 1) for a, n in enumerate(grid.shape))
            columns.append(side * (phi[beside] - phi[core]))
            known = known & mask[beside]
        least = min(least, float(np.linalg.det(np.stack(columns, axis=-1))[known].min()))
    return least


def _quantiles(errors: Sequence[FloatArray]) -> dict[str, float]:
    together = np.concatenate([np.ravel(e) for e in errors])
    together = together[np.isfinite(together)]
    median, p99, p999 = (float(q) for q in np.quantile(together, (0.5, 0.99, 0.999)))
    return {"mean": float(together.mean()), "median": median, "p99": p99, "p999": p999, "max": float(together.max())}


def rendered(record: Record) -> str:
    """A table with a column per data set, and one of the shortcuts."""
    rows = sorted(record["rows"], key=lambda row: list(PEOPLE).index(row["data"]))
    lines: list[tuple[str, Callable[[Row], str]]] = [
        ("pairs", lambda r: str(r["pairs"])),
        ("shapes shrunk; draws replaced", lambda r: f"{r['shrunk']}; {r['rejected']}"),
        ("pixels with a target inside image 2", lambda r: f"{r['inside']:.1%}"),
        ("of these kept by the mask: mean, least", lambda r: f"{r['kept']:.2%}, {r['least_kept']:.2%}"),
        ("error, 99 %; largest", lambda r: _two(r["error"])),
        ("distance to the twin, 99 %; largest", lambda r: _two(r["distance"])),
        ("largest u_11", lambda r: f"{r['itself']:.1e}"),
        ("transitivity, 99 %; largest", lambda r: _two(r["transitivity"])),
        ("reverse consistency, 99 %; largest", lambda r: _two(r["reverse"])),
        ("photometric", lambda r: f"{r['photometric']:.3%}"),
        ("photometric, twin's displacement", lambda r: f"{r['photometric_twin']:.3%}"),
        ("photometric, no displacement", lambda r: f"{r['photometric_none']:.1%}"),
        ("least det Dψ on the lattice; at the pixels", lambda r: _least(r, "psi", "psi at pixels")),
        ("least det D(id + u)", lambda r: _least(r, "id + u")),
    ]
    text = heading(record) + "\n\n"
    text += table(["voxels", *[row["data"] for row in rows]], [[name, *[show(row) for row in rows]] for name, show in lines])
    text += "\nThe wrong shortcuts, by the same yardsticks:\n\n"
    cells = []
    for row in rows:
        own = {"error": row["error"], "distance": row["distance"], "photometric": row["photometric"], "below_tolerance": None}
        for name, found in {"augreg": own, **row["shortcuts"]}.items():
            share = row["kept"] if found["below_tolerance"] is None else found["below_tolerance"]
            cells.append(
                [
                    f"{row['data']}: {name}",
                    _two(found["error"]),
                    f"{found['distance']['mean']:.1e}",
                    f"{share:.1%}",
                    f"{found['photometric']:.2%}",
                ]
            )
    head = ["", "error, 99 %; largest", "mean distance to the twin", f"error below {TOLERANCE}", "photometric"]
    return text + table(head, cells)


def _two(found: dict[str, float]) -> str:
    return f"{found['p99']:.1e}; {found['max']:.1e}"


def _least(row: Row, *names: str) -> str:
    return "; ".join(f"{row['least_det'][name]:.2f}" for name in names)
