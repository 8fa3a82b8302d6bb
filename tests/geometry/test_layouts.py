"""Arrays in any order, strides and bytes, aligned or not, read-only or not: the same bytes out as for a C-ordered native copy."""

import numpy as np
import pytest
from support import spaces
from support.maps import affine, bspline, field

import augreg as ar
from augreg.geometry.landmarks import beyond_domain
from augreg.geometry.resampling import sample
from augreg.metrics import evaluate

RNG = np.random.default_rng
LAYOUTS = ["fortran", "negative", "strided", "transposed", "read-only", "swapped", "unaligned"]


def laid(array, layout):
    """The same numbers otherwise in memory."""
    array = np.ascontiguousarray(array)
    if layout == "fortran":
        return np.asfortranarray(array)
    if layout == "negative":
        return np.flip(np.flip(array).copy())
    if layout == "strided":
        wide = np.zeros((*array.shape[:-1], 3 * array.shape[-1]), array.dtype)
        wide[..., 1::3] = array
        return wide[..., 1::3]
    if layout == "transposed":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 0, -1)), -1, 0)
    if layout == "read-only":
        copy = array.copy()
        copy.setflags(write=False)
        return copy
    if layout == "swapped":
        return array.astype(array.dtype.newbyteorder())
    record = np.zeros(array.shape, np.dtype([("pad", "u1"), ("value", array.dtype)]))
    record["value"] = array
    return record["value"]


def outcomes(ndim, tmp_path):
    """What is made of an array, and the array, by name."""
    grid = spaces.grid(ndim)
    other = spaces.grid(ndim, "swap")
    rng = RNG(3)
    grey = rng.normal(size=grid.shape).astype(np.float32) * 100
    colour = rng.random((*grid.shape, 3)).astype(np.float32)
    labels = rng.integers(0, 5, grid.shape).astype(np.int32)
    points = grid.points_at(rng.uniform(0, np.array(grid.shape) - 1, (40, ndim)))
    flow, spline = field(ndim), bspline(ndim)
    whole = spline @ affine(ndim)

    def written(values, suffix):
        ar.write_image(ar.Image(values, grid), tmp_path / f"a{suffix}")
        return ar.read_image(tmp_path / f"a{suffix}").values

    def carried(transform):
        ar.write_transform(transform, tmp_path / "t.tfm")
        return ar.read_transform(tmp_path / "t.tfm")(points)

    for way in ("linear", "nearest", "cubic"):
        for kind in (np.float32, np.float64, np.int16, np.uint8, np.int64, np.float16):
            values = (np.abs(grey) % 200).astype(kind)
            for name, phi in (("affine", affine(ndim)), ("spline", spline)):
                yield (
                    f"warp {way} {kind} {name}",
                    lambda a, w=way, t=phi: ar.warp(ar.Image(a, grid), t, grid, interpolation=w).values,
                    values,
                )
        yield f"sample {way}", lambda a, w=way: sample(ar.Image(a, grid), points, interpolation=w), grey
    yield "warp colour", lambda a: ar.warp(ar.Image(a, grid), flow, grid).values, colour
    yield "luminance", lambda a: ar.Image(a, grid).luminance().values, colour
    yield "mean of channels", lambda a: ar.Image(a, grid).luminance().values, colour[..., :2]
    yield "warp labels", lambda a: ar.warp(ar.Labels(a, grid), affine(ndim), other).values, labels
    yield "resample labels", lambda a: ar.resample(ar.Labels(a, grid), other).values, labels
    yield "dice", lambda a: list(ar.dice(ar.Labels(a, grid), ar.Labels(labels[::-1], grid)).values()), labels
    yield "labels", lambda a: ar.Labels(a, grid).unique(), labels
    near = affine(ndim, 1)
    yield (
        "evaluate",
        lambda a: list(
            evaluate(near, grid, fixed_labels=ar.Labels(a, grid), moving_labels=ar.Labels(labels, grid))["surface_distance"][
                "mean"
            ].values()
        ),
        labels,
    )
    yield "write and read", lambda a: written(a, ".nii.gz"), grey
    yield "write and read mha", lambda a: written(a, ".mha"), grey
    yield "write and read colour", lambda a: written(a, ".mha"), colour
    yield "points", lambda a: whole(a), points
    yield "jacobian", lambda a: whole.jacobian(a), points
    yield "solve", lambda a: whole.solve(a), points
    yield "beyond", lambda a: beyond_domain(whole, a), points
    yield "indices", lambda a: grid.indices_at(a), points
    yield "tre", lambda a: ar.tre(whole, a, points), points
    yield "sample at", lambda a: sample(ar.Image(grey, grid), a), points
    yield "field", lambda a: ar.DisplacementField(a, grid)(points), flow.values
    yield "field jacobian", lambda a: ar.jacobian_determinant(ar.DisplacementField(a, grid), grid), flow.values
    yield "field folding", lambda a: [ar.folding(ar.DisplacementField(3 * a, grid), grid)], flow.values
    yield "field inverse", lambda a: ar.DisplacementField(a, grid).inverse().values, flow.values
    yield "field in a file", lambda a: carried(ar.DisplacementField(a, grid)), flow.values
    yield "spline", lambda a: ar.BSpline(a, spline.grid)(points), spline.coefficients
    yield "spline on a grid", lambda a: ar.BSpline(a, spline.grid).displacement(grid), spline.coefficients
    yield "spline in a file", lambda a: carried(ar.BSpline(a, spline.grid)), spline.coefficients
    yield "matrix", lambda a: ar.Affine(a)(points), affine(ndim).matrix
    yield "inverse matrix", lambda a: ar.Affine(a).inverse()(points), affine(ndim).matrix


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_same_bytes_come_out_however_an_array_lies_in_memory(ndim, tmp_path):
    wrong = []
    for name, function, array in outcomes(ndim, tmp_path):
        expected = np.asarray(function(np.ascontiguousarray(array))).tobytes()
        wrong += [f"{name}, {layout}" for layout in LAYOUTS if np.asarray(function(laid(array, layout))).tobytes() != expected]
    assert wrong == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_registration_sees_numbers_not_memory(layout):
    # 3-D and 2-D masks, NaN, label maps, points: affine, so that it is quick
    grid = ar.Grid((64, 56), (1.5, 1.1), (4.0, -9.0))
    world = grid.points()
    picture = np.sin(world[..., 0] / 6) * np.cos(world[..., 1] / 7) + np.exp(-((world - grid.center) ** 2).sum(axis=-1) / 300)
    fixed = picture.astype(np.float32)
    moving = np.roll(fixed, (2, -1), (0, 1))
    mask = np.ones(grid.shape, dtype=np.int16)
    mask[:9], mask[:, 45:] = 0, 0
    holes = np.where(mask > 0, fixed, np.nan).astype(np.float32)
    points = grid.points_at([[20, 20], [40, 30], [30, 15.0]])
    partners = points + np.array([3.0, -1.1])

    def found(change, **given):
        arrays = {"fixed": fixed, "moving": moving, **given}
        arrays[change] = laid(arrays[change], layout) if layout_is_tried else np.ascontiguousarray(arrays[change])
        images = {name: ar.Image(arrays.pop(name), grid) for name in ("fixed", "moving")}
        known = {name: ar.Labels(values, grid) if name.endswith("mask") else values for name, values in arrays.items()}
        return ar.LPRegistration(transform="affine", search=False, polish=0)(**images, **known).matrix.tobytes()

    cases = [("fixed", {}), ("moving", {}), ("fixed", {"fixed": holes}), ("fixed_mask", {"fixed_mask": mask})]
    cases += [("moving_mask", {"moving_mask": mask}), ("fixed_points", {"fixed_points": points, "moving_points": partners})]
    cases += [("moving_points", {"fixed_points": points, "moving_points": partners})]
    for change, given in cases:
        layout_is_tried = False
        expected = found(change, **given)
        layout_is_tried = True
        assert found(change, **given) == expected, change


