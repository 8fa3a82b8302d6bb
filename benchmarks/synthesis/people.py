"""The appearance models that the benchmarks of pairs share, fitted to the training people of the data folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

import augreg as ar
from augreg.sam import AppearanceModel
from benchmarks.harness.places import DATA, TEST_BRAINS

# the last so many hearts are kept for tests
_CARDIAC_TEST = 10


@dataclass(frozen=True, eq=False)
class People:
    """Real images that a model is fitted to.

    Parameters
    ----------
    name : of the data set
    images : of one grid
    labels : a map per image, where there are any in 2-D
    """

    name: str
    images: list[ar.Image]
    labels: list[ar.Labels] | None

    def model(self) -> AppearanceModel:
        """Fitted with the defaults: to labels, where there are any, else by registration."""
        if self.labels is not None:
            return ar.fit_appearance_model(self.images, labels=self.labels)
        return ar.fit_appearance_model(self.images, registration=ar.LPRegistration(), alignment="similarity")


def brain2d(slices: str = "z08") -> People:
    """Axial brain slices of 14 people, 197 x 233, 1 mm, with labels of many structures: z08, or higher up, z20."""
    ids = sorted(path.name[:4] for path in (DATA / "brain2d").glob("????_z08.nii.gz"))
    ids = [i for i in ids if i not in TEST_BRAINS]
    images = [ar.read_image(DATA / f"brain2d/{i}_{slices}.nii.gz") for i in ids]
    return People(f"brain2d {slices}", images, [ar.read_labels(DATA / f"brain2d/{i}_{slices}_labels.nii.gz") for i in ids])


def cardiac2d(across: float | None = None) -> People:
    """Short-axis slices of 20 hearts at end-diastole, 256 x 256, the left ventricle's cavity; or with oblong pixels.

    Parameters
    ----------
    across : mm between pixels along the second axis, on axes turned by 20 degrees; pixels are 1 mm along the first one
    """
    ids = sorted(path.name.removesuffix("_ed.png") for path in (DATA / "cardiac2d").glob("*_ed.png"))[:-_CARDIAC_TEST]
    images = [ar.read_image(DATA / f"cardiac2d/{i}_ed.png") for i in ids]
    labels = [ar.read_labels(DATA / f"cardiac2d/{i}_ed_lv.png") for i in ids]
    if across is None:
        return People("cardiac2d", images, labels)
    grid, turn = images[0].grid, np.deg2rad(20)
    direction = ((np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn)))
    shape, spacing = (200, int(200 / across)), (1.0, across)
    start = grid.center - np.asarray(direction) @ (np.asarray(spacing) * (np.asarray(shape) - 1) / 2)
    oblong = ar.Grid(shape, spacing, tuple(start), direction)
    # what lies outside the picture is as dark as its border
    seen = [ar.Image(np.nan_to_num(ar.resample(image, oblong).values), oblong) for image in images]
    return People("cardiac2d-oblong", seen, [ar.resample(one, oblong) for one in labels])


def brain3d(voxel: float = 4.0, shape: tuple[int, ...] = (48, 56, 48)) -> People:
    """Six brains in voxels of that many mm, each with its centre in the middle; correspondences come from registration."""
    images = [_centred(ar.read_image(path), voxel, shape) for path in sorted((DATA / "brain3d").glob("????.nii.gz"))]
    return People("brain3d", images, None)


def brain3d_labels(voxel: float = 4.0, shape: tuple[int, ...] = (48, 56, 48)) -> list[ar.Labels]:
    """The label maps of the same people on the same grid."""
    paths = sorted((DATA / "brain3d").glob("????.nii.gz"))
    boxes = [_box(_coarse(ar.read_image(path), voxel), voxel, shape) for path in paths]
    labels = [ar.read_labels(path.with_name(f"{path.name[:4]}_labels.nii.gz")) for path in paths]
    return [ar.Labels(ar.resample(one, box).values, _anywhere(box)) for one, box in zip(labels, boxes, strict=True)]


def _centred(image: ar.Image, voxel: float, shape: tuple[int, ...]) -> ar.Image:
    coarse = _coarse(image, voxel)
    box = _box(coarse, voxel, shape)
    return ar.Image(ar.resample(coarse, box).values, _anywhere(box))


def _coarse(image: ar.Image, voxel: float) -> ar.Image:
    step = [max(1, int(voxel / s)) for s in image.grid.spacing]
    # block means, so that coarse voxels do not alias
    values = np.asarray(image.values, dtype=np.float32)
    values = values[tuple(slice(0, n // k * k) for n, k in zip(values.shape, step, strict=True))]
    for axis, k in enumerate(step):
        values = values.reshape(*values.shape[:axis], -1, k, *values.shape[axis + 1 :]).mean(axis=axis + 1)
    direction = np.asarray(image.grid.direction)
    origin = np.asarray(image.grid.origin) + direction @ ((np.asarray(step) - 1) / 2 * image.grid.spacing)
    spacing = tuple(np.asarray(image.grid.spacing) * step)
    return ar.Image(values, ar.Grid(values.shape, spacing, tuple(origin), image.grid.direction))


def _box(coarse: ar.Image, voxel: float, shape: tuple[int, ...]) -> ar.Grid:
    """A grid with the head in its middle."""
    center = coarse.grid.points_at(np.argwhere(coarse.values > 0.2 * coarse.values.max()).mean(axis=0))
    start = center - np.asarray(coarse.grid.direction) @ (voxel * (np.asarray(shape) - 1) / 2)
    return ar.Grid(shape, (voxel,) * len(shape), tuple(start), coarse.grid.direction)


def _anywhere(box: ar.Grid) -> ar.Grid:
    # all on one grid: where a head lies in the scanner is not its shape
    return ar.Grid(box.shape, box.spacing, (0.0,) * len(box.shape), box.direction)


PEOPLE = {"brain2d": brain2d, "brain2d-z20": partial(brain2d, "z20"), "cardiac2d": cardiac2d, "brain3d": brain3d}
