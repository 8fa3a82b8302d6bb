import numpy as np
import pytest
from support import spaces
from support.maps import affine, bspline, field, points

from augreg import Affine, DisplacementField, Grid, Labels, dice, folding, jaccard, jacobian_determinant, tre
from augreg.metrics import evaluate, mean_overlap, robustness, rtre, surface_distance

RNG = np.random.default_rng


def ball(grid, center, radius, label=1):
    inside = np.linalg.norm(grid.points() - center, axis=-1) <= radius
    return Labels(np.where(inside, label, 0).astype(np.int16), grid)


def test_overlaps_by_counting():
    grid = Grid((4, 5))
    a, b = np.zeros((4, 5), dtype=int), np.zeros((4, 5), dtype=int)
    a[:2], b[1:3] = 3, 3
    a[3, 0], b[3, 1:] = 7, 9
    one, two = Labels(a, grid), Labels(b, grid)
    assert dice(one, two) == {3: 0.5, 7: None, 9: None}
    assert jaccard(one, two) == {3: pytest.approx(1 / 3), 7: None, 9: None}
    assert mean_overlap(dice(one, two)) == 0.5
    assert np.isnan(mean_overlap({7: None}))
    assert dice(one, one) == {3: 1.0, 7: 1.0}


def test_overlaps_need_one_grid():
    a = Labels(np.ones((4, 5), dtype=int), Grid((4, 5)))
    with pytest.raises(ValueError, match="one grid"):
        dice(a, Labels(a.values, Grid((4, 5), (1.0, 2.0))))


@pytest.mark.parametrize("ndim", [2, 3])
def test_landmark_errors(ndim):
    x, grid = points(ndim, 30), spaces.grid(ndim)
    true = affine(ndim)
    off = np.linspace(0, 3, 30)
    y = true(x) + off[:, None] * np.eye(ndim)[0]
    np.testing.assert_allclose(tre(true, x, y), off, atol=1e-12)
    np.testing.assert_allclose(rtre(true, x, y, grid) * np.linalg.norm(np.array(grid.shape) * grid.spacing), off, atol=1e-12)
    assert robustness(true, x, true(x)) == 1.0
    assert robustness(Affine.identity(ndim), x, y) == 0.0
    with pytest.raises(ValueError, match="equal numbers"):
        tre(true, x, y[:-1])


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_surface_distance_of_concentric_balls_is_the_difference_of_their_radii(ndim, name):
    grid = Grid((60, 64, 50)[:ndim], (0.5, 0.45, 0.6)[:ndim], direction=spaces.directions(ndim)[name])
    small, large = ball(grid, grid.center, 8.0), ball(grid, grid.center, 10.5)
    mean, hausdorff = surface_distance(small, large)[1]
    assert mean == pytest.approx(2.5, abs=0.15)
    assert hausdorff == pytest.approx(2.5, abs=0.45)
    assert surface_distance(small, small)[1] == (0.0, 0.0)
    assert surface_distance(small, ball(grid, grid.center, 8.0, label=2)) == {1: None, 2: None}


def test_surface_distance_of_shifted_boxes_is_exact():
    grid = Grid((30, 20), (2.0, 1.0))
    a, b = np.zeros((30, 20), dtype=int), np.zeros((30, 20), dtype=int)
    a[5:15, 5:15], b[8:18, 5:15] = 1, 1
    # faces of the left box, 3 voxels of 2 mm away from those of the other: its far side, its near side inside the other box
    # (nearest to the other's long sides), and the ends of its long sides (nearest to the other's far side)
    depth = 0.5 + np.minimum(np.arange(10), 9 - np.arange(10))
    distances = np.concatenate([np.full(10, 6.0), np.hypot(1, depth), 2 * [0.0] * 7, 2 * [np.hypot(d, 0.5) for d in (1, 3, 5)]])
    mean, hausdorff = surface_distance(Labels(a, grid), Labels(b, grid))[1]
    assert mean == pytest.approx(distances.mean())
    assert hausdorff == pytest.approx(np.percentile(distances, 95))


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_determinant_of_an_affine_map_is_its_own(ndim, name):
    grid = spaces.grid(ndim, name)
    for transform in (affine(ndim), DisplacementField(affine(ndim).displacement(grid), grid)):
        determinant = jacobian_determinant(transform, grid)
        inner = determinant[(slice(1, -1),) * ndim]
        np.testing.assert_allclose(inner, np.linalg.det(affine(ndim).matrix), atol=1e-6)
        assert determinant.shape == grid.shape


