"""Random displacement fields on control grids: what deformations look like when nothing is known of anatomy.

Each family draws B-spline coefficients c_j of u(x) = sum_j b_j(x) c_j, in mm, that vanish in the three outer layers.

    SmoothField     Gaussian coefficients on a coarser lattice, scaled to a given root mean square |u|
    BSplineField    uniform coefficients on a coarser lattice, smoothed, scaled to a largest |u|: the single-frequency fields
                    of Sokooti et al. 2017 (MICCAI, LNCS 10433) and 2019 (arXiv 1908.10235), there for chest CT, with
                    control spacings of 80 to 45 mm at 20 mm and 50 to 20 mm at 7 mm
    ZeroField       nothing moves: a network has to learn that, too

and, in modules beside this one, with more to know: `RespiratoryField` and `MixedField` of lungs, `ElasticField` of tissues of
random stiffness, `CorrespondenceField` of real motions, `ModelField` of an appearance model's shapes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol

import numpy as np
import scipy.ndimage

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.splines import cubic

_ZERO_LAYERS = 3
# |coefficients| beyond the largest displacement by this factor are clipped (Sokooti et al. 2019)
_CLIP = 1.7
# normal numbers beyond so many standard deviations are drawn again
_LIMIT = 3.0


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
        c = refined(rng.standard_normal, self.spacing, control)
        u = over(c, control, template)
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

        c = refined(uniform, rng.uniform(*self.spacing), control)
        length = np.linalg.norm(over(c, control, template), axis=-1).max()
        return c * min(1.0, self.largest / max(float(length), 1e-300))


@dataclass(frozen=True)
class ZeroField:
    """No displacement."""

    def draw(self, rng: np.random.Generator, control: Grid, template: Grid) -> FloatArray:
        """Zeros (*control.shape, D)."""
        return np.zeros((*control.shape, control.ndim))


def described(families: Sequence[Field]) -> list[dict[str, Any]]:
    """Families by name, with their parameters; arrays, and what is made of them, by a hash."""
    return [{"family": type(family).__name__, **_parameters(family)} for family in families]


def _parameters(part: Any) -> dict[str, Any]:
    return {one.name: _told(getattr(part, one.name)) for one in fields(part)}


def _told(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(repr((value.dtype.str, value.shape)).encode())
        digest.update(np.ascontiguousarray(value).tobytes())
        return digest.hexdigest()[:16]
    if isinstance(value, tuple | list):
        return type(value)(_told(part) for part in value)
    if is_dataclass(value):
        return _parameters(value)
    return value


def bounded_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Standard normal numbers; those beyond 3 are drawn again."""
    b = rng.standard_normal(shape)
    while (far := np.abs(b) > _LIMIT).any():
        b[far] = rng.standard_normal(int(far.sum()))
    return b


def refined(draw: Callable[[tuple[int, ...]], FloatArray], spacing: float, control: Grid) -> FloatArray:
    """Coefficients drawn on a lattice of about `spacing` mm, carried over to a control grid by cubic B-splines and framed."""
    bases = []
    for n, step in zip(control.shape, control.spacing, strict=True):
        cells = max(1, round((n - 1) * step / max(spacing, step)))
        t = np.linspace(1, cells + 1, n)[:, None] - np.arange(cells + 3)
        bases.append(cubic(t))
    c = np.asarray(draw((*[basis.shape[1] for basis in bases], control.ndim)))
    for axis, basis in enumerate(bases):
        c = np.moveaxis(np.tensordot(basis, c, axes=(1, axis)), 0, axis)
    return framed(c)


def framed(c: FloatArray) -> FloatArray:
    """Coefficients that fall to zero towards the border, where the three outer layers are zero."""
    for axis in range(c.ndim - 1):
        n = c.shape[axis]
        depth = np.minimum(np.arange(n), np.arange(n)[::-1]) - (_ZERO_LAYERS - 1)
        fade = np.clip(depth / max(1.0, n / 8), 0, 1)
        c = c * fade.reshape([-1 if a == axis else 1 for a in range(c.ndim)])
    return c


def over(c: FloatArray, control: Grid, template: Grid) -> FloatArray:
    """u (..., D) at the control points that lie over the template."""
    u = c
    for axis in range(c.ndim - 1):
        u = scipy.ndimage.convolve1d(u, [1 / 6, 2 / 3, 1 / 6], axis=axis, mode="constant")
    return u[template.contains(control.points())]
