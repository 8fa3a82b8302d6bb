from dataclasses import fields

import numpy as np
import pytest
import scipy.interpolate
import torch
from support.subjects import model

from augreg import DisplacementField, Grid, Image, warp
from augreg.geometry.resampling import sample
from augreg.geometry.splines import control_grid, least_determinant
from augreg.geometry.transforms import BSpline
from augreg.geometry.velocity import Exponential
from augreg.sam.textures import mirrored_points
from augreg.synthesis import (
    AppearancePairs,
    SmoothField,
    ZeroField,
    make_pairs,
    pair_rngs,
    training_pairs,
)
from augreg.synthesis.render import renderer
from augreg.synthesis.render.arithmetic import ACCEPTED
from augreg.synthesis.render.compiled import CompiledArithmetic
from augreg.synthesis.render.frame import ControlFrame
from augreg.synthesis.render.renderer import renderer_on
from augreg.synthesis.render.tensor_splines import displacement, displacement_and_slopes
from augreg.synthesis.render.tensors import TensorArithmetic

KINDS = ["labels", "landmarks", "landmarks3d", "displacement", "velocity", "velocity3d"]
TENSORS, COMPILED = TensorArithmetic(), CompiledArithmetic()


def rng(seed=0):
    return np.random.default_rng(seed)


def drawn(count, seed=0, kind="labels", **options):
    """A generator and a draw of pairs."""
    generator = AppearancePairs(model(kind), **options)
    return generator, generator.draw(pair_rngs(seed, range(count)))


def difference(pair, displacement=None):
    """Mean |moving(x + u(x)) - fixed(x)| where the target lies inside the moving image, before and after, over contrast."""
    u = pair.displacement.values if displacement is None else displacement
    grid = pair.fixed.grid
    inside = grid.contains(grid.points() + pair.displacement.values, margin=0.0)
    moved = warp(pair.moving, DisplacementField(u, grid), grid, interpolation="cubic")
    contrast = pair.fixed.values.std()
    before = np.abs(pair.moving.values - pair.fixed.values)[inside].mean()
    return np.abs(moved.values - pair.fixed.values)[inside].mean() / contrast, before / contrast


@pytest.mark.parametrize("kind", KINDS)
def test_warping_moving_with_the_displacement_gives_fixed(kind):
    m = model(kind)
    batch = make_pairs(AppearancePairs(m, amplitude=1.3), 0, range(6))
    for pair in training_pairs(batch, m.template):
        after, before = difference(pair)
        # pixels are 20 % of the smallest structure in 3-D: interpolation itself errs more there
        assert after < (0.012 if m.ndim == 2 else 0.045)
        assert after < (0.1 if m.ndim == 2 else 0.25) * before


@pytest.mark.parametrize("kind", ["labels", "landmarks"])
def test_the_wrong_shortcuts_fail_the_same_check(kind):
    m = model(kind)
    generator, draw = drawn(6, kind=kind, amplitude=1.5, pose=0.0)
    batch = generator.render(draw)
    shortcut, direct, exact = [], [], []
    points = m.template.points()
    for b, pair in zip(draw.shape, training_pairs(batch, m.template), strict=True):
        first, second = (m.transform(b_k) for b_k in b)
        exact.append(difference(pair)[0])
        # minus the displacement as inverse: B_1(y) = y - v_1(y)
        guess = 2 * points - first(points)
        shortcut.append(difference(pair, second(guess) - points)[0])
        # one spline straight from the first landmarks to the second
        s1, s2 = (psi(m.landmarks) for psi in (first, second))
        spread = scipy.interpolate.RBFInterpolator(s1, s2 - s1, kernel="thin_plate_spline", smoothing=1e-6)
        direct.append(difference(pair, spread(points.reshape(-1, 2)).reshape(points.shape))[0])
    assert np.mean(shortcut) > 3 * np.mean(exact)
    assert np.mean(direct) > 3 * np.mean(exact)


