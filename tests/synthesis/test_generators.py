import numpy as np
import pytest
import torch
from support.subjects import model, people

from augreg import Affine, Grid, Image
from augreg.geometry.resampling import sample, warp
from augreg.geometry.splines import control_grid, least_determinant
from augreg.geometry.transforms import BSpline
from augreg.synthesis import (
    AppearancePairs,
    BSplineField,
    PairBatch,
    RandomDeformations,
    RespiratoryField,
    SmoothField,
    StoredPairs,
    ZeroField,
    lung_fields,
    magnitudes_of,
    make_pairs,
    registered_pairs,
    training_pairs,
)


def random_pairs(ndim=2, **options):
    images, labels, _ = people(ndim)
    return RandomDeformations.of(images[:3], labels=labels[:3], **options)


def mismatch(pair):
    """Mean |moving(x + u(x)) - fixed(x)| inside the mask, over contrast."""
    moved = warp(pair.moving, pair.displacement, pair.fixed.grid, interpolation="cubic")
    return np.abs(moved.values - pair.fixed.values)[pair.mask.values > 0].mean() / pair.fixed.values.std()


FAMILIES = [
    SmoothField(12.0, (1.0, 2.0)),
    BSplineField((10.0, 20.0), 4.0),
    RespiratoryField(3.0, 0.1, (1, 0), BSplineField((15.0, 30.0), 1.0)),
]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)
def test_fields_vanish_at_the_border_and_are_as_large_as_asked_for(family, ndim):
    grid = people(ndim)[0][0].grid
    control = control_grid(grid)
    rng = np.random.default_rng(0)
    for _ in range(4):
        c = family.draw(rng, control, grid)
        assert c.shape == (*control.shape, ndim)
        for axis in range(ndim):
            assert not np.take(c, [0, 1, 2, -3, -2, -1], axis=axis).any()
        u = BSpline(c, control).displacement(grid)
        rms = np.sqrt(np.mean(np.sum(u**2, axis=-1)))
        if isinstance(family, SmoothField):
            assert min(abs(rms / np.array(family.magnitudes) - 1)) < 0.15  # measured at the nodes, not everywhere between
        elif isinstance(family, BSplineField):
            assert 0.2 * family.largest < np.linalg.norm(u, axis=-1).max() < 1.05 * family.largest
        else:
            along = (u @ np.asarray(grid.direction))[..., 1]
            low, high = (np.abs(np.take(along, at, axis=1)).mean() for at in (2, -3))
            assert low > 1.5 * high


def test_generators_take_arrays_as_images_of_spacing_one():
    images, labels, _ = people(2)
    grid = Grid(images[0].grid.shape)
    pixels, known = [image.values for image in images[:2]], [one.values for one in labels[:2]]
    on_grids = [Image(values, grid) for values in pixels]
    plain, wanted = (RandomDeformations.of(one, magnitudes=(2.0,)) for one in (pixels, on_grids))
    assert plain.describe() == wanted.describe()
    labelled = RandomDeformations.of(pixels, magnitudes=(2.0,), labels=known)
    assert np.array_equal(labelled.labels, np.stack(known))
    turned = Affine(np.array([[1.02, 0.05], [-0.04, 0.97]]), [1.0, -2.0])
    plain, wanted = (next(registered_pairs(one, lambda fixed, moving: turned, "estimated")) for one in (pixels, on_grids))
    assert torch.equal(plain.flow, wanted.flow)
    assert torch.equal(plain.fixed, wanted.fixed)


def test_smoother_families_bend_less():
    grid = people(2)[0][0].grid
    control = control_grid(grid)

    def bend(spacing):
        c = np.stack([SmoothField(spacing, (1.0,)).draw(np.random.default_rng(s), control, grid) for s in range(8)])
        return 1 - least_determinant(
            c @ grid.world_to_index.T, type(grid)(control.shape, np.divide(control.spacing, grid.spacing))
        )

    assert np.median(bend(8.0)) > 2 * np.median(bend(25.0))


