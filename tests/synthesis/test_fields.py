"""Families of fields that know something: of edges, tissues, real motions or shapes. All make exact pairs that do not fold."""

import functools

import numpy as np
import pytest
import torch
from support import naive_elasticity, realdata
from support.subjects import model, people

from augreg import Grid, Image, Labels, read_points
from augreg.geometry.resampling import warp
from augreg.geometry.splines import control_grid, least_determinant
from augreg.geometry.transforms import BSpline
from augreg.synthesis import (
    CorrespondenceField,
    ElasticField,
    MixedField,
    ModelField,
    RandomDeformations,
    lung_fields,
    make_pairs,
    training_pairs,
)
from augreg.synthesis.generators.elasticity import ElasticLattice


def motions(ndim, count=2):
    """Points of somebody of another size and place, and where they go: smoothly, but for noise."""
    rng = np.random.default_rng(3)
    out = []
    for number in range(count):
        points = rng.uniform(-200, 100, (80, ndim))
        wave = np.sin(points / 60 + number)
        out.append((points, points + 9 * np.roll(wave, 1, axis=1) + rng.normal(0, 0.5, points.shape)))
    return out


@functools.cache
def family(name, ndim):
    images, labels, _ = people(ndim)
    match name:
        case "mixed":
            return MixedField.of(images[0], 3.0)
        case "elastic":
            return ElasticField(labels[0], depth=(2.0, 4.0), radius=(6.0, 10.0), air=(0,))
        case "motions":
            return CorrespondenceField.placed(motions(ndim), images[0].grid)
        case "shapes":
            return ModelField(model("labels" if ndim == 2 else "velocity3d"))


CASES = [(name, ndim) for name in ("mixed", "elastic", "motions", "shapes") for ndim in (2, 3)]


@pytest.mark.parametrize(("name", "ndim"), CASES)
def test_every_family_makes_exact_pairs_that_do_not_fold(name, ndim):
    images, labels, _ = people(ndim)
    generator = RandomDeformations.of(images[:1], [family(name, ndim)], labels=labels[:1])
    control = control_grid(generator.grid)
    first, again, other = (generator.families[0].draw(np.random.default_rng(seed), control, generator.grid) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)
    for axis in range(ndim):
        assert not np.take(first, [0, 1, 2, -3, -2, -1], axis=axis).any()
    batch = make_pairs(generator, 0, range(4))
    assert batch.least_det.min() >= 0.1
    assert (batch.scale > 0.5).all()
    assert batch.residual.max() < 0.01
    for pair in training_pairs(batch, generator.grid):
        moved = warp(pair.moving, pair.displacement, pair.fixed.grid, interpolation="cubic")
        missed = np.abs(moved.values - pair.fixed.values)[pair.mask.values > 0].mean() / pair.fixed.values.std()
        assert missed < (0.02 if ndim == 2 else 0.06)
        assert np.linalg.norm(pair.displacement.values, axis=-1).max() > 0.3
    assert generator.describe() == RandomDeformations.of(images[:1], [family(name, ndim)], labels=labels[:1]).describe()


def test_families_are_told_apart_by_what_they_know():
    images, labels, _ = people(2)
    grid = images[0].grid
    families = [
        MixedField.of(images[0], 3.0),
        MixedField.of(images[1], 3.0),
        ElasticField(labels[0]),
        ElasticField(labels[1]),
        CorrespondenceField.placed(motions(2), grid),
        CorrespondenceField.placed(motions(2, 1), grid),
        ModelField(model("labels")),
        ModelField(model("landmarks")),
    ]
    told = [repr(RandomDeformations.of(images[:1], [one]).describe()) for one in families]
    assert len(set(told)) == len(families)


