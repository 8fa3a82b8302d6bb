"""The same pairs in any contrast; the truth stays.

    contrast_mapped   each image through a random map of intensities that goes up and down, which no monotone function undoes
    contrast_drawn    each label a random mean and texture (Billot et al., SynthSeg, MedIA 2023; Hoffmann et al., SynthMorph, TMI
                      2022), of label maps that an appearance model has drawn with its shapes, and a random share of what the
                      image itself shows in a label, upright or upside down: these two are augreg's own

Whoever wraps pairs of an appearance model, `contrast_drawn(pairs_from_generators(lambda _: AppearancePairs(model), 4))`, has
statistics of anatomy and any contrast in one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from augreg.geometry.grid import FloatArray
from augreg.synthesis import PairBatch
from augreg.training.batches import ALL, Batches
from augreg.training.looks import Drawn, one_by_one, values_of

# of a random map of intensities: places and least value of its knots, what it goes up and down at least, and the share of
# intensities that are below its last place, %
_KNOTS = np.array([0.0, 0.15, 0.36, 0.57, 0.79, 1.0])
_LOW, _STEP, _BRIGHT = 0.1, 0.2, 99.5


def contrast_mapped(batch_of: Batches, *, seed: int = 0, batch: int | None = None, part: slice = ALL) -> Batches:
    """The same pairs, each image through a map of intensities of its own,

        image'(x) = r((image(x) - least) / q),      r linear between 0 -> 0 and five knots with values of U(0.1, 1)

    r goes up by more than 0.2 from a knot to the next, and down elsewhere; q is what 1 in 200 voxels above the least exceed. What
    is least, such as air, stays 0: an outline is seen in any contrast.

    Parameters
    ----------
    batch_of : the pairs
    seed, batch, part : see `augreg.training.occluded`
    """

    def seen(pairs: PairBatch, pair: int, rng: np.random.Generator) -> tuple[Drawn, Drawn]:
        return tuple(remapped(values_of(side[pair]), random_knots(rng)) for side in (pairs.fixed, pairs.moving))  # type: ignore[return-value]

    return one_by_one(batch_of, seen, seed, 9, batch, part)


def random_knots(rng: np.random.Generator) -> FloatArray:
    """The values of r at its places."""
    while True:
        values = rng.uniform(_LOW, 1, len(_KNOTS) - 1)
        steps = np.diff(values)
        if steps.max() > _STEP and steps.min() < -_STEP:
            return np.concatenate([[0.0], values])


def remapped(values: npt.NDArray[np.floating], knots: FloatArray) -> Drawn:
    """An image through the map with these values."""
    above = values - values.min()
    bright = np.percentile(above[above > 0], _BRIGHT) if above.any() else 1.0
    return np.interp(above / bright, _KNOTS, knots).astype(np.float32)


def contrast_drawn(
    batch_of: Batches,
    *,
    shared: float = 0.0,
    noise: float = 0.1,
    kept: float = 0.15,
    blur: float = 1.0,
    seed: int = 0,
    batch: int | None = None,
    part: slice = ALL,
) -> Batches:
    """The same pairs in any contrast: every label of an image gets a mean, a noise and a share of its texture of its own,

        image'(x) = G (m_l + k_l (image(x) - mean of label l) / deviation of the image + n_l noise(x)),      l the label at x

    with m_l ~ U(0, 1), k_l ~ N(0, kept^2), n_l ~ U(0, noise), noise of one smoothness, and G a Gaussian of up to `blur` voxels.

    Parameters
    ----------
    batch_of : pairs with label maps, all labels of which count, 0 as well
    shared : share of the pairs whose two images have one contrast
    noise : largest deviation of a label's noise, where means lie between 0 and 1
    kept : deviation of the factor on what the image itself shows in a label; negative factors turn it upside down
    blur : largest deviation of the Gaussian, voxels; half of it is the largest smoothness of the noise
    seed, batch, part : see `augreg.training.occluded`

    Raises
    ------
    ValueError : for negative numbers; when pairs are asked for, for pairs without label maps.
    """
    if not (0 <= shared <= 1 and noise >= 0 and kept >= 0 and blur >= 0):
        raise ValueError(
            f"shared, noise, kept, blur: expected a share and numbers of at least 0, got {shared}, {noise}, {kept} and {blur}"
        )

    def seen(pairs: PairBatch, pair: int, rng: np.random.Generator) -> tuple[Drawn, Drawn]:
        if pairs.fixed_labels is None or pairs.moving_labels is None:
            raise ValueError("contrast_drawn: expected pairs with label maps on both sides, got none; give the labels")
        maps = [labels[pair, 0].cpu().numpy() for labels in (pairs.fixed_labels, pairs.moving_labels)]
        numbers = np.unique(np.concatenate([labels.ravel() for labels in maps]))
        looks = [_contrast(rng, len(numbers), noise, kept) for _ in maps]
        if rng.random() < shared:
            looks[1] = looks[0]
        both = []
        for side, labels, (mean, share, grain) in zip((pairs.fixed, pairs.moving), maps, looks, strict=True):
            image, at = values_of(side[pair])[0].astype(np.float64), np.searchsorted(numbers, labels)
            counts = np.bincount(at.ravel(), minlength=len(numbers)).clip(min=1)
            own = np.bincount(at.ravel(), image.ravel(), len(numbers)) / counts
            texture = (image - own[at]) / max(float(image.std()), 1e-12)
            fresh = _noise(rng, labels.shape, blur / 2 * rng.random())
            drawn = mean[at] + share[at] * texture + grain[at] * fresh
            both.append(scipy.ndimage.gaussian_filter(drawn, blur * rng.random())[None].astype(np.float32))
        return both[0], both[1]

    return one_by_one(batch_of, seen, seed, 8, batch, part)


def _contrast(rng: np.random.Generator, count: int, noise: float, kept: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    return rng.random(count), kept * rng.standard_normal(count), noise * rng.random(count)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> FloatArray:
    """Noise of a smoothness, of variance 1."""
    grains = scipy.ndimage.gaussian_filter(rng.standard_normal(shape), sigma)
    return np.asarray(grains / grains.std())
