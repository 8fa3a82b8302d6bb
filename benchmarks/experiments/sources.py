"""What the networks learn from: one source of pairs per learned method.

    sam            the appearance model with locality, five levels
    pca            the same model with one level: rank n - 1, and textures of one person each
    random         real images under random smooth fields, of the root mean square |u| of the pairs of `sam`
    warped         real images under fields from registration: the field is exact, one image is made by it
    estimated      two real images, and the field that registration found
    unsupervised   two real images; what is minimised is local correlation and the roughness of the flow

Every source has the same kinds of pairs in turns, gives half a batch per step, and sees it exchanged, mirrored and lit alike.
Models and registered pairs are kept in a folder and made once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any, Literal

import torch

from augreg.geometry.image import Image
from augreg.io import read_arrays, write_arrays
from augreg.recipes import objective, shown, turn_pairs
from augreg.sam import AppearanceModel, Locality, fit_appearance_model, read_model, write_model
from augreg.synthesis import (
    PairBatch,
    PairGenerator,
    RandomDeformations,
    StoredPairs,
    magnitudes_of,
    registered_pairs,
)
from augreg.tensors import image_to_tensor
from augreg.training import Batches, Likeness, Objective, Smooth, pairs_from_generators
from benchmarks.experiments.people import Study
from benchmarks.experiments.settings import Settings

LEARNED = ("sam", "pca", "random", "warped", "estimated", "unsupervised")
_LEVELS = {"sam": 5, "pca": 1}
_KIND = "registered pairs"


@dataclass(frozen=True, eq=False)
class Source:
    """Pairs of every step, and what is minimised with them."""

    batches: Batches
    objective: Objective


def source(method: str, study: Study, settings: Settings, seed: int, kept: Path) -> Source:
    """The source of a learned method; `kept` is the folder of models and registered pairs of this very study."""
    recipe = settings.recipe
    generators = [generator(method, number, study, settings, kept) for number in range(len(recipe.turns))]
    drawn = pairs_from_generators(lambda step: generators[step % len(generators)], recipe.drawn, seed)
    minimised = Smooth(Likeness(), settings.smoothness) if method == "unsupervised" else objective(recipe)
    return Source(shown(recipe, drawn, seed), minimised)


def generator(method: str, number: int, study: Study, settings: Settings, kept: Path) -> PairGenerator[Any]:
    """What makes the pairs of a turn of the recipe."""
    recipe, group = settings.recipe, settings.groups[number]
    grid, intensity = study.training[0].image.grid, recipe.intensity
    if method in _LEVELS:
        return turn_pairs(recipe, recipe.turns[number], fitted(study, settings, _LEVELS[method], kept))
    if method == "random":
        magnitudes = magnitudes_of(turn_pairs(recipe, recipe.turns[number], fitted(study, settings, _LEVELS["sam"], kept)))
        return RandomDeformations.of([one.image for one in study.training], magnitudes=magnitudes, intensity=intensity)
    if method == "unsupervised":
        return StoredPairs(_unknown(_families(study, group)), grid, intensity)
    reading: Literal["warped", "estimated"] = "warped" if method == "warped" else "estimated"
    return StoredPairs(_registered(study, group, reading, settings, kept), grid, intensity)


def fitted(study: Study, settings: Settings, levels: int, kept: Path) -> AppearanceModel:
    """The appearance model of the training people."""

    def fit() -> AppearanceModel:
        images = [one.image for one in study.training]
        if settings.correspondences == "labels":
            labels = [one.labels for one in study.training]
            return fit_appearance_model(images, labels=labels, locality=Locality(levels=levels))
        return fit_appearance_model(images, registration=settings.program, locality=Locality(levels=levels))

    path = kept / f"{settings.correspondences}-{levels}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_model(fit(), path)
    return read_model(path)


def _families(study: Study, group: str) -> list[list[Image]]:
    """Images of which any two are a pair of that group."""
    if group == "phases":
        return [[one.image for one in study.training if one.person == person] for person in study.people]
    return [[one.image for one in study.training if one.phase == study.training[0].phase]]


def _unknown(families: Sequence[Sequence[Image]]) -> PairBatch:
    pairs = [pair for family in families for pair in permutations([image_to_tensor(image) for image in family], 2)]
    fixed, moving = (torch.cat([pair[side] for pair in pairs]) for side in range(2))
    return PairBatch.without_truth(fixed, moving)


def _registered(study: Study, group: str, reading: Literal["warped", "estimated"], settings: Settings, kept: Path) -> PairBatch:
    path = kept / f"{reading}-{group}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = [pair for family in _families(study, group) for pair in registered_pairs(family, settings.program, reading)]
        write_arrays(path, _arrays(PairBatch.concatenate(parts)), {"kind": _KIND})
    arrays, _ = read_arrays(path, _KIND)
    return PairBatch.of({name: torch.from_numpy(values) for name, values in arrays.items()})


def _arrays(pairs: PairBatch) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in pairs.parts.items()}
