"""Small learners on one protocol: FlowNet's, an adversary, and an agent with replay and target."""

import copy
import itertools

import numpy as np
import torch
from torch import nn

from augreg.networks import seeded
from augreg.networks.files import write_tensors
from augreg.synthesis import PairBatch
from augreg.training import (
    FlowLearner,
    Learner,
    Machine,
    TrainingOptions,
    descend,
    kept,
    pairs_from_memory,
    seeded_network,
)
from augreg.training.checkpoints import named_state
from support.flows import pairs

# sums of several threads differ in the last bit, and compiled loops elsewhere change their number
OPTIONS = TrainingOptions(steps=6, learning_rate=1e-3, machine=Machine("cpu", threads=1))


def perceptron(*widths, seed=0):
    pairs = itertools.pairwise(widths)
    return seeded(seed, lambda: nn.Sequential(*[part for a, b in pairs for part in (nn.Linear(a, b), nn.Tanh())][:-1]))


class TwoPlayers(Learner):
    """A network that makes points of noise, and a critic who tells them from those of a ring and moves first in every step."""

    def __init__(self, spoilt=-1):
        self.network, self.critic = perceptron(2, 8, 2), perceptron(2, 8, 1, seed=1)
        self.adam = torch.optim.Adam(self.network.parameters())
        self.critics = torch.optim.Adam(self.critic.parameters(), betas=(0.5, 0.9))
        self.modules = {"network": self.network, "critic": self.critic}
        self.optimisers = {"adam": self.adam, "critic_adam": self.critics}
        self.description = {"widths": [2, 8]}
        self.spoilt = spoilt

    def begin(self, place):
        self.part, self.make, self.judge = place.team.part(8), place.together(self.network, 2), place.together(self.critic, 2)

    def step(self, number, rate):
        rng = np.random.default_rng([0, number])
        angle, noise = rng.uniform(0, 2 * np.pi, 8), torch.from_numpy(rng.normal(size=(8, 2))).float()
        ring = torch.from_numpy(np.stack([np.cos(angle), np.sin(angle)], axis=1)).float()
        made = self.make(noise[self.part])
        real, fake = self.judge(torch.cat([ring[self.part], made.detach()])).chunk(2)
        error = (torch.relu(1 - real) + torch.relu(1 + fake)).mean()
        push = descend(error, self.critics, 2 * rate, clip=1.0)
        self.undo = kept(self.critic, self.critics)
        self.critics.step()
        # the network learns from the critic's verdict, not the critic
        self.critic.requires_grad_(False)
        loss = -self.critic(made).mean() * (torch.nan if number == self.spoilt else 1)
        pull = descend(loss, self.adam, rate, clip=5.0)
        self.critic.requires_grad_(True)
        return {"loss": loss, "gradient": pull, "critic": error, "critic_gradient": push}

    def update(self):
        self.adam.step()

    def write(self, path):
        write_tensors(self.network.state_dict(), {}, path, "points")


MOVES = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])


class Memory(nn.Module):
    """Walkers where they are, what they have lived through (from, action, reward, to), and how many steps ago it began."""

    def __init__(self, walkers=8, rows=128):
        super().__init__()
        self.register_buffer("walkers", torch.zeros(walkers, 2))
        self.register_buffer("rows", torch.zeros(rows, 6))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def known(self):
        return self.rows[: int(self.steps) * len(self.walkers)]

    def take(self, rows):
        begin = int(self.steps) * len(rows) % len(self.rows)
        self.rows[begin : begin + len(rows)] = rows
        self.steps += 1


class Agent(Learner):
    """Walkers that learn the way home, to the origin, from what they have lived through: Q(s, a) = r + 0.5 max Q'(s', a')."""

    def __init__(self):
        self.online, self.memory = perceptron(2, 16, 4), Memory()
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.adam = torch.optim.Adam(self.online.parameters())
        self.modules = {"online": self.online, "target": self.target, "memory": self.memory}
        self.optimisers = {"adam": self.adam}
        self.description = {"moves": MOVES.tolist()}

    def begin(self, place):
        self.team, self.values = place.team, place.together(self.online, 2)

    def step(self, number, rate):
        rng = np.random.default_rng([0, number])
        here = self.memory.walkers
        random, free = torch.from_numpy(rng.integers(4, size=len(here))), torch.from_numpy(rng.random(len(here)) < 0.5)
        with torch.no_grad():
            # each process moves some of the walkers, and all know of all
            best = self.team.gathered(self.online(here[self.team.part(len(here))]).argmax(dim=1))
        action = torch.where(free, random, best)
        there = here + MOVES[action]
        reward = here.norm(dim=1) - there.norm(dim=1)
        self.lived = torch.cat([here, action[:, None], reward[:, None], there], dim=1)
        # all begin anew now and then
        anew = torch.from_numpy(rng.integers(-3, 4, size=here.shape)).float()
        self.next = anew if number % 8 == 7 else there
        rows = torch.cat([self.memory.known(), self.lived])
        shown = rows[torch.from_numpy(rng.integers(len(rows), size=32))[self.team.part(32)]]
        goal = shown[:, 3] + 0.5 * self.target(shown[:, 4:]).amax(dim=1)
        loss = (self.values(shown[:, :2]).gather(1, shown[:, 2:3].long())[:, 0] - goal).square().mean()
        return {"loss": loss, "gradient": descend(loss, self.adam, rate, clip=5.0), "reward": reward.mean()}

    def update(self):
        self.adam.step()
        self.memory.take(self.lived)
        self.memory.walkers.copy_(self.next)
        if self.memory.steps % 10 == 0:
            self.target.load_state_dict(self.online.state_dict())

    def write(self, path):
        write_tensors(self.online.state_dict(), {}, path, "agent")


def flows():
    pool = PairBatch.concatenate([pairs(step, batch=2) for step in range(2)])
    return FlowLearner(seeded_network(0, 2, 0.03), pairs_from_memory(pool, 2), (1.0, 1.0))


def copied(learner):
    return {name: tensor.clone() for name, tensor in named_state(learner).items()}


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
