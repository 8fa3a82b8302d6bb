"""Networks at coarser scales, on tiles, and steered by similarity."""

import numpy as np
import pytest
import torch
from torch import nn

from augreg.networks import (
    AffineFlow,
    AffineMap,
    AtScale,
    Cascade,
    Displacement,
    FlowNetS,
    LocalNet,
    PatchNet,
    RegNet,
    StackedEncoder,
    Steered,
    Tiled,
    UNet,
    Velocity,
    VelocityFlow,
    coarsest_cells,
    coupled_matching,
    network_of,
)


def seeded(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make()
        for module in network.modules():
            for head in getattr(module, "heads", []):
                nn.init.normal_(head.weight, std=0.02)
            if isinstance(module, AffineFlow):
                nn.init.normal_(module.numbers.weight, std=0.02)
        return network.eval()


def images(*shape, channels=1, count=2):
    smooth = nn.functional.avg_pool3d if len(shape) == 3 else nn.functional.avg_pool2d
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return [smooth(torch.randn(count, channels, *shape), 3, 1, 1) for _ in range(2)]


class Says(nn.Module):
    """A network that says the same of all images."""

    ndim, channels, unit = 2, 1, 20.0

    def __init__(self, make):
        super().__init__()
        self.make, self.nothing = make, nn.Parameter(torch.zeros(1))

    def forward(self, fixed, moving):
        return [self.make(len(fixed), tuple(fixed.shape[2:]))]


@pytest.mark.parametrize("scale", [1, 3, (2, 4)])
@pytest.mark.parametrize("shape", [(48, 36), (47, 34)])
def test_affine_maps_of_a_coarser_scale_are_those_of_the_world(scale, shape):
    sides = torch.tensor([scale] * 2 if isinstance(scale, int) else scale).float()
    turn, shift = torch.tensor([[1.1, -0.2], [0.15, 0.9]]), torch.tensor([1.5, -2.0])
    coarse = AtScale(Says(lambda n, m: AffineMap(turn.expand(n, 2, 2), shift.expand(n, 2), m)), scale)
    (found,) = coarse(*images(*shape))
    # block b covers the voxels s b to s b + s - 1: x = s b + (s - 1) / 2
    x = torch.tensor([[[3.0, 7.0], [40.0, 20.0]]])
    blocks = (x - (sides - 1) / 2) / sides
    center = torch.tensor([(-(-n // int(s)) - 1) / 2 for n, s in zip(shape, sides, strict=True)])
    expected = ((blocks - center) @ turn.T + center + shift) * sides + (sides - 1) / 2
    torch.testing.assert_close(found[:1].at(x), expected, atol=1e-4, rtol=0)
    assert (found[:1].at(x) - x).abs().max() > 1


@pytest.mark.parametrize("kind", [Displacement, Velocity])
@pytest.mark.parametrize("scale", [2, (2, 4)])
def test_fields_of_a_coarser_scale_lie_on_larger_cells(kind, scale):
    def field(n, m):
        values = torch.randn(n, 2, *(-(-k // 2) for k in m), generator=torch.Generator().manual_seed(1))
        return kind(values / 10, m, (2, 2), 5.0)

    (found,) = AtScale(Says(field), scale)(*images(50, 41))
    sides = [scale] * 2 if isinstance(scale, int) else scale
    assert found.shape == (50, 41)
    assert found.cells == tuple(2 * s for s in sides)
    coarse = field(2, tuple(-(-n // s) for n, s in zip((50, 41), sides, strict=True)))
    # in the middle of cells nothing is between anything
    expected = coarse.values * 5 * torch.tensor(sides).reshape(2, 1, 1)
    torch.testing.assert_close(found.values * found.unit, expected)


def test_stages_from_coarse_to_fine_compose_and_have_files():
    make = lambda: Cascade([AtScale(UNet(2, 1, 0.25), 4), AtScale(UNet(2, 1, 0.25), 2), UNet(2, 1, 0.25)])  # noqa: E731
    network, pair = seeded(make), images(61, 50)
    again = network_of(network.description)
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        found = network.predict(*pair)
        assert torch.equal(again.eval().predict(*pair).flow(), found.flow())
        first, second, third = network.networks
        a = first(*pair)[0]
        b = a @ second(pair[0], a.warp(pair[1]))[0]
        expected = b @ third(pair[0], b.warp(pair[1]))[0]
    torch.testing.assert_close(found.flow(), expected.flow())
    assert found.flow().abs().max() > 0.5


@pytest.mark.parametrize(
    ("make", "shape", "stride", "tile", "margin"),
    [
        (lambda: RegNet(2, 1, 0.25), (150, 117), 2, 40, 28),
        (lambda: VelocityFlow(RegNet(2, 1, 0.25)), (150, 117), 2, 40, 28),
        (lambda: UNet(3, 1, 0.1, ((2, 2, 1), (2, 2, 2))), (70, 61, 9), 4, 24, 20),
        (lambda: AtScale(RegNet(2, 1, 0.25), 2), (230, 150), 4, 64, 60),
        (lambda: LocalNet(2, 1, 0.25, ((2, 2), (2, 2))), (150, 117), 4, 40, 40),
        (lambda: PatchNet(3, 1, 0.1), (38, 61, 40), 4, 20, 16),
    ],
    ids=["displacement", "velocity", "flat volume", "coarse", "sum of heads", "patches"],
)
def test_tiles_are_as_the_whole(make, shape, stride, tile, margin):
    network, pair = seeded(make), images(*shape, count=1)
    with torch.no_grad():
        whole, tiled = network.predict(*pair), Tiled(network, tile, margin, stride).predict(*pair)
        assert type(tiled) is type(whole)
        torch.testing.assert_close(tiled.flow(), whole.flow(), atol=1e-4, rtol=0)
        assert whole.flow().abs().max() > 0.1
        # without margins they are not
        bare = Tiled(network, tile, 0, stride).predict(*pair)
        assert (bare.flow() - whole.flow()).abs().max() > 1e-2


def test_tiles_that_cannot_be_put_together_are_refused():
    with pytest.raises(ValueError, match="tile, margin: expected multiples of the coarsest cells of 64 voxels, got 100 and 64"):
        Tiled(FlowNetS(2, 1, 0.05), 100, 64)
    with pytest.raises(ValueError, match="margin: expected at most the tile of 64 voxels, got 128"):
        Tiled(FlowNetS(2, 1, 0.05), 64, 128)
    with pytest.raises(TypeError, match="Tiled: expected a network that looks nearby"), torch.no_grad():
        Tiled(AffineFlow(StackedEncoder(2, 1, 0.05)), 64, 64).predict(*images(130, 70))


def test_regnet_looks_as_far_as_it_says_and_is_as_large_as_published():
    network = seeded(lambda: RegNet(2, 1, 0.25))
    fixed, moving = (part.requires_grad_() for part in images(121, 121, count=1))
    values = network(fixed, moving)[0].values
    values[0, 0, 30, 30].backward()
    seen = torch.nonzero(fixed.grad[0, 0])
    # cell 30 covers the voxels 60 and 61
    assert seen.min() >= 60 - 26
    assert seen.max() <= 61 + 26
    assert seen.max() - seen.min() > 40
    count = sum(p.numel() for p in RegNet(3).parameters())
    assert 0.85e6 < count < 0.95e6


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_pass_over_an_image_says_what_the_patch_around_each_place_says_alone(ndim):
    network = seeded(lambda: PatchNet(ndim, 1, 0.25))
    pair = images(*(60, 68, 64)[:ndim], count=1)
    with torch.no_grad():
        whole = network(*pair)[0]
        assert whole.cells == (4,) * ndim
        for corner in [(0, 8, 4), (12, 20, 16)]:
            window = (slice(None), slice(None), *(slice(c, c + 36) for c in corner[:ndim]))
            alone = network(*(part[window] for part in pair))[0].values
            # the cell of voxels 16 to 19 sees voxels 2 to 33
            middle = (0, slice(None), *[4] * ndim)
            place = (0, slice(None), *(c // 4 + 4 for c in corner[:ndim]))
            torch.testing.assert_close(alone[middle], whole.values[place], atol=1e-5, rtol=0)
    fixed, moving = (part.clone().requires_grad_() for part in pair)
    network(fixed, moving)[0].values[(0, 0, *[7] * ndim)].backward()
    for part in (fixed, moving):
        seen = torch.nonzero(part.grad[0, 0])
        assert seen.min() >= 28 - 14
        assert seen.max() <= 31 + 14


def test_localnet_begins_at_no_displacement_and_adds_up_what_its_levels_say():
    strides = ((2, 2, 1), (2, 2, 2))
    pair = images(21, 18, 7, count=2)
    assert LocalNet(3, 1, 0.25, strides)(*pair)[0].flow().abs().max() == 0
    network = seeded(lambda: LocalNet(3, 1, 0.25, strides))
    with torch.no_grad():
        whole = network(*pair)[0]
        assert whole.cells == (2, 2, 1)
        alone = []
        for k in range(2):
            weights = [head.weight.clone() for head in network.heads]
            network.heads[k].weight.zero_()
            alone.append(network(*pair)[0].values)
            network.heads[k].weight.copy_(weights[k])
    # either level says something, and without one the other is left
    assert min(values.abs().max() for values in alone) > 1e-3
    torch.testing.assert_close(alone[0] + alone[1], whole.values)
    again = network_of(network.description)
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(*pair)[0].values, whole.values)
    with pytest.raises(ValueError, match="LocalNet: expected finest from 0 to 2"):
        LocalNet(3, 1, 0.25, strides, 3)
    # every weight learns once the heads do
    (network(*pair)[0].flow() - 1).square().mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())


def test_features_of_regnet_differ_from_place_to_place_while_it_learns_and_nothing_beside_does():
    network = seeded(lambda: AtScale(RegNet(2, 1, 0.5), 4))
    fixed, moving = images(80, 96, count=4)
    seen = {}
    network.network.heads[0].register_forward_hook(lambda _, inputs, __: seen.update(x=inputs[0].detach()))
    measured = [buffer.clone() for buffer in network.buffers()]
    # as made it is as in use: an image does not depend on those beside it
    alone, both = network.predict(fixed[:1], moving[:1]).flow(), network.predict(fixed, moving).flow()
    torch.testing.assert_close(alone, both[:1])
    assert all(torch.equal(a, b) for a, b in zip(measured, network.buffers(), strict=True))
    network.train()(fixed, moving)
    x = seen["x"].transpose(0, 1).flatten(1)
    # of convolutions alone, a third
    assert x.var(dim=1).mean() / x.square().mean() > 0.5
    assert not torch.equal(measured[0], next(network.buffers()))


@pytest.mark.parametrize(("shape", "way"), [((60, 50), (2, -3)), ((21, 26, 23), (1, -2, 2))])
def test_matching_finds_a_shift_within_its_reach_and_follows_what_is_smooth_where_nothing_is_seen(shape, way):
    f = images(*shape, count=1)[0]
    # moving(x + d) = fixed(x)
    moving = f.roll(way, tuple(range(2, f.ndim)))
    inside = (0, slice(None), *[slice(8, -8)] * len(shape))
    found = coupled_matching(f, moving, (1, 5, 3))[inside]
    wanted = torch.tensor(way, dtype=torch.float32).reshape(-1, *[1] * len(shape))
    torch.testing.assert_close(found, wanted.expand_as(found), atol=0.1, rtol=0)
    # cells of two voxels go as far in half as many steps
    far = coupled_matching(f, f.roll([2 * d for d in way], tuple(range(2, f.ndim))), (2, 3, 3))
    middle = far[(0, slice(None), *[slice(n // 2 - 1, n // 2 + 2) for n in far.shape[2:]])]
    torch.testing.assert_close(middle, wanted.expand_as(middle), atol=0.3, rtol=0)
    # in air all displacements are alike, and none is taken
    assert coupled_matching(torch.zeros_like(f), torch.zeros_like(f), (1, 3, 2)).abs().max() == 0
    # the stiffer, the smoother
    noisy = moving + 0.5 * torch.randn(moving.shape, generator=torch.Generator().manual_seed(3))
    rough, stiff = (coupled_matching(f, noisy, (1, 3, 3), stiffness=s).diff(dim=2).square().mean() for s in (0.01, 10.0))
    assert stiff < 0.5 * rough


@pytest.mark.parametrize("shape", [(9, 7), (6, 5, 7)])
def test_matching_is_that_of_its_slow_twin(shape):
    fixed, moving = images(*shape, count=1)
    D, reach, window = len(shape), 1, 3
    f, m = fixed[0, 0].double().numpy(), moving[0, 0].double().numpy()
    places = list(np.ndindex(*shape))

    def near(x, half):
        found = [tuple(np.array(x) + np.array(y) - half) for y in np.ndindex(*[2 * half + 1] * D)]
        return [y for y in found if all(0 <= i < n for i, n in zip(y, shape, strict=True))]

    def over(values, half):
        return {x: np.mean([values[y] for y in near(x, half)], axis=0) for x in places}

    def at(x, d=0):
        return tuple(np.clip(np.array(x) + d, 0, np.array(shape) - 1))

    steps = [np.array(d) - reach for d in np.ndindex(*[2 * reach + 1] * D)]
    mean_f, mean_m = over(f, 1), over(m, 1)
    square_f, square_m = over(f**2, 1), over(m**2, 1)
    cost = {}
    for k, d in enumerate(steps):
        both = over({x: f[x] * m[at(x, d)] for x in places}, 1)
        for x in places:
            y = at(x, d)
            spread = max(square_f[x] - mean_f[x] ** 2, 1e-3) * max(square_m[y] - mean_m[y] ** 2, 1e-3)
            cost[x, k] = 1 - np.clip((both[x] - mean_f[x] * mean_m[y]) / np.sqrt(spread), -1, 1)
    u = {x: np.zeros(D) for x in places}
    for theta in (0.003, 0.01, 0.03, 0.1, 0.3):
        best = {
            x: steps[int(np.argmin([cost[x, k] + 2 * theta * ((d - u[x]) ** 2).sum() for k, d in enumerate(steps)]))]
            for x in places
        }
        u = over(over(best, 2), 2)
    found = coupled_matching(fixed, moving, (1, window, reach), stiffness=2.0)[0].movedim(0, -1).numpy()
    np.testing.assert_allclose(found, np.array([u[x] for x in places]).reshape(*shape, D), atol=1e-4)


def test_a_steered_network_learns_what_matching_leaves_and_has_a_file():
    network = seeded(lambda: Steered(UNet(2, 1, 0.25), ((2, 3, 2), (1, 5, 1)), 2.0))
    assert (network.ndim, network.channels) == (2, 1)
    again = network_of(network.description)
    again.load_state_dict(network.state_dict())
    pair = images(40, 33)
    with torch.no_grad():
        found = network.predict(*pair)
        assert torch.equal(found.flow(), again.eval().predict(*pair).flow())
        begun = network.match(*pair)
        rest = network.network.predict(pair[0], begun.warp(pair[1]))
    points = 5 + 20 * torch.rand(len(pair[0]), 6, 5, 2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(found.at(points), begun.at(rest.at(points)), atol=1e-4, rtol=0)
    # the second look is at the moving image as the first one leaves it
    first = coupled_matching(*pair, (2, 3, 2), stiffness=2.0)
    second = coupled_matching(pair[0], begun.parts[0].warp(pair[1]), (1, 5, 1), stiffness=2.0)
    torch.testing.assert_close(begun.parts[0].values, first * 2 / network.unit)
    torch.testing.assert_close(begun.parts[1].values, second / network.unit)
    assert coarsest_cells(network.description) % 2 == 0
    with pytest.raises(ValueError, match=r"Steered: expected looks .* 3, 5, ... cells and 1 or more, got \(\(2, 4, 2\),\)"):
        Steered(UNet(2, 1, 0.25), ((2, 4, 2),))
    with pytest.raises(ValueError, match="Steered: expected a stiffness above 0, got 0"):
        Steered(UNet(2, 1, 0.25), stiffness=0)
