"""An agent with a judge who knows comes to the known pose; with others it ends all the same."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from support.agents import about, grids, oracle, places

from augreg import Affine, Chained, DisplacementField, Image, Labels, LPRegistration
from augreg.agents import AgentRegistration, QNet, View, read_agent, write_agent
from augreg.agents.registration import Seen
from augreg.agents.view import pose_of

VIEWS = {2: View((16, 18), (4.5, 4.0), 25.0), 3: View((12, 12, 10), (6.0, 6.0, 6.0), 22.0)}
TURNS = {2: (35, (0, 0, 1), [14.0, -10.0]), 3: (18, (1, 2, -1), [9.0, -12.0, 8.0])}


def task(ndim):
    fixed, moving = grids(ndim)
    truth = about(*TURNS[ndim], fixed, moving)
    return places(fixed), places(moving), truth, oracle(VIEWS[ndim], fixed, moving, truth)


def off(found, truth, judge, fixed):
    """Mean distance of points, mm."""
    points = fixed.grid.center + judge.points @ fixed.grid.axes.T
    return np.linalg.norm(found(points) - truth(points), axis=1).mean()


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_judge_who_knows_leads_to_the_known_pose_within_the_last_step(ndim):
    fixed, moving, truth, judge = task(ndim)
    start = Affine(np.eye(ndim), moving.grid.center - fixed.grid.center)
    states = list(AgentRegistration(judge).steps(fixed, moving, initial=start))
    errors = [off(state.transform, truth, judge, fixed) for state in states]
    assert errors[0] > 8
    # of a pose of six numbers a last step in each may be left, half of one on average
    assert errors[-1] < 1.0
    assert all(b < a for a, b in itertools.pairwise(errors))
    found = states[-1].transform
    assert isinstance(found, Affine)
    assert np.allclose(found.matrix @ found.matrix.T, np.eye(ndim))
    assert np.linalg.det(found.matrix) > 0
    # one state a move, and the objective is what is promised, mm
    assert [state.iteration for state in states] == list(range(len(states)))
    assert len(states) < 40
    assert states[0].objective == pytest.approx(errors[1] - errors[0], abs=1e-3)
    assert [state.level for state in states] == sorted(state.level for state in states)
    assert states[-1].level == 3
    smaller = AgentRegistration(judge, sizes=(8.0, 2.0, 0.25))(fixed, moving, initial=start)
    assert off(smaller, truth, judge, fixed) < 0.25


def test_a_similarity_finds_sizes_and_a_start_of_any_kind_is_kept():
    fixed, moving, truth, judge = task(2)
    sized = Affine(1.2 * truth.matrix, truth(fixed.grid.center) - 1.2 * truth.matrix @ fixed.grid.center)
    view = replace(VIEWS[2], kind="similarity")
    knowing = replace(judge, view=view, truth=pose_of(sized, fixed.grid, moving.grid))
    start = Affine(np.eye(2), moving.grid.center - fixed.grid.center)
    found = AgentRegistration(knowing)(fixed, moving, initial=start)
    assert np.sqrt(np.linalg.det(found.matrix)) == pytest.approx(1.2, abs=0.03)
    assert off(found, sized, knowing, fixed) < 1.0
    # through another start the moving image lies on the fixed grid, and shows where it comes from
    bent = start @ DisplacementField(np.zeros((*fixed.grid.shape, 2)), fixed.grid)
    through = AgentRegistration(judge, most=3)(fixed, moving, initial=bent)
    assert not isinstance(through, Affine)
    assert through.ndim == 2


@pytest.mark.parametrize("ndim", [2, 3])
def test_centres_come_first_for_two_scanners(ndim):
    fixed, moving, truth, judge = task(ndim)
    found = AgentRegistration(judge, centred=True)(fixed, moving)
    assert off(found, truth, judge, fixed) < 1.0


@dataclass(frozen=True, eq=False)
class Told:
    """A judge who likes one move after the other, by the number of times it was asked."""

    view: View
    likes: tuple
    asked: list
    channels: int = 1

    def prepared(self, images, *, moving):
        return images

    def __call__(self, fixed, moving, steps):
        values = torch.full((1, 1, self.view.actions), -0.5)
        like = self.likes[len(self.asked) % len(self.likes)]
        self.asked.append(float(steps[0]))
        if like is not None:
            values[0, 0, like] = 0.5
        return values


def path(likes, **options):
    rng = np.random.default_rng(0)
    fixed = Image(rng.uniform(0, 1, (30, 30)).astype(np.float32), grids(2)[0].with_shape((30, 30)))
    judge = Told(VIEWS[2], likes, [])
    return judge, list(AgentRegistration(judge, **options).steps(fixed, fixed))


def test_the_step_becomes_smaller_where_a_pose_returns_and_where_nothing_is_promised():
    # there and back: the second move would return, at every step
    judge, states = path((0, 1))
    assert judge.asked == [8.0, 8.0, 4.0, 4.0, 2.0, 2.0, 1.0, 1.0]
    assert [state.level for state in states] == [0, 0, 1, 2, 3]
    judge, states = path((None,))
    assert judge.asked == [8.0, 4.0, 2.0, 1.0]
    assert len(states) == 1
    # a square around: the fourth move returns, though its opposite was not the one before
    judge, states = path((0, 2, 1, 3), sizes=(4.0,))
    assert len(states) == 4
    # poses that were met with a larger step may be met once more
    judge, states = path((0, 1, 1, 1), sizes=(4.0, 2.0))
    assert [state.level for state in states] == [0, 0, 1, 1, 1, 1][: len(states)]
    assert len(states) > 3


def test_there_is_a_largest_number_of_moves():
    _, states = path((0,), most=7)
    assert len(states) == 8
    shift = states[-1].transform.translation - states[0].transform.translation
    assert np.linalg.norm(shift) == pytest.approx(56)


def test_what_an_agent_does_not_use_is_said_and_it_may_be_chained():
    rng = np.random.default_rng(0)
    fixed = Image(rng.uniform(0, 1, (40, 44)).astype(np.float32), grids(2)[0].with_shape((40, 44)))
    network = QNet(VIEWS[2], width=0.1).eval()
    mask = Labels(np.ones(fixed.grid.shape, np.uint8), fixed.grid)
    states = list(AgentRegistration(network).steps(fixed, fixed, fixed_mask=mask))
    # a new agent expects nothing, and stays where it is
    assert len(states) == 1
    assert "masks, labels and landmarks are not used by an agent" in states[0].warnings
    chain = Chained(AgentRegistration(network), LPRegistration(transform="rigid"))
    found = Chained(chain, AgentRegistration(network))(fixed, fixed)
    assert found(fixed.grid.center) == pytest.approx(fixed.grid.center, abs=0.01)


def test_what_cannot_be_done_is_refused_with_a_line():
    judge = Told(VIEWS[2], (None,), [])
    volume = Image(np.random.default_rng(0).uniform(0, 1, (8, 8, 8)).astype(np.float32), grids(3)[0].with_shape((8, 8, 8)))
    with pytest.raises(ValueError, match="fixed: expected a 2-D image for this agent, got 3-D"):
        AgentRegistration(judge)(volume, volume)
    for sizes in ((), (1.0, 2.0), (2.0, 0.0), (2.0, 2.0), (np.inf, 1.0)):
        with pytest.raises(ValueError, match="sizes: expected positive mm, from large to small"):
            AgentRegistration(judge, sizes=sizes)
    with pytest.raises(ValueError, match="most: expected 1 move or more, got 0"):
        AgentRegistration(judge, most=0)
    with pytest.raises(ValueError, match="kind: expected one of rigid, similarity, got 'affine'"):
        replace(VIEWS[2], kind="affine")
    with pytest.raises(ValueError, match="shape, spacing, radius: expected 2 or 3"):
        replace(VIEWS[2], radius=0.0)


def random_network(view, **options):
    network = QNet(view, **options).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in network.parameters():
            part.copy_(0.2 * torch.randn(part.shape, generator=generator))
    return network


def test_how_much_lies_around_an_image_is_nothing_to_an_agent():
    fixed, moving = grids(2)
    rng = np.random.default_rng(0)
    network = random_network(VIEWS[2], width=0.2)
    images = [Image(rng.uniform(0, 1, grid.shape).astype(np.float32), grid) for grid in (fixed, moving)]
    wide = np.pad(images[1].values, 13, constant_values=images[1].values.min())
    pose = pose_of(about(*TURNS[2], fixed, moving), fixed, moving)
    found = [Seen.of(network, images[0], one).values(pose, 4.0) for one in (images[1], Image(wide, moving.padded(13)))]
    assert np.ptp(found[0]) > 0.1
    # but for the rim, where a coarse voxel is smoothed into what lies around
    assert np.abs(found[0] - found[1]).max() < 0.2 * np.ptp(found[0])


def test_a_file_gives_the_agent_back_and_others_are_refused(tmp_path):
    from augreg.networks import Marker, UNet, write_network

    for view, markers in ((VIEWS[3], [Marker(3, width=0.2), Marker(3, width=0.2)]), (VIEWS[2], [])):
        network = random_network(view, width=0.2, markers=markers)
        write_agent(network, (4.0, 1.0), tmp_path / "agent.safetensors", centred=True)
        file = read_agent(tmp_path / "agent.safetensors")
        assert (file.steps, file.centred, file.network.view) == ((4.0, 1.0), True, view)
        images = [torch.rand((2, 1, *view.shape), generator=torch.Generator().manual_seed(k)) for k in (1, 2)]
        sides = [
            [one.prepared(image, moving=side) for image, side in zip(images, (False, True), strict=True)]
            for one in (network, file.network)
        ]
        found = [one(*side, torch.tensor([4.0, 1.0])) for one, side in zip((network, file.network), sides, strict=True)]
        assert found[0].shape == (2, 2, view.actions)
        assert torch.equal(*found)
        # dueling: of the advantages their mean is taken away, and the step is seen
        assert not torch.allclose(found[0][:, 0], found[0][:, 1])
        method = AgentRegistration.from_file(tmp_path / "agent.safetensors")
        assert (method.sizes, method.centred) == ((4.0, 1.0), True)
    write_network(UNet(2, 1, 0.2), (1.0, 1.0), tmp_path / "flow.safetensors")
    with pytest.raises(ValueError, match="expected an augreg agent file, got one that holds something else"):
        read_agent(tmp_path / "flow.safetensors")
    from augreg.networks.files import write_tensors

    about = {**network.description, "steps": [1.0], "centred": False, "width": 0.3}
    write_tensors(network.state_dict(), about, tmp_path / "other.safetensors", "augreg agent")
    with pytest.raises(ValueError, match="expected an agent that fits its description, got another; train it again"):
        read_agent(tmp_path / "other.safetensors")
