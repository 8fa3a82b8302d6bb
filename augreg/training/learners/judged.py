"""Two players: a network that learns maps, and a critic that learns to tell its maps from real ones.

    critic     min  E relu(1 - D(real)) + E relu(1 + D(made)) + (gamma / 2) E |grad D(real)|^2
    network    min  objective - w_t E D(made),           w_t = w min(1, t / warm_up)

E is the mean over pairs and places. The hinge loss is that of Lim and Ye (arXiv 1705.02894); the gradient penalty, on what is
real alone, that of Mescheder et al. (ICML 2018), computed every fourth step with four times the weight (Karras et al., CVPR
2020). Both players compute their steps from the same state and then take them together: so a step that must not be taken has
changed neither. The weight grows from 0, since a critic that sees images apart from each other has nothing to say of alignment.

After Fan et al. (MICCAI 2018: the critic sees images) and Hu et al. (MICCAI 2018: it sees fields); theirs are trained with
logarithms and in turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import final

import torch

from augreg.networks import Critic, Network, write_network
from augreg.synthesis import PairBatch
from augreg.training.batches import Batches
from augreg.training.learner import Learner, descend, measures_kept, not_finite
from augreg.training.learners.flows import errors, goal_of, looked_at, ready, spoilt
from augreg.training.objectives import Objective, supervised
from augreg.training.place import Place
from augreg.training.sights import Sight

# steps between gradient penalties
EVERY = 4
# numbers that may be unknown
_KNOWN_WITH_A_TRUTH = ("epe", "epe_without")


@final
class JudgedLearner(Learner):
    """A network and its critic.

    Its numbers are those of `FlowLearner`, with `objective`, which is the loss without the critic's part, and of the critic its
    loss `critic`, the norm of its gradient `critic_gradient`, its mean verdicts `real` and `made`, and `steep`, the mean squared
    gradient of the verdicts on what is real, 0 in steps that do not look at it.

    Parameters
    ----------
    network, critic : trained in place
    batch_of : pairs of a step; in a team those of this process
    spacing : voxel size of the pairs, mm, kept with the weights
    sees : what the critic sees, see `augreg.training.sights`
    weight : w, of the critic's verdict beside the objective, which is in the network's units
    warm_up : steps over which the weight grows from 0
    objective : function that is minimised beside
    held_out : pairs that are looked at, not learned from
    penalty : gamma
    pace : learning rate of the critic, as a multiple of the network's
    weight_decay : see `FlowLearner`; the critic's weights do not decay
    clip, critic_clip : largest norms of the gradients
    centred : see `FlowLearner`

    Raises
    ------
    ValueError : for a critic of another dimension or number of channels, or negative numbers.
    """

    def __init__(
        self,
        network: Network,
        critic: Critic,
        batch_of: Batches,
        spacing: tuple[float, ...],
        *,
        sees: Sight,
        weight: float = 0.01,
        warm_up: int = 500,
        objective: Objective = supervised,
        held_out: PairBatch | None = None,
        penalty: float = 1.0,
        pace: float = 2.0,
        weight_decay: float = 4e-4,
        clip: float = 5.0,
        critic_clip: float = 5.0,
        centred: bool = False,
    ) -> None:
        wanted = (network.ndim, sees.channels(network.ndim))
        if (critic.ndim, critic.channels) != wanted:
            raise ValueError(
                f"critic: expected {wanted[0]} dimensions and {wanted[1]} channels, what it is to see, got {critic.ndim} and "
                f"{critic.channels}"
            )
        if not (weight >= 0 and penalty >= 0 and pace > 0):
            raise ValueError(f"weight, penalty, pace: expected numbers of at least 0, got {weight}, {penalty} and {pace}")
        self.network, self.critic, self.batch_of, self.spacing = network, critic, batch_of, spacing
        self.sees, self.weight, self.warm_up, self.objective = sees, weight, warm_up, objective
        self.centred = centred
        self.held_out, self.penalty, self.pace, self.clip, self.critic_clip = held_out, penalty, pace, clip, critic_clip
        self.adam = torch.optim.Adam(network.parameters(), weight_decay=weight_decay / network.unit)
        # no memory of the other player's older moves
        self.critic_adam = torch.optim.Adam(critic.parameters(), betas=(0.0, 0.9))
        self.modules = {"network": network, "critic": critic}
        self.optimisers = {"adam": self.adam, "critic_adam": self.critic_adam}
        self.description = {"network": network.description, "critic": critic.description}
        self.goal = goal_of(held_out)

    def begin(self, place: Place) -> None:
        """See `Learner`, as for the others."""
        self._place, self._run = place, place.together(self.network, self.network.ndim)
        self._judge = place.together(self.critic, self.critic.ndim)

    def step(self, number: int, rate: float) -> dict[str, torch.Tensor]:
        """Both players' losses and gradients."""
        self._batch = batch = ready(self.network, self.batch_of(number), self._place)
        self._restore = measures_kept(self.network)
        with self._place.autocast():
            maps = self._run(batch.fixed, batch.moving)
        made = self.sees.made(number, maps[0], batch)
        with torch.no_grad():
            real = self.sees.real(number, maps[0], batch, self.network.prepare)
        told = self._critic_step(number, real, made.detach(), rate)
        objective = self.objective(maps, batch)
        # the network learns from the verdict, the critic does not: its gradient stays as it is
        self.critic.requires_grad_(False)
        share = self.weight * min(1.0, number / max(self.warm_up, 1))
        loss = objective - share * self.critic(made).mean()
        norm = descend(loss, self.adam, rate, self.clip)
        self.critic.requires_grad_(True)
        epe, without = errors(maps, batch)
        return {"loss": loss, "gradient": norm, "epe": epe, "epe_without": without, "objective": objective, **told}

    def _critic_step(self, number: int, real: torch.Tensor, made: torch.Tensor, rate: float) -> dict[str, torch.Tensor]:
        real = real.requires_grad_()
        # one pass: gradients of a team are put together once
        verdicts = self._judge(torch.cat([real, made]))
        of_real, of_made = verdicts[: len(real)], verdicts[len(real) :]
        hinge = torch.relu(1 - of_real).mean() + torch.relu(1 + of_made).mean()
        steep = torch.zeros((), device=real.device)
        if number % EVERY == 0 and self.penalty:
            # of the sum of verdicts: what a voxel changes does not depend on how large the image is
            (gradient,) = torch.autograd.grad(of_real.sum(), real, create_graph=True)
            steep = gradient.square().sum(dim=1).mean()
        error = hinge + 0.5 * self.penalty * EVERY * steep
        norm = descend(error, self.critic_adam, self.pace * rate, self.critic_clip)
        means = {"real": of_real.detach().mean(), "made": of_made.detach().mean()}
        return {"critic": hinge, "critic_gradient": norm, **means, "steep": steep}

    def trouble(self, numbers: Mapping[str, float]) -> str | None:
        """Losses or gradients that are not finite, and the pair that may be the cause; end-point errors may be unknown."""
        trouble = not_finite({name: value for name, value in numbers.items() if name not in _KNOWN_WITH_A_TRUTH})
        if trouble and (bad := spoilt(self._batch)):
            return f"expected finite pairs, got NaN or infinity in number {bad[0]} of the batch"
        return trouble

    def undo(self) -> None:
        """What the network has measured in passing is as before."""
        self._restore()

    def look(self) -> dict[str, float]:
        """The end-point error of what is held out; its objective where no truth is known."""
        return {} if self.held_out is None else looked_at(self.network, self.objective, self.held_out, self._place)

    def write(self, path: Path) -> None:
        """The network's file, see `augreg.networks.read_network`; the critic, of no use without it, is in the checkpoint."""
        write_network(self.network, self.spacing, path, centred=self.centred)
