"""Geometry on random grids: oblique, flipped, permuted, anisotropic, down to one or two slices; SimpleITK is the judge.

Arrays come in random order and strides. The examples are the same at every run.
"""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import augreg as ar

FEW = settings(max_examples=12, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def grids(draw, ndim=None, thinnest=1):
    """A grid, at times of very few slices along an axis."""
    d = draw(st.sampled_from([2, 3])) if ndim is None else ndim
    rng = np.random.default_rng(draw(SEEDS))
    shape = rng.integers(5, 12, d)
    if draw(st.booleans()):
        shape[rng.integers(d)] = max(thinnest, draw(st.integers(1, 3)))
    spacing = np.exp(rng.uniform(np.log(0.4), np.log(4), d))
    direction = np.linalg.qr(rng.normal(size=(d, d)))[0] if draw(st.booleans()) else np.eye(d)[rng.permutation(d)]
    flips = rng.choice([-1.0, 1.0], d)
    return ar.Grid(tuple(shape), tuple(spacing), tuple(rng.uniform(-300, 300, d)), direction * flips)


def laid(array, rng):
    """The array in a random order, with random strides, or in other bytes."""
    order = rng.permutation(array.ndim)
    moved = np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order))
    if rng.random() < 0.3:
        wide = np.zeros((*moved.shape[:-1], 2 * moved.shape[-1]), moved.dtype)
        wide[..., ::2] = moved
        moved = wide[..., ::2]
    if rng.random() < 0.3:
        moved = np.flip(np.flip(moved).copy())
    return moved.astype(moved.dtype.newbyteorder()) if rng.random() < 0.3 else moved


def itk_image(values, grid):
    """A SimpleITK image of values (*shape) or (*shape, C)."""
    values = np.asarray(values, dtype=np.asarray(values).dtype.newbyteorder("="))
    axes = (*range(grid.ndim)[::-1], *range(grid.ndim, values.ndim))
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(axes)), isVector=values.ndim > grid.ndim)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(np.asarray(grid.direction).ravel().tolist())
    return image


def mapped(transform, points):
    return np.array([transform.TransformPoint(p) for p in np.asarray(points).reshape(-1, np.shape(points)[-1]).tolist()])


def pairs(grid, rng):
    """Transforms around a grid, each as augreg's and as SimpleITK's."""
    d = grid.ndim
    size = float(np.max(np.asarray(grid.shape) * grid.spacing))
    matrix, shift = np.eye(d) + rng.normal(scale=0.05, size=(d, d)), rng.normal(scale=0.05 * size, size=d)
    affine = ar.Affine.about(laid(matrix, rng), grid.center, shift)
    peer = sitk.AffineTransform(d)
    peer.SetMatrix(matrix.ravel().tolist())
    peer.SetCenter(grid.center.tolist())
    peer.SetTranslation(shift.tolist())
    # a whole domain of unequal control spacings, and coefficients of a tenth of them
    cells = rng.integers(1, 4, d)
    knot = np.asarray(grid.shape) * grid.spacing * 1.3 / cells
    corner = grid.center - np.asarray(grid.direction) @ (knot * (cells + 2) / 2)
    control = ar.Grid(tuple(cells + 3), tuple(knot), tuple(corner), grid.direction)
    coefficients = rng.uniform(-0.12, 0.12, (*control.shape, d)) * min(knot)
    spline = ar.BSpline(laid(coefficients, rng), control)
    itk_spline = sitk.BSplineTransform(d, 3)
    itk_spline.SetFixedParameters([*map(float, control.shape), *control.origin, *control.spacing, *np.ravel(control.direction)])
    itk_spline.SetParameters(np.concatenate([coefficients[..., a].ravel(order="F") for a in range(d)]))
    values = rng.uniform(-0.2, 0.2, (*grid.shape, d)) * min(grid.spacing)
    field = ar.DisplacementField(laid(values, rng), grid)
    itk_field = sitk.DisplacementFieldTransform(itk_image(values, grid))
    product = sitk.CompositeTransform([peer, itk_spline, sitk.DisplacementFieldTransform(itk_image(values, grid))])
    return [(affine, peer), (spline, itk_spline), (field, itk_field), (affine @ spline @ field, product)]


def inner(grid, rng, count=25, margin=0.0):
    """Random points of a grid's hull, off the nodes."""
    last = np.asarray(grid.shape) - 1.0
    return grid.points_at(rng.uniform(np.minimum(margin, last / 2), np.maximum(last - margin, last / 2), (count, grid.ndim)))