@pytest.mark.parametrize("ndim", [2, 3])
def test_volumes_multiply_under_composition(ndim):
    grid = spaces.grid(ndim)
    a, b = affine(ndim), bspline(ndim)
    product = jacobian_determinant(a @ b, grid)
    np.testing.assert_allclose(product, np.linalg.det(a.matrix) * jacobian_determinant(b, grid), atol=1e-6)
    assert product.std() > 0.01


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_gentle_maps_do_not_fold_and_violent_ones_do(ndim, name):
    grid = spaces.grid(ndim, name)
    for transform in (affine(ndim), bspline(ndim, name=name), field(ndim, name=name)):
        assert folding(transform, grid) == 0.0
    # neighbours change places along the first axis
    values = np.zeros((*grid.shape, ndim))
    values[10, 8] = 1.6 * np.array(grid.direction)[:, 0] * grid.spacing[0]
    share = folding(DisplacementField(values, grid), grid)
    assert 0 < share < 0.2


def test_a_fold_between_the_nodes_is_seen():
    # central differences vanish nowhere, yet one cell folds
    grid = Grid((5, 5))
    values = np.zeros((5, 5, 2))
    values[2, 2] = (1.1, 0.0)
    central = np.gradient(values[..., 0], axis=0) + 1
    assert central.min() > 0
    assert folding(DisplacementField(values, grid), grid) > 0


def test_reflections_fold_everywhere():
    grid = spaces.grid(2)
    assert folding(Affine(np.diag([-1.0, 1.0])), grid) == 1.0


def test_evaluate_gives_what_its_inputs_allow():
    grid = spaces.grid(2)
    labels = ball(grid, grid.center, 6.0)
    x = points(2, 9)
    report = evaluate(Affine.identity(2), grid, fixed_points=x, moving_points=x + 1, fixed_labels=labels, moving_labels=labels)
    assert report["tre"] == {"mean": pytest.approx(2**0.5), "median": pytest.approx(2**0.5), "max": pytest.approx(2**0.5)}
    assert report["dice"] == {"1": 1.0, "mean": 1.0}
    assert report["surface_distance"]["mean"] == {"mean_symmetric": 0.0, "hausdorff95": 0.0}
    assert set(evaluate(Affine.identity(2), grid)) == {"folding"}


def test_a_structure_that_is_moved_out_of_view_counts_nothing():
    grid = Grid((30, 24), (1.0, 2.0))
    values = np.zeros(grid.shape, dtype=np.uint8)
    values[2:6, 4:10], values[20:26, 4:10], values[14:17, 20:] = 1, 2, 3
    fixed = Labels(values, grid)
    moving = Labels(np.where(values == 3, 0, values), grid)
    near = evaluate(Affine.identity(2), grid, fixed_labels=fixed, moving_labels=moving)
    assert near["dice"] == {"1": 1.0, "2": 1.0, "3": None, "mean": 1.0}
    assert near["lost"] == []
    # phi reaches beyond the right end: there is nothing left of 1 and half of 2
    away = evaluate(Affine(np.eye(2), [12.0, 0.0]), grid, fixed_labels=fixed, moving_labels=moving)
    assert away["lost"] == [1]
    for name in ("dice", "jaccard"):
        assert away[name] == {"1": 0.0, "2": 0.0, "3": None, "mean": 0.0}
    assert away["surface_distance"]["1"] is None
    assert away["surface_distance"]["mean"] == away["surface_distance"]["2"]
    # all of them lost
    gone = evaluate(Affine(np.eye(2), [900.0, 0.0]), grid, fixed_labels=fixed, moving_labels=moving)
    assert gone["lost"] == [1, 2]
    assert gone["dice"]["mean"] == gone["jaccard"]["mean"] == 0.0
    # what one map alone had is null, in view or not
    exchanged = evaluate(Affine(np.eye(2), [900.0, 0.0]), grid, fixed_labels=moving, moving_labels=fixed)
    for name in ("dice", "jaccard"):
        assert exchanged[name] == {"1": 0.0, "2": 0.0, "3": None, "mean": 0.0}
    assert exchanged["surface_distance"]["3"] is None


def test_labels_that_no_common_type_holds_are_told_apart():
    grid = Grid((2, 3))
    a = Labels(np.array([[2**53, 2**53 + 1, 0], [5, 5, 5]], dtype=np.uint64), grid)
    b = Labels(np.array([[2**53 + 1, 2**53 + 1, 0], [5, 5, 0]], dtype=np.int64), grid)
    assert dice(a, b) == {5: pytest.approx(0.8), 2**53: None, 2**53 + 1: pytest.approx(2 / 3)}
