"""What a shape model finds plausible: its own draws, wherever they are placed; nothing that is rough or in the wrong place."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.flows import pairs
from support.subjects import model

from augreg.networks import AffineMap, Composed, Displacement, diffusion
from augreg.networks.cells import averages
from augreg.synthesis import AppearancePairs, PairBatch, SmoothField, make_pairs, pair_rngs
from augreg.synthesis.generators.flows import draw_flows
from augreg.training import Plausible, supervised

KINDS = ["labels", "displacement", "landmarks3d"]


def plausible(kind="labels", **options):
    return Plausible(supervised, model(kind), **{"weight": 1.0, "cell": 3, **options})


def drawn(kind, count=12):
    return make_pairs(AppearancePairs(model(kind), pose=0.0), 0, range(count)).flow


def cost(plausible, flow):
    return plausible.implausibility(Displacement.of(flow))


@pytest.mark.parametrize("kind", KINDS)
def test_draws_of_the_model_are_more_plausible_than_fields_as_large_that_are_not(kind):
    prior, flow = plausible(kind), drawn(kind)
    own = cost(prior, flow)
    assert 0.4 < own.mean() < 2.5
    grid = model(kind).template
    longest = float(grid.sides.max())
    smooth = draw_flows([SmoothField(longest / 6, (1.0,))], grid, pair_rngs(1, range(len(flow))))
    others = {
        # the same in the wrong place: reversed along the first axis
        "reversed": flow.flip(2) * torch.tensor([-1.0, *[1.0] * (grid.ndim - 1)]).reshape(1, -1, *[1] * grid.ndim),
        "smooth": smooth * (flow.square().mean() / smooth.square().mean()).sqrt(),
    }
    for name, other in others.items():
        assert cost(prior, other).median() > 1.5 * own.median(), name
    # Gaussian models know no direction
    torch.testing.assert_close(cost(prior, -flow), own)


@pytest.mark.parametrize("kind", KINDS)
def test_affine_maps_cost_nothing_and_change_nothing(kind):
    prior, flow = plausible(kind), drawn(kind, 2)
    D = flow.shape[1]
    matrix = torch.eye(D) + 0.1 * torch.from_numpy(np.random.default_rng(0).normal(size=(2, D, D))).float()
    moved = AffineMap(matrix, torch.full((2, D), 3.0), tuple(flow.shape[2:]))
    assert prior.implausibility(moved).max() < 1e-5
    torch.testing.assert_close(cost(prior, flow + moved.flow()), cost(prior, flow), rtol=1e-3, atol=1e-4)


def test_the_cost_is_the_least_over_all_ways_to_share_out_the_map():
    """By least squares over affine part and coefficients at once, from the fields themselves."""
    prior, (flow,) = plausible(rho=4.0, cell=4), drawn("labels", 1)
    flow = flow + 0.3 * torch.from_numpy(np.random.default_rng(1).normal(size=flow.shape)).float()
    known, cells = model("labels"), (4, 4)

    def means(field):
        return (averages(field[None], cells) / averages(torch.ones_like(field[None, :1]), cells))[0].double()

    def slopes(field):
        parts = [field.diff(dim=axis) / 4 for axis in (1, 2)]
        # the mean over places of the squares of both components
        return np.concatenate([(part / np.sqrt(part[0].numel())).numpy().ravel() for part in parts])

    grid = known.template
    modes = []
    for number in range(known.shape.rank):
        b = np.zeros(known.shape.rank)
        b[number] = np.sqrt(2)
        u = (known.transform(b)(grid.points()) - grid.points()) @ grid.world_to_index.T
        modes.append(slopes(means(torch.from_numpy(np.moveaxis(u, -1, 0)).float())))
    x, y = np.meshgrid(*map(np.arange, grid.shape), indexing="ij")
    affine = [slopes(means(torch.tensor(np.stack(part)).float())) for part in ((x, 0 * x), (y, 0 * x), (0 * x, x), (0 * x, y))]
    Q, _ = np.linalg.qr(np.stack(affine, axis=1))
    H = np.stack(modes, axis=1)
    s = np.square(H - Q @ (Q.T @ H)).sum()
    K, kappa = len(modes), 4.0 / s
    rows = np.block([[np.sqrt(kappa) * H, np.sqrt(kappa) * np.stack(affine, axis=1)], [np.eye(K) / np.sqrt(K), np.zeros((K, 4))]])
    right = np.concatenate([np.sqrt(kappa) * slopes(means(flow)), np.zeros(K)])
    found = np.linalg.lstsq(rows, right, rcond=None)[0]
    expected = np.square(rows @ found - right).sum()
    assert float(cost(prior, flow[None])) == pytest.approx(expected, rel=1e-3)


def test_what_the_model_does_not_explain_costs_its_roughness():
    prior = plausible(rho=7.0, cell=1)
    rough = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, *model().template.shape))).float()
    # noise is nothing that a few smooth modes explain
    _, _, kappa = prior._known
    assert float(cost(prior, rough)) == pytest.approx(float(kappa * diffusion(rough)), rel=0.02)


def test_a_network_is_led_by_it():
    """Steps down the gradient lead from a rough field to one that costs less, and all maps have finite gradients."""
    prior = plausible()
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 2, 60, 48))).float()
    flow = (drawn("labels", 2) + 0.5 * noise).requires_grad_()
    before = cost(prior, flow)
    before.sum().backward()
    assert torch.isfinite(flow.grad).all()
    assert (cost(prior, flow - 0.1 * flow.grad / flow.grad.norm() * flow.detach().norm()) < before).all()
    still = AffineMap(torch.eye(2)[None].requires_grad_(), torch.zeros(1, 2, requires_grad=True), (60, 48))
    prior.implausibility(Composed((Displacement.of(torch.zeros(1, 2, 60, 48)), still))).sum().backward()
    assert torch.isfinite(still.matrix.grad).all()


def test_it_is_added_to_another_objective_on_the_model_s_grid():
    shown = make_pairs(AppearancePairs(model(), pose=0.0), 0, range(2))
    maps = [Displacement.of(0.5 * shown.flow)]
    once, twice = (plausible(weight=weight)(maps, shown) - supervised(maps, shown) for weight in (1.0, 2.0))
    assert float(twice) == pytest.approx(2 * float(once), rel=1e-4)
    assert float(once) == pytest.approx(float(cost(plausible(), maps[0].flow()).mean()), rel=1e-4)
    with pytest.raises(ValueError, match=r"Plausible: expected images on the model's grid, of shape \(60, 48\), got \(64, 64\)"):
        plausible()([Displacement.of(pairs(0).flow)], replace(pairs(0)))
    with pytest.raises(ValueError, match="weight, rho, cell: expected 0 or more"):
        plausible(rho=0.0)
    assert isinstance(shown, PairBatch)