def test_what_is_no_number_is_refused_in_one_line():
    grid = spaces.grid(2)
    points = grid.points()[::5, ::5]
    flow = field(2).values
    masked = np.ma.masked_array(np.ones(grid.shape), np.eye(*grid.shape))
    refused = [
        lambda: affine(2)(points + 1j),
        lambda: affine(2)(points.astype(str)),
        lambda: affine(2)(points.astype(object)),
        lambda: bspline(2).jacobian(points + 0j),
        lambda: grid.indices_at(points.astype(str)),
        lambda: ar.DisplacementField(flow + 0j, grid),
        lambda: ar.BSpline(np.zeros((9, 9, 2)).astype(str), ar.Grid((9, 9))),
        lambda: ar.Affine(np.eye(2) + 0j),
        lambda: ar.Affine([["1", "0"], ["0", "1"]]),
        lambda: ar.Image(np.ones(grid.shape) + 0j, grid),
        lambda: ar.Image(np.ones(grid.shape).astype(object), grid),
        lambda: ar.Image(masked, grid),
        lambda: ar.Labels(masked.astype(int), grid),
        lambda: ar.Labels(np.ones(grid.shape).astype(str), grid),
        lambda: ar.tre(affine(2), [["1", "2"]], [[1, 2]]),
        lambda: sample(ar.Image(np.ones(grid.shape), grid), points.astype(str)),
        lambda: ar.LPRegistration()(*[ar.Image(flow[..., 0], grid)] * 2, fixed_points=[["a", "b"]], moving_points=[[1, 2]]),
    ]
    for number, call in enumerate(refused):
        with pytest.raises(TypeError, match=r"expected .*, got") as caught:
            call()
        assert "\n" not in str(caught.value), number
    # nothing is masked: it is an array like any other
    assert ar.Image(np.ma.masked_array(np.ones(grid.shape)), grid).values.mean() == 1
