"""Drawing pairs: everything that is random, as small numpy arrays.

A pair is two instances of an appearance model. Its shapes are b_k ~ N(0, amplitude^2 I), its appearances a_1 and

    a_2 = rho a_1 + sqrt(1 - rho^2) a',      rho = 1 shared, 0 independent, or anything between,

the same for what the appearance's modes leave out. Poses are resampled from the training poses. A shape whose map folds anywhere,
det(D psi) < 0.1, is shrunk towards the mean until it does not; how far is part of the draw, since it changes the distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from augreg.grid import FloatArray
from augreg.sam.locality import GridFactor, grid_taper_factor
from augreg.sam.model import AppearanceModel
from augreg.sam.spline import least_determinant

Correlation = float | str

_LEAST_DETERMINANT = 0.1
_SHRINK = 0.9
_LIMIT = 3.0
# the smooth change of intensity is a field of this many coefficients per axis
INTENSITY_NODES = 6


@dataclass(frozen=True, eq=False)
class PairDraw:
    """Random numbers of B pairs; rendering them is deterministic. The second axis is the image: fixed, moving.

    Parameters
    ----------
    shape : (B, 2, Ks) coefficients in standard deviations, after shrinking
    appearance : (B, 2, Ka) coefficients in standard deviations
    remainder : (B, 2, n, q) weights of the smooth fields that mix what the modes leave out
    pose : (B, 2, P)
    intensity : (B, 2, INTENSITY_NODES^D) coefficients of the logarithm of a smooth gain
    scale : (B, 2) factor by which a shape was shrunk to keep it from folding; 1 for most
    """

    shape: FloatArray
    appearance: FloatArray
    remainder: FloatArray
    pose: FloatArray
    intensity: FloatArray
    scale: FloatArray

    def __len__(self) -> int:
        """B."""
        return len(self.shape)

    @property
    def shrunk(self) -> int:
        """How many of the 2 B shapes would have folded and were shrunk."""
        return int((self.scale < 1).sum())

    def __getitem__(self, pairs: slice) -> PairDraw:
        """Some of the pairs."""
        return PairDraw(*(getattr(self, name)[pairs] for name in self.__dataclass_fields__))


def draw_pairs(
    model: AppearanceModel,
    rng: np.random.Generator,
    count: int,
    *,
    appearance: Correlation = "shared",
    amplitude: float = 1.0,
    appearance_amplitude: float = 1.0,
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
    amplitude, appearance_amplitude : factors on the models' standard deviations; coefficients beyond 3 are drawn again
    pose : factor on the training poses' spread; 0 for none
    intensity : standard deviation of the logarithm of a smooth gain, independent for both images

    Raises
    ------
    ValueError : for a count below 1, a correlation outside [0, 1] or negative factors.
    """
    rho = _correlation(appearance)
    if count < 1:
        raise ValueError(f"count: expected at least 1, got {count}")
    for name, value in (
        ("amplitude", amplitude), ("appearance_amplitude", appearance_amplitude), ("pose", pose), ("intensity", intensity)
    ):  # fmt: skip
        if not value >= 0:
            raise ValueError(f"{name}: expected a factor of at least 0, got {value}")
    n, size = len(model.poses), remainder_factor(model).columns
    drawn = []
    for _ in range(count):
        shapes = _bounded_normal(rng, (2, model.shape.rank))
        looks = _bounded_normal(rng, (2, model.appearance.rank))
        mixing = rng.standard_normal((2, n, size), dtype=np.float32)
        turns = rng.standard_normal((2, n)) @ model.poses / np.sqrt(n - 1)
        light = rng.standard_normal((2, INTENSITY_NODES**model.ndim))
        drawn.append((shapes, looks, mixing, turns, light))
    shapes, looks, mixing, turns, light = (np.stack(parts) for parts in zip(*drawn, strict=True))
    for pair in (looks, mixing):
        pair[:, 1] = rho * pair[:, 0] + np.sqrt(1 - rho**2) * pair[:, 1]
    shapes, scale = _unfolded(model, amplitude * shapes)
    return PairDraw(shapes, appearance_amplitude * looks, appearance_amplitude * mixing, pose * turns, intensity * light, scale)


def remainder_factor(model: AppearanceModel) -> GridFactor:
    """The factor of the smooth fields that mix what the appearance's modes leave out: the finest level of the locality."""
    extent = float(np.linalg.norm(model.template.extent))
    return grid_taper_factor(model.template, model.locality, model.locality.levels, extent)


def _correlation(appearance: Correlation) -> float:
    named = {"shared": 1.0, "independent": 0.0}
    if isinstance(appearance, str):
        if appearance not in named:
            raise ValueError(f"appearance: expected shared, independent or a number from 0 to 1, got {appearance!r}")
        return named[appearance]
    if not 0 <= appearance <= 1:
        raise ValueError(f"appearance: expected shared, independent or a number from 0 to 1, got {appearance}")
    return float(appearance)


def _bounded_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    b = rng.standard_normal(shape)
    while (far := np.abs(b) > _LIMIT).any():
        b[far] = rng.standard_normal(int(far.sum()))
    return b


def _unfolded(model: AppearanceModel, shapes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Shapes (B, 2, Ks) shrunk until no map folds, and the factors (B, 2)."""
    flat = shapes.reshape(-1, shapes.shape[-1])
    scale = np.ones(len(flat))
    pending = np.arange(len(flat))
    while pending.size:
        least = np.empty(pending.size)
        for part in range(0, pending.size, 32):
            rows = pending[part : part + 32]
            maps = np.tensordot(scale[rows, None] * flat[rows], model.fields, axes=1)
            least[part : part + 32] = least_determinant(maps, model.control)
        pending = pending[least < _LEAST_DETERMINANT]
        scale[pending] *= _SHRINK
    return shapes * scale.reshape(*shapes.shape[:2], 1), scale.reshape(shapes.shape[:2])
