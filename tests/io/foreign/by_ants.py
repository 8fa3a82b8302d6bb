"""Transforms and mapped points by ANTs itself: `python by_ants.py FOLDER` where antspyx is installed (an environment of its own).

`points.json` has points of the fixed image, and where antsApplyTransformsToPoints takes them by each list of files, in the order
in which antsApplyTransforms takes them; `true` beside a file asks for its inverse.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np


def _images(ndim):
    import ants

    shape = (30, 26) if ndim == 2 else (16, 14, 13)
    axes = np.meshgrid(*map(np.arange, shape), indexing="ij")

    def blobs(centers):
        parts = [sum(((a - c * n) / (n / 6)) ** 2 for a, c, n in zip(axes, center, shape, strict=False)) for center in centers]
        return (100 * np.exp(-np.array(parts)).sum(axis=0)).astype(np.float32)

    turn = np.eye(ndim)
    turn[:2, :2] = [[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]]
    if ndim == 3:
        turn = turn @ np.array([[1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]])
    place = {"spacing": (1.0, 1.5, 2.0)[:ndim], "origin": (-10.0, 4.0, 30.0)[:ndim], "direction": turn}
    first, second = [[0.4, 0.45, 0.4], [0.6, 0.62, 0.7]], [[0.47, 0.38, 0.45], [0.58, 0.66, 0.55]]
    return [ants.from_numpy(blobs(centers), **place) for centers in (first, second)]


def make(folder, ndim):
    """Transforms of a small pair of images, and points, in a folder."""
    import ants
    import pandas

    folder = Path(folder) / f"{ndim}d"
    folder.mkdir(parents=True, exist_ok=True)
    fixed, moving = _images(ndim)
    found = ants.registration(fixed, moving, "SyN", aff_metric="meansquares", syn_metric="meansquares", random_seed=1)
    names = {}
    for path in sorted({*found["fwdtransforms"], *found["invtransforms"]}):
        names[path] = next(kind for kind in ("0GenericAffine.mat", "1Warp.nii.gz", "1InverseWarp.nii.gz") if path.endswith(kind))
        shutil.copy(path, folder / names[path])
    affine, warp, back = "0GenericAffine.mat", "1Warp.nii.gz", "1InverseWarp.nii.gz"
    lists = [[[affine, False]], [[affine, True]], [[warp, False], [affine, False]], [[affine, True], [back, False]]]
    size, rng = np.array(fixed.shape), np.random.default_rng(0)
    points = rng.uniform(0.25 * size, 0.75 * size, (12, ndim)) * np.array(fixed.spacing)
    points = (points @ fixed.direction.T + np.array(fixed.origin)).round(4)
    frame = pandas.DataFrame(points, columns=list("xyz"[:ndim]))
    cases = []
    for files in lists:
        paths, inverted = [str(folder / name) for name, _ in files], [flag for _, flag in files]
        # points go the other way than images, in the order of antsApplyTransforms: what maps fixed to moving points
        mapped = ants.apply_transforms_to_points(ndim, frame, paths, whichtoinvert=inverted)
        cases.append({"files": files, "mapped": np.array(mapped[list("xyz"[:ndim])]).round(6).tolist()})
    (folder / "points.json").write_text(json.dumps({"points": points.tolist(), "cases": cases}), encoding="utf-8")
    return folder


if __name__ == "__main__":
    for dimension in (2, 3):
        print(make(sys.argv[1], dimension))  # noqa: T201