@pytest.mark.parametrize("shape", [(4, 3), (3, 2, 2)])
def test_forces_are_those_of_the_dense_matrix(shape):
    rng = np.random.default_rng(0)
    spacing = rng.uniform(0.5, 2, len(shape))
    stiffness, poisson = rng.uniform(1, 20, shape), rng.uniform(0.1, 0.45, shape)
    lattice, K = ElasticLattice(spacing, stiffness, poisson), naive_elasticity.matrix(spacing, stiffness, poisson)
    u = rng.normal(size=(*lattice.shape, len(shape)))
    np.testing.assert_allclose(lattice.forces(u).ravel(), K @ u.ravel(), rtol=1e-9, atol=1e-9)
    known = rng.random(lattice.shape) < 0.4
    found = lattice.solve(known, u)
    free = np.repeat(~known.ravel(), len(shape))
    expected = u.ravel().copy()
    expected[free] = np.linalg.solve(K[np.ix_(free, free)], -K[np.ix_(free, ~free)] @ expected[~free])
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-3)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_body_whose_skin_moves_affinely_moves_affinely(ndim):
    """The patch test of finite elements, for one material; two materials share a load as springs in a row do."""
    rng = np.random.default_rng(1)
    shape, spacing = (7, 5, 4)[:ndim], (1.0, 2.0, 0.7)[:ndim]
    lattice = ElasticLattice(spacing, np.full(shape, 3.0), np.full(shape, 0.4))
    places = np.stack(np.meshgrid(*map(np.arange, lattice.shape), indexing="ij"), axis=-1) * spacing
    affine = places @ rng.normal(size=(ndim, ndim)) + 1
    skin = np.ones(lattice.shape, dtype=bool)
    skin[(slice(1, -1),) * ndim] = False
    np.testing.assert_allclose(lattice.solve(skin, affine), affine, atol=1e-3)
    # nu = 0: no contraction across, stretches of a stiff and of a soft half are as 1 to their stiffness
    stiffness = np.ones((8, *shape[1:]))
    stiffness[4:] = 3.0
    lattice = ElasticLattice(spacing, stiffness, np.full(stiffness.shape, 1e-9))
    ends, given = np.zeros(lattice.shape, dtype=bool), np.zeros((*lattice.shape, ndim))
    ends[0] = ends[-1] = True
    given[-1, ..., 0] = 1.0
    middle = lattice.solve(ends, given)[4, ..., 0]
    np.testing.assert_allclose(middle, 0.75, atol=1e-3)


def test_probes_push_from_their_side_and_what_is_held_stays():
    grid = Grid((80, 60), (1.0, 1.0))
    values = np.ones(grid.shape, dtype=int)
    values[:16] = 0
    values[30:40, 10:50] = 2
    values[55:70, 20:40] = 3
    bone = ElasticField(Labels(values, grid), depth=(4.0, 4.0), radius=(15.0, 15.0), air=(0,), held=(3,))
    control = control_grid(grid)
    moved, pushed = [], []
    for seed in range(6):
        u = BSpline(bone.draw(np.random.default_rng(seed), control, grid), control).displacement(grid)
        length = np.linalg.norm(u, axis=-1)
        pushed.append(length.max())
        assert length[58:67, 23:37].max() < 0.1 * length.max()
        # from the air into the body
        at = np.unravel_index(length.argmax(), length.shape)
        assert u[at][0] > 0.7 * length.max()
        assert abs(at[0] - 16) <= 6
        moved.append(length[values == 1].mean())
    assert np.allclose(pushed, 4, rtol=0.35)
    # of a labelled probe, away from it
    rectum = ElasticField(Labels(values, grid), depth=(4.0, 4.0), radius=(8.0, 8.0), probe=2, air=(0,))
    for seed in range(4):
        u = BSpline(rectum.draw(np.random.default_rng(seed), control, grid), control).displacement(grid)
        at = np.array(np.unravel_index(np.linalg.norm(u, axis=-1).argmax(), grid.shape))
        nearest = np.clip(at, (33, 13), (36, 46))
        assert u[tuple(at)] @ (at - nearest) > 0.5 * np.linalg.norm(u[tuple(at)]) * np.linalg.norm(at - nearest)
        assert 28 <= at[0] <= 42
    with pytest.raises(ValueError, match="probe: expected a label of the map, 0, 1, 2, 3, got 9"):
        ElasticField(Labels(values, grid), probe=9)
    with pytest.raises(ValueError, match=r"poisson: expected least and largest between 0 and 0\.5, got 0\.3 and 0\.5"):
        ElasticField(Labels(values, grid), poisson=(0.3, 0.5))


def test_mixed_fields_stand_at_edges_and_are_as_large_as_asked_for():
    grid = Grid((90, 80))
    values = np.zeros(grid.shape, dtype=np.float32)
    values[:, :30] = 1.0
    mixed = MixedField.of(Image(values, grid), 3.0)
    assert np.abs(mixed.edges[:, 1] - 29.5).max() <= 1
    control = control_grid(grid)
    near = []
    for seed in range(8):
        u = np.linalg.norm(BSpline(mixed.draw(np.random.default_rng(seed), control, grid), control).displacement(grid), axis=-1)
        assert 0.3 * 3 < u.max() < 1.05 * 3
        near.append(u[:, 20:40].mean() / u[:, 60:].mean())
    assert np.median(near) > 3
    assert len(lung_fields(6.0, people(3)[0][:2])) == len(lung_fields(6.0)) + 2


