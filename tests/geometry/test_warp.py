import numpy as np
import pytest
import SimpleITK as sitk
from support import naive, spaces
from support.maps import affine, bspline, field

from augreg import Affine, Grid, Image, Labels, resample, warp
from augreg.geometry.resampling import background, sample

RNG = np.random.default_rng


def image(ndim, name="oblique", dtype=np.float32, channels=()):
    grid = spaces.grid(ndim, name)
    return Image(RNG(0).uniform(0, 255, (*grid.shape, *channels)).astype(dtype), grid)


def fixed_grid(ndim, name="oblique"):
    """Another grid about the centre of the moving one, some of it outside."""
    grid = Grid((14, 19, 9)[:ndim], (1.3, 0.9, 1.6)[:ndim], direction=spaces.directions(ndim)["flip"])
    origin = spaces.grid(ndim, name).center - grid.center + 7
    return Grid(grid.shape, grid.spacing, tuple(origin), grid.direction)


def turned(ndim, name="oblique"):
    return Affine.about(affine(ndim).matrix, spaces.grid(ndim, name).center, np.linspace(-1, 2, ndim))


@pytest.mark.kernels
@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_pull_back_is_the_definition(ndim, name, dtype):
    moving, grid = image(ndim, name, dtype), fixed_grid(ndim, name)
    spline = bspline(ndim, name=name)
    for transform in (turned(ndim, name), spline, turned(ndim, name) @ spline, field(ndim, name=name)):
        moved = warp(moving, transform, grid, fill=7)
        assert moved.values.dtype == dtype
        labels = warp(Labels(moving.values.astype(np.int16), moving.grid), transform, grid, fill=7)
        for _ in range(15):
            voxel = tuple(RNG().integers(0, grid.shape))
            x = transform(grid.points_at(voxel))
            expected = naive.sample_linear(moving.values.astype(float), moving.grid, x, 7.0)
            assert moved.values[voxel] == pytest.approx(expected, abs=0.51 if dtype == np.uint8 else 1e-3)
            assert labels.values[voxel] == naive.sample_nearest(moving.values.astype(np.int16), moving.grid, x, 7)


def _sitk(image):
    out = sitk.GetImageFromArray(np.ascontiguousarray(image.values.T))
    out.SetSpacing(image.grid.spacing)
    out.SetOrigin(image.grid.origin)
    out.SetDirection(np.ravel(image.grid.direction))
    return out


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_resampling_agrees_with_simpleitk(ndim, name):
    moving, grid = image(ndim, name), fixed_grid(ndim, name)
    ours = turned(ndim, name)
    theirs = sitk.AffineTransform(ndim)
    theirs.SetMatrix(ours.matrix.ravel())
    theirs.SetTranslation(ours.translation)
    reference = _sitk(Image(np.zeros(grid.shape, np.float32), grid))
    ways = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor, "cubic": sitk.sitkBSpline}
    for way, code in ways.items():
        expected = sitk.GetArrayFromImage(sitk.Resample(_sitk(moving), reference, theirs, code, -3.0)).T
        np.testing.assert_allclose(warp(moving, ours, grid, interpolation=way, fill=-3.0).values, expected, atol=2e-3)
        assert 0.1 < np.mean(expected != -3.0) < 1.0


@pytest.mark.kernels
@pytest.mark.parametrize("ndim", [2, 3])
def test_every_interpolation_reproduces_the_voxels(ndim):
    for channels in ((), (3,)):
        moving = image(ndim, channels=channels)
        for way in ("nearest", "linear", "cubic"):
            np.testing.assert_allclose(resample(moving, moving.grid, interpolation=way).values, moving.values, atol=2e-4)


def test_channels_are_warped_alike():
    moving = image(2, channels=(3,))
    for way in ("nearest", "linear", "cubic"):
        together = warp(moving, bspline(2), fixed_grid(2), interpolation=way).values
        for c in range(3):
            alone = warp(Image(moving.values[..., c], moving.grid), bspline(2), fixed_grid(2), interpolation=way).values
            np.testing.assert_allclose(together[..., c], alone, atol=1e-4)


