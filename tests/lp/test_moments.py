"""Label maps start from centroids and second moments, wherever they lie and whatever the images show."""

import numpy as np
import pytest
from support import realdata, spaces

from augreg import Affine, Grid, Image, Labels, dice, read_image, read_labels, warp
from augreg.keypoints.pyramid import label_raster
from augreg.lp import LPRegistration
from augreg.lp.moments import moment_starts


def boxes(grid: Grid, sides, at, phi=None) -> Labels:
    """Boxes (L, D) mm around points (L, D) mm along the world's axes, seen through phi: labels 3, 4, ..."""
    points = grid.points() if phi is None else phi(grid.points())
    values = np.zeros(grid.shape, dtype=np.uint8)
    for number, (side, center) in enumerate(zip(sides, at, strict=True)):
        values[np.all(np.abs(points - center) <= np.asarray(side) / 2, axis=-1)] = 3 + number
    return Labels(values, grid)


def noise(grid: Grid, seed: int) -> Image:
    return Image(np.random.default_rng(seed).normal(size=grid.shape).astype(np.float32), grid)


def turn(ndim: int, degrees: float) -> np.ndarray:
    a, matrix = np.deg2rad(degrees), np.eye(ndim)
    matrix[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    return matrix


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_a_box_goes_onto_a_box_whatever_the_grid_and_the_start(ndim, name):
    """One label: its centroid, size and axes are those of the box, and an initial map is undone."""
    fixed_grid = spaces.grid(ndim, name, shape=(60, 50, 40)[:ndim])
    moving_grid = fixed_grid.with_spacing(0.9 * np.array(fixed_grid.spacing))
    c = fixed_grid.center
    sides, stretch = np.array([24.0, 14.0, 8.0][:ndim]), np.array([1.3, 0.75, 0.7][:ndim])
    truth = Affine.about(np.diag(stretch), c, np.full(ndim, 2.5))
    fixed = label_raster(boxes(fixed_grid, [sides], [c]), None, 0.0)
    moving = label_raster(boxes(moving_grid, [sides * stretch], [truth(c)]), None, 0.0)
    corners = c + sides / 2 * np.array([[1.0, -1.0, 1.0][:ndim], [-1.0, -1.0, 1.0][:ndim]])
    for initial in (Affine.identity(ndim), Affine.about(1.1 * turn(ndim, 20.0), c - 5, np.full(ndim, 3.0))):
        found = {group: moment_starts(fixed, moving, initial, group, 30.0) for group in ("rigid", "similarity", "affine")}
        for starts in found.values():
            assert max(np.linalg.norm((initial @ start)(c) - truth(c)) for start in starts) < 1.0
        miss = [np.abs((initial @ start)(corners) - truth(corners)).max() for start in found["affine"]]
        assert min(miss) < 1.7
        for start in found["rigid"]:
            np.testing.assert_allclose(start.matrix.T @ start.matrix, np.eye(ndim), atol=1e-9)


@pytest.mark.parametrize("ndim", [2, 3])
def test_several_labels_tell_any_turn(ndim):
    """The turn is behind everything that is searched, and the images are noise."""
    grid = spaces.grid(ndim, shape=(80, 64, 48)[:ndim])
    c = grid.center
    at = c + np.array([[-14, 6, 3], [12, 10, -4], [3, -12, 5], [-5, -3, -8.0]])[:, :ndim]
    sides = np.array([[8, 6, 7], [5, 9, 6], [7, 7, 5], [6, 5, 9.0]])[:, :ndim]
    truth = Affine.about(turn(ndim, 130.0), c, np.array([4.0, -3.0, 2.0])[:ndim])
    fixed = boxes(grid, sides, at)
    moving = boxes(grid.padded(10), sides, at, truth.inverse())
    register = LPRegistration(transform="rigid", criterion="labels")
    *_, state = register.steps(noise(fixed.grid, 1), noise(moving.grid, 2), fixed_labels=fixed, moving_labels=moving)
    assert np.linalg.norm(state.transform(at) - truth(at), axis=1).max() < 1.5
    assert state.warnings == ()


def test_label_maps_far_apart_are_found_by_their_labels_alone():
    """Beyond all shifts that are searched; what the images show, and one more label in one map, do not matter."""
    grid = Grid((120, 100), (1.0, 1.2))
    fixed = boxes(grid, [[26, 18]], [[30.0, 40.0]])
    moving = boxes(grid, [[26, 18], [9, 9]], [[95.0, 80.0], [15.0, 15.0]])
    register = LPRegistration(transform="similarity", criterion="labels")
    *_, state = register.steps(noise(grid, 1), noise(grid, 2), fixed_labels=fixed, moving_labels=moving)
    assert dice(fixed, warp(moving, state.transform, grid))[3] > 0.95
    # a label that is masked out is not there
    hidden = boxes(grid, [[40, 40]], [[95.0, 80.0]])
    mask = Labels((hidden.values == 0).astype(np.uint8), grid)
    fixed_raster, moving_raster = label_raster(fixed, None, 2.0), label_raster(moving, mask, 2.0)
    assert moment_starts(fixed_raster, moving_raster, Affine.identity(2), "rigid", 15.0) == []


@pytest.mark.parametrize("scan", ["009", "044", "100"])
def test_glands_of_two_modalities_are_put_on_each_other(scan):
    """Training patients of `prostate` that were lost: ultrasound and MR lie anywhere, and do not correlate."""
    folder = realdata.path("prostate")
    fixed, moving = (read_image(folder / f"{scan}_{kind}.nii.gz") for kind in ("mr", "us"))
    glands = [read_labels(folder / f"{scan}_{kind}_gland.nii.gz") for kind in ("mr", "us")]
    for kind, least in (("rigid", 0.75), ("affine", 0.85)):
        register = LPRegistration(transform=kind, criterion="labels")
        *_, state = register.steps(fixed, moving, fixed_labels=glands[0], moving_labels=glands[1])
        assert dice(glands[0], warp(glands[1], state.transform, glands[0].grid))[1] > least
        assert not any("check the result" in text for text in state.warnings)