@pytest.mark.parametrize("ndim", [2, 3])
def test_random_deformations_are_exact_pairs_of_a_real_image(ndim):
    generator = random_pairs(ndim, magnitudes=(2.0,))
    batch = make_pairs(generator, 0, range(6))
    originals = torch.from_numpy(generator.images)
    real_fixed = real_moving = 0
    for i, pair in enumerate(training_pairs(batch, generator.grid)):
        assert mismatch(pair) < (0.02 if ndim == 2 else 0.06)
        assert np.linalg.norm(pair.displacement.values, axis=-1).max() > 1
        both = [(originals - part[i]).flatten(1).abs().amax(dim=1).min() for part in (batch.fixed, batch.moving)]
        # one of the two is a real image as it is; either may be
        assert min(both) < 0.02
        real_fixed, real_moving = real_fixed + int(both[0] < 0.02), real_moving + int(both[1] < 0.02)
        moved = warp(pair.moving_labels, pair.displacement, generator.grid)
        assert (moved.values != pair.fixed_labels.values)[pair.mask.values > 0].mean() < 0.05
    assert real_fixed
    assert real_moving


def test_nothing_moves_in_zero_fields():
    batch = make_pairs(random_pairs(families=[ZeroField()]), 0, range(2))
    assert batch.flow.abs().max() < 1e-6
    assert torch.allclose(batch.fixed, batch.moving)


def test_lung_families_are_drawn_and_unfolded():
    images, _, _ = people(3)
    generator = RandomDeformations.of(images[:2], lung_fields(6.0))
    batch = make_pairs(generator, 1, range(10))
    sizes = batch.flow.abs().amax(dim=(1, 2, 3, 4))
    assert (sizes < 1e-6).any()  # the zero field
    assert sizes.max() > 1
    assert batch.least_det.min() >= 0.1


def test_random_deformations_match_another_generator_in_amplitude():
    reference = AppearancePairs(model(), pose=0.0)
    wanted = magnitudes_of(reference, 0, 24)
    found = magnitudes_of(random_pairs(magnitudes=wanted), 0, 24)
    assert np.median(found) == pytest.approx(np.median(wanted), rel=0.3)
    doubled = magnitudes_of(random_pairs(magnitudes=tuple(2 * w for w in wanted)), 0, 24)
    assert np.median(doubled) > 1.4 * np.median(found)


def test_gains_are_smooth_and_of_each_image_alone():
    plain, bright = (make_pairs(random_pairs(intensity=i, magnitudes=(1.0,)), 3, range(2)) for i in (0.0, 0.1))
    assert torch.equal(plain.flow, bright.flow)
    for part in ("fixed", "moving"):
        before, after = getattr(plain, part), getattr(bright, part)
        gain = (after / before)[before > 30]
        assert 0.01 < gain.log().std() < 0.3


def shifted(values, grid, shift):
    return Image(np.nan_to_num(sample(Image(values, grid), grid.points() + shift)).astype(np.float32), grid)


def registration_of_shifts(shifts, images):
    """Knows by how much every image was shifted: image_k(x) = I(x + s_k), so phi_ij(x) = x + s_i - s_j."""

    def register(fixed, moving, **_):
        i, j = (next(k for k, image in enumerate(images) if image.values is one.values) for one in (fixed, moving))
        return Affine(np.eye(2), shifts[i] - shifts[j])

    return register


@pytest.mark.parametrize("reading", ["estimated", "warped"])
def test_registered_pairs_carry_the_registration_s_field(reading):
    grid = people(2)[0][0].grid
    y = (grid.points() - grid.center) / 10
    values = (100 + 50 * np.sin(y[..., 0]) * np.cos(1.3 * y[..., 1])).astype(np.float32)
    shifts = np.array([[0.0, 0.0], [2.0, -1.0], [-1.5, 2.5]])
    images = [shifted(values, grid, s) for s in shifts]
    pairs = list(registered_pairs(images, registration_of_shifts(shifts, images), reading))
    assert len(pairs) == 6
    whole = PairBatch.concatenate(pairs)
    for pair in training_pairs(whole, grid):
        inner = (pair.mask.values > 0)[6:-6, 6:-6]
        moved = warp(pair.moving, pair.displacement, grid, interpolation="cubic")
        assert np.abs(moved.values - pair.fixed.values)[6:-6, 6:-6][inner].max() < (0.5 if reading == "warped" else 3.0)
        back = pair.reverse(pair.displacement(grid.points()))
        assert np.abs(back - grid.points())[8:-8, 8:-8].max() < 1e-3
    reals = torch.stack([torch.from_numpy(image.values) for image in images])
    expected = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    for (i, j), fixed, moving in zip(expected, whole.fixed[:, 0], whole.moving[:, 0], strict=True):
        assert torch.equal(moving, reals[j])
        assert torch.equal(fixed, reals[i]) == (reading == "estimated")


