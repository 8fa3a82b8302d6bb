"""How a model's quality depends on its rank and on the number of training images; measures as in `augreg.sam.evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from augreg.geometry.image import Image
from augreg.sam.evaluate import Measure, Unseen, drawn, measure
from augreg.sam.model import AppearanceModel


@dataclass(frozen=True)
class RankCurve:
    """Measures of a model's first k modes; a subspace with fewer than k modes has its last value.

    Parameters
    ----------
    ranks : numbers of modes
    shape_generalisation : mean distance of unseen shapes to their projections, mm
    shape_specificity : mean distance of samples to the nearest of the unseen shapes, mm
    appearance_generalisation, appearance_specificity : the same of textures, intensity units
    """

    ranks: tuple[int, ...]
    shape_generalisation: tuple[Measure, ...]
    shape_specificity: tuple[Measure, ...]
    appearance_generalisation: tuple[Measure, ...]
    appearance_specificity: tuple[Measure, ...]


def rank_curve(
    model: AppearanceModel,
    images: Sequence[Image],
    landmarks: Sequence[npt.ArrayLike],
    rng: np.random.Generator,
    ranks: Sequence[int] | None = None,
    samples: int = 200,
) -> RankCurve:
    """Generalisation and specificity against rank.

    Parameters
    ----------
    model : appearance model
    images : one or more images, best ones that the model has not seen; specificity is measured against them, too
    landmarks : landmarks of each image, (m, D) mm, in the model's order
    rng : random generator of the samples, drawn afresh for each rank
    ranks : numbers of modes, at least 1; by default 1, 2, 4, ... and the greatest rank
    samples : number of samples

    Raises
    ------
    ValueError : for no images, landmarks that do not fit, or ranks below 1.
    """
    most = max(model.shape.rank, model.appearance.rank)
    ranks = [*(2**i for i in range((most - 1).bit_length())), most] if ranks is None else list(ranks)
    if not ranks or min(ranks) < 1:
        raise ValueError(f"ranks: expected at least one, each at least 1, got {ranks}")
    unseen = Unseen.of(model, images, landmarks)
    rows = []
    for rank in ranks:
        part = model.truncate(rank, rank)
        shapes, textures = drawn(part, rng, samples)
        rows.append(
            (
                measure(unseen.shape_errors(part.shape)),
                measure(unseen.nearest_shapes(shapes)),
                measure(unseen.appearance_errors(part.appearance)),
                measure(unseen.nearest_appearances(textures)),
            )
        )
    return RankCurve(tuple(ranks), *zip(*rows, strict=True))


@dataclass(frozen=True)
class SizeCurve:
    """Generalisation of models fitted to ever more images.

    Parameters
    ----------
    sizes : numbers of training images
    shape_generalisation : mean distance of unseen shapes to their projections, mm
    appearance_generalisation : the same of textures, intensity units
    """

    sizes: tuple[int, ...]
    shape_generalisation: tuple[Measure, ...]
    appearance_generalisation: tuple[Measure, ...]


def size_curve(
    fit: Callable[[Sequence[int]], AppearanceModel],
    count: int,
    images: Sequence[Image],
    find: Callable[[AppearanceModel], Sequence[npt.ArrayLike]],
    rng: np.random.Generator,
    sizes: Sequence[int],
    repeats: int = 1,
) -> SizeCurve:
    """Generalisation against the number of training images, random ones each time.

    Parameters
    ----------
    fit : function from numbers of training images to the model fitted to these images
    count : number of all training images
    images : images that no model has seen
    find : function from a model to its landmarks in these images, see `augreg.sam.find_landmarks`
    rng : random generator that chooses the training images
    sizes : numbers of training images, from 3 to `count`
    repeats : number of choices of each size; means and errors are over all of them and all unseen images

    Raises
    ------
    ValueError : for sizes out of reach.
    """
    if not sizes or min(sizes) < 3 or max(sizes) > count:
        raise ValueError(f"sizes: expected numbers of images from 3 to {count}, got {list(sizes)}")
    shape, appearance = [], []
    for size in sizes:
        errors = []
        for _ in range(repeats):
            model = fit(sorted(int(i) for i in rng.choice(count, size, replace=False)))
            unseen = Unseen.of(model, images, find(model))
            errors.append((unseen.shape_errors(model.shape), unseen.appearance_errors(model.appearance)))
        of_shapes, of_textures = (np.concatenate(part) for part in zip(*errors, strict=True))
        shape.append(measure(of_shapes))
        appearance.append(measure(of_textures))
    return SizeCurve(tuple(sizes), tuple(shape), tuple(appearance))