@pytest.mark.parametrize("kind", KINDS)
def test_displacements_agree_with_the_transforms_of_numpy(kind):
    m = model(kind)
    generator, draw = drawn(2, seed=3, kind=kind)
    batch = generator.render(draw)
    points = m.template.points()
    for i, pair in enumerate(training_pairs(batch, m.template)):
        first, second = (m.transform(draw.shape[i, k], draw.pose[i, k]) for k in (0, 1))
        expected = second(first.solve(points, tolerance=1e-9)) - points
        assert np.abs(pair.displacement.values - expected).max() < 1e-4


@pytest.mark.parametrize("kind", ["labels", "landmarks3d"])
def test_a_rest_is_added_to_the_shapes(kind):
    m = model(kind)
    generator, draw = drawn(2, seed=6, kind=kind, pose=0.0, rest=(SmoothField(12.0, (1.5,)),))
    control = control_grid(m.template)
    assert np.abs(draw.rest[:, 0] - draw.rest[:, 1]).max() > 0.5  # of each image its own
    for i, pair in enumerate(training_pairs(generator.render(draw), m.template)):
        coefficients = [
            (draw.shape[i, k] @ m.mode_splines.reshape(m.shape.rank, -1)).reshape(draw.rest.shape[2:]) for k in (0, 1)
        ]
        first, second = (BSpline(c + rest, control) for c, rest in zip(coefficients, draw.rest[i], strict=True))
        expected = second(first.solve(m.template.points(), tolerance=1e-9)) - m.template.points()
        assert np.abs(pair.displacement.values - expected).max() < 1e-4
        after, before = difference(pair)
        assert after < (0.1 if m.ndim == 2 else 0.25) * before


def test_a_rest_leaves_the_other_numbers_of_a_draw_as_they_were():
    (plain, bare), (_, draw) = drawn(3), drawn(3, rest=(SmoothField(12.0, (1.5,)), ZeroField()))
    for part in fields(draw):
        assert part.name == "rest" or np.array_equal(getattr(bare, part.name), getattr(draw, part.name))
    assert "rest" not in plain.describe()
    described = AppearancePairs(model(), rest=(SmoothField(12.0, (1.5,)),)).describe()
    assert described["rest"] == [{"family": "SmoothField", "spacing": 12.0, "magnitudes": (1.5,)}]


def test_images_agree_with_the_model():
    m = model()
    generator, draw = drawn(1, seed=4, mosaic=0.0, modes=1.0, appearance="independent")
    batch = generator.render(draw)
    for k, image in enumerate((batch.fixed, batch.moving)):
        expected = m.instance(draw.shape[0, k], draw.modes[0, k], draw.pose[0, k])
        assert np.abs(image[0, 0].numpy() / draw.gain[0, k] - expected.values).max() < 0.02
    generator, mosaic = drawn(1, seed=4)
    shown = generator.render(mosaic).fixed[0, 0].numpy() / mosaic.gain[0, 0]
    psi = m.transform(mosaic.shape[0, 0], mosaic.pose[0, 0])
    assert np.abs(shown - m._render(m.mosaic(mosaic.mosaic[0, 0]), psi).values).max() < 0.02


def paired(draw, images):
    """A draw of pairs of images ((pair, image), (pair, image)) of another."""
    parts = {f.name: np.stack([[getattr(draw, f.name)[one] for one in two] for two in images]) for f in fields(draw)}
    return type(draw)(**parts)


def test_an_image_corresponds_to_itself():
    generator, draw = drawn(2)
    same = paired(draw, [((0, 0), (0, 0)), ((1, 1), (1, 1))])
    assert generator.render(same).flow.abs().max() < 1e-4


