"""Random displacement fields on control grids: what deformations look like when nothing is known of anatomy.

Each family draws B-spline coefficients c_j of u(x) = sum_j b_j(x) c_j, in mm, that vanish in the three outer layers.

    SmoothField        Gaussian coefficients on a coarser lattice, scaled to a given root mean square |u|
    BSplineField       uniform coefficients on a coarser lattice, smoothed, scaled to a largest |u|: the single-frequency fields
                       of Sokooti et al. 2017 (MICCAI, LNCS 10433) and 2019 (arXiv 1908.10235), there for chest CT, with
                       control spacings of 80 to 45 mm at 20 mm and 50 to 20 mm at 7 mm
    RespiratoryField   a shift along one axis and a scale along another that die out logarithmically away from the diaphragm, plus
                       a small BSplineField, after the respiratory fields of Sokooti et al. 2019
    ZeroField          nothing moves: a network has to learn that, too
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import scipy.ndimage

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.splines import cubic

_ZERO_LAYERS = 3
# |coefficients| beyond the largest displacement by this factor are clipped (Sokooti et al. 2019)
_CLIP = 1.7


class Field(Protocol):
    """A family of random displacement fields."""

    def draw(self, rng: np.random.Generator, control: Grid, template: Grid) -> FloatArray:
        """Coefficients (*control.shape, D) mm of one field over a template."""


@dataclass(frozen=True)
class SmoothField:
    """Gaussian coefficients, one every `spacing` mm.

    Parameters
    ----------
    spacing : distance of neighbouring random coefficients, mm
    magnitudes : root mean square |u| over the template, mm; one of them is taken at random for every field
    """

    spacing: float
    magnitudes: tuple[float, ...]

    def draw(self, rng: np.random.Generator, control: Grid, template: Grid) -> FloatArray:
        """Coefficients (*control.shape, D) mm."""
        c = _refined(rng.standard_normal, self.spacing, control)
        u = _over(c, control, template)
        return c * (rng.choice(self.magnitudes) / max(float(np.sqrt(np.mean(np.sum(u**2, axis=-1)))), 1e-300))


@dataclass(frozen=True)
class BSplineField:
    """Uniform coefficients, one every `spacing` mm.

    Parameters
    ----------
    spacing : least and largest spacing of the random coefficients, mm; uniform in between
    largest : upper bound of |u|, mm
    """

    spacing: tuple[float, float]
    largest: float

    def draw(self, rng: np.random.Generator, control: Grid, template: Grid) -> FloatArray:
        """Coefficients (*control.shape, D) mm."""

        def uniform(shape: tuple[int, ...]) -> FloatArray:
            free = rng.uniform(-4 * self.largest, 4 * self.largest, shape)
            smooth = scipy.ndimage.gaussian_filter(free, sigma=[0.8] * (len(shape) - 1) + [0])
            return np.clip(smooth, -_CLIP * self.largest, _CLIP * self.largest)

        c = _refined(uniform, rng.uniform(*self.spacing), control)
        length = np.linalg.norm(_over(c, control, template), axis=-1).max()
        return c * min(1.0, self.largest / max(float(length), 1e-300))


@dataclass(frozen=True)
class RespiratoryField:
    """Breathing: a shift along one axis and a stretch along another, largest at one end of the first.

    Parameters
    ----------
    shift : largest shift at the diaphragm, mm; multiplied by U(0.8, 1.1) and a random sign
    stretch : largest relative change of length of the second axis
    axes : index axes of shift and stretch: cranio-caudal and antero-posterior
    rest : family of small random fields that are added
    """

    shift: float
    stretch: float
    axes: tuple[int, int]
    rest: BSplineField

    def draw(self, rng: np.random.Generator, control: Grid, template: Grid) -> FloatArray:
        """Coefficients (*control.shape, D) mm."""
        nodes = template.indices_at(control.points())
        along, across = self.axes
        size = template.last
        # 1 at the diaphragm, 0 from the middle of the lung on
        share = np.clip(1 - 2 * nodes[..., along] / size[along], 0, 1)
        profile = np.log1p(9 * share) / np.log(10)
        u = np.zeros((*control.shape, control.ndim))
        sign = rng.choice((-1.0, 1.0))
        u[..., along] = sign * self.shift * rng.uniform(0.8, 1.1) * profile
        middle = (nodes[..., across] - 0.5 * size[across]) * template.spacing[across]
        u[..., across] = sign * self.stretch * rng.uniform(0.8, 1.1) * profile * middle
        inside = np.all((nodes > -0.1 * size) & (nodes < 1.1 * size), axis=-1)
        soft = scipy.ndimage.gaussian_filter(u * inside[..., None], sigma=[1.5] * control.ndim + [0])
        return _framed(soft @ template.axes.T) + self.rest.draw(rng, control, template)


@dataclass(frozen=True)
class ZeroField:
    """No displacement."""

    def draw(self, rng: np.random.Generator, control: Grid, template: Grid) -> FloatArray:
        """Zeros (*control.shape, D)."""
        return np.zeros((*control.shape, control.ndim))


def lung_fields(largest: float = 20.0) -> tuple[Field, ...]:
    """The families of Sokooti et al. 2019 for volumes (x, y, z) of the chest, scaled to a largest |u|, mm.

    Single frequencies from coarse to fine with smaller displacements at finer ones, breathing, and nothing.
    """
    return (
        BSplineField((45.0, 80.0), largest),
        BSplineField((35.0, 60.0), 0.75 * largest),
        BSplineField((20.0, 50.0), 0.35 * largest),
        RespiratoryField(1.1 * largest, 0.12, (2, 1), BSplineField((45.0, 80.0), 0.5 * largest)),
        ZeroField(),
    )


def described(families: Sequence[Field]) -> list[dict[str, Any]]:
    """Families by name, with their parameters."""
    return [{"family": type(family).__name__, **asdict(family)} for family in families]  # type: ignore[call-overload]


def _refined(draw: Callable[[tuple[int, ...]], FloatArray], spacing: float, control: Grid) -> FloatArray:
    """Coefficients drawn on a lattice of about `spacing` mm, carried over to a control grid by cubic B-splines and framed."""
    bases = []
    for n, step in zip(control.shape, control.spacing, strict=True):
        cells = max(1, round((n - 1) * step / max(spacing, step)))
        t = np.linspace(1, cells + 1, n)[:, None] - np.arange(cells + 3)
        bases.append(cubic(t))
    c = np.asarray(draw((*[basis.shape[1] for basis in bases], control.ndim)))
    for axis, basis in enumerate(bases):
        c = np.moveaxis(np.tensordot(basis, c, axes=(1, axis)), 0, axis)
    return _framed(c)


def _framed(c: FloatArray) -> FloatArray:
    """Coefficients that fall to zero towards the border, where the three outer layers are zero."""
    for axis in range(c.ndim - 1):
        n = c.shape[axis]
        depth = np.minimum(np.arange(n), np.arange(n)[::-1]) - (_ZERO_LAYERS - 1)
        fade = np.clip(depth / max(1.0, n / 8), 0, 1)
        c = c * fade.reshape([-1 if a == axis else 1 for a in range(c.ndim)])
    return c


def _over(c: FloatArray, control: Grid, template: Grid) -> FloatArray:
    """u (..., D) at the control points that lie over the template."""
    u = c
    for axis in range(c.ndim - 1):
        u = scipy.ndimage.convolve1d(u, [1 / 6, 2 / 3, 1 / 6], axis=axis, mode="constant")
    return u[template.contains(control.points())]
