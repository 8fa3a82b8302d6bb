"""Spatial transforms: callables on points, (..., D) mm -> (..., D) mm, from the fixed to the moving space.

    Affine              phi(x) = A x + t
    BSpline             phi(x) = x + sum_j b_j(x) c_j      cubic, ITK's convention: identity outside the coefficients' domain
    DisplacementField   phi(x) = x + u(x)                  u linear between the nodes of a grid, identity outside
    Composition         (a @ b)(x) = a(b(x))

The three elementary ones are those of ITK, value by value, so files carry them unchanged.

Inverses are exact for affine maps; elsewhere phi(x) = y is solved by Newton's method (`augreg.geometry._newton`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from augreg.geometry import cards
from augreg.geometry._fields import POINT, checked_vectors, covering, field_jacobian, frame, grid_points, stencils, three_axes
from augreg.geometry._newton import solve, solve_from_box
from augreg.geometry.grid import FloatArray, Grid, reals
from augreg.geometry.kernels import points as kernels
from augreg.threads import shared

# a cubic B-spline id + v is injective, and its determinant positive, if all components of its coefficients along the grid's axes
# are below so many spacings (Choi and Lee 2000, Graphical Models 62, 411-427: bounds 1/2.0464 and 1/2.4795)
INJECTIVE = {2: 0.48, 3: 0.40}
# nanoseconds that an interpolated vector takes, about
_VECTOR = 60
# of Newton's method, at most
_ITERATIONS = 60


class Transform(ABC):
    """A map of world points, fixed space to moving space."""

    @property
    @abstractmethod
    def ndim(self) -> int:
        """D, the dimension of the space."""

    @abstractmethod
    def _map(self, points: FloatArray) -> FloatArray:
        """Images of contiguous points (N, D)."""

    @abstractmethod
    def _jacobian(self, points: FloatArray) -> FloatArray:
        """Jacobians (N, D, D) at contiguous points (N, D)."""

    @abstractmethod
    def inverse(self, grid: Grid | None = None, tolerance: float = 1e-6) -> Transform:
        """The inverse map.

        Parameters
        ----------
        grid : where a numerical inverse is sampled; by default the transform's own domain. Affine maps need none.
        tolerance : least accuracy |phi(phi^-1(y)) - y| at the nodes of `grid`, mm. Between nodes the error is that of linear
            interpolation; where phi is not invertible, the best point found is kept. Where a domain ends, nodes up to a voxel
            outside its image continue what is inside, or interpolation would not hold there.
        """

    def __call__(self, points: npt.ArrayLike) -> FloatArray:
        """Images phi(x) of world points, (..., D) mm -> (..., D) mm.

        Raises
        ------
        ValueError : if the last axis is not D.
        """
        array = reals("points", points)
        return self._map(_flat(array, self.ndim)).reshape(array.shape)

    def jacobian(self, points: npt.ArrayLike) -> FloatArray:
        """D phi at world points, (..., D) -> (..., D, D); entry [..., d, b] is d phi_d / d x_b."""
        array = reals("points", points)
        return self._jacobian(_flat(array, self.ndim)).reshape(*array.shape, self.ndim)

    def displacement(self, grid: Grid) -> FloatArray:
        """u(x) = phi(x) - x on a grid, (*shape, D) mm."""
        return (self._map_grid(grid) - grid_points(grid)).reshape(*grid.shape, grid.ndim)

    def _map_grid(self, grid: Grid) -> FloatArray:
        """Images (N, D) of all points of a grid."""
        return self._map(grid_points(grid))

    def solve(self, points: npt.ArrayLike, tolerance: float = 1e-6, iterations: int = _ITERATIONS) -> FloatArray:
        """Points x with phi(x) = y, (..., D) mm, for given y: the inverse at points, by damped Newton.

        Where phi is not invertible, x is the best point found: compare `phi(x)` with y.
        """
        array = reals("points", points)
        return solve(self._map, self._jacobian, _flat(array, self.ndim), tolerance, iterations).reshape(array.shape)

    def _repr_html_(self) -> str:
        return cards.map_card(self)

    def __matmul__(self, other: Transform) -> Transform:
        """The composition, (a @ b)(x) = a(b(x))."""
        if not isinstance(other, Transform):
            return NotImplemented
        if self.ndim != other.ndim:
            raise ValueError(f"composition: expected transforms of one dimension, got {self.ndim}-D @ {other.ndim}-D")
        if isinstance(self, Affine) and isinstance(other, Affine):
            return self.after(other)
        parts = [*_parts(self), *_parts(other)]
        return Composition(tuple(parts))


@dataclass(frozen=True, eq=False)
class Affine(Transform):
    """phi(x) = A x + t.

    Parameters
    ----------
    matrix : linear part A, (D, D)
    translation : translation t, (D,) mm; default 0

    Raises
    ------
    ValueError : for shapes that do not fit or numbers that are not finite.
    """

    matrix: FloatArray
    translation: FloatArray = None  # type: ignore[assignment]  # filled below: its length is that of the matrix

    def __post_init__(self) -> None:
        matrix = reals("matrix", self.matrix).copy()
        if matrix.shape not in ((2, 2), (3, 3)):
            raise ValueError(f"matrix: expected 2 x 2 or 3 x 3, got shape {matrix.shape}")
        translation = np.zeros(len(matrix)) if self.translation is None else reals("translation", self.translation).copy()
        if translation.shape != (len(matrix),):
            raise ValueError(f"translation: expected {len(matrix)} numbers, got shape {translation.shape}")
        if not (np.isfinite(matrix).all() and np.isfinite(translation).all()):
            raise ValueError("matrix, translation: expected finite numbers, got NaN or infinity")
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "translation", translation)

    @staticmethod
    def identity(ndim: int) -> Affine:
        """The identity in D dimensions."""
        return Affine(np.eye(ndim))

    @staticmethod
    def about(matrix: npt.ArrayLike, center: npt.ArrayLike, translation: npt.ArrayLike = 0.0) -> Affine:
        """phi(x) = A (x - c) + c + t: A (D, D) acts about the fixed point c (D,) mm."""
        A, c = reals("matrix", matrix), reals("center", center)
        return Affine(A, c - A @ c + reals("translation", translation))

    def after(self, inner: Affine) -> Affine:
        """The composition with another affine map, itself affine: x -> self(inner(x))."""
        return Affine(self.matrix @ inner.matrix, self.matrix @ inner.translation + self.translation)

    @property
    def ndim(self) -> int:
        """D."""
        return len(self.matrix)

    def _map(self, points: FloatArray) -> FloatArray:
        out = np.empty_like(points)
        shared(kernels.affine_at, len(points), POINT, points, self.matrix, self.translation, out)
        return out

    def _jacobian(self, points: FloatArray) -> FloatArray:
        return np.broadcast_to(self.matrix, (len(points), self.ndim, self.ndim)).copy()

    def inverse(self, grid: Grid | None = None, tolerance: float = 1e-6) -> Affine:
        """The exact inverse; both arguments are without effect.

        Raises
        ------
        ValueError : if the matrix is singular.
        """
        if abs(np.linalg.det(self.matrix)) < 1e-12:
            raise ValueError("inverse: expected an invertible matrix, got determinant 0")
        inverse = np.linalg.inv(self.matrix)
        return Affine(inverse, -inverse @ self.translation)


@dataclass(frozen=True, eq=False)
class BSpline(Transform):
    """phi(x) = x + sum_j b_j(x) c_j with cubic B-splines b_j centred at the points of a control grid.

    As in ITK the sum holds where the continuous control index is in [1, n - 2] along every axis; outside phi is the identity.
    With three outer layers of zero coefficients the two join with continuous second derivatives: see `zeros` and `free`.

    Parameters
    ----------
    coefficients : spline coefficients c, (*grid.shape, D), world vectors, mm
    grid : grid of the control points, at least 4 along each axis

    Raises
    ------
    ValueError : for shapes that do not fit or fewer than 4 control points along an axis.
    """

    coefficients: FloatArray
    grid: Grid

    def __post_init__(self) -> None:
        object.__setattr__(self, "coefficients", checked_vectors("coefficients", self.coefficients, self.grid))
        if min(self.grid.shape) < 4:
            raise ValueError(f"grid: expected at least 4 control points along each axis, got {self.grid.shape}")

    def __repr__(self) -> str:
        return cards.line(self, self.coefficients, self.grid)

    @staticmethod
    def zeros(domain: Grid, spacing: float | Sequence[float]) -> BSpline:
        """The identity, with control points about `spacing` mm apart around all voxels of `domain`.

        The control grid has the domain's direction; its spacing is rounded down so that whole cells fill the domain, and it
        is padded so that every point of the domain keeps its full freedom although the three outer layers stay zero.
        """
        wanted = np.broadcast_to(np.asarray(spacing, dtype=float), (domain.ndim,))
        if not (np.isfinite(wanted).all() and wanted.min() > 0):
            raise ValueError(f"spacing: expected positive mm, got {tuple(wanted)}")
        cells = np.maximum(1, np.ceil(domain.sides / wanted - 1e-9)).astype(int)
        knot = domain.sides / cells
        # a domain of `cells` cells is moved by cells + 3 control points along each axis; three zero layers stand around them
        corner = domain.points_at(np.full(domain.ndim, -0.5))
        origin = corner - domain.axes @ (4 * knot)
        grid = Grid(tuple(cells + 9), tuple(knot), tuple(origin), domain.direction)
        return BSpline(np.zeros((*grid.shape, grid.ndim)), grid)

    @property
    def free(self) -> npt.NDArray[np.bool_]:
        """Which coefficients lie inside the three outer layers, (*grid.shape) bool."""
        mask = np.zeros(self.grid.shape, dtype=bool)
        mask[(slice(3, -3),) * self.ndim] = True
        return mask

    @property
    def ndim(self) -> int:
        """D."""
        return self.grid.ndim

    def _map(self, points: FloatArray) -> FloatArray:
        out = np.empty_like(points)
        shared(kernels.spline_at, len(points), _VECTOR, points, *frame(self.grid), three_axes(self.coefficients), out)
        out += points
        return out

    def _jacobian(self, points: FloatArray) -> FloatArray:
        return field_jacobian(points, self.grid, self.coefficients, kernels.CUBIC)

    def _map_grid(self, grid: Grid) -> FloatArray:
        # where the grid is parallel to the control grid, lines share their weights: several times faster
        to_control = self.grid.world_to_index @ grid.index_to_world
        steps = np.diag(to_control)
        drift = np.abs(to_control - np.diag(steps)) @ np.asarray(grid.shape)
        if drift.max() > 1e-9:
            return super()._map_grid(grid)
        start = self.grid.indices_at(grid.origin)
        taps = [stencils(start[a] + steps[a] * np.arange(n), self.grid.shape[a]) for a, n in enumerate(grid.shape)]
        if self.ndim == 2:
            taps.insert(0, (np.zeros(1, dtype=np.int64), np.array([[1.0, 0.0, 0.0, 0.0]])))
        out = np.empty((*grid.shape, grid.ndim))
        flat = [array for axis in taps for array in axis]
        room = three_axes(out)
        count, each = room.shape[0] * room.shape[1], POINT * room.shape[2]
        shared(kernels.spline_on_grid, count, each, three_axes(self.coefficients), *flat, room)
        mapped = out.reshape(-1, grid.ndim)
        mapped += grid_points(grid)
        return mapped

    def inverse(self, grid: Grid | None = None, tolerance: float = 1e-6) -> DisplacementField:
        """The numerical inverse, by default on the B-spline's own domain with eight nodes per control spacing."""
        if grid is None:
            inner = self.grid.padded(-1)
            grid = inner.with_shape(tuple(8 * n for n in inner.shape))
        return _sampled_inverse(self, grid, tolerance)