def test_displacements_are_transitive_and_inverse_consistent():
    m = model()
    generator, draw = drawn(2, seed=1)
    a, b, c = (0, 0), (0, 1), (1, 0)
    three = paired(draw, [(a, b), (b, c), (a, c)])
    pairs = list(training_pairs(generator.render(three), m.template))
    ab, bc, ac = (pair.displacement for pair in pairs)
    points = m.template.points()[8:-8, 8:-8]
    assert np.abs(ab.values).max() > 1
    # u_ac = u_bc o (id + u_ab) + u_ab
    round_trip = np.abs(bc(ab(points)) - ac(points))
    assert round_trip.max() < 0.15  # linear interpolation of u_bc between its nodes
    assert round_trip.mean() < 0.005
    back = np.abs(pairs[0].reverse(ab(points)) - points)
    assert back.max() < 0.15
    assert back.mean() < 0.005


def test_masks_tell_where_targets_lie_inside():
    m = model()
    batch = make_pairs(AppearancePairs(m, pose=4.0), 2, range(3))
    for pair in training_pairs(batch, m.template):
        for field, mask in ((pair.displacement, pair.mask), (pair.reverse, pair.reverse_mask)):
            target = m.template.points() + field.values
            assert np.array_equal(mask.values > 0, m.template.contains(target, margin=1e-6))
    assert 0.5 < batch.mask.float().mean() < 1
    assert batch.residual.max() <= ACCEPTED
    assert batch.least_det.min() >= 0.1


@pytest.mark.kernels
@pytest.mark.parametrize("ndim", [2, 3])
def test_compiled_and_tensor_functions_agree_with_each_other_and_with_bsplines(ndim):
    grid = Grid((12, 9, 7)[:ndim], (1.3, 0.7, 2.0)[:ndim])
    control = BSpline.zeros(grid, 3.0).grid
    c = np.zeros((2, *control.shape, ndim))
    free = (slice(None), *(slice(3, -3),) * ndim)  # the outer layers stay zero, or the map would jump at the domain's border
    c[free] = rng().normal(0, 0.25, c[free].shape)
    frame = ControlFrame.of(control, grid)
    index = rng(1).uniform(-6, 18, (2, 200, ndim))
    coefficients, points = torch.tensor(c @ grid.world_to_index.T), torch.tensor(index)
    u = displacement(coefficients, frame, points)
    both, J = displacement_and_slopes(coefficients, frame, points)
    assert torch.equal(both, u)
    inner = index[0][np.all((index[0] > 0) & (index[0] < np.array(grid.shape) - 1), axis=1)]
    psi = BSpline(c[0], control)
    chosen = torch.tensor(inner)[None]
    world = grid.points_at(inner)
    expected = (psi(world) - world) @ grid.world_to_index.T
    assert np.allclose(displacement(coefficients[:1], frame, chosen)[0].numpy(), expected, atol=1e-12)
    slopes = grid.world_to_index @ (psi.jacobian(world) - np.eye(ndim)) @ grid.index_to_world
    assert np.allclose(displacement_and_slopes(coefficients[:1], frame, chosen)[1][0].numpy(), slopes, atol=1e-12)
    assert J.shape == (2, 200, ndim, ndim)
    turn = np.eye(ndim) + rng(2).normal(0, 0.1, (2, ndim, ndim))
    affine = torch.tensor(np.concatenate([turn, rng(3).normal(0, 2, (2, ndim, 1))], axis=2))
    pixels = torch.tensor(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1).reshape(1, -1, ndim))
    z = pixels.double() @ affine[..., :-1].transpose(1, 2) + affine[:, None, :, -1]
    found = []
    for arithmetic in (TENSORS, COMPILED):
        x, residual = arithmetic.pull(coefficients, frame, affine)
        assert residual.max() <= ACCEPTED
        assert (x + displacement(coefficients, frame, x) - z).norm(dim=-1).max() < 1e-5
        flow, inside = arithmetic.push(coefficients, frame, affine, x)
        target = z @ affine[..., :-1].transpose(1, 2) + affine[:, None, :, -1]
        assert torch.allclose(flow.movedim(1, -1).double() + pixels, target, atol=1e-4)
        clear = ((target - 0.001 > 0) & (target + 0.001 < torch.tensor(grid.shape) - 1)).all(dim=-1)
        assert inside[clear].all()
        found.append((x, inside))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    assert (found[0][1] != found[1][1]).float().mean() < 0.01
    values = torch.randn(3, *grid.shape)
    assert torch.allclose(TENSORS.prefilter(values), COMPILED.prefilter(values), atol=1e-4)
    known = torch.randint(0, 9, (1, *grid.shape), dtype=torch.int32)
    assert torch.equal(TENSORS.nearest(known, points), COMPILED.nearest(known, points))
    fields_, textures = torch.randn(3, 5, 60), torch.randn(5, 60)
    for g in (fields_, -60 * fields_.abs()):
        for expected, blended in zip(TENSORS.blend(g, textures), COMPILED.blend(g, textures), strict=True):
            assert torch.allclose(expected, blended, atol=1e-5)
    v = 0.5 * coefficients
    flowed = [arithmetic.exponential(v, frame, points, -1.0, 3) for arithmetic in (TENSORS, COMPILED)]
    assert torch.allclose(*flowed, atol=1e-12)
    still = Exponential(BSpline(-0.5 * c[0], control), 3)(grid.points_at(index[0]))
    assert np.allclose(grid.points_at(flowed[0][0].numpy()), still, atol=1e-10)
    for count in (1, 2):
        texture = torch.randn(count, *grid.shape, dtype=torch.float64)
        assert torch.allclose(TENSORS.interpolate(texture, points), COMPILED.interpolate(texture, points), atol=1e-12)