@FEW
@given(grids(), SEEDS)
def test_points_go_where_simpleitk_puts_them(grid, seed):
    rng = np.random.default_rng(seed)
    points = inner(grid, rng)
    for ours, theirs in pairs(grid, rng):
        np.testing.assert_allclose(ours(laid(points, rng)), mapped(theirs, points), atol=1e-8)
        np.testing.assert_allclose(
            ours.displacement(grid).reshape(-1, grid.ndim),
            mapped(theirs, grid.points()) - grid.points().reshape(-1, grid.ndim),
            atol=1e-7,
        )


@FEW
@given(grids(), grids(ndim=2), grids(ndim=3), st.sampled_from([np.float32, np.float64]), st.booleans(), SEEDS)
def test_images_are_warped_and_resampled_as_by_simpleitk(grid, flat, solid, kind, colour, seed):
    rng = np.random.default_rng(seed)
    shape = (*grid.shape, 3) if colour else grid.shape
    values = rng.random(shape).astype(kind)
    image = ar.Image(laid(values, rng), grid)
    # another grid around the same place
    other = flat if grid.ndim == 2 else solid
    target = ar.Grid(other.shape, other.spacing, tuple(other.origin + grid.center - other.center), other.direction)
    source = itk_image(values, grid)
    reference = sitk.Image([int(n) for n in target.shape], sitk.sitkUInt8)
    reference.CopyInformation(itk_image(np.zeros(target.shape, np.uint8), target))
    identity = (ar.Affine.identity(grid.ndim), sitk.Transform(grid.ndim, sitk.sitkIdentity))
    for ours, theirs in [identity, *pairs(target, rng)]:
        moved = ar.warp(image, ours, target, fill=-2).values
        peer = sitk.GetArrayFromImage(sitk.Resample(source, reference, theirs, sitk.sitkLinear, -2.0))
        np.testing.assert_allclose(moved, np.moveaxis(peer, range(grid.ndim), range(grid.ndim)[::-1]), atol=2e-5)
        assert moved.dtype == kind
    np.testing.assert_array_equal(ar.resample(image, target, fill=-2).values, ar.warp(image, identity[0], target, fill=-2).values)


@FEW
@given(grids(), st.sampled_from([np.uint8, np.int16, np.int32, np.uint16]), SEEDS)
def test_labels_are_warped_as_by_simpleitk(grid, kind, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 120, grid.shape).astype(kind)
    source = itk_image(values, grid)
    for ours, theirs in pairs(grid, rng):
        moved = ar.warp(ar.Labels(laid(values, rng), grid), ours, grid, fill=121).values
        peer = sitk.GetArrayFromImage(sitk.Resample(source, source, theirs, sitk.sitkNearestNeighbor, 121.0)).T
        np.testing.assert_array_equal(moved, peer)


