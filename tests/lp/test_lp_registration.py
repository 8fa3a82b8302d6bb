import functools

import numpy as np
import pytest
from support import phantoms, realdata, spaces
from support.phantoms import blobs

from augreg import Affine, DisplacementField, Grid, Image, Labels, dice, folding, tre, warp
from augreg.geometry.transforms import Composition
from augreg.io import read_image, read_labels, read_points
from augreg.lp import LPRegistration, superpixel_classes
from solvers import InteriorPoint

PHOTOGRAPHS = ["camera", "astronaut", "coins", "retina", "immunohistochemistry", "moon", "page", "cell", "coffee", "gravel"]


def turned(grid: Grid, degrees: float, scale: float, shift) -> Affine:
    angle = np.deg2rad(degrees)
    matrix = np.eye(grid.ndim)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Affine.about(scale * matrix, grid.center, shift)


def inner_points(grid: Grid, count: int = 200) -> np.ndarray:
    index = np.random.default_rng(9).uniform(0.2, 0.8, (count, grid.ndim)) * (np.array(grid.shape) - 1)
    return grid.points_at(index)


@functools.cache
def small_pair():
    """A 2-D pair of about 140 x 130 voxels on an oblique, anisotropic grid; moving is known everywhere on its own grid."""
    fixed_grid = spaces.grid(2, shape=(150, 90))
    moving_grid = Grid((130, 120), (1.1, 1.3), tuple(fixed_grid.center - 70), np.eye(2))
    truth = turned(fixed_grid, 5.0, 1.03, (3.0, -2.0))
    fixed = blobs(fixed_grid)
    moving = warp(blobs(spaces.grid(2, shape=(150, 90))), truth.inverse(), moving_grid, interpolation="cubic")
    return fixed, moving, truth


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_a_known_affine_warp_is_recovered(name):
    seed = PHOTOGRAPHS.index(name)
    fixed, moving, x, y = phantoms.pair(phantoms.photograph(name), phantoms.affine(seed), seed)
    assert np.linalg.norm(x - y, axis=1).mean() > 40
    assert tre(LPRegistration(transform="affine")(fixed, moving), x, y).mean() < 0.3


@pytest.mark.parametrize("source", ["kidney", "lesion", "ants2d", "brain2d"])
def test_a_known_affine_warp_of_medical_images_is_recovered(source):
    folder = {"kidney": "histology", "lesion": "histology"}.get(source, source)
    path = {
        "kidney": "*kidney*HE*.[jp][pn]g",
        "lesion": "*lesion*HE*.[jp][pn]g",
        "ants2d": "r16*",
        "brain2d": "1003_z20.nii.gz",
    }[source]
    found = sorted(realdata.path(folder).rglob(path))
    values = phantoms.scaled(read_image(found[0]).luminance().values.T)
    fixed, moving, x, y = phantoms.pair(values, phantoms.affine(20), 20)
    assert tre(LPRegistration(transform="affine")(fixed, moving), x, y).mean() < 0.3


@pytest.mark.parametrize("name", ["retina", "coins"])
def test_a_known_elastic_warp_is_recovered_without_folds(name):
    fixed, moving, x, y = phantoms.pair(phantoms.photograph(name), phantoms.elastic(1), 1)
    phi = LPRegistration()(fixed, moving)
    assert tre(phi, x, y).mean() < 0.6
    assert folding(phi, fixed.grid.with_shape((128, 128))) == 0


@pytest.mark.parametrize("criterion", ["ncc", "ssd", "mi"])
def test_grids_of_their_own_do_not_matter(criterion):
    fixed, moving, truth = small_pair()
    x = inner_points(fixed.grid)
    phi = LPRegistration(transform="affine", criterion=criterion)(fixed, moving)
    assert tre(phi, x, truth(x)).mean() < 0.3


def test_inverted_contrast_needs_mutual_information():
    fixed, moving, truth = small_pair()
    x = inner_points(fixed.grid)
    inverted = moving.with_values(np.exp(-moving.values))
    start = turned(fixed.grid, 3.0, 1.0, (2.0, -1.0))
    phi = LPRegistration(transform="affine", criterion="mi")(fixed, inverted, initial=start)
    assert tre(phi, x, truth(x)).mean() < 0.3


