"""What a network predicts: maps of places, and what they are in the world."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
import SimpleITK as sitk
import torch
from support import spaces

from augreg import Affine, DisplacementField, Exponential, Grid, read_transform, write_transform
from augreg.io import transforms
from augreg.networks import AffineMap, Displacement, Velocity, end_point_error, multiscale_loss, roughness
from augreg.networks.warping import positions, sampled, warped

# images, and cells of unequal sides that do not divide them
LAYOUTS = [((50, 37), (4, 2)), ((40, 36, 7), (2, 2, 1)), ((21, 18, 6), (1, 2, 3))]


def smooth(shape, size, seed, sigma=4.0):
    """(1, D, *shape), as large as `size` at most."""
    rng = np.random.default_rng(seed)
    parts = [scipy.ndimage.gaussian_filter(rng.normal(size=shape), sigma) for _ in shape]
    values = np.stack(parts)[None]
    return torch.from_numpy((values * size / np.abs(values).max()).astype(np.float32))


def on_cells(kind, shape, cells, size=2.0, seed=0, unit=20.0):
    counts = tuple(-(-n // c) for n, c in zip(shape, cells, strict=True))
    return kind(smooth(counts, size, seed, 2.5) / unit, shape, cells, unit)


def affine(shape, seed=0, size=0.1):
    rng = np.random.default_rng(seed)
    D = len(shape)
    matrix, translation = np.eye(D) + size * rng.normal(size=(1, D, D)), 2 * rng.normal(size=(1, D))
    return AffineMap(*(torch.from_numpy(part.astype(np.float32)) for part in (matrix, translation)), shape)


def kinds(shape, cells):
    return {
        "displacement": on_cells(Displacement, shape, cells),
        "velocity": on_cells(Velocity, shape, cells, seed=1),
        "affine": affine(shape),
        "composed": affine(shape, 3) @ on_cells(Velocity, shape, cells, seed=4),
    }


def inner(shape, margin):
    return (..., *(slice(margin, n - margin) if n > 2 * margin + 4 else slice(None) for n in shape))


def voxels(shape):
    return positions(shape, torch.device("cpu"))[None]


@pytest.mark.parametrize(("shape", "cells"), LAYOUTS)
def test_a_composition_maps_as_its_parts_one_after_the_other(shape, cells):
    points = torch.rand(1, *[5] * len(shape), len(shape)) * (torch.tensor(shape) - 1)
    known = kinds(shape, cells)
    for a in known.values():
        for b in known.values():
            torch.testing.assert_close((a @ b).at(points), a.at(b.at(points)), atol=1e-4, rtol=0)
            at_voxels = (a @ b).flow().movedim(1, -1) + voxels(shape)
            torch.testing.assert_close(at_voxels, a.at(b.at(voxels(shape))), atol=1e-4, rtol=0)
            # and in this order alone
            if a is not b:
                assert ((a @ b).flow() - (b @ a).flow()).abs().max() > 0.02


def test_adding_displacements_is_another_map_by_pixels():
    shape = (64, 48)
    a, b = (on_cells(Displacement, shape, (4, 4), 8.0, seed) for seed in (1, 2))
    added, composed = a.flow() + b.flow(), (a @ b).flow()
    assert (added - composed).abs().max() > 2
    # a turn by 60 degrees and another one are a turn by 120
    cos, sin = 0.5, 3**0.5 / 2
    turn = AffineMap(torch.tensor([[[cos, -sin], [sin, cos]]]), torch.zeros(1, 2), shape)
    twice = turn @ Displacement.of(turn.flow())
    torch.testing.assert_close(twice.flow(), (turn @ turn).flow(), atol=1e-3, rtol=0)
    assert (2 * turn.flow() - twice.flow()).abs().max() > 20


@pytest.mark.parametrize(("shape", "cells"), LAYOUTS)
def test_images_are_pulled_back_by_a_composition_as_twice(shape, cells):
    image = smooth(shape, 1.0, 9, 3.0)[:, :1]
    a, b = affine(shape, 1, 0.2), on_cells(Velocity, shape, cells, 3.0, 2)
    once, twice = (a @ b).warp(image), b.warp(a.warp(image))
    # twice is interpolated twice
    apart, wrong = ((once - other)[inner(shape, 4)].abs().mean() for other in (twice, a.warp(b.warp(image))))
    assert apart < 0.1 * image.std()
    assert apart < 0.5 * wrong
    torch.testing.assert_close(once, warped(image, (a @ b).flow()))


@pytest.mark.parametrize("shape", [(50, 37), (20, 18, 7)])
def test_affine_maps_compose_and_invert_exactly(shape):
    a, b = affine(shape, 1, 0.3), affine(shape, 2, 0.3)
    assert isinstance(a @ b, AffineMap)
    points = torch.rand(3, *[4] * len(shape), len(shape)) * 60 - 10
    a, b = (AffineMap(m.matrix.expand(3, -1, -1), m.translation.expand(3, -1), shape) for m in (a, b))
    torch.testing.assert_close((a @ b).at(points), a.at(b.at(points)), atol=1e-4, rtol=0)
    torch.testing.assert_close(a.inverse().at(a.at(points)), points, atol=1e-4, rtol=0)
    # about the image's centre
    center = torch.tensor([(n - 1) / 2 for n in shape]).expand_as(points)
    torch.testing.assert_close(a.displacement_at(center), a.translation.reshape(3, *[1] * len(shape), -1).expand_as(points))
    # beside a field two affine maps still become one
    field = Displacement.of(torch.zeros(3, len(shape), *shape))
    assert [type(part) for part in ((field @ a) @ b).parts] == [Displacement, AffineMap]
    with pytest.raises(ValueError, match="invertible"):
        AffineMap(torch.zeros(1, 2, 2), torch.zeros(1, 2), (5, 6)).inverse()


@pytest.mark.parametrize(("shape", "cells"), LAYOUTS)
def test_maps_and_their_inverses_undo_each_other(shape, cells):
    # the inverse of a displacement is right at the voxels, and linear between them
    bounds = {"displacement": (1e-3, 0.3), "velocity": (5e-3, 5e-3), "affine": (1e-4, 1e-4), "composed": (5e-3, 5e-3)}
    for name, phi in kinds(shape, cells).items():
        assert phi.flow().abs().max() > 1
        for one, bound in zip((phi @ phi.inverse(), phi.inverse() @ phi), bounds[name], strict=True):
            left = one.flow()[inner(shape, 4)].abs().max()
            assert left < bound, (name, left)
    v = on_cells(Velocity, shape, cells)
    assert torch.equal(v.inverse().inverse().flow(), v.flow())


@pytest.mark.parametrize(("shape", "cells"), LAYOUTS)
def test_the_map_of_a_velocity_is_that_of_small_steps_one_after_the_other(shape, cells):
    v = on_cells(Velocity, shape, cells, 3.0)
    found = v.flow()
    assert found.abs().max() > 1.5
    # v itself is another map
    assert (found - Displacement(v.values, shape, cells, v.unit).flow()).abs().max() > 0.2
    # x + v(x) / 64, 64 times; the error of such steps falls with their length
    apart, sides = [], torch.tensor(cells)
    for count in (32, 64):
        y = voxels(shape)
        for _ in range(count):
            y = y + sampled(v.values * v.unit, (y + 0.5) / sides - 0.5).movedim(1, -1) / count
        apart.append((found.movedim(1, -1) + voxels(shape) - y).abs().max().item())
    assert apart[1] < 0.05
    assert apart[1] < 0.65 * apart[0]
    # half of it twice is the whole
    half = replace(v, values=v.values / 2)
    assert ((half @ half).flow() - found).abs().max() < 5e-3
    # and at the centres of cells it is what it is there
    centers = positions(tuple(v.values.shape[2:]), v.values.device) * sides + (sides - 1) / 2
    at_centers = v.displacement_at(centers[None]).movedim(-1, 1)
    torch.testing.assert_close(v.on_cells().values * v.unit, at_centers, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("shape", "cells"), LAYOUTS)
def test_velocities_do_not_fold_where_their_displacements_do(shape, cells):
    # as large as their cells are wide apart, and more
    v = on_cells(Velocity, shape, cells, 12.0)
    grid = Grid(shape)
    exact = replace(v, steps=64).as_transform(grid)
    assert np.linalg.det(exact.jacobian(grid.points())).min() > 0
    plain = Displacement(v.values, shape, cells, v.unit).as_transform(grid)
    assert np.linalg.det(plain.jacobian(grid.points())).min() < 0


def test_exponentials_of_constants_are_translations_whatever_the_cells():
    for shape, cells in LAYOUTS:
        values = torch.tensor([3.0, -2.0, 0.5][: len(shape)]).reshape(1, -1, *[1] * len(shape))
        counts = [-(-n // c) for n, c in zip(shape, cells, strict=True)]
        v = Velocity(values.expand(1, -1, *counts) / 20, shape, cells, 20.0)
        torch.testing.assert_close(v.flow(), values.expand(1, -1, *shape), atol=1e-4, rtol=0)


def points_of(grid, seed=0):
    """Points between the voxels, up to the border."""
    low, high = np.full(grid.ndim, -0.49), np.asarray(grid.shape) - 0.51
    return grid.points_at(np.random.default_rng(seed).uniform(low, high, (500, grid.ndim)))


def in_the_world(phi, grid):
    """phi of the points, by the torch map."""
    index = torch.from_numpy(grid.indices_at(points_of(grid)).astype(np.float32))
    return grid.points_at(phi.at(index.reshape(1, -1, *[1] * (grid.ndim - 1), grid.ndim)).reshape(-1, grid.ndim).numpy())


@pytest.mark.parametrize("name", ["oblique", "flip"])
@pytest.mark.parametrize(("shape", "cells"), LAYOUTS)
def test_in_the_world_a_map_is_the_same_map(shape, cells, name):
    ndim = len(shape)
    grid = Grid(shape, (1.3, 0.7, 2.5)[:ndim], (5.0, -30.0, 12.0)[:ndim], spaces.directions(ndim)[name])
    types = {"displacement": DisplacementField, "velocity": Exponential, "affine": Affine}
    bounds = {"displacement": 1e-4, "velocity": 5e-3, "affine": 1e-4, "composed": 5e-3}
    for kind, phi in kinds(shape, cells).items():
        transform = phi.as_transform(grid)
        assert isinstance(transform, types.get(kind, object))
        moved = np.abs((transform(points_of(grid)) - in_the_world(phi, grid)) @ grid.world_to_index.T).max()
        assert moved < bounds[kind], kind
        if kind != "displacement":
            back = transform.inverse()(transform(points_of(grid)))
            assert np.abs((back - points_of(grid)) @ grid.world_to_index.T).max() < 5e-3, kind


def test_compositions_that_lead_out_of_the_image_go_on_as_at_its_border():
    grid = Grid((30, 26), (1.3, 0.7), (5.0, -30.0), spaces.directions(2)["oblique"])
    outer = on_cells(Displacement, grid.shape, (2, 1), 3.0)
    shift = AffineMap(torch.eye(2)[None], torch.tensor([[9.0, -6.0]]), grid.shape)
    for phi in (outer @ shift, outer @ on_cells(Displacement, grid.shape, (2, 1), 6.0, 3) @ shift):
        np.testing.assert_allclose(phi.as_transform(grid)(points_of(grid)), in_the_world(phi, grid), atol=1e-3)
    velocity = on_cells(Velocity, grid.shape, (2, 1), 3.0) @ shift
    np.testing.assert_allclose(velocity.as_transform(grid)(points_of(grid)), in_the_world(velocity, grid), atol=5e-3)


@pytest.mark.parametrize("suffix", [".tfm", ".h5", ".mha"])
def test_transforms_of_maps_go_through_files(tmp_path, suffix):
    shape, cells = LAYOUTS[0]
    grid = Grid(shape, (1.3, 0.7), (5.0, -30.0), spaces.directions(2)["oblique"])
    for kind, phi in kinds(shape, cells).items():
        transform = phi.as_transform(grid)
        write_transform(transform, tmp_path / f"t{suffix}", grid)
        back = read_transform(tmp_path / f"t{suffix}")
        nodes = grid.points().reshape(-1, 2)
        near = 1e-6 if suffix != ".mha" else 2e-2
        assert np.abs(back(nodes) - transform(nodes)).max() < near, kind
        assert suffix == ".mha" or kind != "affine" or isinstance(back, Affine)


def test_velocities_that_are_not_applied_first_are_fields_around_themselves(tmp_path, monkeypatch):
    shape, cells = LAYOUTS[0]
    grid = Grid(shape, (1.3, 0.7), (5.0, -30.0), spaces.directions(2)["oblique"])
    velocity, shift = on_cells(Velocity, shape, cells), AffineMap(torch.eye(2)[None], torch.tensor([[6.0, -3.0]]), shape)
    transform = (velocity @ shift).as_transform(grid)
    assert np.abs(transform(points_of(grid)) - shift.as_transform(grid)(points_of(grid))).max() > 1
    for given in (None, grid):
        write_transform(transform, tmp_path / "t.tfm", given)
        back = read_transform(tmp_path / "t.tfm")
        assert np.abs(back(points_of(grid)) - transform(points_of(grid))).max() < 0.05
    # nor does a velocity with many nodes become a field with many more
    grid = Grid((12, 11, 9))
    flow = Exponential(DisplacementField(np.zeros((*grid.shape, 3)), grid))
    for most, per in ((1000, 1), (10000, 2), (10**6, 4)):
        monkeypatch.setattr(transforms, "_NODES", most)
        assert transforms._named(flow, None).grid == grid.with_shape([per * n for n in grid.shape])


def test_itk_reads_what_a_map_is(tmp_path):
    """Velocities are fields in files: equal at the nodes, linear between them; the numbers of affine maps are kept."""
    shape, cells = LAYOUTS[0]
    grid = Grid(shape, (1.3, 0.7), (5.0, -30.0), spaces.directions(2)["oblique"])
    bounds = {"displacement": (1e-6, 1e-6), "velocity": (1e-6, 0.1), "affine": (1e-6, 1e-6)}
    for kind, (at_nodes, between) in bounds.items():
        transform = kinds(shape, cells)[kind].as_transform(grid)
        write_transform(transform, tmp_path / "t.tfm", grid)
        theirs = sitk.ReadTransform(str(tmp_path / "t.tfm"))
        for points, bound in ((grid.points().reshape(-1, 2)[::7], at_nodes), (points_of(grid)[::5], between)):
            found = np.array([theirs.TransformPoint(x.tolist()) for x in points])
            assert np.abs(found - transform(points)).max() < bound, kind


def test_the_flow_of_a_field_is_inverted_by_minus_the_field():
    grid = Grid((20, 17, 9), (1.3, 0.7, 2.5), (5.0, -30.0, 12.0), spaces.directions(3)["oblique"])
    v = on_cells(Velocity, grid.shape, (1, 1, 1), 3.0).as_transform(grid)
    finer = Exponential(v.velocity, 4 * v.steps)
    x = points_of(grid)
    assert np.abs(v(x) - finer(x)).max() < 2e-3
    assert np.abs(v(x) - x).max() > 1.5
    assert np.abs(v.inverse()(v(x)) - x).max() < 2e-3
    assert np.linalg.det(v.jacobian(x)).min() > 0


@pytest.mark.parametrize(("shape", "cells"), LAYOUTS)
def test_losses_look_at_the_cells_of_a_map(shape, cells):
    mask = torch.ones(1, 1, *shape)
    for phi in kinds(shape, cells).values():
        exact = phi.on_cells()
        truth = exact.flow()
        shifted = Displacement(exact.values + 3 / exact.unit, shape, exact.cells, exact.unit)
        near, far = (multiscale_loss([one], truth, mask).item() * exact.unit / 4 for one in (phi, shifted))
        assert far == pytest.approx(3 * len(shape) ** 0.5, rel=0.1)
        assert near < 0.1 * far
        assert end_point_error(shifted.flow(), truth, mask).item() == pytest.approx(3 * len(shape) ** 0.5, rel=1e-3)


def test_losses_of_compositions_look_at_the_cells_of_what_is_applied_first():
    shape = (22, 17)
    phi = affine(shape, 2) @ on_cells(Displacement, shape, (4, 4)) @ on_cells(Velocity, shape, (3, 2), 3.0, 1)
    seen = phi.on_cells()
    assert seen.cells == (3, 2)
    centers = positions(seen.values.shape[2:], "cpu") * torch.tensor([3.0, 2.0]) + torch.tensor([1.0, 0.5])
    torch.testing.assert_close(seen.values.movedim(1, -1) * seen.unit, phi.displacement_at(centers[None]), atol=1e-4, rtol=0)
    assert (phi.parts[-1] @ affine(shape)).on_cells().cells == (1, 1)


def test_roughness_is_per_voxel_on_any_cells_and_affine_maps_are_smooth():
    A = torch.tensor([[0.1, -0.3], [0.2, 0.05]])
    for cells in ((1, 1), (4, 2), (2, 1)):
        centers = [c * torch.arange(m) + (c - 1) / 2 for c, m in zip(cells, (10, 12), strict=True)]
        values = (torch.stack(torch.meshgrid(*centers, indexing="ij"), -1) @ A.T).movedim(-1, 0)[None]
        phi = Displacement(values / 20, tuple(10 * c if a == 0 else 12 * c for a, c in enumerate(cells)), cells, 20.0)
        assert roughness(phi).item() == pytest.approx((A**2).sum().item(), rel=1e-4)
        turned = affine(phi.shape)
        assert roughness(turned).item() == 0
        assert roughness(turned @ phi @ phi).item() == pytest.approx(2 * roughness(phi).item())


def test_batches_and_their_parts():
    shape = (20, 17)
    two = Velocity(torch.cat([on_cells(Velocity, shape, (2, 1), seed=s).values for s in (0, 1)]), shape, (2, 1), 20.0)
    turns = AffineMap(torch.cat([affine(shape, s).matrix for s in (0, 1)]), torch.zeros(2, 2), shape)
    both = turns @ two
    assert (len(both), both.ndim, both.shape) == (2, 2, shape)
    for i in range(2):
        torch.testing.assert_close(both[i : i + 1].flow(), both.flow()[i : i + 1], atol=1e-4, rtol=0)
    grid = Grid(shape)
    for refused in (lambda: both.as_transform(grid), lambda: both[:1].as_transform(Grid((17, 20))), lambda: both @ two[:1]):
        with pytest.raises(ValueError, match="expected") as caught:
            refused()
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="cells of"):
        Displacement(torch.zeros(1, 2, 5, 6), shape, (2, 1))
    with pytest.raises(ValueError, match="matrix, translation"):
        AffineMap(torch.eye(3)[None], torch.zeros(1, 2), shape)


def test_places_keep_their_digits_under_autocast():
    shape = (300, 5)
    phi = affine(shape, 2) @ Displacement.of(smooth(shape, 1.0, 0)) @ on_cells(Velocity, shape, (4, 1))
    wanted = phi.flow()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(phi.flow(), wanted, atol=1e-3, rtol=0)
        torch.testing.assert_close((affine(shape) @ affine(shape, 1)).flow(), (affine(shape) @ affine(shape, 1)).flow())
