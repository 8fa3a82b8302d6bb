"""The settings of each study: one object for all its learned methods. How they were chosen is said in the README."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from augreg.lp import LPRegistration
from augreg.recipes import BRAIN, HEART, Recipe


@dataclass(frozen=True)
class Settings:
    """Of all trainings of a study.

    Parameters
    ----------
    recipe : of the appearance model's pairs and of all networks; other methods replace what draws the pairs
    groups : for each turn of the recipe, which pairs of real images the other methods take at the same steps
    correspondences : of the appearance model
    smoothness : weight of it beside the likeness where there is no truth
    program : the registration by a linear program
    passes : of a network before a linear program
    afterwards : the registration by a linear program after a network
    refining : gradient steps after a network
    gradient : gradient steps without a network
    """

    recipe: Recipe
    groups: tuple[str, ...]
    correspondences: Literal["labels", "registration"]
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

SETTINGS = {
    "brain": Settings(
        recipe=BRAIN,
        groups=("people",),
        correspondences="registration",
        smoothness=0.5,
        program=_BRAIN,
        passes=2,
        afterwards=replace(_BRAIN, profile=(2, 2), keypoints=2000),
    ),
    "heart": Settings(
        recipe=HEART,
        groups=("phases", "phases", "people"),
        correspondences="labels",
        smoothness=0.5,
        program=_HEART,
        passes=1,
        afterwards=_HEART,
    ),
}