def test_real_motions_carry_their_points():
    grid = people(2)[0][0].grid
    points = grid.lattice((9, 8))
    wave = 1.2 * np.sin((points - grid.center) / 9)
    one = CorrespondenceField(((points, points + wave),), amplitude=(1.0, 1.0))
    control = control_grid(grid)
    ways = set()
    for seed in range(6):
        c = one.draw(np.random.default_rng(seed), control, grid)
        assert least_determinant(c[None], control)[0] >= 0.15
        psi = BSpline(c, control)
        missed = [
            np.linalg.norm(psi(begin) - end, axis=1).mean() for begin, end in ((points, points + wave), (points + wave, points))
        ]
        ways.add(int(np.argmin(missed)))
        assert min(missed) < 0.15 * np.linalg.norm(wave, axis=1).mean()
    # half of them go back
    assert ways == {0, 1}
    with pytest.raises(ValueError, match="motions: expected one or more, got none"):
        CorrespondenceField(())
    with pytest.raises(
        ValueError, match=r"motions\[0\]: expected as many points twice, D \+ 2 or more, got \(72, 2\) and \(71, 2\)"
    ):
        CorrespondenceField(((points, points[:-1]),))


def test_motions_of_other_patients_fill_the_grid():
    grid = people(3)[0][0].grid
    placed = CorrespondenceField.placed(motions(3), grid, share=0.6)
    for (points, partners), (before, after) in zip(placed.motions, motions(3), strict=True):
        assert grid.contains(points).mean() > 0.7
        sides = np.ptp(points, axis=0)
        assert sides == pytest.approx(0.6 * np.abs(grid.axes) @ grid.extent)
        np.testing.assert_allclose((partners - points) / sides, (after - before) / np.ptp(before, axis=0))


def test_real_lungs_are_carried_from_keypoints_to_landmarks():
    folder = realdata.path("lungpoints")
    points, partners = (read_points(folder / f"03_{phase}_keypoints.csv") for phase in ("insp", "exp"))
    begin, end = (read_points(folder / f"03_{phase}_points.csv") for phase in ("insp", "exp"))
    low, high = points.min(axis=0) - 20, points.max(axis=0) + 20
    grid = Grid(tuple(int(n) for n in np.ceil((high - low) / 4) + 1), (4.0, 4.0, 4.0), tuple(low))
    field = CorrespondenceField(((points, partners),), amplitude=(1.0, 1.0))
    control = control_grid(grid)
    c = field.draw(np.random.default_rng(0), control, grid)
    assert least_determinant(c[None], control)[0] >= 0.15
    psi, before = BSpline(c, control), np.linalg.norm(end - begin, axis=1).mean()
    after = min(np.linalg.norm(psi(one) - other, axis=1).mean() for one, other in ((begin, end), (end, begin)))
    assert before > 6
    assert after < 1.6


def test_shapes_are_those_of_the_model():
    known = model("displacement")
    field = ModelField(known, amplitude=0.7)
    rng = np.random.default_rng(4)
    c = field.draw(rng, known.control, known.template)
    b = 0.7 * np.random.default_rng(4).standard_normal(known.shape.rank)
    assert np.abs(b).max() < 2.1
    np.testing.assert_allclose(c, np.tensordot(b, known.mode_splines, axes=1), atol=1e-6)
    # on images of another lattice in the same space
    fine = Grid(
        tuple(2 * n for n in known.template.shape),
        tuple(s / 2 for s in known.template.spacing),
        known.template.origin,
        known.template.direction,
    )
    other = BSpline(field.draw(np.random.default_rng(4), control_grid(fine), fine), control_grid(fine))
    inner = known.template.points()[10:-10, 10:-10]
    wanted = known.transform(b)(inner)
    assert np.linalg.norm(other(inner) - wanted, axis=-1).max() < 0.15 * np.linalg.norm(wanted - inner, axis=-1).max()
    with pytest.raises(ValueError, match="ModelField: expected images in 2-D, as the model, got 3-D"):
        field.draw(rng, control_grid(people(3)[0][0].grid), people(3)[0][0].grid)


def test_a_field_is_the_same_for_any_number_of_threads():
    labels = people(2)[1][0]
    grid = labels.grid
    field, before = ElasticField(labels), torch.get_num_threads()
    draws = []
    for count in (1, 2):
        torch.set_num_threads(count)
        draws.append(field.draw(np.random.default_rng(0), control_grid(grid), grid))
    torch.set_num_threads(before)
    assert np.array_equal(*draws)
