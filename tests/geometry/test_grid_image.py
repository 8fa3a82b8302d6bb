import numpy as np
import pytest
from support import spaces

from augreg import Grid, Image, Labels
from augreg.geometry.image import as_image


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_points_and_indices_are_inverse_and_agree_with_the_formula(ndim, name):
    grid = spaces.grid(ndim, name)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    expected = grid.origin + (np.array(grid.spacing) * index) @ np.array(grid.direction).T
    np.testing.assert_allclose(grid.points(), expected, atol=1e-12)
    np.testing.assert_allclose(grid.indices_at(grid.points()), index, atol=1e-12)
    np.testing.assert_allclose(grid.points_at(index), expected, atol=1e-12)


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_another_shape_covers_the_same_voxels(ndim, name):
    grid = spaces.grid(ndim, name)
    coarse = grid.with_shape([n // 2 for n in grid.shape])
    for corner in (np.zeros(ndim), np.ones(ndim)):
        ours = grid.points_at(corner * grid.shape - 0.5)
        theirs = coarse.points_at(corner * coarse.shape - 0.5)
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert coarse.diagonal == pytest.approx(grid.diagonal)
    near = grid.with_spacing(2.5)
    assert np.all(np.abs(np.array(near.spacing) - 2.5) < 1.0)


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_a_lattice_reaches_from_the_first_point_to_the_last(ndim, name):
    grid = spaces.grid(ndim, name)
    np.testing.assert_allclose(grid.lattice(grid.shape), grid.points().reshape(-1, ndim), atol=1e-12)
    counts = (3, 4, 2)[:ndim]
    lattice = grid.lattice(counts).reshape(*counts, ndim)
    step = (np.array(grid.shape) - 1) / (np.array(counts) - 1)
    for index in np.ndindex(*counts):
        np.testing.assert_allclose(lattice[index], grid.points_at(step * index), atol=1e-12)


def test_padding_keeps_the_points():
    grid = spaces.grid(3)
    padded = grid.padded((2, 0, 1))
    np.testing.assert_allclose(padded.points()[2:-2, :, 1:-1], grid.points(), atol=1e-12)
    assert padded.padded((-2, 0, -1)).matches(grid)
    assert not padded.matches(grid)


def test_contains_takes_voxels_whole():
    grid = spaces.grid(2)
    inside = grid.points_at([[-0.49, 0], [grid.shape[0] - 0.51, 0]])
    outside = grid.points_at([[-0.51, 0], [grid.shape[0] - 0.49, 0]])
    assert grid.contains(inside).all()
    assert not grid.contains(outside).any()
    assert not grid.contains(inside, margin=0).any()


def test_grids_are_values():
    a, b = spaces.grid(3), spaces.grid(3)
    assert a == b
    assert len({a, b, spaces.grid(3, "flip")}) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((4,),), "2 or 3 axes"),
        (((4, 0),), "at least one point"),
        (((4, 5), (1, 0)), "positive"),
        (((4, 5), (1, 1, 1)), "2 numbers"),
        (((4, 5), (1, 1), (np.nan, 0)), "finite"),
        (((4, 5), (1, 1), (0, 0), ((1, 1), (0, 1))), "orthonormal"),
    ],
)
def test_impossible_grids_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Grid(*arguments)


def test_values_must_fit_their_grid():
    grid = Grid((4, 5))
    assert Image(np.zeros((4, 5, 3)), grid).channels == 3
    with pytest.raises(ValueError, match="shape"):
        Image(np.zeros((5, 4)), grid)
    with pytest.raises(TypeError, match="real"):
        Image(np.zeros((4, 5), dtype=complex), grid)
    with pytest.raises(TypeError, match="integer"):
        Labels(np.zeros((4, 5)), grid)
    assert Labels(np.arange(20).reshape(4, 5) % 3, grid).unique() == (1, 2)


def test_luminance_weighs_colours_and_ignores_alpha():
    grid = Grid((1, 2))
    pixels = np.array([[[200, 10, 30, 0], [0, 100, 0, 255]]], dtype=np.uint8)
    np.testing.assert_allclose(Image(pixels, grid).luminance().values, [[69.09, 58.7]], rtol=1e-6)


def test_what_is_no_image_is_named_with_its_package():
    class Image:  # as SimpleITK calls its own
        pass

    Image.__module__ = "SimpleITK.SimpleITK"
    for value, name in ((Image(), r"SimpleITK\.\S*Image"), ([[1.0]], "list"), ("a.png", "str")):
        with pytest.raises(TypeError, match=f"fixed: expected an Image or an array, got {name}; read files with read_image"):
            as_image("fixed", value)
