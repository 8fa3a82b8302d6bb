"""Images that lie anyhow: any angle, mirrored, axes that point elsewhere. Truth by SimpleITK or by the headers themselves."""

import itertools
import json

import numpy as np
import pytest
import SimpleITK as sitk
from support import phantoms, spaces

from augreg import Affine, Grid, Image, folding, tre, warp, write_image
from augreg.cli import main
from augreg.geometry.jacobian import jacobian_determinant, mirrors, unmirrored
from augreg.io import read_transform, write_transform
from augreg.lp import LPRegistration
from augreg.lp.start import reflections, turned

N = 150


def section(name: str, degrees: float, mirror: bool, bend: float = 0.0, side: int = N, air: float = 0.0):
    """Fixed, moving, points and targets: moving is mirrored, turned and lies on a larger canvas; fixed may be bent."""
    values = phantoms.skimage.transform.resize(phantoms.photograph(name), (side, side), anti_aliasing=True)
    image = sitk.GetImageFromArray((255 * values).astype(np.float32))
    size, a = int(1.5 * side), np.deg2rad(degrees)
    truth = sitk.AffineTransform(2)
    truth.SetCenter([(side - 1) / 2] * 2)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ np.diag([-1.0 if mirror else 1.0, 1.0])
    truth.SetMatrix(turn.ravel().tolist())
    truth.SetTranslation([(size - side) / 2 + 6, (size - side) / 2 - 4])
    moved = sitk.Resample(image, [size, size], truth.GetInverse(), sitk.sitkLinear, (0, 0), (1, 1), (1, 0, 0, 1), air)
    elastic = sitk.BSplineTransformInitializer(image, [4, 4], 3)
    elastic.SetParameters((np.random.default_rng(3).uniform(-bend, bend, len(elastic.GetParameters()))).tolist())
    rng = np.random.default_rng(1)
    seen = sitk.GetArrayFromImage(sitk.Resample(image, elastic)) + rng.normal(0, 2, (side, side))
    points = rng.uniform(0.25, 0.75, (100, 2)) * side
    targets = np.array([truth.TransformPoint(elastic.TransformPoint(p)) for p in points.tolist()])
    fixed = Image(seen.T.astype(np.float32), Grid((side, side)))
    moving = Image((sitk.GetArrayFromImage(moved) + rng.normal(0, 2, (size, size))).T.astype(np.float32), Grid((size, size)))
    return fixed, moving, points, targets


@pytest.mark.parametrize(("degrees", "mirror"), [(67.0, False), (187.0, False), (-98.0, True), (142.0, True), (3.0, True)])
def test_sections_are_found_however_they_have_fallen(degrees, mirror):
    fixed, moving, points, targets = section("astronaut", degrees, mirror)
    for kind in ("rigid", "affine"):
        *_, state = LPRegistration(transform=kind, rotation=180, mirror=True).steps(fixed, moving)
        assert np.median(tre(state.transform, points, targets)) < 0.5
        assert mirrors(state.transform) == mirror
        assert state.warnings == ()


@pytest.mark.parametrize("degrees", [49.0, 109.0, 214.0])
def test_by_mutual_information_the_whole_circle_is_tried_without_being_asked(degrees):
    """Enlarged parts of the moon show little, which any contrast explains: they are no better than its whole."""
    fixed, moving, points, targets = section("moon", degrees, False, side=384, air=110.0)
    phi = LPRegistration(transform="affine", criterion="mi")(fixed, moving)
    assert np.median(np.linalg.norm(phi(points) - targets, axis=1)) < 1


def test_a_mirror_is_found_within_the_usual_turns_along_either_axis():
    """Turned by a half and mirrored, an image is mirrored along its other axis."""
    for degrees in (5.0, 175.0):
        fixed, moving, points, targets = section("camera", degrees, True)
        phi = LPRegistration(transform="similarity", mirror=True)(fixed, moving)
        assert np.median(tre(phi, points, targets)) < 0.5


def test_who_does_not_ask_for_mirrors_gets_none():
    fixed, moving, *_ = section("astronaut", 20.0, True)
    *_, state = LPRegistration(transform="affine", rotation=180).steps(fixed, moving)
    assert not mirrors(state.transform)
    assert any("check the result" in text for text in state.warnings)
    plain, moved, points, _ = section("astronaut", 10.0, False)
    phi = LPRegistration(transform="affine", mirror=True)(plain, moved)
    np.testing.assert_allclose(phi(points), LPRegistration(transform="affine")(plain, moved)(points), atol=0.15)


