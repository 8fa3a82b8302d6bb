"""One pyramid level of a registration: rasters of both images, keypoints of the fixed one, and the criterion."""

from __future__ import annotations

from dataclasses import dataclass

from augreg.grid import FloatArray
from augreg.image import Labels
from augreg.lp.boundary import Keypoints, find_keypoints
from augreg.lp.criteria import Costs, Criterion, costs_of
from augreg.lp.profiles import Window, sample_profiles
from augreg.lp.pyramid import Raster, label_raster, raster
from augreg.registration import Prepared
from augreg.transforms import Transform


@dataclass(frozen=True, eq=False)
class Level:
    """What costs are sampled from.

    Parameters
    ----------
    fixed, moving : images, or label maps for the criterion "labels"
    keypoints : of the fixed image
    criterion : from profiles to costs
    nearest : label maps are not interpolated
    """

    fixed: Raster
    moving: Raster
    keypoints: Keypoints
    criterion: Costs
    nearest: bool

    @staticmethod
    def of(ready: Prepared, spacing: float, criterion: Criterion, keypoints: int, labels: tuple[Labels, Labels] | None) -> Level:
        """The level with voxels of about `spacing` mm and about so many keypoints; label maps, if given, replace images."""
        if labels is not None:
            fixed = label_raster(labels[0], ready.fixed_mask, spacing)
            moving = label_raster(labels[1], ready.moving_mask, spacing)
        else:
            fixed = raster(ready.fixed, ready.fixed_mask, spacing)
            moving = raster(ready.moving, ready.moving_mask, spacing)
        return Level(fixed, moving, find_keypoints(fixed, keypoints), costs_of(criterion, fixed, moving), labels is not None)

    def costs(self, transform: Transform, window: Window) -> FloatArray:
        """Costs (N, 2X+1) of all keypoints."""
        return self.criterion(sample_profiles(self.fixed, self.moving, self.keypoints, transform, window, nearest=self.nearest))
