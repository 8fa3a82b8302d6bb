"""One pyramid level of a registration: what is known of the fixed image, the moving image, and the criterion.

The fixed half (raster, keypoints, bundles) does not depend on the moving image: whoever registers many images to one keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Labels
from augreg.geometry.transforms import Transform
from augreg.keypoints.boundary import Keypoints, find_keypoints
from augreg.keypoints.pyramid import Raster, label_raster, rasters
from augreg.lp.criteria import Criterion
from augreg.lp.profiles import HERE, Bundle, Profiles, Window, fixed_bundles, moving_bundles
from augreg.registration import Scenes

# keypoints that a step needs
FEWEST = 12
# level spacings to each side of a keypoint that steps may look at: an image is thin where one of its sides has no room for it
_ROOM = 14
# share of a bundle's samples that must lie inside both images, of ordinary and of thin ones
_LEAST, _LEAST_THIN = 0.5, 0.25


@dataclass(frozen=True, eq=False)
class FixedHalf:
    """What a level knows of the fixed image, whatever is moving: made once, each part when it is first asked for.

    Parameters
    ----------
    raster : image, or label map for the criteria that want one
    bundle : the shape of what is sampled around a keypoint
    count : keypoints, about
    """

    raster: Raster
    bundle: Bundle
    count: int

    @cached_property
    def keypoints(self) -> Keypoints:
        """Places to look at."""
        return find_keypoints(self.raster, self.count)

    @cached_property
    def bundles(self) -> npt.NDArray[np.float32]:
        """The image around all keypoints: they stand still while the transform moves."""
        return fixed_bundles(self.raster, self.keypoints, self.bundle)

    @cached_property
    def _others(self) -> dict[int, FixedHalf]:
        return {}

    def with_count(self, count: int) -> FixedHalf:
        """The same image with another number of keypoints; asked again, the same half again."""
        if count == self.count:
            return self
        return self._others.setdefault(count, replace(self, count=count))


@dataclass(frozen=True, eq=False)
class Level:
    """What costs are sampled from.

    Parameters
    ----------
    still : what is known of the fixed image
    moving : image, or label map for the criteria that want one
    criterion : the dissimilarity of profiles
    """

    still: FixedHalf
    moving: Raster
    criterion: Criterion

    @property
    def fixed(self) -> Raster:
        """The fixed image."""
        return self.still.raster

    @property
    def bundle(self) -> Bundle:
        """The shape of what is sampled around a keypoint."""
        return self.still.bundle

    @property
    def count(self) -> int:
        """Keypoints, about."""
        return self.still.count

    @property
    def keypoints(self) -> Keypoints:
        """Of the fixed image."""
        return self.still.keypoints

    @cached_property
    def thin(self) -> bool:
        """Whether profiles and windows reach out of one of the images whatever they stand at, as in a stack of few slices."""
        sides = [np.asarray(raster.grid.shape) * np.asarray(raster.grid.spacing) for raster in (self.fixed, self.moving)]
        return bool(np.min(sides) < 2 * _ROOM * self.fixed.step)

    def costs(self, transform: Transform, window: Window = HERE) -> FloatArray:
        """Costs (N, 2X+1) of all keypoints; NaN where too little of a profile lies inside the moving image.

        Of thin images the costs are continued where a shift would lead out of the image: see `continued`.
        """
        # who goes on where another step has ended asks for the same again, or for the middle of it
        for asked, (before, known) in self._latest.items():
            if before is transform and asked == window:
                return known
            if before is transform and window == HERE:
                return known[:, asked.shifts, None]
        known = self._sampled(transform, window)
        self._latest[window] = transform, known
        return known

    @cached_property
    def _latest(self) -> dict[Window, tuple[Transform, FloatArray]]:
        """Of every window the costs that were asked for last."""
        return {}

    def _sampled(self, transform: Transform, window: Window) -> FloatArray:
        moving = moving_bundles(self.moving, self.keypoints, self.bundle, transform, self.fixed.step, window)
        least = _LEAST_THIN if self.thin else _LEAST
        costs = self.criterion.costs(Profiles(self.still.bundles, moving, self.bundle, window, least))
        return continued(costs) if self.thin else costs

    def tensors(self, transform: Transform) -> tuple[FloatArray, FloatArray] | None:
        """Gauss-Newton matrices (N, D, D) and gradients (N, D) of the costs; None for criteria without derivatives."""
        moving = moving_bundles(self.moving, self.keypoints, self.bundle, transform, self.fixed.step, HERE, margin=1)
        profiles = Profiles(self.still.bundles, moving, self.bundle, HERE)
        return self.criterion.tensors(profiles, self.fixed.step, self.fixed.grid.ndim)

    def unlike(self, transform: Transform) -> float:
        """Share of the bundles' samples that differ, for label maps; what lies outside differs from everything."""
        moving = moving_bundles(self.moving, self.keypoints, self.bundle, transform, self.fixed.step, HERE)
        known = np.isfinite(self.still.bundles)
        return float(np.mean(self.still.bundles[known] != moving[known])) if known.any() else 1.0

    def negative(self) -> Level:
        """The same level with the moving image's negative."""
        return replace(self, moving=replace(self.moving, values=-self.moving.values))

    def with_count(self, count: int) -> Level:
        """The same images with another number of keypoints."""
        return self if count == self.count else replace(self, still=self.still.with_count(count))


def continued(costs: FloatArray) -> FloatArray:
    """Costs (N, 2X+1) that are known at the middle, made known everywhere: beyond the known stretch its greatest cost."""
    middle = costs.shape[1] // 2
    known = np.isfinite(costs)
    right = np.logical_and.accumulate(known[:, middle:], axis=1)
    left = np.logical_and.accumulate(known[:, middle::-1], axis=1)[:, ::-1]
    stretch = np.concatenate([left[:, :-1], right], axis=1)
    greatest = np.where(stretch, costs, -np.inf).max(axis=1, keepdims=True)
    return np.where(known[:, middle, None], np.where(stretch, costs, greatest), np.nan)


def levels_of(
    scenes: Scenes,
    spacings: Sequence[float],
    criterion: type[Criterion],
    bundle: Bundle,
    count: int,
    labels: tuple[Labels, Labels] | None = None,
) -> list[Level]:
    """The levels with voxels of about the spacings (mm), coarse to fine; label maps, if given, replace the images."""
    if labels is not None:
        fixed = [label_raster(labels[0], scenes.fixed_mask, spacing) for spacing in spacings]
        moving = [label_raster(labels[1], scenes.moving_mask, spacing) for spacing in spacings]
    else:
        fixed = rasters(scenes.fixed, scenes.fixed_mask, spacings)
        moving = rasters(scenes.moving, scenes.moving_mask, spacings)
    return [Level(FixedHalf(f, bundle, count), m, criterion.of(f, m)) for f, m in zip(fixed, moving, strict=True)]
