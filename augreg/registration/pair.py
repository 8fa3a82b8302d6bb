"""Two images and all that is known of them: what every registration is given, checked once.

A pair that exists has images, masks and labels of one dimension, landmarks inside their images, a start that fits. What needs
the voxels is looked at where somebody asks for the `scenes`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray, reals
from augreg.geometry.image import Image, Labels, as_image, as_labels, kind_of
from augreg.geometry.landmarks import check_inside, outside
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Affine, Transform
from augreg.registration.scenes import Scenes

if TYPE_CHECKING:
    from typing import Unpack

Array = npt.NDArray[Any]

# coarse sampling of the fixed grid to see whether two grids overlap at all
_PROBES = 24


class Given(TypedDict, total=False):
    """What can be known of two images: the keywords of every registration.

    Parameters
    ----------
    fixed_mask, moving_mask : masks, not 0 where to look; on any grid
    fixed_labels, moving_labels : label maps, for criteria that compare these
    fixed_points, moving_points : landmark pairs (N, D) mm, inside their images
    rigid_mask : mask in the fixed space, not 0 where the transform is to be locally rigid
    initial : a first guess, kept as the left part of the result: phi = initial @ (what is found)
    """

    fixed_mask: Labels | Array | None
    moving_mask: Labels | Array | None
    fixed_labels: Labels | Array | None
    moving_labels: Labels | Array | None
    fixed_points: npt.ArrayLike | None
    moving_points: npt.ArrayLike | None
    rigid_mask: Labels | Array | None
    initial: Transform | None


KEYWORDS = tuple(Given.__annotations__)


@dataclass(frozen=True, eq=False, kw_only=True)
class Pair:
    """A fixed and a moving image as they were given, and what is known of them: see `Given`.

    Raises
    ------
    TypeError : for things of another type.
    ValueError : for different dimensions, an axis of one voxel, a rigid mask that selects nothing, and landmarks that are not in
        pairs or lie outside their images.
    """

    fixed: Image
    moving: Image
    fixed_mask: Labels | None = None
    moving_mask: Labels | None = None
    fixed_labels: Labels | None = None
    moving_labels: Labels | None = None
    fixed_points: FloatArray | None = None
    moving_points: FloatArray | None = None
    rigid_mask: Labels | None = None
    initial: Transform | None = None

    @staticmethod
    def of(fixed: Image | Array, moving: Image | Array, **given: Unpack[Given]) -> Pair:
        """The pair of two images, or of arrays.

        An array in place of an image lies on a grid of spacing 1 (see `augreg.geometry.image.as_image`); in place of a mask or of
        labels, on the grid of its image.
        """
        if unknown := sorted(set(given) - set(KEYWORDS)):
            raise TypeError(f"{', '.join(unknown)}: expected keywords among {', '.join(KEYWORDS)}; see augreg.registration.Given")
        images = as_image("fixed", fixed), as_image("moving", moving)
        known = {name: _converted(name, value, *images) for name, value in given.items() if value is not None}
        return Pair(fixed=images[0], moving=images[1], **known)

    def __post_init__(self) -> None:
        for name, image in (("fixed", self.fixed), ("moving", self.moving)):
            if min(image.grid.shape) < 2:
                shape = image.grid.shape
                raise ValueError(f"{name}: expected at least 2 voxels along each axis, got {shape}; crop or drop the axis")
        ndim = self.fixed.ndim
        if self.moving.ndim != ndim:
            raise ValueError(
                f"fixed, moving: expected images of one dimension, got {ndim}-D and {self.moving.ndim}-D; extract a slice first"
            )
        for name in ("fixed_mask", "moving_mask", "fixed_labels", "moving_labels", "rigid_mask", "initial"):
            part = getattr(self, name)
            if part is not None and part.ndim != ndim:
                what = {"mask": "mask", "labels": "label map", "initial": "transform"}[name.split("_")[-1]]
                raise ValueError(f"{name}: expected a {ndim}-D {what}, got {part.ndim}-D")
        if self.rigid_mask is not None and not self.rigid_mask.values.any():
            raise ValueError("rigid_mask: expected a mask that selects some voxels, got none")
        self._check_points()

    def _check_points(self) -> None:
        fixed, moving, ndim = self.fixed_points, self.moving_points, self.fixed.ndim
        if (fixed is None) != (moving is None):
            raise ValueError("landmarks: expected fixed_points and moving_points together, got only one of them")
        if fixed is None or moving is None:
            return
        if fixed.shape != moving.shape or fixed.ndim != 2 or fixed.shape[1] != ndim:
            raise ValueError(
                f"landmarks: expected equal numbers of {ndim}-D points, got shapes {fixed.shape} (fixed) and "
                f"{moving.shape} (moving)"
            )
        check_inside(fixed, moving, self.fixed.grid, self.moving.grid)

    @cached_property
    def scenes(self) -> Scenes:
        """What of the images can be compared.

        Raises
        ------
        ValueError : for constant images, images without a finite voxel, and masks that select nothing.
        """
        return Scenes.of(self.fixed, self.moving, self.fixed_mask, self.moving_mask)

    @property
    def seen(self) -> bool:
        """Whether somebody has asked for the scenes."""
        return "scenes" in vars(self)

    @cached_property
    def apart(self) -> bool:
        """Whether the grids of the images do not overlap at all."""
        probes = self.fixed.grid.with_shape([min(n, _PROBES) for n in self.fixed.grid.shape]).points()
        return not self.moving.grid.contains(probes).any()

    @cached_property
    def start(self) -> Transform:
        """Where a registration begins: `initial`, or the identity; between grids that do not overlap, their centres aligned."""
        if self.initial is not None:
            return self.initial
        ndim = self.fixed.ndim
        return Affine(np.eye(ndim), self.moving.grid.center - self.fixed.grid.center) if self.apart else Affine.identity(ndim)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What `scenes` and `start` changed."""
        if self.initial is None and self.apart:
            return (*self.scenes.warnings, "the grids of fixed and moving do not overlap: their centres were aligned first")
        return self.scenes.warnings

    def known(self) -> dict[str, Any]:
        """What is known, as keywords of a registration."""
        return {name: value for name in KEYWORDS if (value := getattr(self, name)) is not None}

    def with_initial(self, initial: Transform) -> Pair:
        """The same pair with another start."""
        other = replace(self, initial=initial)
        if self.seen:
            # no start changes them
            vars(other)["scenes"] = self.scenes
        return other

    def negative(self) -> Pair:
        """The same pair with the negative of the moving image."""

        def turned(image: Image) -> Image:
            return image.with_values(-image.values.astype(np.result_type(image.values, np.float32)))

        other = replace(self, moving=turned(self.moving))
        if self.seen:
            vars(other)["scenes"] = replace(self.scenes, moving=turned(self.scenes.moving))
        return other

    def with_fixed_mask(self, mask: Labels) -> Pair:
        """The same pair with another mask of the fixed image."""
        return replace(self, fixed_mask=mask)

    def exchanged(self) -> Pair:
        """The pair in the other direction.

        An affine start is inverted exactly, others on the moving grid. The rigid mask is left out: where it lies in the moving
        space is what is to be found.
        """
        return Pair(
            fixed=self.moving,
            moving=self.fixed,
            fixed_mask=self.moving_mask,
            moving_mask=self.fixed_mask,
            fixed_labels=self.moving_labels,
            moving_labels=self.fixed_labels,
            fixed_points=self.moving_points,
            moving_points=self.fixed_points,
            initial=None if self.initial is None else self.initial.inverse(self.moving.grid),
        )

    def through_start(self) -> Pair:
        """The pair without a start, all that is moving seen through it on the fixed grid: phi = initial @ (what is found of it).

        Landmarks that leave the view are left out.
        """
        phi, grid = self.initial, self.fixed.grid
        if phi is None:
            return self
        finite = self.moving.values[np.isfinite(self.moving.values)]
        seen: dict[str, Any] = {"moving": warp(self.moving, phi, grid, fill=float(finite.min()) if finite.size else 0.0)}
        seen |= {
            name: warp(part, phi, grid) for name in ("moving_mask", "moving_labels") if (part := getattr(self, name)) is not None
        }
        if self.fixed_points is not None and self.moving_points is not None:
            back = phi.solve(self.moving_points)
            kept = ~outside(back, grid)
            seen |= {"fixed_points": self.fixed_points[kept], "moving_points": back[kept]}
        return replace(self, initial=None, **seen)


def _converted(name: str, value: Any, fixed: Image, moving: Image) -> Any:
    """A keyword's value as a pair keeps it."""
    if name == "initial":
        if not isinstance(value, Transform):
            raise TypeError(
                f"initial: expected a Transform, got {kind_of(value)}; read files with read_transform, a matrix is one as "
                "Affine(matrix, translation)"
            )
        return value
    if name.endswith("points"):
        return reals(name, value)
    return as_labels(name, value, (moving if name.startswith("moving") else fixed).grid)