@FEW
@given(grids(thinnest=2), SEEDS)
def test_determinants_are_those_of_central_differences(grid, seed):
    rng = np.random.default_rng(seed)
    step = 1e-4
    for ours, theirs in pairs(grid, rng)[:2]:
        determinant = ar.jacobian_determinant(ours, grid)
        for index in rng.integers(0, grid.shape, (8, grid.ndim)):
            x = grid.points_at(index)
            columns = [np.subtract(*mapped(theirs, [x + e, x - e])) / (2 * step) for e in step * np.eye(grid.ndim)]
            assert determinant[tuple(index)] == pytest.approx(np.linalg.det(np.stack(columns, axis=1)), abs=1e-6)
    # of a field at its nodes: over whole voxels
    ours, theirs = pairs(grid, rng)[2]
    determinant = ar.jacobian_determinant(ours, grid)
    between = [
        index
        for index in np.ndindex(grid.shape)
        if np.all(np.array(index) > 0) and np.all(np.array(index) < np.array(grid.shape) - 1)
    ]
    for index in between[:: max(1, len(between) // 6)]:
        ends = [mapped(theirs, grid.points_at([np.array(index) + e, np.array(index) - e])) for e in np.eye(grid.ndim, dtype=int)]
        columns = np.stack([np.subtract(*pair) / 2 for pair in ends], axis=1)
        assert determinant[index] == pytest.approx(np.linalg.det(columns) / np.linalg.det(grid.index_to_world), abs=1e-5)


@FEW
@given(grids(thinnest=2), SEEDS)
def test_inverses_lead_back_by_simpleitk(grid, seed):
    rng = np.random.default_rng(seed)
    points = inner(grid, rng, margin=1.0)
    for ours, theirs in pairs(grid, rng)[:2]:
        there = mapped(theirs, points)
        np.testing.assert_allclose(ours.solve(laid(there, rng), 1e-9), points, atol=1e-6)
        # sampled at the very points that are asked for, no interpolation comes in
        node = ar.Grid((2,) * grid.ndim, grid.spacing, tuple(there[0]), grid.direction)
        inverse = ours.inverse(node, 1e-9)
        np.testing.assert_allclose(inverse(there[0]), points[0], atol=1e-5)


@FEW
@given(grids(thinnest=2), SEEDS, st.sampled_from([".tfm", ".h5"]))
def test_products_in_files_are_simpleitks(tmp_path, grid, seed, suffix):
    rng = np.random.default_rng(seed)
    points = inner(grid, rng, margin=0.3)
    transforms = pairs(grid, rng)
    for first in rng.permutation(4)[:2]:
        for second in rng.permutation(3)[:2]:
            (a, peer_a), (b, peer_b) = transforms[first], transforms[second]
            ar.write_transform(a @ b, tmp_path / f"t{suffix}")
            expected = mapped(peer_a, mapped(peer_b, points))
            np.testing.assert_allclose(mapped(sitk.ReadTransform(str(tmp_path / f"t{suffix}")), points), expected, atol=1e-6)
            np.testing.assert_allclose(ar.read_transform(tmp_path / f"t{suffix}")(points), expected, atol=1e-6)


@FEW
@given(grids(thinnest=2), SEEDS, st.sampled_from([".nii.gz", ".mha", ".nrrd"]), st.sampled_from([np.float32, np.int16, np.uint8]))
def test_images_and_fields_in_files_are_simpleitks(tmp_path, grid, seed, suffix, kind):
    rng = np.random.default_rng(seed)
    values = (200 * rng.random(grid.shape)).astype(kind)
    ar.write_image(ar.Image(laid(values, rng), grid), tmp_path / f"i{suffix}")
    peer, back = sitk.ReadImage(str(tmp_path / f"i{suffix}")), ar.read_image(tmp_path / f"i{suffix}")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(peer).T, values)
    np.testing.assert_array_equal(back.values, values)
    assert back.values.dtype == kind
    for index in rng.integers(0, grid.shape, (4, grid.ndim)):
        at = peer.TransformContinuousIndexToPhysicalPoint(index.astype(float).tolist())
        # NIfTI keeps its geometry in float32
        np.testing.assert_allclose(grid.points_at(index), at, atol=1e-3)
        np.testing.assert_allclose(back.grid.points_at(index), at, atol=1e-6)
    ours, theirs = pairs(grid, rng)[1]
    ar.write_transform(ours, tmp_path / f"u{suffix}", grid)
    field = sitk.DisplacementFieldTransform(sitk.ReadImage(str(tmp_path / f"u{suffix}"), sitk.sitkVectorFloat64))
    nodes = grid.points_at(
        rng.integers(1, np.maximum(np.asarray(grid.shape) - 1, 2), (6, grid.ndim)) * (np.asarray(grid.shape) > 2)
    )
    np.testing.assert_allclose(mapped(field, nodes), mapped(theirs, nodes), atol=2e-3)
    np.testing.assert_allclose(ar.read_transform(tmp_path / f"u{suffix}")(nodes), mapped(theirs, nodes), atol=2e-3)


@settings(FEW, max_examples=3)
@given(SEEDS)
def test_a_small_rigid_map_is_found_on_any_grid(tmp_path, seed):
    rng = np.random.default_rng(seed)
    direction = np.linalg.qr(rng.normal(size=(2, 2)))[0] * rng.choice([-1.0, 1.0], 2)
    grid = ar.Grid((72, 60), (0.9, 1.3), tuple(rng.uniform(-300, 300, 2)), direction)
    spots = grid.points_at(rng.uniform(10, [62, 50], (14, 2)))
    sizes = rng.uniform(8, 40, 14)

    def picture(points):
        return sum(np.exp(-((points - spot) ** 2).sum(axis=-1) / size) for spot, size in zip(spots, sizes, strict=True))

    truth = sitk.Euler2DTransform(grid.center.tolist(), rng.uniform(-0.1, 0.1), rng.uniform(-3, 3, 2).tolist())
    back = truth.GetInverse()
    fixed = ar.Image(laid(picture(grid.points()).astype(np.float32), rng), grid)
    moving = ar.Image(laid(picture(mapped(back, grid.points()).reshape(*grid.shape, 2)).astype(np.float32), rng), grid)
    phi = ar.LPRegistration(transform="rigid")(fixed, moving)
    ar.write_transform(phi, tmp_path / "phi.tfm")
    points = inner(grid, rng, margin=8)
    error = np.linalg.norm(mapped(sitk.ReadTransform(str(tmp_path / "phi.tfm")), points) - mapped(truth, points), axis=1)
    assert error.max() < 0.25