@pytest.mark.parametrize("ndim", [2, 3])
def test_textures_are_interpolated_by_mirrored_cubic_splines(ndim):
    grid = Grid((11, 9, 7)[:ndim], (1.3, 0.7, 2.0)[:ndim])
    values = rng().normal(size=grid.shape)
    index = rng(1).uniform(-4, 14, (300, ndim))
    found = TENSORS.interpolate(TENSORS.prefilter(torch.tensor(values)[None]), torch.tensor(index)[None])[0].numpy()
    expected = sample(Image(values, grid), mirrored_points(grid.points_at(index), grid), interpolation="cubic")
    assert np.allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("ndim", [2, 3])
def test_points_that_need_more_steps_do_not_disturb_the_others(ndim):
    grid = Grid((19, 14, 11)[:ndim], (1.3, 0.7, 2.0)[:ndim])
    control = BSpline.zeros(grid, 4.0).grid
    c = np.zeros((4, *control.shape, ndim))
    free = (slice(None), *(slice(3, -3),) * ndim)
    # one that stays, two that bend, one that folds: its points take all steps, and some are never accepted
    c[free] = np.array([0.0, 0.2, 0.4, 4.0]).reshape(-1, *[1] * (ndim + 1)) * rng().normal(size=c[free].shape)
    frame, coefficients = ControlFrame.of(control, grid), torch.tensor(c)
    turn = np.eye(ndim) + rng(2).normal(0, 0.05, (4, ndim, ndim))
    affine = torch.tensor(np.concatenate([turn, rng(3).normal(0, 1, (4, ndim, 1))], axis=2))
    x, residual = TENSORS.pull(coefficients, frame, affine)
    accepted = residual <= ACCEPTED
    assert accepted[:3].all()
    assert 0.2 < accepted[3].double().mean() < 1
    for i in range(3):
        alone, left = TENSORS.pull(coefficients[i : i + 1], frame, affine[i : i + 1])
        assert torch.allclose(left[0], residual[i], rtol=0, atol=1e-9)
        assert torch.allclose(alone[0], x[i], rtol=0, atol=1e-9)
    u = displacement(coefficients, frame, x)
    error = (x + u - frame.targets(affine)).norm(dim=-1)
    assert error[:3].max() < 1e-4
    # the best point found, where none is accepted
    assert torch.allclose(error[~accepted], residual[~accepted], rtol=0, atol=1e-9)


