"""Recipes that were measured. How they were chosen is said in `benchmarks/experiments/README.md`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from augreg.recipes.recipe import Recipe, Turn
from augreg.synthesis import SmoothField


def _up_to(spacing: float, most: float) -> SmoothField:
    """Random fields of which a third is 0 and a third half as large as the rest."""
    return SmoothField(spacing, (0.0, most / 2, most))


DEFAULT = Recipe()
"""Of `augreg train` where nothing else is said: pairs of one appearance and of two in turns, and likeness as for hearts."""

BRAIN = Recipe(
    turns=(Turn("shared", rest=(_up_to(24.0, 2.0), _up_to(12.0, 1.0))),),
    symmetric=True,
    mirrored="sideways",
    batch=4,
    learning_rate=2e-3,
    likeness=10.0,
)
"""Slices of two heads that are affinely aligned, 1 mm.

On the people that settings were chosen on, one appearance in both images was better than two (Jaccard 0.384 against 0.373),
batches of 4 better than of 8, the rate 0.002 better than 0.001; likeness brought 0.400 to 0.416, the rest a further 0.002.
"""

_MOTION = Turn("shared", pose=0.05, amplitude=2.0, rest=(_up_to(40.0, 4.0), _up_to(20.0, 4.0)))

HEART = Recipe(
    turns=(_MOTION, _MOTION, Turn("independent")),
    intensity=0.2,
    gamma=0.3,
    noise=0.02,
    symmetric=True,
    mirrored="sideways",
    window=41,
    batch=4,
)
"""Short-axis slices of hearts, in pixels: two phases of a patient, or two patients. `sunnybrook-sax` was made with it.

Two steps of three draw phases: one appearance, hardly a pose, large shapes, and a rest, since the ventricle's contour is all that
the landmarks show. One of three draws two patients, with independent appearances. Because of other people's scanners gains, gamma
and noise vary, and contrast is normalised within 41 pixels first: 1.64 pixels became 1.25 between phases of the patients that
settings were chosen on.
"""

DEMO = Recipe(mirrored="all", pool=512, width=0.125, steps=1000, learning_rate=2e-3, likeness=0.0)
"""For minutes of two cores: 512 pairs kept in memory, a narrow network, and the end-point error alone, which costs the least."""

PAIRS = Recipe(batch=4, objective="likeness", smoothness=0.5)
"""Of `augreg train PAIRS.csv` where nothing else is said: real pairs have no truth. Weight and batch are those of the network
without a truth in the experiments with brains and hearts; where all pairs have label maps `labels` is added to the objective.
"""

HEARTS = Recipe(
    gamma=0.3,
    noise=0.02,
    jitter=(10.0, 6.0),
    bend=2.0,
    shade=0.2,
    architecture="UNet",
    width=0.5,
    map="velocity",
    marks="one",
    antisymmetric=True,
    batch=4,
    steps=1200,
    learning_rate=3e-3,
    objective="labels",
    likeness=0.0,
    smoothness=0.1,
)
"""Of PAIRS.csv with label maps of structures that every image has, of one kind of image: sections of hearts of two people.

Each image is marked by itself, and velocities are found from images and marks; both are held to the labels. `--spacing` of two
pixels is what it was measured at, see `benchmarks/experiments/labels.md`.
"""

MULTIMODAL = Recipe(
    gamma=0.3,
    noise=0.02,
    jitter=(10.0, 9.0),
    bend=3.0,
    shade=0.2,
    centred=True,
    architecture="UNet",
    width=0.5,
    map="moments",
    marks="two",
    batch=4,
    steps=1500,
    learning_rate=3e-3,
    objective="labels",
    likeness=0.0,
)
"""Of PAIRS.csv with label maps of an organ that both images show, of two scanners: ultrasound and MR of the prostate.

The centres of the grids are put on each other, each image is marked by a network of its own, and scales and a shift put the
moments of the marks on each other. `--spacing 3` is what it was measured at, see `benchmarks/experiments/labels.md`.
"""

PHASES = (Turn("shared", pose=0.05),)
"""Turns for two phases of a person: the body rests and looks the same."""

# networks of a third of the parameters, one for each of three scales
_THREE = (4, 2, 1)
_NARROW = 0.25 / 3**0.5

BRAINS = replace(BRAIN, scales=_THREE, width=_NARROW)
"""BRAIN at three scales, composed, with as many parameters: for brains that are not aligned so well.

On known fields its error where displacements are above 8 pixels was 0.38 of one scale's, at equal steps, and a little larger
where nothing moves; on people it was as good as one scale used twice (`python -m benchmarks run regnet`). With the pairs of BRAIN
0.383 of Jaccard against 0.375, but 0.345 against 0.352 on slices of another height, one seed (`run steering`).
"""

CONTRASTS = replace(BRAIN, contrasts="maps", descriptor="edges", steered=True)
"""BRAIN with every image through a random map of its intensities, its edges matched before the network sees their directions:
for images whose contrast is not known before.

From nothing, 600 steps, it brought a Jaccard of 0.347 in any contrast and 0.364 on people as they are, in four times the steps
0.348 and 0.367; without matching 0.334 and 0.342, in a third of the time; networks of intensities 0.307 and 0.344 (no
registration 0.298, BRAIN 0.288 and 0.373; `python -m benchmarks run contrast`). The linear program by mutual information has
0.358 and 0.395, after the network 0.367 and 0.404.
"""

LUNGS = replace(PAIRS, architecture="UNet", width=0.5, scales=_THREE)
"""Real pairs of breathing lungs, which move far: PAIRS at three scales, by U-nets, which leave thin axes alone.

Not measured on pairs of lungs, of which there are none to learn from. On known motions of breathing of a chest three scales left
4.3 of 8.4 mm and one scale 7.1, after 200 steps; the linear program leaves 3.3 (`python -m benchmarks run chest`).
"""

_NAMED = {
    "default": DEFAULT,
    "heart": HEART,
    "brain": BRAIN,
    "demo": DEMO,
    "pairs": PAIRS,
    "hearts": HEARTS,
    "multimodal": MULTIMODAL,
    "brains": BRAINS,
    "contrasts": CONTRASTS,
    "lungs": LUNGS,
}


def named(name: str) -> Recipe:
    """The recipe of that name, or of a JSON file.

    Raises
    ------
    ValueError : for another name, or a file without a recipe. FileNotFoundError : without the file.
    """
    if name in _NAMED:
        return _NAMED[name]
    if name.lower().endswith(".json"):
        return read_recipe(name)
    raise ValueError(f"--recipe: expected one of {', '.join(_NAMED)}, or a file ending in .json, got {name!r}")


def read_recipe(path: str | Path) -> Recipe:
    """The recipe of a file with what `augreg train --explain` prints.

    Raises
    ------
    ValueError : for anything else. FileNotFoundError : without the file.
    """
    try:
        about = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected a recipe as `augreg train --explain` prints it, got no JSON: {error}") from error
    if not isinstance(about, dict):
        raise ValueError(f"{path}: expected a recipe as `augreg train --explain` prints it, got {type(about).__name__}")
    try:
        return Recipe.of(about)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
