"""Exact samples of a local covariance, without modes.

With residuals r_i of n training vectors and independent Gaussian fields g_i of covariance R and mean 0,

    z = m + (n - 1)^-1/2 sum_i r_i o g_i      has      Cov(z) = C o R,      C = (n - 1)^-1 sum_i r_i r_i^T,

exactly: cross terms vanish, since the fields are independent and of mean 0. R has unit diagonal, so variances are those of the
data. With several levels, R = sum_l w_l R_l; level 1, R_1 = 1 1^T, is sampling from plain principal components. All components
of a place share its field, which keeps their covariance; a field per component would lose it. Likewise, shapes and textures that
share their fields have the local covariance C_sa(p, q) R(p, q), with no joint model of both.

The idea is from ensemble data assimilation: localisation by Schur products (Houtekamer and Mitchell 2001, Mon. Weather Rev. 129,
123), written as fields that weigh the members of an ensemble (Lorenc 2003, Q. J. R. Meteorol. Soc. 129, 3183; Buehner 2005, ibid.
131, 1013).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from augreg.geometry.grid import FloatArray, Grid
from augreg.sam.factors import Factor, GridFactor, JoinedFactor, KhatriRao
from augreg.sam.locality import Locality, grid_taper_factor


@dataclass(frozen=True, eq=False)
class SchurSampler:
    """Vectors with covariance C o R.

    Parameters
    ----------
    mean : m, (M,) with M = m c: c components at each of m places
    residuals : r_i, (n, m, c), centred
    factor : G of R = G G^T, (m, q): fields are G omega
    """

    mean: FloatArray
    residuals: FloatArray
    factor: Factor

    @property
    def shape(self) -> tuple[int, int]:
        """(n, q), of the numbers omega that make one vector."""
        return len(self.residuals), self.factor.columns

    def instance(self, omega: FloatArray) -> FloatArray:
        """The vectors (..., M) of omega (..., n, q).

        Raises
        ------
        ValueError : for omega of another shape.
        """
        omega = np.asarray(omega, dtype=self.residuals.dtype)
        if omega.shape[-2:] != self.shape:
            raise ValueError(f"omega: expected shape (..., {self.shape[0]}, {self.shape[1]}), got {omega.shape}")
        columns = omega.reshape(-1, self.shape[0] * self.shape[1]).T
        z = KhatriRao(self.residuals, self.factor).times(columns).T
        return self.mean + z.reshape(*omega.shape[:-2], -1)

    def sample(self, rng: np.random.Generator, count: int) -> FloatArray:
        """Random vectors (count, M)."""
        return self.instance(rng.standard_normal((count, *self.shape)))


@dataclass(frozen=True, eq=False)
class JointSampler:
    """Shapes and textures that share their fields.

    Parameters
    ----------
    mean_shape : landmarks (m, D) mm in the template's space
    shapes : residuals (n, m, D) mm
    mean_texture : (N,), row-major on the template
    textures : residuals (n, N), of the same images in the same order
    template : the grid of the textures
    locality : reach of correlations of both; its merge gives the levels' weights, equal ones if nested
    extent : the largest distance of the domain, mm; by default the template's diagonal

    Raises
    ------
    ValueError : for residuals that do not fit, or (on first use) a threshold.
    """

    mean_shape: FloatArray
    shapes: FloatArray
    mean_texture: FloatArray
    textures: FloatArray
    template: Grid
    locality: Locality
    extent: float | None = None

    def __post_init__(self) -> None:
        if self.shapes.shape[1:] != self.mean_shape.shape or self.textures.shape[1:] != self.mean_texture.shape:
            raise ValueError(
                f"shapes, textures: expected (n, {self.mean_shape.shape}) and (n, {self.mean_texture.shape}), "
                f"got {self.shapes.shape} and {self.textures.shape}"
            )
        if len(self.shapes) != len(self.textures):
            raise ValueError(f"shapes, textures: expected as many of both, got {len(self.shapes)} and {len(self.textures)}")

    @cached_property
    def shape(self) -> SchurSampler:
        """Of landmarks; its vectors are (m D), point by point."""
        index = self.template.indices_at(self.mean_shape)
        factor = JoinedFactor(tuple(level.at(index) for level in self._levels), self.locality.weights)
        return SchurSampler(self.mean_shape.ravel(), self.shapes, factor)

    @cached_property
    def texture(self) -> SchurSampler:
        """Of textures."""
        return SchurSampler(self.mean_texture, self.textures[..., None], JoinedFactor(self._levels, self.locality.weights))

    def instance(self, omega: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Landmarks (..., m, D) mm and textures (..., N) of omega (..., n, q)."""
        points = self.shape.instance(omega)
        return points.reshape(*points.shape[:-1], *self.mean_shape.shape), self.texture.instance(omega)

    def sample(self, rng: np.random.Generator, count: int) -> tuple[FloatArray, FloatArray]:
        """Random landmarks (count, m, D) mm and textures (count, N)."""
        return self.instance(rng.standard_normal((count, *self.shape.shape)))

    @cached_property
    def _levels(self) -> tuple[GridFactor, ...]:
        extent = float(np.linalg.norm(self.template.extent)) if self.extent is None else self.extent
        levels = range(1, self.locality.levels + 1)
        return tuple(grid_taper_factor(self.template, self.locality, level, extent) for level in levels)