def test_newton_inverts_where_the_fixed_point_iteration_fails():
    grid = Grid((40, 40))
    control = BSpline.zeros(grid, 6.0).grid
    c = np.zeros((1, *control.shape, 2))
    inner = control.points_at(np.stack(np.meshgrid(*map(np.arange, control.shape), indexing="ij"), axis=-1))
    c[0, ..., 0] = (
        2.2 * np.exp(-((inner[..., 1] - 20) ** 2) / 40) * (inner[..., 0] - 20) * np.exp(-((inner[..., 0] - 20) ** 2) / 60)
    )
    c[0, :3] = c[0, -3:] = c[0, :, :3] = c[0, :, -3:] = 0
    assert least_determinant(c, control)[0] > 0.02
    frame, coefficients = ControlFrame.of(control, grid), torch.tensor(c)
    z = torch.tensor(grid.points().reshape(1, -1, 2))
    x = z.clone()
    for _ in range(100):
        x = z - displacement(coefficients, frame, x)
    assert (x + displacement(coefficients, frame, x) - z).abs().max() > 0.5
    identity = torch.eye(2, 3, dtype=torch.float64)[None]
    for arithmetic in (TENSORS, COMPILED):
        x, residual = arithmetic.pull(coefficients, frame, identity)
        assert residual.max() <= ACCEPTED
        assert (x + displacement(coefficients, frame, x) - z).abs().max() < 1e-4


@pytest.mark.parametrize("kind", ["labels"])
def test_label_maps_are_those_of_the_model_in_both_images(kind):
    m = model(kind)
    generator, draw = drawn(2, seed=5)
    for i, pair in enumerate(training_pairs(generator.render(draw), m.template)):
        for k, labels in enumerate((pair.fixed_labels, pair.moving_labels)):
            expected = m.label_map(draw.shape[i, k], draw.pose[i, k], draw.mosaic[i, k])
            assert (labels.values != expected.values).mean() < 1e-3  # points between two voxels may fall either way
        moved = warp(pair.moving_labels, pair.displacement, m.template)
        inside = pair.mask.values > 0
        assert (moved.values != pair.fixed_labels.values)[inside].mean() < 0.03
    assert make_pairs(AppearancePairs(model("landmarks")), 0, [0]).fixed_labels is None


def test_a_pair_depends_on_seed_and_index_alone():
    generator = AppearancePairs(model(), appearance=0.5)
    together = make_pairs(generator, 8, range(5))
    for chosen in ([1, 2], [4]):
        apart = make_pairs(generator, 8, chosen)
        assert torch.allclose(apart.fixed, together[torch.tensor(chosen)].fixed, atol=1e-3)
        assert torch.allclose(apart.flow, together[torch.tensor(chosen)].flow, atol=1e-4)
    other = make_pairs(generator, 9, [1])
    assert (other.flow - together[1:2].flow).abs().max() > 0.5
    draw = generator.draw(pair_rngs(8, range(3)))
    assert len(draw[1:3]) == 2


@pytest.mark.parametrize("kind", ["labels", "landmarks3d"])
def test_folding_maps_are_shrunk_as_little_as_needed(kind):
    m = model(kind)
    _, draw = drawn(4, kind=kind, amplitude=12.0)
    c = np.tensordot(draw.shape.reshape(8, -1), m.mode_splines, axes=1) @ m.template.world_to_index.T
    shrunk, scale, least = renderer_on(m.template, torch.device("cpu")).folding.unfolded(torch.tensor(c))
    assert (scale < 1).any()
    index = Grid(m.control.shape, np.asarray(m.control.spacing) / m.template.spacing)
    for i, s in enumerate(scale.numpy()):
        assert np.allclose(shrunk[i], s * c[i])
        assert least_determinant(shrunk[i : i + 1].numpy(), index)[0] == pytest.approx(float(least[i]), abs=1e-9)
        assert least[i] >= 0.1
        if s < 1:
            assert least_determinant(c[i : i + 1] * s / 0.9, index)[0] < 0.1


