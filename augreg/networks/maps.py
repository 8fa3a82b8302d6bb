"""What a network predicts: maps of places, in voxels of the fixed image.

    phi(x) = x + u(x),      moved(x) = moving(phi(x)),      x the index of a voxel, moving on the fixed image's lattice

    Displacement    u linear between the centres of cells; between voxels linear again
    Velocity        phi = exp(v), v a velocity that is linear between the centres of cells; its inverse is exp(-v)
    AffineMap       phi(x) = A (x - c) + c + t, c the centre of the image
    Composed        (a @ b)(x) = a(b(x)): nothing is ever added

Beyond the image u and v go on as at its border. A map holds numbers as a network gives them; each stands for `unit` voxels. All
are batches: B maps of images of one shape.

exp(v) is integrated at every point that is asked for, as `augreg.geometry.velocity.Exponential` does. Scaling and squaring
interpolates its own result: of velocities between two people's hearts (up to 36 voxels, cells of 2) six squarings on voxels miss
exp(v) by 0.039 voxels in the mean and 2.2 at most, the four steps here by 0.005 and 0.19, in 2.6 times the time; of glands in
3-D 0.034 and 0.60 against 0.0014 and 0.037, in 3 times the time (`python -m benchmarks run squarings`, 2026-11-27).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import torch

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.transforms import Affine, DisplacementField, Transform
from augreg.geometry.velocity import STEPS, Exponential, runge_kutta
from augreg.networks import warping
from augreg.networks.cells import Sides, at_voxels, check_cells
from augreg.networks.fields import continued
from augreg.tensors import flow_to_displacement

# of the integration in tensors
FEW_STEPS = 4
# of the inverse of a displacement
_ITERATIONS = 50
# cells per step of the integration in numpy, and steps at most
_STRIDE, _MOST_STEPS = 0.5, 64


class Map(ABC):
    """B maps of places of fixed images to places of moving images, voxels."""

    shape: Sides
    unit: float

    @property
    def ndim(self) -> int:
        """D."""
        return len(self.shape)

    @abstractmethod
    def __len__(self) -> int:
        """B."""

    @abstractmethod
    def __getitem__(self, some: slice) -> Map:
        """Some of the maps."""

    @abstractmethod
    def displacement_at(self, points: torch.Tensor) -> torch.Tensor:
        """u at indices (B, *any, D), D axes between the first and the last, alike in shape; float32, voxels."""

    @abstractmethod
    def inverse(self) -> Map:
        """phi^-1; exact but for `Displacement`."""

    @abstractmethod
    def on_cells(self) -> Displacement:
        """The map as a displacement on its own cells: what losses look at."""

    @abstractmethod
    def _transform(self, grid: Grid, low: FloatArray, high: FloatArray) -> Transform:
        """The one map there is as a transform that is right at all indices from `low` to `high`, (D,) each."""

    def flow(self) -> torch.Tensor:
        """u at all voxels, (B, D, *shape) float32."""
        return self.on_cells().flow()

    def at(self, points: torch.Tensor) -> torch.Tensor:
        """phi at indices as of `displacement_at`."""
        return points + self.displacement_at(points)

    def warp(self, images: torch.Tensor) -> torch.Tensor:
        """Moving images (B, C, *shape) pulled back, images o phi; border values stand outside; float32."""
        return warping.warped(images, self.flow())

    def __matmul__(self, inner: Map) -> Map:
        """(a @ b)(x) = a(b(x)); affine maps make affine maps.

        Raises
        ------
        ValueError : for maps of images of other shapes, or of other numbers.
        """
        if not isinstance(inner, Map):
            return NotImplemented
        if (len(self), self.shape) != (len(inner), inner.shape):
            raise ValueError(
                f"composition: expected maps of as many images of one shape, got {len(self)} of {self.shape} @ {len(inner)} of "
                f"{inner.shape}"
            )
        parts: list[Map] = []
        for part in chain(_parts(self), _parts(inner)):
            if parts and isinstance(parts[-1], AffineMap) and isinstance(part, AffineMap):
                parts[-1] = parts[-1].after(part)
            else:
                parts.append(part)
        return parts[0] if len(parts) == 1 else Composed(tuple(parts))

    def as_transform(self, grid: Grid) -> Transform:
        """One map as a transform in mm, the fixed image's grid given: what the map is, so that its inverse stays exact.

        It is phi for all points of the image. Where a composition leads out of the image, its outer fields are continued.

        Raises
        ------
        ValueError : for several maps, or a grid of another shape.
        """
        if len(self) != 1:
            raise ValueError(f"map: expected one, got {len(self)}; choose one of them, maps[i : i + 1]")
        if grid.shape != self.shape:
            raise ValueError(f"grid: expected shape {self.shape}, that of the images, got {grid.shape}")
        return self._transform(grid, np.full(self.ndim, -0.5), np.asarray(self.shape) - 0.5)


@dataclass(frozen=True, eq=False)
class Displacement(Map):
    """phi = id + u.

    Parameters
    ----------
    values : u at the cells, (B, D, *counts), of `unit` voxels each
    shape : shape of the images
    cells : side lengths of a cell, voxels, one number per axis
    unit : size of the unit of the values, voxels

    Raises
    ------
    ValueError : for values that do not cover the images with cells.
    """

    values: torch.Tensor
    shape: Sides
    cells: Sides
    unit: float = 1.0

    def __post_init__(self) -> None:
        check_cells(self.values, self.shape, self.cells)

    @staticmethod
    def of(flow: torch.Tensor) -> Displacement:
        """That of a flow (B, D, *shape), voxels."""
        shape = tuple(flow.shape[2:])
        return Displacement(flow, shape, (1,) * len(shape))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, some: slice) -> Displacement:
        return replace(self, values=self.values[some])

    def flow(self) -> torch.Tensor:
        """u at all voxels, (B, D, *shape) float32."""
        # coordinates and flows in voxels need more digits than reduced precision has
        return at_voxels(self.values.float() * self.unit, self.cells, self.shape)

    def displacement_at(self, points: torch.Tensor) -> torch.Tensor:
        """u at indices (B, *any, D), alike in shape."""
        return warping.sampled(self.flow(), points).movedim(1, -1)

    def on_cells(self) -> Displacement:
        """The map itself."""
        return self

    def inverse(self) -> Displacement:
        """The fixed point v(x) = -u(x + v(x)), found by iteration: right where the derivative of u is below 1.

        By how much it misses is `(phi @ phi.inverse()).flow()`.
        """
        flow = self.flow()
        return Displacement.of(warping.inverted(flow, -flow, _ITERATIONS)[0])

    def _transform(self, grid: Grid, low: FloatArray, high: FloatArray) -> DisplacementField:
        return continued(flow_to_displacement(self.flow(), grid), grid, (1,) * self.ndim, low, high)


@dataclass(frozen=True, eq=False)
class Velocity(Map):
    """phi = exp(v).

    Parameters
    ----------
    values : v at the cells, (B, D, *counts), of `unit` voxels per unit of time each
    shape, cells, unit : as of `Displacement`
    steps : number of steps of the integration
    """

    values: torch.Tensor
    shape: Sides
    cells: Sides
    unit: float = 1.0
    steps: int = FEW_STEPS

    def __post_init__(self) -> None:
        check_cells(self.values, self.shape, self.cells)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, some: slice) -> Velocity:
        return replace(self, values=self.values[some])

    def displacement_at(self, points: torch.Tensor) -> torch.Tensor:
        """u at indices (B, *any, D), alike in shape."""
        with torch.autocast(self.values.device.type, enabled=False):
            v, sides = self.values.float() * self.unit, self._sides

            def rate(places: torch.Tensor) -> torch.Tensor:
                return warping.sampled(v, (places + 0.5) / sides - 0.5).movedim(1, -1)

            start = points.float()
            return runge_kutta(rate, start, 1.0, self.steps) - start

    def flow(self) -> torch.Tensor:
        """u at all voxels, (B, D, *shape) float32."""
        return self._flow_at(warping.positions(self.shape, self.values.device))

    def on_cells(self) -> Displacement:
        """u at the centres of the cells."""
        sides = self._sides
        centers = warping.positions(self.values.shape[2:], sides.device) * sides + (sides - 1) / 2
        return Displacement(self._flow_at(centers) / self.unit, self.shape, self.cells, self.unit)

    @property
    def _sides(self) -> torch.Tensor:
        return torch.tensor(self.cells, dtype=torch.float32, device=self.values.device)

    def _flow_at(self, points: torch.Tensor) -> torch.Tensor:
        return self.displacement_at(points.expand(len(self), *points.shape)).movedim(-1, 1)

    def inverse(self) -> Velocity:
        """exp(-v)."""
        return replace(self, values=-self.values)

    def _transform(self, grid: Grid, low: FloatArray, high: FloatArray) -> Exponential:
        sides = np.asarray(self.cells)
        origin = grid.points_at((sides - 1) / 2)
        lattice = Grid(tuple(self.values.shape[2:]), tuple(sides * grid.spacing), tuple(origin), grid.direction)
        voxels = self.values[0].detach().flatten(1).abs().amax(1).double().cpu().numpy() * self.unit
        # no way that begins in the image ends outside of where v is known
        velocity = flow_to_displacement(self.values.float() * self.unit, grid)
        field = continued(velocity, lattice, self.cells, low - voxels, high + voxels)
        steps = int(np.clip(np.ceil(np.max(voxels / sides) / _STRIDE), STEPS, _MOST_STEPS))
        return Exponential(field, steps)


@dataclass(frozen=True, eq=False)
class AffineMap(Map):
    """phi(x) = A (x - c) + c + t, c the centre of the image.

    Parameters
    ----------
    matrix : A, (B, D, D)
    translation : t, (B, D), voxels
    shape : shape of the images
    unit : size of the unit of losses, voxels
    """

    matrix: torch.Tensor
    translation: torch.Tensor
    shape: Sides
    unit: float = 1.0

    def __post_init__(self) -> None:
        D = len(self.shape)
        if self.matrix.shape[1:] != (D, D) or self.translation.shape != (len(self.matrix), D):
            raise ValueError(
                f"matrix, translation: expected (B, {D}, {D}) and (B, {D}), got {tuple(self.matrix.shape)} and "
                f"{tuple(self.translation.shape)}"
            )

    @staticmethod
    def identity(count: int, shape: Sides, device: torch.device | str = "cpu") -> AffineMap:
        """So many identities."""
        D = len(shape)
        return AffineMap(torch.eye(D, device=device).expand(count, D, D), torch.zeros(count, D, device=device), shape)

    def __len__(self) -> int:
        return len(self.matrix)

    def __getitem__(self, some: slice) -> AffineMap:
        return replace(self, matrix=self.matrix[some], translation=self.translation[some])

    def after(self, inner: AffineMap) -> AffineMap:
        """The composition with another affine map, itself affine."""
        with torch.autocast(self.matrix.device.type, enabled=False):
            shifted = (self.matrix.float() @ inner.translation.float()[..., None])[..., 0] + self.translation.float()
            return replace(self, matrix=self.matrix.float() @ inner.matrix.float(), translation=shifted)

    def displacement_at(self, points: torch.Tensor) -> torch.Tensor:
        """u = (A - I) (x - c) + t at indices (B, *any, D), alike in shape."""
        with torch.autocast(self.matrix.device.type, enabled=False):
            flat = (points.float() - self._center).flatten(1, -2)
            more = self.matrix.float() - torch.eye(self.ndim, device=self.matrix.device)
            return (flat @ more.mT + self.translation.float()[:, None]).reshape(len(self), *points.shape[1:])

    def on_cells(self) -> Displacement:
        """A cell per voxel."""
        places = warping.positions(self.shape, self.matrix.device)
        u = self.displacement_at(places.expand(len(self), *places.shape)).movedim(-1, 1)
        return Displacement(u / self.unit, self.shape, (1,) * self.ndim, self.unit)

    def inverse(self) -> AffineMap:
        """The exact inverse.

        Raises
        ------
        ValueError : for a matrix that has none.
        """
        try:
            matrix = torch.linalg.inv(self.matrix.float())
        except RuntimeError as error:
            raise ValueError("inverse: expected invertible matrices, got determinant 0") from error
        return replace(self, matrix=matrix, translation=-(matrix @ self.translation.float()[..., None])[..., 0])

    @property
    def _center(self) -> torch.Tensor:
        return torch.tensor([(n - 1) / 2 for n in self.shape], dtype=torch.float32, device=self.matrix.device)

    def _transform(self, grid: Grid, low: FloatArray, high: FloatArray) -> Affine:
        A, t = (part[0].detach().double().cpu().numpy() for part in (self.matrix, self.translation))
        to_world = grid.index_to_world
        return Affine.about(to_world @ A @ grid.world_to_index, grid.center, to_world @ t)


@dataclass(frozen=True, eq=False)
class Composed(Map):
    """phi = a @ b @ ...: the last one is applied first. Made by `@`, which keeps it flat."""

    parts: tuple[Map, ...]
    shape: Sides = field(init=False)
    unit: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", self.parts[0].shape)
        object.__setattr__(self, "unit", self.parts[-1].unit)

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, some: slice) -> Composed:
        return Composed(tuple(part[some] for part in self.parts))

    def displacement_at(self, points: torch.Tensor) -> torch.Tensor:
        """u at indices (B, *any, D), alike in shape."""
        u = self.parts[-1].displacement_at(points)
        for part in self.parts[-2::-1]:
            u = u + part.displacement_at(points + u)
        return u

    def flow(self) -> torch.Tensor:
        """u at all voxels, (B, D, *shape) float32."""
        u = self.parts[-1].flow().movedim(1, -1)
        places = warping.positions(self.shape, u.device)
        for part in self.parts[-2::-1]:
            u = u + part.displacement_at(places + u)
        return u.movedim(-1, 1)

    def on_cells(self) -> Displacement:
        """u at the centres of the cells of the part that is applied first; of an affine map a cell per voxel."""
        first = self.parts[-1].on_cells()
        sides = torch.tensor(first.cells, dtype=torch.float32, device=first.values.device)
        centers = warping.positions(first.values.shape[2:], sides.device) * sides + (sides - 1) / 2
        u = first.values.float().movedim(1, -1) * first.unit
        for part in self.parts[-2::-1]:
            u = u + part.displacement_at(centers + u)
        return Displacement(u.movedim(-1, 1) / self.unit, self.shape, first.cells, self.unit)

    def inverse(self) -> Map:
        """The inverses in reverse order."""
        result = self.parts[0].inverse()
        for part in self.parts[1:]:
            result = part.inverse() @ result
        return result

    def _transform(self, grid: Grid, low: FloatArray, high: FloatArray) -> Transform:
        result = self.parts[-1]._transform(grid, low, high)
        n = np.asarray(self.shape)
        for part in self.parts[-2::-1]:
            where = grid.indices_at(result(grid.points())).reshape(-1, self.ndim)
            # half a voxel more, for points between the outer voxels and the border; farther than its size nothing is continued
            low, high = np.minimum(where.min(axis=0) - 0.5, -0.5), np.maximum(where.max(axis=0) + 0.5, n - 0.5)
            result = part._transform(grid, np.maximum(low, -n), np.minimum(high, 2 * n)) @ result
        return result


def _parts(phi: Map) -> tuple[Map, ...]:
    return phi.parts if isinstance(phi, Composed) else (phi,)
