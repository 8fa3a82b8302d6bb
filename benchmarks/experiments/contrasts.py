"""Random maps of intensities, which no monotone function undoes: pictures of one body by other machines.

    I'(x) = r(I(x) / q),      r linear between 0 -> 0 and five knots with values of U(0.1, 1)

r goes up by more than 0.2 from a knot to the next, and down elsewhere; q is the intensity that 1 in 200 voxels above 0 exceed.
Air stays 0, so a head's outline is seen in any contrast.
"""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from augreg.synthesis import PairBatch
from augreg.training import Batches
from benchmarks.experiments.people import Study, Subject

_KNOTS = np.array([0.0, 0.15, 0.36, 0.57, 0.79, 1.0])
_LOW, _STEP, _BRIGHT = 0.1, 0.2, 99.5
Values = npt.NDArray[np.float32]


def drawn(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """The values of r at its knots."""
    while True:
        values = rng.uniform(_LOW, 1, len(_KNOTS) - 1)
        steps = np.diff(values)
        if steps.max() > _STEP and steps.min() < -_STEP:
            return np.concatenate([[0.0], values])


def remapped(values: Values, knots: npt.NDArray[np.float64]) -> Values:
    """I' of an image."""
    above = values[values > 0]
    bright = np.percentile(above, _BRIGHT) if len(above) else 1.0
    return np.interp(values / bright, _KNOTS, knots).astype(np.float32)


def own_contrasts(study: Study) -> Study:
    """The study, every image of a person through the map of that person."""

    def seen(one: Subject) -> Subject:
        rng = np.random.default_rng(zlib.crc32(one.person.encode()))
        return replace(one, image=one.image.with_values(remapped(one.image.values, drawn(rng))))

    return replace(study, training=tuple(map(seen, study.training)), test=tuple(map(seen, study.test)))


def any_contrast(batch_of: Batches, seed: int) -> Batches:
    """The same pairs, each image through a map of its own."""

    def changed(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        return torch.from_numpy(np.stack([remapped(image, drawn(rng)) for image in images.numpy()]))

    def seen(step: int) -> PairBatch:
        pairs, rng = batch_of(step), np.random.default_rng([seed, step, 9])
        return replace(pairs, fixed=changed(pairs.fixed, rng), moving=changed(pairs.moving, rng))

    return seen
