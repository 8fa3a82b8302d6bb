"""How an agent learns what moves are worth.

    AdvantageLearner    Q(s, a) -> g(s, a), the gains of all moves of all steps at once, from the known pose: a regression
    DoubleQLearner      Q(s, a) -> r + gamma Q'(s', argmax_b Q(s', b)), r = g of the move that was made, from a replay of moves
                        that walkers have made, with a target network Q' that follows now and then (Ma et al. 2017; van Hasselt
                        et al., AAAI 2016); the end, within the last step of the known pose, has a reward of its own

The second learns from much less of what is known, as the published agent does; it stands here to be compared.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import nn

from augreg.agents.files import write_agent
from augreg.agents.lessons import Lesson, shown
from augreg.agents.network import QNet
from augreg.agents.pairs import PosePairs, gains
from augreg.training import Learner, Place, descend

STEPS = (8.0, 4.0, 2.0, 1.0)
# of Huber's loss, in steps: gains beyond are those of poses far off
_HUBER = 0.5


class _OfAgents(Learner):
    """What both have in common."""

    network: QNet

    def _settle(
        self, network: QNet, pairs: PosePairs, lesson: Lesson, steps: Sequence[float], batch: int, seed: int, centred: bool
    ) -> None:
        self.network, self.pairs, self.lesson = network, pairs, lesson
        self.steps, self.batch, self.seed, self.centred = tuple(map(float, steps)), batch, seed, centred
        self.sizes = torch.tensor(self.steps, dtype=torch.float64)
        self.moves = torch.from_numpy(np.stack([network.view.moves(step) for step in self.steps]))
        self.adam = torch.optim.Adam([p for p in network.parameters() if p.requires_grad])
        self.description: Mapping[str, Any] = {**network.description, "steps": list(self.steps), "batch": batch, "seed": seed}

    def begin(self, place: Place) -> None:
        """See `Learner`, as for the others."""
        self.place, self.run = place, place.together(self.network, self.network.ndim)

    def _seen(self, pairs: PosePairs, poses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both images at poses."""
        device = self.place.device
        moving = self.network.view.seen(pairs.moving.to(device), poses, pairs.outside.to(device))
        return pairs.fixed.to(device), moving

    def write(self, path: Path) -> None:
        """The agent's file, see `augreg.agents.read_agent`."""
        write_agent(self.network, self.steps, path, centred=self.centred)


@final
class AdvantageLearner(_OfAgents):
    """Regression of the gains of all moves.

    Its numbers are `loss`, the norm of its `gradient`, and `chosen`, the mean gain of the moves that it would make, of what the
    best moves gain.

    Parameters
    ----------
    network : learns in place
    pairs : pairs with known poses
    lesson : how states are drawn
    steps : sizes of steps, mm
    batch : states of a step, of all processes
    seed : seed of all that is drawn
    centred : whether centres of grids are put on each other first in use, kept with the weights
    """

    def __init__(
        self,
        network: QNet,
        pairs: PosePairs,
        lesson: Lesson,
        *,
        steps: Sequence[float] = STEPS,
        batch: int = 16,
        seed: int = 0,
        centred: bool = False,
    ) -> None:
        self._settle(network, pairs, lesson, steps, batch, seed, centred)
        self.modules, self.optimisers = {"network": network}, {"adam": self.adam}

    def step(self, number: int, rate: float) -> dict[str, torch.Tensor]:
        """Gains of a batch of states."""
        rng = np.random.default_rng([self.seed, number, 1])
        pairs = self.lesson.moved(self.pairs[shown(len(self.pairs), self.batch, self.seed, number)], self.network, rng)
        poses = self.lesson.poses(pairs, rng)
        # every process draws all and computes its part
        part = slice(*self.place.team.part(self.batch).indices(self.batch))
        pairs, poses = pairs[torch.arange(self.batch)[part]], poses[part]
        known = gains(pairs, poses, self.moves, self.sizes).to(self.place.device, torch.float32)
        with self.place.autocast():
            found = self.run(*self._seen(pairs, poses), self.sizes)
        loss = nn.functional.huber_loss(found.float(), known, delta=_HUBER)
        norm = descend(loss, self.adam, rate, clip=5.0)
        chosen = known.gather(2, found.detach().argmax(dim=2, keepdim=True))
        return {"loss": loss, "gradient": norm, "chosen": chosen.mean() / known.amax(dim=2).mean().clamp(min=1e-6)}


