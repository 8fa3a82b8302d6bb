"""Labelled phantoms, and registrations of some lines that other processes can import."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from augreg import Affine, Grid, Image, Labels
from augreg.atlas import Atlas


def scene(shape, seed=0, noise=0.0, shift=None, gain=1.0):
    """A target with three structures, or an atlas of it that lies elsewhere."""
    ndim, rng = len(shape), np.random.default_rng(seed)
    x = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).astype(float)
    x = x - (0 if shift is None else np.array(shift[:ndim]))
    center = (np.array(shape) - 1) / 2
    r = np.sqrt((((x - center) / (0.4 * np.array(shape))) ** 2).sum(axis=-1))
    labels = np.select([r < 0.45, (r < 0.8) & (x[..., 0] < center[0]), r < 0.8], [300, 5, 17], 0)
    values = np.select([labels == 300, labels == 5, labels == 17], [3.0, 1.0, 2.0], 0.0)
    values = gain * (values + noise * rng.normal(size=shape)) + 0.1 * gain
    grid = Grid(shape, (1.0, 1.3, 0.8)[:ndim])
    return Image(values.astype(np.float32), grid), Labels(labels.astype(np.int64), grid)


def atlas(shape, seed=0, noise=0.0, shift=None, gain=1.0):
    return Atlas(*scene(shape, seed, noise, shift, gain))


@dataclass(frozen=True)
class ByMass:
    """Centres of mass on each other, after `initial`; `bend` makes maps that do not commute."""

    bend: float = 0.0

    def __call__(self, fixed, moving, initial=None):
        f, m = (self._center(image) for image in (fixed, moving))
        start = Affine.identity(fixed.ndim) if initial is None else initial
        matrix = np.eye(fixed.ndim)
        matrix[0, 1] = self.bend * (1 + 0.01 * (m - f)[0])
        return start @ Affine.about(matrix, f, start.solve(m) - f)

    def _center(self, image):
        weights = np.maximum(image.values.astype(float) - np.quantile(image.values, 0.3), 0)
        return np.tensordot(weights / weights.sum(), image.grid.points(), axes=image.ndim)


@dataclass(frozen=True)
class Noted:
    """Another registration, each call of which leaves a line in `log`; not part of what it is."""

    registration: ByMass
    log: Path = field(compare=False)

    def __call__(self, fixed, moving, initial=None):
        with open(self.log, "a", encoding="utf-8") as file:
            file.write("called\n")
        return self.registration(fixed, moving, initial)

    @property
    def calls(self):
        return len(self.log.read_text(encoding="utf-8").split()) if self.log.exists() else 0