def test_folding_draws_are_counted_and_hopeless_ones_replaced():
    m = model()
    tame = make_pairs(AppearancePairs(m, amplitude=0.5), 0, range(8))
    assert tame.shrunk == 0
    assert not tame.rejected.any()
    wild = make_pairs(AppearancePairs(m, amplitude=9.0), 0, range(8))
    assert wild.shrunk > 0
    assert wild.rejected.any()
    assert wild.scale.min() >= 0.3
    assert wild.least_det.min() >= 0.1
    assert wild.residual.max() < 0.01
    # the replacement, too, is a function of seed and index
    index = int(torch.nonzero(wild.rejected)[0, 0])
    assert torch.allclose(make_pairs(AppearancePairs(m, amplitude=9.0), 0, [index]).flow, wild[index : index + 1].flow, atol=1e-3)
    with pytest.raises(ValueError, match="lower its amplitude"):
        make_pairs(AppearancePairs(m, amplitude=1e4), 0, range(2))
    with pytest.raises(ValueError, match="indices"):
        make_pairs(AppearancePairs(m), 0, [])


def test_appearances_are_shared_independent_or_correlated():
    for choice, expected in (("shared", 1.0), ("independent", 0.0), (0.6, 0.6)):
        g = drawn(12, appearance=choice)[1].mosaic
        assert np.corrcoef(g[:, 0].ravel(), g[:, 1].ravel())[0, 1] == pytest.approx(expected, abs=0.05)
        assert g[:, 1].std() == pytest.approx(g[:, 0].std(), rel=0.05)
    same, apart = (drawn(40, appearance=choice)[1].gain for choice in ("shared", "independent"))
    assert np.array_equal(same[:, 0], same[:, 1])
    assert np.log(apart).std() == pytest.approx(np.log(model().gains).std(ddof=1), rel=0.25)
    assert not np.array_equal(apart[:, 0], apart[:, 1])


def test_intensity_changes_are_smooth_gains():
    plain, bright = (make_pairs(AppearancePairs(model(), intensity=i), 5, range(2)) for i in (0.0, 0.2))
    assert torch.equal(plain.flow, bright.flow)
    inside = plain.fixed > 30
    gain = (bright.fixed / plain.fixed)[inside]
    assert 0.02 < gain.log().std() < 0.5


@pytest.mark.parametrize(
    "wrong",
    [{"appearance": "equal"}, {"appearance": 1.5}, {"amplitude": -1.0}, {"pose": float("nan")}, {"mosaic": -1.0}],
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AppearancePairs(model(), **wrong)


@pytest.mark.parametrize("kind", ["labels", "landmarks3d", "velocity"])
def test_tensor_operations_render_the_same_pairs_as_compiled_kernels(kind, monkeypatch):
    generator = AppearancePairs(model(kind), amplitude=2.0, appearance=0.5)
    compiled_ones = make_pairs(generator, 0, range(2))
    monkeypatch.setattr(renderer, "arithmetic_on", lambda device: TENSORS)
    tensors = make_pairs(generator, 0, range(2))
    assert (compiled_ones.flow - tensors.flow).abs().max() < 1e-4
    assert (compiled_ones.reverse - tensors.reverse).abs().max() < 1e-4
    assert (compiled_ones.moving - tensors.moving).abs().max() < 0.05
    for name in ("mask", "reverse_mask", "fixed_labels"):
        ours, theirs = (getattr(part, name) for part in (compiled_ones, tensors))
        assert (ours is None) == (theirs is None)
        assert ours is None or (ours != theirs).float().mean() < 2e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_gives_the_same_pairs():
    m = model()
    generator = AppearancePairs(m, amplitude=3.0)
    cpu, gpu = make_pairs(generator, 0, range(4)), make_pairs(generator, 0, range(4), "cuda")
    assert (cpu.flow - gpu.flow.cpu()).abs().max() < 1e-3
    assert (cpu.fixed - gpu.fixed.cpu()).abs().max() < 0.05
