"""How exact the pairs are.

The maps of a pair are splines (`augreg.synthesis.render.maps`): B_k from image k to the template, phi from image 1 to image 2. A
pair is judged by what it delivers, with transforms of `augreg.geometry` made of nothing but these splines' coefficients, in
double precision. With its displacement u and its way back v, in voxels, at every pixel y whose target lies inside:

    error           |phi(y) - y - u(y)|
    template        |B_2(y + u(y)) - B_1(y)|
    back            |phi(y + v(y)) - y|
    drawn           |u(y) - (psi_2(psi_1^-1(y)) - y)|: how far the splines lie off the maps that were drawn, psi
    photometric     |moving(y + u) - fixed(y)|, cubic, over the standard deviation of fixed: with phi the level of interpolation
    itself          u_11 = 0
    transitivity    u_13 = u_23 o (id + u_12) + u_12, the second field by cubic: splines of three pairs
    reverse         v(y + u) + u = 0, alike
    folding         det D(id + u) at the pixels, for all combinations of one-sided differences

Two shortcuts are measured by the same error: a thin-plate spline through the landmarks of both images, and minus the
displacement in place of the inverse, psi_1^-1(y) ~ y - (psi_1(y) - y).
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.interpolate
import torch

import augreg as ar
from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.resampling import sample
from augreg.geometry.splines import MARGIN, REACH, anchors
from augreg.geometry.transforms import Affine, BSpline, Composition, Transform
from augreg.sam import AppearanceModel
from augreg.sam.alignment import pose_transform
from augreg.synthesis import AppearancePairs, PairBatch, TrainingPair, make_pairs, pair_rngs, training_pairs
from augreg.synthesis.generators.instances import InstanceRenderer
from augreg.synthesis.pairs import TOLERANCE
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row, about, read_record, write_record
from benchmarks.synthesis.people import PEOPLE, People, cardiac2d
from benchmarks.synthesis.tally import COLUMNS, LEAST, SHORTCUTS, Progress, Tally

# pairs that are made together
_BATCH = 10
# pixels at the border that interpolated fields are not judged at: there the interpolation itself is one-sided
_BORDER = 4
_DATA = ["brain2d", "cardiac2d", "brain3d", "cardiac2d-oblong", "brain2d-wild"]
# whose pairs: images, and the factor on the spread of their shapes, large where draws shall fold
_CASES: dict[str, tuple[Callable[[], People], float]] = {
    **{name: (people, 1.0) for name, people in PEOPLE.items()},
    "cardiac2d-oblong": (partial(cardiac2d, 2.5), 1.0),
    "brain2d-wild": (PEOPLE["brain2d"], 3.0),
}


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--only", nargs="+", default=_DATA, choices=list(_CASES), help="data sets; others' rows stay")
    parser.add_argument("--pairs", type=int, default=1000, help="of every 2-D data set")
    parser.add_argument("--volumes", type=int, default=50, help="pairs of every 3-D data set")
    parser.add_argument("--shortcuts", type=int, default=20, help="the first so many pairs, for the wrong shortcuts")
    parser.add_argument("--device", default="cpu", help="where pairs are rendered")
    parser.add_argument("--folder", type=Path, help="what is known so far is kept there: a run that was stopped goes on")


def run(options: argparse.Namespace) -> None:
    """Measure every data set."""
    record: Record = read_record(options.output) if options.output.exists() else {"rows": []}
    record["rows"] = [row for row in record["rows"] if row["data"] not in options.only]
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        people, amplitude = _CASES[name][0](), _CASES[name][1]
        count = options.pairs if people.images[0].grid.ndim == 2 else options.volumes
        kept = None if options.folder is None else options.folder / f"exactness-{name}.npz"
        row = measured(AppearancePairs(people.model(), amplitude=amplitude), count, options.shortcuts, options.device, kept=kept)
        record["rows"].append({"data": name, "device": options.device, **row})
        record |= about(2, ("numpy", "scipy", "numba", "torch"))
        write_record(options.output, record)
        print(json.dumps(record["rows"][-1], indent=1), file=sys.stderr, flush=True)


@dataclass(frozen=True, eq=False)
class Twin:
    """The maps of a pair in double precision.

    Parameters
    ----------
    grid : of both images
    phi : fixed to moving image, in index units
    images : B of both images, in index units
    drawn : psi_1, psi_2, in mm
    poses : their affine parts
    landmarks : of both images, (m, D) mm each
    """

    grid: Grid
    phi: Transform
    images: tuple[Transform, Transform]
    drawn: tuple[Transform, Transform]
    poses: tuple[Transform, Transform]
    landmarks: tuple[FloatArray, FloatArray]

    @property
    def pixels(self) -> FloatArray:
        """Indices of all pixels, (*shape, D)."""
        return np.stack(np.meshgrid(*map(np.arange, self.grid.shape), indexing="ij"), axis=-1).astype(np.float64)

    def displacement(self) -> FloatArray:
        """phi - id, (*shape, D) mm."""
        return (self.phi(self.pixels) - self.pixels) @ self.grid.index_to_world[: self.grid.ndim, : self.grid.ndim].T

    def drawn_displacement(self) -> FloatArray:
        """psi_2 o psi_1^-1 - id, (*shape, D) mm."""
        y = self.grid.points()
        return self.drawn[1](self.drawn[0].solve(y, tolerance=1e-9)) - y

    def voxels(self, vectors: FloatArray) -> FloatArray:
        """Vectors (..., D) mm in voxels."""
        return vectors @ self.grid.world_to_index.T

    def length(self, vectors: FloatArray) -> FloatArray:
        """Lengths of vectors (..., D) mm, voxels."""
        return np.linalg.norm(self.voxels(vectors), axis=-1)


def twins(generator: AppearancePairs, seed: int, indices: Sequence[int], batch: PairBatch) -> list[Twin]:
    """The twins of the pairs of a batch: of the draws that were kept."""
    model, rejected, scale = generator.model, batch.rejected.cpu().numpy(), batch.scale.cpu().numpy()
    draws = [generator.draw(pair_rngs(seed, [index], int(times))) for index, times in zip(indices, rejected, strict=True)]
    draw = type(draws[0])(**{p.name: np.concatenate([getattr(one, p.name) for one in draws]) for p in fields(draws[0])})
    found, count = InstanceRenderer.on(model, torch.device("cpu")), 2 * len(draws)
    maps, frame = found.renderer.maps(found.shapes(draw)), found.renderer.frame
    assert not maps.swapped.any()
    control = Grid(
        frame.shape, tuple(1 / s for s in frame.step), tuple(-b / s for b, s in zip(frame.start, frame.step, strict=True))
    )
    out = []
    for i in range(count // 2):
        base, other = (BSpline(part[i].numpy(), control) for part in (maps.base, maps.other))
        home, there = (Affine(part[i, :, :-1].numpy(), part[i, :, -1].numpy()) for part in (maps.home, maps.there))
        psi = tuple(model.transform(s * b, pose) for s, b, pose in zip(scale[i], draw.shape[i], draw.pose[i], strict=True))
        T = tuple(pose_transform(pose, model.center) for pose in draw.pose[i])
        images = Composition((home, base, there, other)), Composition((home, base))
        points = psi[0](model.landmarks), psi[1](model.landmarks)
        out.append(Twin(model.template, Composition((there, other)), images, psi, T, points))
    return out


def measured(
    generator: AppearancePairs, count: int, shortcuts: int, device: str, seed: int = 0, kept: Path | None = None
) -> dict[str, Any]:
    """All figures of one generator; what is known of the first pairs is in the file `kept`."""
    model, progress = generator.model, Progress.read(kept)
    tallies, lists = progress.tallies, progress.lists
    begin = time.perf_counter()
    for start in range(len(lists["kept"]), count, _BATCH):
        indices = range(start, min(start + _BATCH, count))
        batch = make_pairs(generator, seed, indices, device)
        lists["shrunk"] += (batch.scale < 1).sum(dim=1).tolist()
        lists["rejected"] += batch.rejected.tolist()
        lists["splines"] += batch.least_det.tolist()
        known = zip(indices, training_pairs(batch, model.template), twins(generator, seed, indices, batch), strict=True)
        for index, pair, maps in known:
            u, v, exact, y = pair.displacement.values, pair.reverse.values, maps.displacement(), maps.pixels
            inside = maps.grid.contains(maps.grid.points() + exact, margin=0.0)
            mask, back = inside & (pair.mask.values > 0), pair.reverse_mask.values > 0
            tallies["error"].add(maps.length(u - exact)[inside])
            apart = maps.images[1](y + maps.voxels(u)) - maps.images[0](y)
            tallies["template"].add(np.linalg.norm(apart, axis=-1)[inside])
            tallies["back"].add(np.linalg.norm(maps.phi(y + maps.voxels(v)) - y, axis=-1)[back])
            tallies["drawn"].add(maps.length(u - maps.drawn_displacement())[inside])
            lists["kept"].append(float(mask.sum() / inside.sum()))
            lists["inside"].append(float(inside.mean()))
            for name, field in (("photometric", u), ("photometric twin", exact), ("none", np.zeros_like(u))):
                lists[name].append(photometric(pair, field, inside))
            tallies["reverse"].add(maps.length(_at(maps.grid, v, u) + u)[_inner(maps.grid, u) & mask])
            lists["id + u"].append(_least_determinant(maps.grid, u, mask))
            if index < shortcuts:
                for name, made in zip(SHORTCUTS, (_direct_spline(model, maps), _negated(maps)), strict=True):
                    tallies[name].add(maps.length(made - exact)[inside])
                    lists[f"photometric {name}"].append(photometric(pair, made, inside))
        progress.write(kept)
        print(f"{indices[-1] + 1} of {count} pairs, {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    return {
        "shape": model.template.shape,
        "pairs": len(lists["kept"]),
        "shrunk": int(sum(lists["shrunk"])),
        "rejected": int(sum(lists["rejected"])),
        "inside": float(np.mean(lists["inside"])),
        "kept": float(np.mean(lists["kept"])),
        "least_kept": float(np.min(lists["kept"])),
        **{name: tallies[name].told() for name in COLUMNS},
        "itself": itself(generator, device),
        "transitivity": transitivity(generator, device),
        "photometric": float(np.mean(lists["photometric"])),
        "photometric_twin": float(np.mean(lists["photometric twin"])),
        "photometric_none": float(np.mean(lists["none"])),
        "least_det": {name: float(np.min(lists[name])) for name in LEAST},
        "shortcuts": {
            name: {
                "pairs": len(lists[f"photometric {name}"]),
                "error": tallies[name].told(),
                "below_tolerance": float(tallies[name].known[-1] / tallies[name].count),
                "photometric": float(np.mean(lists[f"photometric {name}"])),
            }
            for name in SHORTCUTS
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
    return maps.drawn[1](2 * y - maps.drawn[0](y)) - y


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
    tally = Tally()
    for some in errors:
        tally.add(some)
    return tally.told()


def rendered(record: Record) -> str:
    """A table with a column per data set, and one of the shortcuts."""
    rows = sorted(record["rows"], key=lambda row: list(_CASES).index(row["data"]))
    lines: list[tuple[str, Callable[[Row], str]]] = [
        ("pairs", lambda r: str(r["pairs"])),
        ("shapes shrunk; draws replaced", lambda r: f"{r['shrunk']}; {r['rejected']}"),
        ("pixels with a target inside image 2", lambda r: f"{r['inside']:.1%}"),
        ("of these kept by the mask: mean, least", lambda r: f"{r['kept']:.2%}, {r['least_kept']:.2%}"),
        ("error, 99 %; largest", lambda r: _two(r["error"])),
        ("in the template, 99 %; largest", lambda r: _two(r["template"])),
        ("of the way back, 99 %; largest", lambda r: _two(r["back"])),
        ("off the maps that were drawn: mean, 99 %", lambda r: f"{r['drawn']['mean']:.1e}; {r['drawn']['p99']:.1e}"),
        ("largest u_11", lambda r: f"{r['itself']:.1e}"),
        ("transitivity, 99 %; largest", lambda r: _two(r["transitivity"])),
        ("reverse consistency, 99 %; largest", lambda r: _two(r["reverse"])),
        ("photometric", lambda r: f"{r['photometric']:.3%}"),
        ("photometric, phi itself", lambda r: f"{r['photometric_twin']:.3%}"),
        ("photometric, no displacement", lambda r: f"{r['photometric_none']:.1%}"),
        ("least determinant of the splines on their lattice", lambda r: _least(r, "splines")),
        ("least det D(id + u)", lambda r: _least(r, "id + u")),
    ]
    text = heading(record) + "\n\n"
    text += table(["voxels", *[row["data"] for row in rows]], [[name, *[show(row) for row in rows]] for name, show in lines])
    text += "\nThe wrong shortcuts, by the same yardsticks:\n\n"
    cells = []
    for row in rows:
        own = {"error": row["error"], "photometric": row["photometric"], "below_tolerance": None}
        for name, found in {"augreg": own, **row["shortcuts"]}.items():
            share = row["kept"] if found["below_tolerance"] is None else found["below_tolerance"]
            cells.append(
                [
                    f"{row['data']}: {name}",
                    _two(found["error"]),
                    f"{found['error']['mean']:.1e}",
                    f"{share:.1%}",
                    f"{found['photometric']:.2%}",
                ]
            )
    head = ["", "error, 99 %; largest", "mean error", f"error below {TOLERANCE}", "photometric"]
    return text + table(head, cells)


def _two(found: dict[str, float]) -> str:
    return f"{found['p99']:.1e}; {found['max']:.1e}"


def _least(row: Row, *names: str) -> str:
    return "; ".join(f"{row['least_det'][name]:.2f}" for name in names)