@dataclass(frozen=True, eq=False)
class DisplacementField(Transform):
    """phi(x) = x + u(x), u multilinear between the nodes of a grid.

    As in ITK, u is constant over the outer half voxels and phi is the identity beyond them.

    Parameters
    ----------
    values : displacements u, (*grid.shape, D), world vectors, mm
    grid : grid of the nodes
    """

    values: FloatArray
    grid: Grid

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", checked_vectors("values", self.values, self.grid))

    def __repr__(self) -> str:
        return cards.line(self, self.values, self.grid)

    @property
    def ndim(self) -> int:
        """D."""
        return self.grid.ndim

    def _map(self, points: FloatArray) -> FloatArray:
        out = np.empty_like(points)
        still = np.zeros(self.ndim)
        shared(kernels.linear_at, len(points), _VECTOR, three_axes(self.values), points, *frame(self.grid), still, out)
        out += points
        return out

    def _jacobian(self, points: FloatArray) -> FloatArray:
        return field_jacobian(points, self.grid, self.values, kernels.LINEAR)

    def _map_grid(self, grid: Grid) -> FloatArray:
        if grid != self.grid:
            return super()._map_grid(grid)
        return grid_points(grid) + self.values.reshape(-1, self.ndim)

    def inverse(self, grid: Grid | None = None, tolerance: float = 1e-6) -> DisplacementField:
        """The numerical inverse, by default on the field's own grid."""
        return _sampled_inverse(self, grid or self.grid, tolerance)