def test_composition_warps_like_two_warps_of_a_linear_image():
    # a linear ramp is reproduced exactly by linear interpolation, so warping twice equals warping by the composition
    grid = spaces.grid(2).with_shape((60, 60)).padded(40)
    ramp = Image(grid.points() @ np.array([1.0, -2.0]) + 5, grid)
    a, b = affine(2), bspline(2)
    inner = spaces.grid(2)
    twice = warp(warp(ramp, a, grid, fill=np.nan), b, inner)
    once = warp(ramp, a @ b, inner)
    np.testing.assert_allclose(twice.values, once.values, atol=1e-9)


def test_nan_spoils_only_its_neighbours():
    moving = image(3)
    moving.values[5, 5, 5] = np.nan
    same = resample(moving, moving.grid)
    assert np.isnan(same.values).sum() == 1


def test_integers_are_rounded_and_clipped():
    grid = Grid((2, 2))
    tiny = Image(np.array([[0, 255], [0, 255]], dtype=np.uint8), grid)
    wide = Grid((2, 9), (1.0, 0.25), (0.0, -0.5))
    assert resample(tiny, wide, fill=999).values[0].tolist() == [0, 0, 0, 64, 128, 191, 255, 255, 255]
    assert resample(tiny, Grid((2, 2), origin=(5, 5)), fill=999).values.tolist() == [[255, 255], [255, 255]]


def test_sampling_at_points_agrees_with_warping():
    moving, grid = image(3), fixed_grid(3)
    for way in ("nearest", "linear", "cubic"):
        moved = resample(moving, grid, interpolation=way, fill=0.0)
        np.testing.assert_allclose(sample(moving, grid.points(), interpolation=way, fill=0.0), moved.values, atol=2e-3)
    assert np.isnan(sample(moving, [[1e3, 1e3, 1e3]])).all()


def test_wrong_requests_are_refused():
    labels = Labels(np.zeros((4, 5), dtype=np.uint8), Grid((4, 5)))
    with pytest.raises(ValueError, match="labels have no values in between"):
        resample(labels, labels.grid, interpolation="linear")
    with pytest.raises(ValueError, match="nearest, linear or cubic"):
        resample(image(2), fixed_grid(2), interpolation="bicubic")
    with pytest.raises(ValueError, match="one dimension"):
        warp(image(2), Affine.identity(3), fixed_grid(3))


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("interpolation", ["linear", "cubic", "nearest"])
def test_lines_of_voxels_have_the_values_of_their_points(ndim, interpolation):
    # small images seen through many affine maps: most lines enter and leave them, near the border and beyond it
    rng = np.random.default_rng(ndim)
    image = Image(rng.normal(size=(7, 6, 5)[:ndim]), spaces.grid(ndim, shape=(7, 6, 5)[:ndim]))
    grid = spaces.grid(ndim, shape=(23, 21, 6)[-ndim:])
    middle = image.grid.points_at([(n - 1) / 2 for n in image.grid.shape])
    center = grid.points_at([(n - 1) / 2 for n in grid.shape])
    outside = []
    for _ in range(20):
        A = np.linalg.qr(rng.normal(size=(ndim, ndim)))[0] * rng.uniform(0.1, 0.9, ndim)
        phi = Affine(A, middle - A @ center)
        lines = warp(image, phi, grid, interpolation=interpolation, fill=-9.0).values
        points = sample(image, phi(grid.points()), interpolation=interpolation, fill=-9.0)
        outside.append(np.mean(points == -9))
        # half-way points may go to either side
        alike = np.isclose(lines, points, atol=1e-9)
        assert alike.all() if interpolation != "nearest" else alike.mean() > 0.99
    assert 0.1 < np.mean(outside) < 0.9