class Walks(nn.Module):
    """Where walkers are, and what they have lived through: pair, step, move, reward, whether it ended, poses before and after."""

    def __init__(self, ndim: int, walkers: int, rows: int) -> None:
        super().__init__()
        side = (ndim + 1, ndim + 1)
        self.register_buffer("pose", torch.zeros(walkers, *side, dtype=torch.float64))
        # pair, step, last move, moves so far; a walker without a pair has to begin
        self.register_buffer("at", torch.full((walkers, 4), -1, dtype=torch.int64))
        self.register_buffer("lived", torch.zeros(rows, 3, dtype=torch.int64))
        self.register_buffer("reward", torch.zeros(rows, 2))
        self.register_buffer("before", torch.zeros(rows, *side, dtype=torch.float64))
        self.register_buffer("after", torch.zeros(rows, *side, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    pose: torch.Tensor
    at: torch.Tensor
    lived: torch.Tensor
    reward: torch.Tensor
    before: torch.Tensor
    after: torch.Tensor
    count: torch.Tensor

    def take(self, lived: torch.Tensor, reward: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> None:
        """Remember moves, the oldest are forgotten."""
        where = (int(self.count) + torch.arange(len(lived))) % len(self.lived)
        self.lived[where], self.reward[where], self.before[where], self.after[where] = lived, reward, before, after
        self.count += len(lived)


@final
class DoubleQLearner(_OfAgents):
    """Double Q-learning with a replay and a target network, as the published agent.

    Its numbers are `loss`, `gradient`, and `reward`, the mean reward of the walkers' moves.

    Parameters
    ----------
    network, pairs, lesson, steps, batch, seed, centred : as of `AdvantageLearner`; the lesson's jitter is left out, since a
        replay knows poses of the images as they are
    walkers : number of walkers, each of which makes a move in every step
    rows : moves that the replay remembers
    discount : gamma; since gains add up to what was gained, little has to be waited for
    follow : steps between which the target stays
    exploring : share of moves by chance at the start; it falls evenly to a tenth over `exploring_steps`
    exploring_steps : see there
    bonus : reward of a move that ends within the last step of the known pose, in steps
    most : moves after which a walker begins anew
    """

    def __init__(
        self,
        network: QNet,
        pairs: PosePairs,
        lesson: Lesson,
        *,
        steps: Sequence[float] = STEPS,
        batch: int = 16,
        seed: int = 0,
        centred: bool = False,
        walkers: int = 16,
        rows: int = 4096,
        discount: float = 0.5,
        follow: int = 100,
        exploring: float = 1.0,
        exploring_steps: int = 1000,
        bonus: float = 1.0,
        most: int = 40,
    ) -> None:
        self._settle(network, pairs, lesson, steps, batch, seed, centred)
        self.discount, self.follow, self.bonus, self.most = discount, follow, bonus, most
        self.exploring, self.exploring_steps = exploring, exploring_steps
        self.target = copy.deepcopy(network).requires_grad_(False)
        self.walks = Walks(network.ndim, walkers, rows)
        self.modules = {"network": network, "target": self.target, "walks": self.walks}
        self.optimisers = {"adam": self.adam}

    def step(self, number: int, rate: float) -> dict[str, torch.Tensor]:
        """A move of every walker, and a batch of what all have lived through."""
        rng = np.random.default_rng([self.seed, number, 2])
        self._next = moves = self._moved(number, rng)
        known = min(int(self.walks.count), len(self.walks.lived))
        rows = {name: torch.cat([getattr(self.walks, name)[:known].cpu(), moves[name]]) for name in _LIVED}
        chosen = torch.from_numpy(rng.integers(known + len(moves["lived"]), size=self.batch))[self.place.team.part(self.batch)]
        pair, step, action = rows["lived"][chosen].T
        reward, ended = rows["reward"][chosen].T.to(self.place.device)
        here, there = ((self.pairs[pair], rows[name][chosen]) for name in ("before", "after"))
        size = self.sizes[step][:, None]
        with torch.no_grad():
            seen = self._seen(*there)
            best = self.network(*seen, size)[:, 0].argmax(dim=1, keepdim=True)
            later = self.target(*seen, size)[:, 0].gather(1, best)[:, 0]
        wanted = reward + self.discount * (1 - ended) * later
        with self.place.autocast():
            found = self.run(*self._seen(*here), size)
        found = found[:, 0].float().gather(1, action[:, None].to(found.device))[:, 0]
        loss = nn.functional.huber_loss(found, wanted, delta=_HUBER)
        norm = descend(loss, self.adam, rate, clip=5.0)
        return {"loss": loss, "gradient": norm, "reward": moves["reward"][:, 0].mean().to(self.place.device)}

    def update(self) -> None:
        """Take the step, and remember the moves."""
        self.adam.step()
        moves = self._next
        self.walks.take(*(moves[name].to(self.walks.pose.device) for name in _LIVED))
        self.walks.pose.copy_(moves["pose"])
        self.walks.at.copy_(moves["at"])
        if int(self.walks.count) // len(moves["lived"]) % self.follow == 0:
            self.target.load_state_dict(self.network.state_dict())

    def _moved(self, number: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """What the walkers do; they are where they were until the step is taken."""
        pose, at = self.walks.pose.cpu().clone(), self.walks.at.cpu().clone()
        idle = at[:, 0] < 0
        first = torch.from_numpy(rng.integers(len(self.pairs), size=len(at)))
        start = self.lesson.poses(self.pairs[first], rng)
        at[idle] = torch.stack([first, torch.zeros_like(first), torch.full_like(first, -1), torch.zeros_like(first)], dim=1)[idle]
        pose[idle] = start[idle]
        pairs = self.pairs[at[:, 0]]
        part = self.place.team.part(len(at))
        with torch.no_grad():
            fixed, moving = self._seen(pairs[torch.arange(len(at))[part]], pose[part])
            values = self.network(fixed, moving, self.sizes[at[part, 1]][:, None])[:, 0]
            best = self.place.team.gathered(values.argmax(dim=1)).cpu()
        share = max(0.1, self.exploring * (1 - number / self.exploring_steps))
        free = torch.from_numpy(rng.random(len(at)) < share)
        action = torch.where(free, torch.from_numpy(rng.integers(self.network.view.actions, size=len(at))), best)
        # the opposite of the last move brings a pose back
        back = (at[:, 2] >= 0) & (action == (at[:, 2] ^ 1))
        after = pose @ self.moves[at[:, 1], action]
        d, size = torch.stack([pairs.distances(pose), pairs.distances(after)]), self.sizes[at[:, 1]]
        ended = d[1] < self.steps[-1]
        reward = (d[0] - d[1]) / size + self.bonus * ended
        lived = torch.stack([at[:, 0], at[:, 1], action], dim=1)
        told = torch.stack([reward, ended.double()], dim=1).float()
        last = at[:, 1] == len(self.steps) - 1
        over = ended | (back & last) | (at[:, 3] + 1 >= self.most)
        level = torch.where(back, (at[:, 1] + 1).clamp(max=len(self.steps) - 1), at[:, 1])
        then = torch.stack([at[:, 0], level, torch.where(back, -1, action), at[:, 3] + 1], dim=1)
        then[over] = -1
        return {"lived": lived, "reward": told, "before": pose, "after": after, "pose": after, "at": then}


_LIVED = ("lived", "reward", "before", "after")