@dataclass(frozen=True, eq=False)
class Composition(Transform):
    """phi = a @ b @ ...: the last transform is applied first. Made by `@`, which keeps it flat.

    Raises
    ------
    ValueError : for no transforms or different dimensions.
    """

    transforms: tuple[Transform, ...]

    def __post_init__(self) -> None:
        flat = tuple(part for transform in self.transforms for part in _parts(transform))
        if not flat or len({part.ndim for part in flat}) != 1:
            raise ValueError(f"transforms: expected one or more of equal dimension, got {[part.ndim for part in flat]}")
        object.__setattr__(self, "transforms", flat)

    @property
    def ndim(self) -> int:
        """D."""
        return self.transforms[0].ndim

    def _map(self, points: FloatArray) -> FloatArray:
        for transform in reversed(self.transforms):
            points = transform._map(points)
        return points

    def _jacobian(self, points: FloatArray) -> FloatArray:
        jacobian: FloatArray = self.transforms[-1]._jacobian(points)
        for transform, inner in zip(self.transforms[-2::-1], self.transforms[:0:-1], strict=True):
            points = inner._map(points)
            jacobian = transform._jacobian(points) @ jacobian
        return jacobian

    def _map_grid(self, grid: Grid) -> FloatArray:
        points = self.transforms[-1]._map_grid(grid)
        for transform in self.transforms[-2::-1]:
            points = transform._map(points)
        return points

    def inverse(self, grid: Grid | None = None, tolerance: float = 1e-6) -> Transform:
        """The inverses in reverse order.

        Parts that need a grid are sampled on `grid`, if given, made larger where the inverses applied before lead out of it.
        """
        result: Transform = Affine.identity(self.ndim)
        points = None if grid is None else grid_points(grid)
        for transform in self.transforms:
            wide = grid
            if grid is not None and points is not None and isinstance(transform, BSpline | DisplacementField):
                wide = covering(grid, points, transform.grid)
            inverse = transform.inverse(wide, tolerance)
            points = None if points is None else inverse._map(points)
            result = inverse @ result
        return result


def _parts(transform: Transform) -> tuple[Transform, ...]:
    return transform.transforms if isinstance(transform, Composition) else (transform,)


def _flat(points: FloatArray, ndim: int) -> FloatArray:
    if points.ndim == 0 or points.shape[-1] != ndim:
        raise ValueError(f"points: expected {ndim} coordinates on the last axis, got shape {points.shape}")
    return points.reshape(-1, ndim)


def _sampled_inverse(transform: BSpline | DisplacementField, grid: Grid, tolerance: float) -> DisplacementField:
    points = grid_points(grid)
    margin = -1.0 if isinstance(transform, BSpline) else 0.5
    reach = float(np.linalg.norm(grid.spacing))
    box = (transform.grid, margin)
    found = solve_from_box(transform._map, transform._jacobian, points, tolerance, _ITERATIONS, box, reach)
    return DisplacementField((found - points).reshape(*grid.shape, grid.ndim), grid)