@pytest.mark.parametrize("interpolation", ["linear", "cubic", "nearest"])
def test_the_border_of_the_last_voxel_is_inside_up_to_rounding(interpolation):
    image = Image(np.arange(20.0).reshape(5, 4), Grid((5, 4)))
    for x, y, inside in (
        (4.5, 1.0, True),
        (-0.5, 1.0, True),
        (2.0, 3.5, True),
        (4.5 + 1e-6, 1.0, False),
        (2.0, -0.5 - 1e-6, False),
    ):
        assert np.isfinite(sample(image, [x, y], interpolation=interpolation)) == inside
        moved = warp(image, Affine(np.eye(2), [x, y]), Grid((1, 1)), interpolation=interpolation, fill=-9.0)
        assert (moved.values[0, 0] != -9) == inside


@pytest.mark.kernels
@pytest.mark.parametrize("interpolation", ["linear", "cubic", "nearest"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_each_channel_has_a_value_of_its_own_outside(ndim, interpolation):
    moving, grid, outside = image(ndim, dtype=np.uint8, channels=(3,)), fixed_grid(ndim), (250, 3, 97)
    for transform in (turned(ndim), turned(ndim) @ bspline(ndim)):
        x = transform(grid.points())
        beyond = ~moving.grid.contains(x, margin=0.5)
        assert 0.05 < beyond.mean() < 0.95
        together = warp(moving, transform, grid, interpolation=interpolation, fill=outside).values
        np.testing.assert_array_equal(together[beyond], np.broadcast_to(outside, (beyond.sum(), 3)))
        np.testing.assert_array_equal(sample(moving, x, interpolation=interpolation, fill=outside)[beyond], together[beyond])
        for c in range(3):
            alone = warp(moving.with_values(moving.values[..., c]), transform, grid, interpolation=interpolation, fill=outside[c])
            np.testing.assert_array_equal(together[..., c], alone.values)
    with pytest.raises(ValueError, match="fill: expected a number, or one of each of 3 channels"):
        warp(moving, transform, grid, fill=(1, 2))


def section(border, tissue=(180, 90, 150), noise=2, dtype=np.uint8, scale=1):
    """A piece of tissue on a slide."""
    values = np.empty((60, 50, 3))
    values[:] = border
    values[12:50, 9:44] = tissue
    values += RNG(0).integers(-noise, noise + 1, values.shape)
    return Image((np.clip(values, 0, 255) * scale).astype(dtype), Grid((60, 50)))


def test_the_light_border_of_a_picture_is_what_stands_outside():
    white = (243, 240, 246)
    np.testing.assert_allclose(background(section(white)), white, atol=1)
    np.testing.assert_allclose(background(section(white, dtype=np.uint16, scale=200)), np.multiply(white, 200), atol=200)
    np.testing.assert_allclose(background(section(white, dtype=np.float32, scale=-1)), [-246 - 2] * 3, atol=4)
    cut = section(white)
    # tissue that reaches the border, along less than half of it
    cut.values[:25, :30] = (180, 90, 150)
    np.testing.assert_allclose(background(cut), white, atol=2)
    cut.values[:, 20:] = (180, 90, 150)
    assert background(cut).tolist() == [0, 0, 0]
    grey = section(white)
    assert background(Image(grey.values[..., 1], grey.grid)) == pytest.approx(240, abs=1)


def test_dark_and_uneven_borders_leave_what_stood_outside_before():
    assert background(section((6, 3, 9))).tolist() == [0, 0, 0]
    scattered = Image(RNG(0).integers(0, 256, (60, 50, 3)).astype(np.uint8), Grid((60, 50)))
    assert background(scattered).tolist() == [0, 0, 0]
    air = np.full((20, 21, 22), -1000, np.int16)
    air[5:15, 5:15, 5:15] = 40
    assert background(Image(air, Grid(air.shape))).tolist() == [-1000]
    # a light frame around a volume is no slide
    assert background(Image((255 - (air == 40) * 200).astype(np.uint8), Grid(air.shape))).tolist() == [0]
    assert background(Image(np.full((9, 8), 200, np.uint8), Grid((9, 8)))).tolist() == [0]
    holes = section((243, 240, 246), dtype=np.float32)
    holes.values[0, :20] = np.nan
    np.testing.assert_allclose(background(holes), (243, 240, 246), atol=1)
    assert background(Image(np.full((4, 4), np.nan, np.float32), Grid((4, 4)))).tolist() == [0]