def test_stored_pairs_are_taken_by_chance_and_kept_but_for_their_light():
    kept = make_pairs(random_pairs(), 0, range(3))
    batch = make_pairs(StoredPairs(kept, random_pairs().grid, intensity=0.1), 0, range(12))
    found = [int((kept.flow - flow).abs().amax(dim=(1, 2, 3)).argmin()) for flow in batch.flow]
    assert set(found) == {0, 1, 2}
    assert torch.equal(batch.flow, kept.flow[torch.tensor(found)])
    bright = kept.fixed[torch.tensor(found)] > 30
    assert 0.01 < (batch.fixed[bright] / kept.fixed[torch.tensor(found)][bright]).log().std() < 0.3


def test_descriptions_tell_generators_apart():
    images, labels, _ = people(2)
    known = make_pairs(random_pairs(), 0, range(2))
    generators = [
        AppearancePairs(model()),
        AppearancePairs(model(), amplitude=0.9),
        AppearancePairs(model("landmarks")),
        random_pairs(),
        random_pairs(magnitudes=(5.0,)),
        random_pairs(intensity=0.1),
        RandomDeformations.of(images[1:4], labels=labels[1:4]),
        StoredPairs(known, random_pairs().grid),
        StoredPairs(known[:1], random_pairs().grid),
    ]
    assert len({repr(g.describe()) for g in generators}) == len(generators)
    assert random_pairs().describe() == random_pairs().describe()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda im: [im[0], Image(im[1].values[:-1], Grid((59, 48)))], r"images\[1\]: expected the grid"),
        (lambda im: [im[0], im[1].with_values(np.full_like(im[1].values, np.nan))], "finite"),
    ],
)
def test_images_that_do_not_fit_are_refused(change, message):
    images = change(people(2)[0])
    with pytest.raises(ValueError, match=message):
        RandomDeformations.of(images)


@pytest.mark.parametrize("reading", ["estimated", "warped"])
def test_label_maps_go_with_the_images_of_registered_pairs(reading):
    grid = people(2)[0][0].grid
    shifts = np.array([[0, 0], [2, -1], [-3, 4]])
    # structures where images are bright
    values = np.zeros(grid.shape, dtype=np.uint8)
    values[20:30, 14:24], values[36:44, 30:38] = 3, 7
    maps = [np.roll(values, -shift, axis=(0, 1)) for shift in shifts]
    images = [Image((10.0 * one).astype(np.float32), grid) for one in maps]
    told = []
    known = registration_of_shifts((shifts * grid.spacing) @ np.asarray(grid.direction).T, images)

    def register(fixed, moving, *, fixed_labels, moving_labels):
        told.append((fixed_labels.values, moving_labels.values))
        return known(fixed, moving)

    pairs = list(registered_pairs(images, register, reading, labels=maps))
    # the registration is told whose they are
    assert np.array_equal(told[0][0], maps[0])
    assert np.array_equal(told[0][1], maps[1])
    expected = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    for (i, j), pair in zip(expected, pairs, strict=True):
        np.testing.assert_array_equal(pair.moving_labels[0, 0], maps[j])
        inner = (slice(8, -8),) * 2
        np.testing.assert_array_equal(pair.fixed_labels[0, 0][inner], maps[i][inner])
        assert pair.fixed_labels.dtype == torch.int32
    stored = StoredPairs(PairBatch.concatenate(pairs), grid)
    drawn = make_pairs(stored, 0, range(3))
    assert torch.equal((drawn.moving > 5).int(), (drawn.moving_labels > 0).int())
    bare = StoredPairs(stored.pairs.labelled(None, None), grid)
    assert bare.describe() != stored.describe()
    with pytest.raises(ValueError, match="labels: expected 3, one per image, got 2"):
        next(registered_pairs(images, register, reading, labels=maps[:2]))


def test_families_and_images_have_to_be_given():
    images, _, _ = people(2)
    with pytest.raises(ValueError, match="families"):
        RandomDeformations.of(images[:1], [])
    with pytest.raises(ValueError, match="at least 2"):
        next(registered_pairs(images[:1], lambda f, m: Affine.identity(2), "warped"))