@pytest.mark.parametrize("kind", ["rigid", "similarity"])
def test_a_group_is_not_left(kind):
    fixed, moving, truth = small_pair()
    phi = LPRegistration(transform=kind)(fixed, moving)
    parts = phi.transforms if isinstance(phi, Composition) else (phi,)
    matrix = np.linalg.multi_dot([np.eye(2), np.eye(2), *(part.matrix for part in parts)])
    factor = np.sqrt(np.linalg.det(matrix))
    np.testing.assert_allclose(matrix.T @ matrix, factor**2 * np.eye(2), atol=1e-9)
    if kind == "rigid":
        assert factor == pytest.approx(1.0)
    else:
        x = inner_points(fixed.grid)
        assert tre(phi, x, truth(x)).mean() < 0.3


def test_each_channel_tells_about_its_own_part():
    fixed, moving, truth = small_pair()
    left = (fixed.grid.points() - fixed.grid.center)[..., 0] < 0
    covered = (truth.inverse()(moving.grid.points()) - fixed.grid.center)[..., 0] < 0
    colour = [
        Image(np.stack([np.where(part, i.values, 0), np.where(part, 0, i.values)], axis=-1), i.grid)
        for i, part in ((fixed, left), (moving, covered))
    ]
    x = inner_points(fixed.grid)
    assert tre(LPRegistration(transform="affine")(*colour), x, truth(x)).mean() < 0.3


def test_volumes_of_unequal_spacing_are_aligned():
    grid = Grid((48, 40, 26), (1.0, 1.3, 2.0), (-11.0, 5.0, 40.0), spaces.directions(3)["oblique"])
    truth = turned(grid, 6.0, 1.04, (3.0, -2.0, 1.5))
    fixed = blobs(grid, 60)
    moving = warp(fixed, truth.inverse(), grid.padded(6), interpolation="cubic")
    x = inner_points(grid)
    assert tre(LPRegistration(transform="affine")(fixed, moving), x, truth(x)).mean() < 0.5
    phi = LPRegistration(grid_spacing=40.0, keypoints=600)(fixed, moving)
    assert tre(phi, x, truth(x)).mean() < 0.5
    assert folding(phi, grid) == 0


def test_what_a_mask_hides_does_not_count():
    fixed, moving, truth = small_pair()
    rng = np.random.default_rng(1)
    values, hidden = fixed.values.copy(), np.ones(fixed.grid.shape, dtype=np.uint8)
    hidden[90:130, 10:60] = 0
    values[90:130, 10:60] = 3 * np.kron(rng.choice([-1, 1], (8, 10)), np.ones((5, 5)))
    x = inner_points(fixed.grid)
    phi = LPRegistration(transform="affine")(Image(values, fixed.grid), moving, fixed_mask=Labels(hidden, fixed.grid))
    assert tre(phi, x, truth(x)).mean() < 0.3


def test_landmarks_are_met_within_their_tolerance():
    fixed, moving, truth = small_pair()
    x = inner_points(fixed.grid, 6)
    y = truth(x) + np.array([4.0, 0.0])
    free = LPRegistration()(fixed, moving)
    held = LPRegistration(tolerance=0.5)(fixed, moving, fixed_points=x, moving_points=y)
    assert tre(free, x, y).min() > 2
    assert np.abs(held(x) - y).max() < 1.0


def test_landmarks_are_met_by_fine_bsplines_too():
    fixed, moving, truth = small_pair()
    center = fixed.grid.center
    x = center + np.array([[-20.0, 0.0], [-14.0, 0.0], [14.0, 8.0], [20.0, 8.0]])
    # neighbours six mm apart that move apart: no affine map and no coarse B-spline can follow
    y = truth(x) + np.array([[-1.6, 0.0], [1.6, 0.0], [-1.6, 0.0], [1.6, 0.0]])
    fine = LPRegistration(tolerance=0.2, grid_spacing=5.0, keypoints=500)(fixed, moving, fixed_points=x, moving_points=y)
    affine = LPRegistration(tolerance=0.2, transform="affine")(fixed, moving, fixed_points=x, moving_points=y)
    assert min(fine.transforms[-1].grid.spacing) <= 5.0
    assert np.abs(fine(x) - y).max() < 0.5
    assert np.abs(affine(x) - y).max() > 1.0


def test_landmarks_that_contradict_each_other_are_named():
    fixed, moving, truth = small_pair()
    x = inner_points(fixed.grid, 4)
    x[3] = x[1]
    y = truth(x)
    y[3] += 20.0
    *_, last = LPRegistration(transform="affine", tolerance=0.5).steps(fixed, moving, fixed_points=x, moving_points=y)
    (said,) = [text for text in last.warnings if text.startswith("landmarks")]
    assert {"1", "3"} & set(said.split("(")[0].replace(",", " ").split())


