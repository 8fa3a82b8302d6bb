"""Pairs as TorchIO transforms of subjects.

TorchIO's world is RAS and its images are volumes (C, X, Y, Z): planes have Z = 1, and displacements three components in mm, RAS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from augreg.geometry.grid import Grid
from augreg.geometry.image import Labels
from augreg.geometry.transforms import DisplacementField
from augreg.missing import missing
from augreg.ras import ras_affine, ras_vectors
from augreg.synthesis.pairs import PairGenerator, TrainingPair, make_pairs, training_pairs, wanted_of

try:
    import torchio
    from torchio.transforms import Transform
    from torchio.transforms.augmentation import RandomTransform
except ModuleNotFoundError as error:
    raise missing("torchio", error, "torchio") from error


class Pair(Transform):
    """Adds one pair of a generator to a subject, the same each time.

    The images are `fixed`, `moving`, `displacement` (3, *shape) mm with moving(x + displacement(x)) = fixed(x) inside `mask`,
    `reverse` and `reverse_mask`, and `fixed_labels`, `moving_labels` where the generator has labels.

    Parameters
    ----------
    generator : generator of the pairs
    seed : seed of the pair, which is `make_pairs(generator, seed, [0])`
    parts : names of what is wanted, such as ("fixed", "moving", "displacement", "mask"); by default all
    options : options of every TorchIO transform: p, copy, include and so on
    """

    def __init__(self, generator: PairGenerator[Any], seed: int, parts: Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.generator = generator
        self.seed = seed
        self.parts = parts
        # with these TorchIO makes the transform again from a subject's history
        self.args_names = ["generator", "seed", "parts"]

    def apply_transform(self, subject: torchio.Subject) -> torchio.Subject:
        """The subject with the pair."""
        # TorchIO makes numpy raise at overflows
        with np.errstate(all="warn"):
            [pair] = training_pairs(make_pairs(self.generator, self.seed, [0]), self.generator.grid)
        for name, image in _images(pair, self.parts).items():
            subject.add_image(image, name)
        return subject


class RandomPair(RandomTransform):
    """Adds a pair of a generator to a subject, another one each time: see `Pair`, which the subject's history holds.

    Parameters
    ----------
    generator : generator of the pairs
    parts : see `Pair`
    options : options of every TorchIO transform: p, copy, include and so on
    """

    def __init__(self, generator: PairGenerator[Any], parts: Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.generator = generator
        self.parts = parts

    def apply_transform(self, subject: torchio.Subject) -> torchio.Subject:
        """The subject with a pair, drawn with torch's random numbers."""
        seed = int(torch.randint(2**31, (1,)))
        return Pair(self.generator, seed, self.parts, **self._get_base_args())(subject)


def _images(pair: TrainingPair, wanted: Sequence[str] | None) -> dict[str, torchio.Image]:
    images = {}
    for name in wanted_of(pair.names, wanted):
        part = getattr(pair, name)
        if isinstance(part, DisplacementField):
            volume = np.moveaxis(_as_volume(ras_vectors(part.values), part.grid), -1, 0).astype(np.float32)
        else:
            volume = _as_volume(part.values[..., None], part.grid)[None, ..., 0]
        kind = torchio.LabelMap if isinstance(part, Labels) else torchio.ScalarImage
        images[name] = kind(tensor=torch.from_numpy(np.ascontiguousarray(volume)), affine=ras_affine(part.grid))
    return images


def _as_volume(values: np.ndarray, grid: Grid) -> np.ndarray:
    """Values (*shape, C) as (X, Y, Z, C)."""
    return values.reshape(*(*grid.shape, 1)[:3], values.shape[-1])
