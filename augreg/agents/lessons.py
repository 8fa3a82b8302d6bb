"""The states that an agent learns from, drawn anew at every step from pairs with known poses.

    fixed'(x) = fixed(J x),    T*' = R T* J,    T = T*' P      J a small pose of the fixed image, R a mirror of both, P the offset

so few pairs become many, and what an agent has to find differs from what it saw even at the same offset. Looks, if any, change
both images once more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from augreg.agents.network import QNet
from augreg.agents.pairs import Offsets, PosePairs, jitters
from augreg.networks import normalised
from augreg.training.contrasts import random_knots, remapped

# (images (B, C, *any), random generator) -> images that look differently
Looks = Callable[[torch.Tensor, np.random.Generator], torch.Tensor]


@dataclass(frozen=True)
class Jitter:
    """Deviations of the fixed image's small pose.

    Parameters
    ----------
    rotation : degrees
    shift : mm
    scale : of the logarithm along each axis
    mirrored : axis along which half of the pairs are mirrored; None for none
    """

    rotation: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    mirrored: int | None = None


@dataclass(frozen=True)
class Lesson:
    """How states are drawn.

    Parameters
    ----------
    offsets : of the poses at which an agent begins; half of all states are nearer to the end of the way
    jitter : of the fixed image
    looks : other looks of each image, by itself; of marks where an agent sees them alone
    """

    offsets: Offsets
    jitter: Jitter = Jitter()
    looks: Looks | None = None

    def poses(self, pairs: PosePairs, rng: np.random.Generator) -> torch.Tensor:
        """Poses (N, D + 1, D + 1) about those that are known."""
        D = pairs.points.shape[2]
        offsets = np.stack([self.offsets.draw(rng, D, float(rng.choice([1.0, rng.random()]))) for _ in range(len(pairs))])
        return pairs.truth @ torch.from_numpy(offsets)

    def moved(self, pairs: PosePairs, network: QNet, rng: np.random.Generator) -> PosePairs:
        """The same pairs, fixed images in small poses, some mirrored, all with other looks."""
        D, view = pairs.points.shape[2], network.view
        small = self.jitter
        if small.rotation or small.shift or small.scale:
            J = np.stack([jitters(rng, D, rotation=small.rotation, shift=small.shift, scale=small.scale) for _ in pairs.fixed])
            poses = torch.from_numpy(J)
            back = torch.linalg.inv(poses)
            points = pairs.points @ back[:, :D, :D].transpose(1, 2) + back[:, None, :D, D]
            pairs = replace(pairs, fixed=view.seen(pairs.fixed, poses), truth=pairs.truth @ poses, points=points)
        if small.mirrored is not None:
            pairs = _mirrored(pairs, small.mirrored, torch.from_numpy(rng.random(len(pairs)) < 0.5))
        if self.looks is not None:
            # marks beside images stay as they are
            C = network.channels if network.images else network.marks
            sides = {}
            for side in ("fixed", "moving"):
                images = getattr(pairs, side)
                sides[side] = torch.cat([self.looks(images[:, :C], rng), images[:, C:]], dim=1)
            pairs = replace(pairs, **sides, outside=sides["moving"].flatten(2).amin(dim=2))
        return pairs


def _mirrored(pairs: PosePairs, axis: int, which: torch.Tensor) -> PosePairs:
    """Both images of some pairs mirrored along an axis: T* becomes R T* R."""
    D = pairs.points.shape[2]
    signs = torch.ones(len(pairs), D + 1, dtype=torch.float64)
    signs[which, axis] = -1
    chosen = which.reshape(-1, *[1] * (D + 1))
    return replace(
        pairs,
        fixed=torch.where(chosen, pairs.fixed.flip(2 + axis), pairs.fixed),
        moving=torch.where(chosen, pairs.moving.flip(2 + axis), pairs.moving),
        truth=signs[:, :, None] * pairs.truth * signs[:, None, :],
        points=pairs.points * signs[:, None, :D],
    )


def gamma_and_noise(gamma: float, noise: float) -> Looks:
    """Each image through a power of its own, and with noise of its own, as shares of its range.

    Parameters
    ----------
    gamma : deviation of the logarithm of the power
    noise : deviation of the noise
    """

    def looks(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        flat = images.flatten(2)
        shape = (len(images), images.shape[1], *[1] * (images.ndim - 2))
        low, high = flat.amin(dim=2).reshape(shape), flat.amax(dim=2).reshape(shape)
        share = (images - low) / (high - low).clamp(min=1e-12)
        powers = torch.from_numpy(np.exp(gamma * rng.standard_normal((len(images), *[1] * (images.ndim - 1)))).astype(np.float32))
        grains = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32))
        return low + (high - low) * (share.clamp(min=0) ** powers + noise * grains)

    return looks


def any_contrast(noise: float = 0.02) -> Looks:
    """Each image through a random map of intensities of its own (`augreg.training.contrast_mapped`), mean 0 and deviation 1.

    Parameters
    ----------
    noise : largest deviation of noise that is added, where the map's values lie between 0 and 1
    """

    def looks(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        seen = np.stack([remapped(image, random_knots(rng)) for image in images.numpy()])
        seen += noise * rng.random() * rng.standard_normal(seen.shape, dtype=np.float32)
        return normalised(torch.from_numpy(seen))

    return looks


def one_after_the_other(*looks: Looks) -> Looks:
    """All of these changes."""

    def both(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        for one in looks:
            images = one(images, rng)
        return images

    return both


def shown(total: int, batch: int, seed: int, step: int) -> torch.Tensor:
    """Which of `total` pairs a step shows, (batch,): by chance, a function of seed and step."""
    return torch.from_numpy(np.random.default_rng([seed, step, 0]).integers(total, size=batch))