def test_a_rigid_mask_keeps_lengths():
    fixed, moving, _ = small_pair()
    bent = phantoms.bent(moving.grid, 12.0, seed=4)
    moving = warp(moving, bent, moving.grid)
    values = np.zeros(fixed.grid.shape, dtype=np.uint8)
    values[50:90, 30:60] = 1
    inside = fixed.grid.points_at(np.argwhere(values))
    settings = LPRegistration(grid_spacing=25.0, smoothness=0.0005)
    free = settings(fixed, moving)
    *_, last = settings.steps(fixed, moving, rigid_mask=Labels(values, fixed.grid))

    def stretch(phi):
        return np.abs(np.linalg.svd(phi.jacobian(inside), compute_uv=False) - 1).max()

    assert stretch(free) > 0.1
    assert stretch(last.transform) < 0.02
    assert any(text.startswith("rigid mask") for text in last.warnings) == (stretch(last.transform) > 1.5e-3)
    with pytest.raises(ValueError, match="rigid_mask"):
        settings(fixed, moving, rigid_mask=Labels(np.zeros(fixed.grid.shape, dtype=np.uint8), fixed.grid))
    with pytest.raises(ValueError, match="2-D mask, got 3-D"):
        settings(fixed, moving, rigid_mask=Labels(np.ones((3, 3, 3), dtype=np.uint8), Grid((3, 3, 3))))


def test_label_maps_alone_suffice():
    fixed, moving, truth = small_pair()
    fixed_labels, moving_labels = (
        Labels(np.digitize(np.round(i.values, 3), [-0.6, -0.2, 0.2, 0.6]).astype(np.uint8), i.grid) for i in (fixed, moving)
    )
    phi = LPRegistration(transform="affine", criterion="labels")(
        fixed, moving, fixed_labels=fixed_labels, moving_labels=moving_labels
    )
    x = inner_points(fixed.grid)
    assert tre(phi, x, truth(x)).mean() < 1.0


@pytest.mark.parametrize("seed", [0, 1])
def test_classes_of_superpixels_align_inverted_contrast(seed):
    fixed, moving, x, y = phantoms.pair(phantoms.photograph("coins"), phantoms.affine(seed), seed)
    inverted = moving.with_values(1 - moving.values)
    start = Affine(np.eye(2), (y - x).mean(axis=0))
    labels = {"fixed_labels": superpixel_classes(fixed, size=8), "moving_labels": superpixel_classes(inverted, size=8)}
    phi = LPRegistration(transform="affine", criterion="classes")(fixed, inverted, initial=start, **labels)
    assert tre(start, x, y).mean() > 8
    assert tre(phi, x, y).mean() < 2.5


@pytest.mark.parametrize(
    ("degrees", "scale", "shift"), [(40, 1.0, (0.05, 0.1)), (-12, 0.82, (0.28, -0.1)), (14, 1.24, (-0.1, 0.25))]
)
@pytest.mark.parametrize("name", ["retina", "coffee"])
def test_the_start_finds_large_motions(name, degrees, scale, shift):
    values = phantoms.photograph(name)
    transform = phantoms.similarity(degrees, scale, shift)
    fixed, moving, x, y = phantoms.pair(values, transform, 3)
    *_, last = LPRegistration(transform="affine", rotation=max(15.0, abs(degrees))).steps(fixed, moving)
    assert tre(last.transform, x, y).mean() < 0.3
    assert last.warnings == ()


def test_what_the_interior_point_does_not_certify_is_left_to_highs_and_said():
    fixed, moving, truth = small_pair()
    *_, last = LPRegistration(transform="affine", solver=InteriorPoint(iterations=1)).steps(fixed, moving)
    x = inner_points(fixed.grid)
    assert tre(last.transform, x, truth(x)).mean() < 0.3
    assert any("HiGHS" in text for text in last.warnings)


@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (9, 40), (3, 3, 3), (12, 10, 8)])
@pytest.mark.parametrize("criterion", ["ncc", "mi"])
def test_tiny_images_of_noise_give_a_finite_map(shape, criterion):
    rng, grid = np.random.default_rng(0), Grid(shape)
    fixed, moving = (Image(rng.uniform(size=shape).astype(np.float32), grid) for _ in range(2))
    for transform in ("rigid", "affine", "bspline"):
        # the default has thousands of unknowns in a volume, and programs for them take half a minute
        bend = 3.0 if shape == (12, 10, 8) else None
        phi = LPRegistration(transform=transform, criterion=criterion, grid_spacing=bend)(fixed, moving)
        assert np.isfinite(phi(grid.points())).all()


