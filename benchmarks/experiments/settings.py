"""The settings of each study: one object for all its learned methods. How they were chosen is said in the README."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from augreg.lp import LPRegistration
from augreg.synthesis import SmoothField


@dataclass(frozen=True)
class Turn:
    """How pairs are drawn from the appearance model at every so many steps; see `augreg.synthesis.AppearancePairs`.

    Parameters
    ----------
    appearance : correlation of the two appearances
    pose : factor on the training poses' spread
    group : which pairs of real images the other methods take at the same steps
    amplitude : factor on the model's shapes
    rest : random fields added to the model's shapes: spacing and largest root mean square of each family, pixels
    """

    appearance: float | str
    pose: float
    group: str = "people"
    amplitude: float = 1.0
    rest: tuple[tuple[float, float], ...] = ()

    @property
    def families(self) -> tuple[SmoothField, ...]:
        """Of the rest; a third of the shapes has none of it, a third half of it."""
        return tuple(SmoothField(spacing, (0.0, most / 2, most)) for spacing, most in self.rest)


@dataclass(frozen=True)
class Settings:
    """Of all trainings of a study.

    Parameters
    ----------
    steps, batch, learning_rate : of Adam; each batch is drawn half, the other half has the same pairs with their images exchanged
    turns : kinds of pairs, one step each in turns
    correspondences : of the appearance model
    intensity : standard deviation of the logarithm of a smooth gain
    gamma, noise : of the images' looks, see `augreg.training.seen_differently`
    window : of the networks, see `augreg.networks.FlowNet`
    likeness : weight of the images' likeness beside the end-point error
    smoothness : weight of it beside the likeness where there is no truth
    program : the registration by a linear program
    passes : of a network before a linear program
    afterwards : the registration by a linear program after a network
    refining : gradient steps after a network
    gradient : gradient steps without a network
    """

    steps: int
    batch: int
    learning_rate: float
    turns: tuple[Turn, ...]
    correspondences: Literal["labels", "registration"]
    intensity: float
    gamma: float
    noise: float
    window: int | None
    likeness: float
    smoothness: float
    program: LPRegistration
    passes: int
    afterwards: LPRegistration
    refining: int = 10
    gradient: int = 60


# brains of different people, aligned: many keypoints, short profiles, a pliant spline
_BRAIN = LPRegistration(grid_spacing=5.5, smoothness=0.0005, profile=(3, 3), keypoints=3000)
# hearts that are centred: nothing to search for
_HEART = LPRegistration(search=False, keypoints=1000)
_MOTION = ((40.0, 4.0), (20.0, 4.0))

SETTINGS = {
    "brain": Settings(
        steps=2000,
        batch=4,
        learning_rate=2e-3,
        turns=(Turn("shared", 1.0, rest=((24.0, 2.0), (12.0, 1.0))),),
        correspondences="registration",
        intensity=0.05,
        gamma=0.0,
        noise=0.0,
        window=None,
        likeness=10.0,
        smoothness=0.5,
        program=_BRAIN,
        passes=2,
        afterwards=replace(_BRAIN, profile=(2, 2), keypoints=2000),
    ),
    "heart": Settings(
        steps=2000,
        batch=4,
        learning_rate=1e-3,
        turns=(*[Turn("shared", 0.05, "phases", 2.0, _MOTION)] * 2, Turn("independent", 1.0, "people")),
        correspondences="labels",
        intensity=0.2,
        gamma=0.3,
        noise=0.02,
        window=41,
        likeness=6.0,
        smoothness=0.5,
        program=_HEART,
        passes=1,
        afterwards=_HEART,
    ),
}