def test_what_bends_behind_a_mirror_does_not_fold_and_is_written_inverted_and_measured(tmp_path):
    fixed, moving, points, targets = section("astronaut", 160.0, True, bend=4.0)
    affine = LPRegistration(transform="affine", rotation=180, mirror=True)(fixed, moving)
    for settings in ({}, {"dense": None}):
        phi = LPRegistration(rotation=180, mirror=True, **settings)(fixed, moving)
        assert np.median(tre(phi, points, targets)) < min(0.5, 0.5 * np.median(tre(affine, points, targets)))
        assert jacobian_determinant(phi, fixed.grid).max() < 0
        assert folding(phi, fixed.grid) == 1
        assert folding(unmirrored(phi), fixed.grid) == 0
        write_transform(phi, tmp_path / "phi.h5")
        itk = sitk.ReadTransform(str(tmp_path / "phi.h5"))
        np.testing.assert_allclose([itk.TransformPoint(p) for p in points.tolist()], phi(points), atol=1e-6)
        np.testing.assert_allclose(read_transform(tmp_path / "phi.h5")(points), phi(points), atol=1e-6)
        back = phi.inverse(moving.grid)
        np.testing.assert_allclose(back(phi(points)), points, atol=0.1)
        inner = (slice(30, -30), slice(30, -30))
        moved = warp(moving, phi, fixed.grid).values[inner]
        assert np.corrcoef(moved.ravel(), fixed.values[inner].ravel())[0, 1] > 0.98


@pytest.mark.parametrize("mirror", [False, True])
def test_axes_that_point_elsewhere_are_found(mirror):
    """The voxels are those of the fixed image, their header says something else."""
    grid = Grid((40, 34, 26), (1.0, 1.3, 1.6), (-11.0, 5.0, 40.0), spaces.directions(3)["oblique"])
    fixed = phantoms.blobs(grid, 60)
    orders = {(1, 2, 0): (1, -1, 1), (0, 2, 1): (1, 1, -1), (2, 1, 0): (-1, -1, -1)}
    for order, signs in orders.items():
        signed = np.eye(3)[list(order)] * np.array(signs)[:, None]
        signed *= np.sign(np.linalg.det(signed)) * (-1 if mirror else 1)
        direction = signed @ grid.axes
        origin = grid.center - direction @ (np.array(grid.spacing) * (np.array(grid.shape) - 1) / 2) + np.array([2.0, -1.0, 3.0])
        lying = Grid(grid.shape, grid.spacing, tuple(origin), direction)
        phi = LPRegistration(transform="rigid", rotation=180, mirror=mirror)(fixed, Image(fixed.values, lying))
        points = grid.points_at(np.random.default_rng(0).uniform(0.2, 0.8, (50, 3)) * grid.shape)
        assert tre(phi, points, lying.points_at(grid.indices_at(points))).max() < 0.5
        assert mirrors(phi) == mirror


def test_every_turn_is_tried_once_and_none_is_far_from_one():
    for degrees in (50.0, 90.0, 180.0):
        matrices = np.array(turned(2, rigid=True, degrees=degrees))
        angles = np.sort(np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])))
        assert np.abs(angles).max() <= degrees + 1e-9
        assert np.diff(angles).min() > 4.9
        assert max(np.diff(angles).max(), 360 - 2 * degrees if degrees < 180 else angles[0] + 360 - angles[-1]) <= max(
            5.1, 360 - 2 * degrees
        )
    cubes = turned(3, rigid=True, degrees=180.0)
    for signs in itertools.product((1.0, -1.0), repeat=3):
        matrix = np.diag(signs)[[1, 2, 0]]
        assert np.linalg.det(matrix) < 0 or min(np.abs(matrix - cube).max() for cube in cubes) < 1e-9
    assert all(np.linalg.det(cube) > 0 for cube in cubes)


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_mirrors_stand_along_the_grid_s_axes(ndim, name):
    grid = spaces.grid(ndim, name)
    found = reflections(grid.axes, any_turn=False)
    assert len(found) == {2: 2, 3: 4}[ndim]
    assert len(reflections(grid.axes, any_turn=True)) == 1
    for mirror in found:
        assert np.linalg.det(mirror) == pytest.approx(-1)
        signs = grid.axes.T @ mirror @ grid.axes
        np.testing.assert_allclose(signs, np.diag(np.diag(signs)), atol=1e-12)


def test_mirrors_cancel_each_other():
    mirror, turn = Affine(np.diag([-1.0, 1.0])), Affine([[0.0, -1.0], [1.0, 0.0]])
    bent = phantoms.bent(Grid((40, 40)), 12.0, 3)
    for transform, expected in ((mirror @ bent @ turn, True), (mirror @ bent @ mirror, False), (bent, False), (turn, False)):
        assert mirrors(transform) == expected
        assert not mirrors(unmirrored(transform))


def test_the_command_takes_turns_and_mirrors(tmp_path, capsys):
    fixed, moving, points, targets = section("astronaut", 130.0, True)
    for name, image in (("fixed", fixed), ("moving", moving)):
        write_image(image, tmp_path / f"{name}.nii.gz")
    names = [str(tmp_path / name) for name in ("fixed.nii.gz", "moving.nii.gz", "phi.tfm")]
    asked = ["--transform", "affine", "--rotation", "180", "--mirror", "--json"]
    assert main(["register", *names[:2], "-o", names[2], *asked]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["mirrored"] is True
    assert said["folding"] == 0
    assert np.median(tre(read_transform(names[2]), points, targets)) < 0.5
