"""The settings of each study: one object for all its learned methods. How they were chosen is said in the README."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from augreg.lp import LPRegistration


@dataclass(frozen=True)
class Turn:
    """How pairs are drawn from the appearance model at every so many steps; see `augreg.synthesis.AppearancePairs`.

    Parameters
    ----------
    appearance : correlation of the two appearances
    pose : factor on the training poses' spread
    group : which pairs of real images the other methods take at the same steps
    amplitude : factor on the model's shapes
    """

    appearance: float | str
    pose: float
    group: str = "people"
    amplitude: float = 1.0


@dataclass(frozen=True)
class Settings:
    """Of all trainings of a study.

    Parameters
    ----------
    steps, batch, learning_rate : of Adam; each batch is drawn half, the other half has the same pairs with their images exchanged
    turns : kinds of pairs, one step each in turns
    correspondences : of the appearance model
    intensity : standard deviation of the logarithm of a smooth gain
    smoothness : weight in the objective without a truth
    program : the registration by a linear program, alone and after a network
    refining : gradient steps after a network
    gradient : gradient steps without a network
    """

    steps: int
    batch: int
    learning_rate: float
    turns: tuple[Turn, ...]
    correspondences: Literal["labels", "registration"]
    intensity: float
    smoothness: float
    program: LPRegistration
    refining: int = 10
    gradient: int = 60


# brains of different people: tuned on training people, see benchmarks/rivals/augreg.py
_FINE = LPRegistration(grid_spacing=5.5, smoothness=0.0005, profile=(4, 4), keypoints=3000)

SETTINGS = {
    "brain": Settings(
        steps=2000,
        batch=4,
        learning_rate=2e-3,
        turns=(Turn("shared", 1.0),),
        correspondences="registration",
        intensity=0.05,
        smoothness=0.5,
        program=_FINE,
    ),
    "heart": Settings(
        steps=2000,
        batch=4,
        learning_rate=1e-3,
        turns=(Turn("shared", 0.05, "phases", amplitude=1.5), Turn("independent", 1.0, "people")),
        correspondences="labels",
        intensity=0.05,
        smoothness=0.5,
        program=LPRegistration(),
    ),
}
