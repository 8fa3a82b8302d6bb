"""Volumes of one slice keep their place, judged by SimpleITK."""

import numpy as np
import pytest
import SimpleITK as sitk
from support import spaces
from support.files import numbers, refused

from augreg import Grid, Image, read_image, read_labels, write_image
from augreg.io import read_plane

# volumes of one slice


def turn(*angles):
    return np.reshape(sitk.Euler3DTransform((0, 0, 0), *angles).GetMatrix(), (3, 3))


PLANES = {
    "coronal": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "sagittal": np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]]),
    "short axis": turn(0.5, 0.6, 0.4),
    "tilted by 1 degree": turn(np.deg2rad(1), 0, 0),
}


@pytest.mark.parametrize("case", PLANES)
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_one_slice_that_is_not_axial_keeps_its_place(case, suffix, tmp_path):
    file = sitk.GetImageFromArray(numbers(1, 40, 30, dtype=np.int16))
    file.SetSpacing((1.5, 1.25, 8))
    file.SetOrigin((10, -77, 30))
    file.SetDirection(PLANES[case].ravel().tolist())
    path = tmp_path / f"s{suffix}"
    sitk.WriteImage(file, str(path))
    refused(path, "?plane=own")
    image, plane = read_image(f"{path}?plane=own"), read_plane(f"{path}?plane=own")
    assert plane == read_plane(path)
    np.testing.assert_allclose(image.grid.spacing, (1.5, 1.25), rtol=1e-6)
    np.testing.assert_array_equal(image.grid.direction, np.eye(2))
    np.testing.assert_array_equal(read_labels(f"{path}?plane=own").values, image.values)
    for voxel in ((0, 0), (29, 39), (7, 21)):
        where = file.TransformIndexToPhysicalPoint((*voxel, 0))
        np.testing.assert_allclose(plane.points_3d(image.grid.points_at(voxel)), where, atol=1e-4)
        np.testing.assert_allclose(plane.points_2d(where), image.grid.points_at(voxel), atol=1e-4)
        assert image.values[voxel] == file[(*voxel, 0)]


@pytest.mark.parametrize("direction", [np.eye(3), np.diag([1, -1, -1]), turn(0, 0, 0.5), turn(5e-4, 0, 0.2)])
def test_one_axial_slice_keeps_x_and_y(direction, tmp_path):
    file = sitk.GetImageFromArray(numbers(1, 40, 30, dtype=np.int16))
    file.SetOrigin((10, 20, 30))
    file.SetDirection(np.ravel(direction).tolist())
    sitk.WriteImage(file, str(tmp_path / "s.mha"))
    image, plane = read_image(tmp_path / "s.mha"), read_plane(tmp_path / "s.mha")
    for voxel in ((0, 0), (29, 39)):
        where = file.TransformIndexToPhysicalPoint((*voxel, 0))
        np.testing.assert_allclose(image.grid.points_at(voxel), where[:2], atol=1e-3)
        np.testing.assert_allclose(plane.points_3d(image.grid.points_at(voxel)), where, atol=0.03)


@pytest.mark.parametrize("shape", [(30, 1, 20), (1, 30, 20)])
def test_one_voxel_along_another_axis_stays_a_volume(shape, tmp_path):
    grid = Grid(shape, (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), spaces.grid(3).direction)
    write_image(Image(numbers(*shape, dtype=np.int16), grid), tmp_path / "v.mha")
    volume = read_image(tmp_path / "v.mha")
    assert volume.grid.matches(grid)
    flat, plane = read_image(f"{tmp_path / 'v.mha'}?plane=own"), read_plane(tmp_path / "v.mha")
    thin = shape.index(1)
    np.testing.assert_allclose(plane.points_3d(flat.grid.points()), np.take(grid.points(), 0, axis=thin), atol=1e-9)
    np.testing.assert_array_equal(flat.values, np.take(volume.values, 0, axis=thin))


def test_a_whole_volume_has_no_plane(tmp_path):
    write_image(Image(numbers(5, 6, 7), Grid((5, 6, 7))), tmp_path / "v.mha")
    for read in (read_image, read_plane):
        with pytest.raises(ValueError, match="one slice"):
            read(f"{tmp_path / 'v.mha'}?plane=own")
