"""Drawing pairs: everything that is random, as small numpy arrays.

A pair is two instances of an appearance model. Its shapes are b_k ~ N(0, amplitude^2 I); its appearances g_1 (fields of a mosaic)
and a_1 (modes, see `augreg.sam.model`), and

    g_2 = rho g_1 + sqrt(1 - rho^2) g',      a_2 alike,      rho = 1 shared, 0 independent, or anything between.

Poses are Gaussian with the covariance of the training poses. A shape whose map folds anywhere, det(D psi) < 0.1, is shrunk
towards the mean until it does not; how far is part of the draw, since shrinking changes the distribution.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from augreg.grid import FloatArray
from augreg.sam.model import SHARPNESS, AppearanceModel
from augreg.sam.spline import least_determinant

_LEAST_DETERMINANT = 0.1
_SHRINK = 0.9
_LIMIT = 3.0
# maps whose determinants are looked at together: they stay in the cache
_MAPS = 16
# the smooth change of intensity is a field of this many coefficients per axis
INTENSITY_NODES = 6


@dataclass(frozen=True, eq=False)
class PairDraw:
    """Random numbers of B pairs; rendering them is deterministic. The second axis is the image: fixed, moving.

    Parameters
    ----------
    shape : (B, 2, Ks) coefficients in standard deviations, after shrinking
    mosaic : (B, 2, n, q) weights of the fields that choose among the n training textures, times their sharpness
    modes : (B, 2, Ka) coefficients of the appearance's modes in standard deviations
    pose : (B, 2, P)
    intensity : (B, 2, INTENSITY_NODES^D) coefficients of the logarithm of a smooth gain
    scale : (B, 2) factor by which a shape was shrunk to keep it from folding; 1 for most
    least_det : (B, 2) the least det(D psi), poses excepted
    """

    shape: FloatArray
    mosaic: FloatArray
    modes: FloatArray
    pose: FloatArray
    intensity: FloatArray
    scale: FloatArray
    least_det: FloatArray

    def __len__(self) -> int:
        """B."""
        return len(self.shape)

    @property
    def shrunk(self) -> int:
        """How many of the 2 B shapes would have folded and were shrunk."""
        return int((self.scale < 1).sum())

    def __getitem__(self, pairs: slice) -> PairDraw:
        """Some of the pairs."""
        return PairDraw(*(getattr(self, field.name)[pairs] for field in fields(self)))


def draw_pairs(
    model: AppearanceModel,
    rng: np.random.Generator,
    count: int,
    *,
    appearance: float | str = "shared",
    amplitude: float = 1.0,
    mosaic: float = SHARPNESS,
    modes: float = 0.0,
    pose: float = 1.0,
    intensity: float = 0.0,
) -> PairDraw:
    """Draw pairs of instances.

    Parameters
    ----------
    model : the appearance model
    rng : the only source of randomness; pairs are drawn one after the other, so that any split into batches gives the same pairs
    count : B
    appearance : correlation of the two appearances: "shared" (1), "independent" (0) or a number from 0 to 1
    amplitude : factor on the shape modes' standard deviations; coefficients beyond 3 are drawn again
    mosaic : sharpness beta of the mosaics of training textures; 0 is the mean appearance
    modes : factor on the appearance modes' standard deviations. Mosaics look real; `mosaic=0, modes=1` is the classical model.
    pose : factor on the training poses' spread; 0 for none
    intensity : standard deviation of the logarithm of a smooth gain, independent for both images

    Raises
    ------
    ValueError : for a count below 1, a correlation outside [0, 1] or negative factors.
    """
    rho = _correlation(appearance)
    if count < 1:
        raise ValueError(f"count: expected at least 1, got {count}")
    factors = {"amplitude": amplitude, "mosaic": mosaic, "modes": modes, "pose": pose, "intensity": intensity}
    for name, value in factors.items():
        if not 0 <= value < np.inf:
            raise ValueError(f"{name}: expected a factor of at least 0, got {value}")
    pairs = [_draw_one(model, rng) for _ in range(count)]
    shapes, fields_, looks, poses, light = (np.stack(parts) for parts in zip(*pairs, strict=True))
    for both in (fields_, looks):
        both[:, 1] = rho * both[:, 0] + np.sqrt(1 - rho**2) * both[:, 1]
    shapes, scale, least = _unfolded(model, amplitude * shapes)
    return PairDraw(shapes, mosaic * fields_, modes * looks, pose * poses, intensity * light, scale, least)


def _draw_one(model: AppearanceModel, rng: np.random.Generator) -> tuple[FloatArray, ...]:
    n = len(model.poses)
    return (
        _bounded_normal(rng, (2, model.shape.rank)),
        rng.standard_normal((2, n, model.mixing.columns)),
        _bounded_normal(rng, (2, model.appearance.rank)),
        rng.standard_normal((2, n)) @ model.poses / np.sqrt(n - 1),
        rng.standard_normal((2, INTENSITY_NODES**model.ndim)),
    )


def _correlation(appearance: float | str) -> float:
    named = {"shared": 1.0, "independent": 0.0}
    rho = named.get(appearance) if isinstance(appearance, str) else float(appearance)
    if rho is None or not 0 <= rho <= 1:
        raise ValueError(f"appearance: expected shared, independent or a correlation from 0 to 1, got {appearance!r}")
    return rho


def _bounded_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    b = rng.standard_normal(shape)
    while (far := np.abs(b) > _LIMIT).any():
        b[far] = rng.standard_normal(int(far.sum()))
    return b


def _unfolded(model: AppearanceModel, shapes: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Shapes (B, 2, Ks) shrunk until no map folds, the factors (B, 2) and the least determinants (B, 2)."""
    flat = shapes.reshape(-1, shapes.shape[-1])
    scale, least = np.ones(len(flat)), np.empty(len(flat))
    pending = np.arange(len(flat))
    while pending.size:
        for rows in np.array_split(pending, -(-pending.size // _MAPS)):
            maps = np.tensordot(scale[rows, None] * flat[rows], model.fields, axes=1)
            least[rows] = least_determinant(maps, model.control)
        pending = pending[least[pending] < _LEAST_DETERMINANT]
        scale[pending] *= _SHRINK
    pairs = shapes.shape[:2]
    return shapes * scale.reshape(*pairs, 1), scale.reshape(pairs), least.reshape(pairs)
