"""What augreg writes, SimpleITK reads and applies to the same result; and the other way round."""

import numpy as np
import pytest
import SimpleITK as sitk
from support import spaces
from support.maps import affine, bspline, field, points

from augreg import Affine, BSpline, Composition, DisplacementField, read_transform, write_transform
from augreg.io.transforms import from_sitk_transform, to_sitk_transform

RNG = np.random.default_rng
TOLERANCE = 1e-6  # mm


def every(ndim, name):
    spline = bspline(ndim, name=name)
    turn = Affine.about(affine(ndim).matrix, spaces.grid(ndim, name).center)
    return {
        "affine": turn,
        "bspline": spline,
        "field": field(ndim, name=name),
        "affine @ bspline": turn @ spline,
        "bspline @ affine @ field": spline @ turn @ field(ndim, 3, name=name),
    }


def probes(transform, ndim, name):
    """Points between the nodes, near and beyond the borders of the image and of the transform's own domain."""
    near = [points(ndim, 60, name=name), points(ndim, 20, margin=0.4, name=name)]
    for part in getattr(transform, "transforms", (transform,)):
        if isinstance(part, BSpline | DisplacementField):
            shape = np.array(part.grid.shape)
            corners = RNG(1).choice([0.0, 1.0], (20, ndim)) * (shape - 1) + RNG(2).uniform(-1.4, 1.4, (20, ndim))
            near.append(part.grid.points_at(corners))
    return np.concatenate(near)


def applied(transform, x):
    return np.array([transform.TransformPoint(p.tolist()) for p in x])


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
@pytest.mark.parametrize("suffix", [".tfm", ".h5"])
def test_simpleitk_applies_what_we_write(ndim, name, suffix, tmp_path):
    for transform in every(ndim, name).values():
        path = tmp_path / f"t{suffix}"
        write_transform(transform, path)
        x = probes(transform, ndim, name)
        np.testing.assert_allclose(applied(sitk.ReadTransform(str(path)), x), transform(x), atol=TOLERANCE)
        np.testing.assert_allclose(read_transform(path)(x), transform(x), atol=TOLERANCE)
        assert not np.allclose(transform(x), x, atol=0.1)


@pytest.mark.parametrize("suffix", [".tfm", ".h5"])
def test_files_hold_a_flat_composite_in_the_order_written(suffix, tmp_path):
    transform = Composition((affine(3), bspline(3), affine(3, 2)))
    write_transform(transform, tmp_path / f"t{suffix}")
    stored = sitk.CompositeTransform(sitk.ReadTransform(str(tmp_path / f"t{suffix}")))
    assert stored.GetNumberOfTransforms() == 3
    x = points(3, 10)
    for i, part in enumerate(transform.transforms):
        np.testing.assert_allclose(applied(stored.GetNthTransform(i), x), part(x), atol=TOLERANCE)


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_displacement_fields_agree_at_and_between_the_nodes(ndim, name, suffix, tmp_path):
    grid = spaces.grid(ndim, name)
    path = tmp_path / f"u{suffix}"
    voxel = 1e-3 * min(grid.spacing)
    for transform in every(ndim, name).values():
        write_transform(transform, path, grid)
        theirs = sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))
        ours = read_transform(path)
        nodes = grid.points().reshape(-1, ndim)[::7]
        np.testing.assert_allclose(ours(nodes), transform(nodes), atol=voxel)
        inside = grid.points_at(RNG(3).uniform(0, np.array(grid.shape) - 1, (40, ndim)))
        sampled = DisplacementField(transform.displacement(grid), grid)
        for x in (nodes, inside, grid.points_at(RNG(4).uniform(-3, -0.6, (20, ndim)))):
            np.testing.assert_allclose(applied(theirs, x), sampled(x), atol=voxel)
            np.testing.assert_allclose(applied(theirs, x), ours(x), atol=1e-6)


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_we_apply_what_simpleitk_writes(ndim, name, tmp_path):
    center = spaces.grid(ndim, name).center.tolist()
    direction = np.ravel(spaces.directions(ndim)[name]).tolist()
    if ndim == 2:
        matrices = [sitk.Euler2DTransform(center, 0.3, (1.0, -2.0)), sitk.Similarity2DTransform(1.2, -0.4, (3.0, 1.0), center)]
    else:
        matrices = [
            sitk.Euler3DTransform(center, 0.1, -0.2, 0.3, (1.0, -2.0, 4.0)),
            sitk.VersorRigid3DTransform((0.0, 0.6, 0.8), 0.3, (1.0, 2.0, 3.0), center),
            sitk.Similarity3DTransform(1.1, (1.0, 0.0, 0.0), 0.4, (0.0, 1.0, 2.0), center),
        ]
    turned = sitk.AffineTransform(ndim)
    turned.SetCenter(center)
    turned.SetMatrix(affine(ndim).matrix.ravel().tolist())
    turned.SetTranslation(list(range(ndim)))
    spline = sitk.BSplineTransform(ndim, 3)
    spline.SetTransformDomainOrigin(spaces.grid(ndim, name).origin)
    spline.SetTransformDomainDirection(direction)
    spline.SetTransformDomainPhysicalDimensions(spaces.grid(ndim, name).extent.tolist())
    spline.SetTransformDomainMeshSize([4, 3, 2][:ndim])
    # coefficients up to the border: ITK's jump to the identity is part of the transform
    spline.SetParameters(RNG(0).normal(size=len(spline.GetParameters())).tolist())
    plain = [sitk.TranslationTransform(ndim, list(range(1, ndim + 1))), sitk.ScaleTransform(ndim, [1.1, 0.9, 1.3][:ndim])]
    chain = sitk.CompositeTransform([turned, spline, matrices[0]])
    for transform in [*matrices, turned, spline, *plain, chain]:
        path = tmp_path / "theirs.tfm"
        sitk.WriteTransform(transform, str(path))
        x = points(ndim, 80, margin=4.0, name=name)
        np.testing.assert_allclose(read_transform(path)(x), applied(transform, x), atol=TOLERANCE)