def test_unknown_voxels_around_the_object_are_masked():
    fixed, moving, truth = small_pair()
    values = fixed.values.copy()
    values[:25], values[:, -12:] = np.nan, np.nan
    *_, last = LPRegistration(transform="affine").steps(Image(values, fixed.grid), moving)
    x = inner_points(fixed.grid)
    assert tre(last.transform, x, truth(x)).mean() < 0.3
    assert any("NaN" in text for text in last.warnings)


def test_states_tell_the_story_and_the_last_is_the_result():
    fixed, moving, _ = small_pair()
    register = LPRegistration(grid_spacing=30.0, keypoints=400)
    states = list(register.steps(fixed, moving))
    x = inner_points(fixed.grid)
    np.testing.assert_array_equal(states[-1].transform(x), register(fixed, moving)(x))
    assert [s.level for s in states] == sorted(s.level for s in states)
    assert all(s.keypoints > 50 for s in states)
    assert states[-1].solve_seconds < states[-1].seconds
    assert all(s.gap <= 1e-3 for s in states[1:])


def test_the_budget_ends_the_search_with_a_warning():
    fixed, moving, _ = small_pair()
    states = list(LPRegistration(budget=1e-3).steps(fixed, moving))
    assert len(states) == 1
    assert "budget" in " ".join(states[-1].warnings)


def test_an_initial_transform_is_kept_as_the_left_part():
    fixed, moving, truth = small_pair()
    wide = fixed.grid.padded(10)
    field = DisplacementField(truth.displacement(wide) + 1.5, wide)
    phi = LPRegistration(transform="affine")(fixed, moving, initial=field)
    x = inner_points(fixed.grid)
    assert phi.transforms[0] is field
    assert tre(phi, x, truth(x)).mean() < 0.3


@pytest.mark.parametrize("transform", ["rigid", "affine", "bspline"])
@pytest.mark.parametrize("pair", [("camera", "coins"), ("retina", "page"), ("moon", "astronaut")])
def test_images_that_have_nothing_in_common_are_flagged(transform, pair):
    fixed, moving = (Image(phantoms.photograph(name)[::2, ::2].T.astype(np.float32), Grid((256, 256))) for name in pair)
    *_, last = LPRegistration(transform=transform).steps(fixed, moving)
    assert any("flat criterion" in text for text in last.warnings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": "elastic"}, "transform"),
        ({"criterion": "mse"}, "criterion"),
        ({"grid_spacing": 0.0}, "grid_spacing"),
        ({"budget": -1.0}, "budget"),
        ({"polish": -1}, "polish"),
        ({"profile": (0, 2)}, "profile"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LPRegistration(**options)


def test_incomplete_input_is_refused():
    fixed, moving, _ = small_pair()
    with pytest.raises(ValueError, match="fixed_labels"):
        LPRegistration(criterion="labels")(fixed, moving)
    with pytest.raises(ValueError, match="together"):
        LPRegistration()(fixed, moving, fixed_points=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="equal numbers"):
        LPRegistration()(fixed, moving, fixed_points=np.zeros((2, 2)), moving_points=np.zeros((3, 2)))


@pytest.mark.parametrize(("name", "share"), [("kidney", 0.3), ("lesion", 0.3)])
def test_histology_pairs_come_much_closer(name, share):
    folder = realdata.path("histology")
    tables = sorted(path for path in folder.rglob("*.csv") if name in str(path.relative_to(folder)).lower())
    images = [next(p for p in path.parent.glob(path.stem + ".*") if p.suffix != ".csv") for path in tables]
    x, y = (read_points(path) for path in tables)
    fixed, moving = (read_image(path) for path in images)
    error = tre(LPRegistration()(fixed, moving), x, y)
    assert error.mean() < share * np.linalg.norm(x - y, axis=1).mean()


def overlap(a: Labels, b: Labels) -> float:
    return float(np.mean([value for value in dice(a, b).values() if value is not None]))


def test_brains_of_two_people_overlap_better_afterwards():
    folder = realdata.path("brain2d")
    fixed, moving = (read_image(folder / f"{i}_z20.nii.gz") for i in ("1000", "1002"))
    f, m = (read_labels(folder / f"{i}_z20_labels.nii.gz") for i in ("1000", "1002"))
    phi = LPRegistration()(fixed, moving)
    assert overlap(f, warp(m, phi, f.grid)) > overlap(f, warp(m, Affine.identity(2), f.grid)) + 0.03
