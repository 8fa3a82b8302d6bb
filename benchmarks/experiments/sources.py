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
from dataclasses import dataclass, fields
from itertools import permutations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from augreg.geometry.image import Image
from augreg.io import read_arrays, write_arrays
from augreg.sam import AppearanceModel, Locality, fit_appearance_model, read_model, write_model
from augreg.synthesis import (
    AppearancePairs,
    PairBatch,
    PairGenerator,
    RandomDeformations,
    StoredPairs,
    magnitudes_of,
    registered_pairs,
)
from augreg.tensors import image_to_tensor
from augreg.training import (
    Alike,
    Batches,
    Likeness,
    Objective,
    Smooth,
    in_both_directions,
    mirrored,
    pairs_from_generators,
    seen_differently,
    supervised,
)
from benchmarks.experiments.people import Study
from benchmarks.experiments.settings import Settings, Turn

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
    generators = [generator(method, turn, study, settings, kept) for turn in settings.turns]
    drawn = pairs_from_generators(lambda step: generators[step % len(generators)], settings.batch // 2, seed)
    objective: Objective = Alike(supervised, settings.likeness)
    if method == "unsupervised":
        objective = Smooth(Likeness(), settings.smoothness)
    seen = seen_differently(drawn, gamma=settings.gamma, noise=settings.noise, seed=seed)
    return Source(sideways_by_chance(in_both_directions(seen), seed), objective)


def generator(method: str, turn: Turn, study: Study, settings: Settings, kept: Path) -> PairGenerator[Any]:
    """What makes the pairs of one turn."""
    grid, intensity = study.training[0].image.grid, settings.intensity
    if method in _LEVELS:
        model = fitted(study, settings, _LEVELS[method], kept)
        how = {"pose": turn.pose, "intensity": intensity, "rest": turn.families}
        return AppearancePairs(model, turn.appearance, turn.amplitude, **how)
    if method == "random":
        magnitudes = magnitudes_of(generator("sam", turn, study, settings, kept))
        return RandomDeformations.of([one.image for one in study.training], magnitudes=magnitudes, intensity=intensity)
    if method == "unsupervised":
        return StoredPairs(_unknown(_families(study, turn.group)), grid, intensity)
    reading: Literal["warped", "estimated"] = "warped" if method == "warped" else "estimated"
    return StoredPairs(_registered(study, turn.group, reading, settings, kept), grid, intensity)


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


def sideways_by_chance(batches: Batches, seed: int) -> Batches:
    """The same pairs, each batch with left and right exchanged by chance: about which people are nearly symmetric."""

    def batch_of(step: int) -> PairBatch:
        batch = batches(step)
        return mirrored(batch, [0]) if np.random.default_rng([seed, step]).random() < 0.5 else batch

    return batch_of


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
    return PairBatch(**{name: torch.from_numpy(values) for name, values in arrays.items()})


def _arrays(pairs: PairBatch) -> dict[str, Any]:
    parts = {part.name: getattr(pairs, part.name) for part in fields(pairs)}
    return {name: tensor.numpy() for name, tensor in parts.items() if tensor is not None}
