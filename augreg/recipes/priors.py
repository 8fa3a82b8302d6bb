"""What maps are held to beside the objective, in words: what is known of how bodies move.

    plausible         near the shapes of an appearance model, see `augreg.training.Plausible`
    critic=elastic    a critic cannot tell them from fields of bodies of random stiffness, made of the pairs' label maps
    critic=model      a critic cannot tell them from shapes of an appearance model

joined by +, each with a weight behind a colon if it is not that of `WEIGHTS`. A critic needs a prior, fields that it takes for
real; there is one at most. What is affine in a map costs nothing in any of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import Grid
from augreg.geometry.image import Labels
from augreg.sam import AppearanceModel
from augreg.synthesis import ElasticField, ModelField
from augreg.synthesis.generators.fields import Field
from augreg.training import Fields, Objective, Plausible, fields_from_pool
from augreg.training.batches import ALL

# those that the experiment with prostates had (`python -m benchmarks run prostate`)
WEIGHTS = {"plausible": 0.03, "critic=elastic": 0.02, "critic=model": 0.02}
# fields that a critic knows, and bytes that they take at most
_FIELDS, _MOST = 96, 2**28


def prior_words(text: str) -> dict[str, float]:
    """The words of a prior and their weights; none of "none".

    Raises
    ------
    ValueError : for other words, words that come twice, two critics, a critic without a prior, and weights that are not positive.
    """
    found: dict[str, float] = {}
    if text == "none":
        return found
    for part in text.split("+") if isinstance(text, str) else [repr(text)]:
        word, colon, weight = part.strip().partition(":")
        if word == "critic":
            raise ValueError(
                "prior: expected critic=elastic or critic=model, which a critic learns from, got a critic without a prior"
            )
        try:
            number = float(weight) if colon else WEIGHTS.get(word, math.nan)
        except ValueError:
            number = math.nan
        if word not in WEIGHTS or word in found or not 0 < number < math.inf:
            raise ValueError(f"prior: expected none, or one or more of {', '.join(WEIGHTS)}, as plausible:0.1, got {text!r}")
        found[word] = number
    if len(_critics(found)) > 1:
        raise ValueError(f"prior: expected one critic at most, got {text!r}; leave one out")
    return found


def critic_weight(text: str) -> float:
    """Of a critic's verdict; 0 without one."""
    words = prior_words(text)
    return sum(words[word] for word in _critics(words))


def held_to(text: str, objective: Objective, model: AppearanceModel | None) -> Objective:
    """The objective, and how plausible maps are, where words ask for it.

    Raises
    ------
    ValueError : without a model.
    """
    weight = prior_words(text).get("plausible")
    return objective if weight is None else Plausible(objective, _asked(model, "plausible"), weight)


def fields_for_critic(
    text: str,
    drawn: int,
    grid: Grid,
    *,
    labels: npt.NDArray[np.integer] | None = None,
    model: AppearanceModel | None = None,
    seed: int = 0,
    part: slice = ALL,
    doubled: bool = False,
) -> Fields | None:
    """What a critic sees, where words ask for one: fields of a pool, in an order of chance.

    Parameters
    ----------
    text : the words
    drawn : pairs that are drawn for a step, of all processes
    grid : grid of the images
    labels : label maps (N, *shape) whose tissues move, for `critic=elastic`
    model : for `critic=model`
    seed : seed of all random numbers
    part : which of a step's pairs are wanted
    doubled : whether a step has each pair in both directions

    Raises
    ------
    ValueError : without label maps or a model where they are needed.
    """
    words = _critics(prior_words(text))
    if not words:
        return None
    families: list[Field]
    if words == ["critic=elastic"]:
        if labels is None:
            raise ValueError(
                "prior: expected label maps for critic=elastic, which are its tissues, got none; give them in the columns of "
                "PAIRS.csv or to `augreg sam fit`, or take critic=model"
            )
        families = [ElasticField(Labels(one, grid)) for one in labels]
    else:
        families = [ModelField(_asked(model, words[0]))]
    count = max(drawn, min(_FIELDS, _MOST // (4 * grid.ndim * math.prod(grid.shape))))
    return Fields(fields_from_pool(families, grid, count, drawn, seed, part=part, doubled=doubled))


def needs_model(text: str) -> bool:
    """Whether words speak of shapes of a model."""
    return bool({"plausible", "critic=model"} & prior_words(text).keys())


def check_model(text: str, model: AppearanceModel, shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    """Refuse a model of other images than those that a network is to learn from."""
    template = model.template
    if "plausible" in prior_words(text) and (template.shape != shape or not np.allclose(template.spacing, spacing, rtol=1e-3)):
        raise ValueError(
            f"prior: expected a model of images as the pairs', {shape} voxels of {_mm(spacing)} mm, got {template.shape} of "
            f"{_mm(template.spacing)}; fit it on such images, or bring the pairs there by --spacing"
        )
    if template.ndim != len(shape):
        raise ValueError(f"prior: expected a model in {len(shape)}-D, as the pairs, got {template.ndim}-D")


def _critics(words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith("critic=")]


def _mm(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{step:.4g}" for step in spacing)


def _asked(model: AppearanceModel | None, word: str) -> AppearanceModel:
    if model is None:
        raise ValueError(f"prior: expected an appearance model for {word}, got none; give --shapes MODEL.npz of `augreg sam fit`")
    return model
