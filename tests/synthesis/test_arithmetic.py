"""The arithmetic of rendering: compiled kernels, tensors and their definitions agree."""

import numpy as np
import pytest
import torch
from support.subjects import model

from augreg import Grid, Image
from augreg.geometry.resampling import sample
from augreg.geometry.splines import least_determinant
from augreg.geometry.transforms import BSpline
from augreg.geometry.velocity import Exponential
from augreg.sam.textures import mirrored_points
from augreg.synthesis import AppearancePairs, make_pairs
from augreg.synthesis.render import renderer
from augreg.synthesis.render.arithmetic import ACCEPTED, Textures
from augreg.synthesis.render.compiled import CompiledArithmetic
from augreg.synthesis.render.folding import FoldingCheck
from augreg.synthesis.render.frame import ControlFrame
from augreg.synthesis.render.tensor_splines import displacement, displacement_and_slopes
from augreg.synthesis.render.tensors import TensorArithmetic

TENSORS, COMPILED = TensorArithmetic(), CompiledArithmetic()


def rng(seed=0):
    return np.random.default_rng(seed)


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
        target = z @ affine[..., :-1].transpose(1, 2) + affine[:, None, :, -1]
        moved = arithmetic.move(coefficients, frame, x, affine)
        assert torch.allclose(moved, target, atol=1e-4)
        assert torch.allclose(arithmetic.move(coefficients, frame, points), points + u, atol=1e-12)
        lattice = pixels.double() + displacement(coefficients, frame, pixels.double().expand(2, -1, -1))
        spread = arithmetic.spread(coefficients, frame, affine)
        assert torch.allclose(spread, lattice @ affine[..., :-1].transpose(1, 2) + affine[:, None, :, -1], atol=1e-12)
        flow, inside = arithmetic.ends(frame, moved)
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
    mixing = [torch.randn(n, 2 + a) for a, n in enumerate(grid.shape)]
    choice, textures = torch.randn(3, 5, *[part.shape[1] for part in mixing]), torch.randn(5, grid.size)
    for weights in (choice, 40 * choice):
        expected, blended = (one.mosaic(weights, mixing, textures) for one in (TENSORS, COMPILED))
        assert torch.allclose(expected[0], blended[0], atol=1e-3)
        assert torch.equal(expected[1], blended[1])
    folding = FoldingCheck.of(frame, torch.device("cpu"))
    assert torch.allclose(folding.least(coefficients), folding.by_tensors(coefficients), atol=1e-12)
    index_grid = Grid(control.shape, np.divide(control.spacing, grid.spacing))
    assert np.allclose(folding.least(coefficients).numpy(), least_determinant(coefficients.numpy(), index_grid), atol=1e-9)
    v = 0.5 * coefficients
    flowed = [arithmetic.exponential(v, frame, points, -1.0, 3) for arithmetic in (TENSORS, COMPILED)]
    assert torch.allclose(*flowed, atol=1e-12)
    still = Exponential(BSpline(-0.5 * c[0], control), 3)(grid.points_at(index[0]))
    assert np.allclose(grid.points_at(flowed[0][0].numpy()), still, atol=1e-10)
    for count in (1, 2):
        texture = torch.tensor(rng(count).normal(size=(count, *grid.shape)))
        assert torch.allclose(TENSORS.interpolate(texture, points), COMPILED.interpolate(texture, points), atol=1e-6)


@pytest.mark.kernels
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("count", [1, 3, 6], ids=["one texture", "one a pair", "one an image"])
def test_pairs_in_one_go_are_those_of_their_steps(ndim, count):
    grid = Grid((12, 9, 7)[:ndim], (1.3, 0.7, 2.0)[:ndim])
    control = BSpline.zeros(grid, 3.0).grid
    c = np.zeros((2, 3, *control.shape, ndim))
    free = (slice(None), slice(None), *(slice(3, -3),) * ndim)
    c[free] = rng().normal(0, 0.4, c[free].shape)
    frame, splines = ControlFrame.of(control, grid), torch.tensor(c)
    turn = np.eye(ndim) + rng(2).normal(0, 0.1, (2, 3, ndim, ndim))
    affine = torch.tensor(np.concatenate([turn, rng(3).normal(0, 2, (2, 3, ndim, 1))], axis=3))
    drawn, swapped = (
        torch.tensor(rng(4).normal(size=(count, *grid.shape)), dtype=torch.float32),
        torch.tensor([False, True, False]),
    )
    bounds = torch.tensor(rng(5).uniform(0.5, 1.5, (2, count)), dtype=torch.float32)
    own = renderer._numbers(count, swapped)
    textures = Textures(TENSORS.prefilter(drawn), -bounds[0], bounds[1], own)
    theirs, ours = (one.shown(splines, frame, affine, textures, swapped) for one in (TENSORS, COMPILED))
    assert 0.2 < ours[1].double().mean() < 0.98
    assert torch.equal(ours[1], theirs[1])
    for ours_of, theirs_of in zip(ours, theirs, strict=True):
        assert torch.allclose(ours_of.double(), theirs_of.double(), atol=2e-5)
    # the base of the second pair is its fixed image: that has B alone, the other one B after phi
    base = TENSORS.spread(splines[1], frame, affine[1])
    for b, image in enumerate((ours[3], ours[2], ours[3])):
        mine = textures.coefficients[own[1, b], None]
        expected = TENSORS.interpolate(mine, base[b : b + 1])[0].clamp(-bounds[0][own[1, b]], bounds[1][own[1, b]])
        assert torch.allclose(image[b], expected, atol=2e-5)
    if count == 6:
        assert own.tolist() == [[0, 3, 4], [1, 2, 5]]


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