def test_nested_composites_are_flattened():
    # SimpleITK holds them but cannot write them
    a, b, c = (to_sitk_transform(t) for t in (affine(3), bspline(3), affine(3, 4)))
    nested = sitk.CompositeTransform([sitk.CompositeTransform([a, b]), c])
    x = points(3, 20)
    np.testing.assert_allclose(from_sitk_transform(nested)(x), applied(nested, x), atol=TOLERANCE)


def test_unusable_transform_files_get_one_clear_line(tmp_path):
    garbage = tmp_path / "garbage.tfm"
    garbage.write_text("not a transform", encoding="utf-8")
    empty = tmp_path / "empty.h5"
    empty.write_bytes(b"")
    cut = tmp_path / "cut.h5"
    write_transform(bspline(2), cut)
    cut.write_bytes(cut.read_bytes()[:300])
    cut_text = tmp_path / "cut.tfm"
    write_transform(bspline(2), cut_text)
    cut_text.write_text(cut_text.read_text(encoding="utf-8")[:900], encoding="utf-8")
    for path in (garbage, empty, cut, cut_text):
        with pytest.raises(ValueError, match=path.name) as caught:
            read_transform(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"absent\.tfm"):
        read_transform(tmp_path / "absent.tfm")
    with pytest.raises(ValueError, match="expected one of"):
        write_transform(affine(2), tmp_path / "t.xyz")
    with pytest.raises(ValueError, match="grid"):
        write_transform(affine(2), tmp_path / "t.mha")
    assert not (tmp_path / "t.mha").exists()


def test_a_field_needs_as_many_components_as_axes(tmp_path):
    path = tmp_path / "image.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((5, 6, 7))), str(path))
    with pytest.raises(ValueError, match="components"):
        read_transform(path)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_fields_with_holes_are_refused(suffix, bad, tmp_path):
    grid = spaces.grid(2, "oblique")
    values = DisplacementField(affine(2).displacement(grid), grid).values.copy()
    write_transform(DisplacementField(values, grid), tmp_path / f"whole{suffix}")
    values[3, 2, 1] = bad
    path = tmp_path / f"holes{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(values.transpose(1, 0, 2), isVector=True), str(path))
    with pytest.raises(ValueError, match=r"finite displacements.*1 of ") as caught:
        read_transform(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert np.isfinite(read_transform(tmp_path / f"whole{suffix}").values).all()


def test_failed_writing_leaves_nothing_behind(tmp_path):
    write_transform(affine(2), tmp_path / "good.tfm")
    before = (tmp_path / "good.tfm").read_bytes()
    with pytest.raises(FileNotFoundError, match="folder"):
        write_transform(affine(2), tmp_path / "absent" / "t.tfm")
    with pytest.raises(TypeError, match="transform"):
        write_transform(_Foreign(), tmp_path / "good.tfm")
    assert (tmp_path / "good.tfm").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["good.tfm"]


class _Foreign:
    ndim = 2
