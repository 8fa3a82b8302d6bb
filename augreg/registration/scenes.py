"""What of two images a registration compares: finite, in range, without padding and frames.

scene = image without what it shows that is not the scene (see `augreg.registration.frames`), with a mask of where to look;
        float32, or the image's own integers of up to 16 bits, which float32 holds exactly in twice to four times the memory
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import resample
from augreg.registration import frames

# of intensities: least range and greatest value that float32 takes to the second power, and how many ranges off 0 it resolves
_TINY, _HUGE, _DEPTH = 1e-12, 1e12, 1e5


@dataclass(frozen=True, eq=False)
class Scenes:
    """Two images that can be compared.

    Parameters
    ----------
    fixed, moving : finite images with equal numbers of channels, float32 or integers of up to 16 bits
    fixed_mask, moving_mask : masks on the grids of their images, not 0 where to look; None for everywhere
    warnings : sentences on what was changed
    """

    fixed: Image
    moving: Image
    fixed_mask: Labels | None
    moving_mask: Labels | None
    warnings: tuple[str, ...]

    @staticmethod
    def of(fixed: Image, moving: Image, fixed_mask: Labels | None, moving_mask: Labels | None) -> Scenes:
        """The scenes of two images of one dimension, masks on any grid.

        Voxels that are NaN or infinite get the mean of the others and are masked out; so are padding and frames that both images
        share; colour against grey becomes luminance. All of it is said in `warnings`. A few extreme voxels are brought back
        towards the others.

        Raises
        ------
        ValueError : for constant images, images without a finite voxel, and masks that select nothing.
        """
        warnings: list[str] = []
        if fixed.channels != moving.channels:
            warnings.append(f"fixed has {fixed.channels} channels, moving {moving.channels}: luminance is used")
            fixed, moving = fixed.luminance(), moving.luminance()
        fixed, moving = _in_range(fixed, moving)
        # who masks both images has masked their frames
        given = fixed_mask is not None and moving_mask is not None
        fixed, fixed_mask = _finite("fixed", fixed, on_grid("fixed_mask", fixed_mask, fixed), warnings)
        moving, moving_mask = _finite("moving", moving, on_grid("moving_mask", moving_mask, moving), warnings)
        fixed, fixed_mask, of_fixed = _unpadded("fixed", fixed, fixed_mask, warnings)
        moving, moving_mask, of_moving = _unpadded("moving", moving, moving_mask, warnings)
        if not given:
            fixed_mask, moving_mask = _unframed(fixed, moving, fixed_mask, moving_mask, (of_fixed, of_moving), warnings)
        return Scenes(fixed, moving, fixed_mask, moving_mask, tuple(warnings))


def alone(name: str, image: Image, mask: Labels | None) -> tuple[Image, Labels | None, tuple[str, ...]]:
    """The scene of one image, its mask, and what was changed: as of `Scenes`, without what two images share.

    Raises
    ------
    ValueError : as `Scenes.of` does.
    """
    warnings: list[str] = []
    image, _ = _in_range(image, image)
    image, mask = _finite(name, image, on_grid(name + "_mask", mask, image), warnings)
    image, mask, _ = _unpadded(name, image, mask, warnings)
    return image, mask, tuple(warnings)


def on_grid(name: str, mask: Labels | None, image: Image) -> Labels | None:
    """A mask on the grid of its image; refused where it selects nothing there."""
    if mask is None:
        return None
    if not mask.grid.matches(image.grid):
        mask = resample(mask, image.grid)
    if not mask.values.any():
        raise ValueError(f"{name}: expected a mask that selects some voxels of its image, got none")
    return mask


def _in_range(fixed: Image, moving: Image) -> tuple[Image, Image]:
    """Both images, moved and scaled alike where float32 would lose their contrast or their squares would overflow."""
    if not any(map(out_of_range, map(_ends, (fixed, moving)))):
        return fixed, moving
    # what marks missing values, such as -1e20, is no range of the scene
    ends = [frames.middle(image.values) for image in (fixed, moving)]
    if not any(map(out_of_range, ends)):
        return fixed, moving
    (low_f, high_f), (low_m, high_m) = ends
    spans = high_f - low_f, high_m - low_m
    if not 0 < min(spans) <= max(spans) < np.inf:
        return fixed, moving
    # two very different ranges are brought to one: no criterion compares their values anyway
    if max(spans) < _DEPTH * min(spans):
        low_f = low_m = min(low_f, low_m)
        spans = (max(high_f, high_m) - low_f,) * 2
    with np.errstate(over="ignore"):
        scaled = [
            1000 * ((image.values.astype(np.float64) - low) / span)
            for image, low, span in ((fixed, low_f, spans[0]), (moving, low_m, spans[1]))
        ]
    return fixed.with_values(scaled[0]), moving.with_values(scaled[1])


def _ends(image: Image) -> tuple[float, float]:
    """Least and greatest finite value; (0, 1) without any."""
    values = image.values
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            low, high = float(values.min()), float(values.max())
        if np.isfinite(low) and np.isfinite(high):
            return low, high
        values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)


def out_of_range(ends: tuple[float, float]) -> bool:
    """Whether float32 loses what lies between two values, or their squares; equal ones have nothing to lose."""
    low, high = ends
    far = max(abs(low), abs(high))
    return low < high and not (high - low > _TINY and far < _HUGE and far < _DEPTH * (high - low))


def check_contrast(name: str, image: Image) -> None:
    """Refuse an image that no registration can use, under the name that its owner knows it by.

    Raises
    ------
    ValueError : for one without a finite voxel, or of one value.
    """
    _finite(name, image, None, [])


def _finite(name: str, image: Image, mask: Labels | None, warnings: list[str]) -> tuple[Image, Labels | None]:
    if image.values.dtype.kind in "iu" and image.values.dtype.itemsize <= 2:
        _contrasted(name, image.values if mask is None else image.values[mask.values != 0], mask)
        return image, mask
    # float32 can overflow where the file's type does not: convert first, then look
    with np.errstate(over="ignore"):
        values = image.values.astype(np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        raise ValueError(f"{name}: expected an image, got only NaN or infinite voxels")
    valid = finite if values.ndim == image.ndim else finite.all(axis=-1)
    whole = valid.all()
    if mask is None:
        _contrasted(name, values if whole else values[valid], mask)
    else:
        _contrasted(name, values[valid & (mask.values != 0)], mask)
    if not whole:
        count = int(valid.size - valid.sum())
        warnings.append(f"{count} of {valid.size} voxels of {name} are NaN or infinite: masked")
        values[~finite] = values[finite].mean(dtype=np.float64)
        both = valid if mask is None else np.logical_and(valid, mask.values)
        mask = Labels(np.asarray(both, dtype=np.uint8), image.grid)
    return image.with_values(values), mask


def _contrasted(name: str, inside: npt.NDArray[Any], mask: Labels | None) -> None:
    """Refuse an image whose values inside its mask are one."""
    if inside.size == 0 or inside.min() == inside.max():
        where = "" if mask is None else " inside its mask"
        raise ValueError(f"{name}: expected an image with contrast{where}, got a constant one")


def _unpadded(
    name: str, image: Image, mask: Labels | None, warnings: list[str]
) -> tuple[Image, Labels | None, frames.Sample | None]:
    """The image without what is far out of its range: regions are masked, single voxels brought back.

    And a sample of its values, where it is still theirs.
    """
    allowed = None if mask is None else mask.values != 0
    grey = _grey(image)
    sample: frames.Sample | None = frames.Sample.of(grey, allowed)
    found = frames.padding(grey, allowed, sample)
    values = image.values
    if found is not None:
        where, value = found
        rest = values[~where] if allowed is None else values[~where & allowed]
        if rest.size and rest.min() < rest.max():
            warnings.append(f"{where.mean():.1%} of {name} are padding of {value:g}, far from all other values: masked")
            values = values.astype(np.float32)
            # those who ignore masks see what is nearest to it
            values[where] = rest.min() if value < rest.min() else rest.max()
            mask = _less(mask, where, image)
            allowed, sample = mask.values != 0, None
    scene = frames.without_extremes(values, allowed, sample if grey is values else None)
    return image.with_values(scene), mask, sample if scene is grey else None


def _unframed(
    fixed: Image,
    moving: Image,
    fixed_mask: Labels | None,
    moving_mask: Labels | None,
    known: tuple[frames.Sample | None, frames.Sample | None],
    warnings: list[str],
) -> tuple[Labels | None, Labels | None]:
    """The masks without a frame that both images share; `known` are samples of their values."""
    allowed = [None if mask is None else mask.values != 0 for mask in (fixed_mask, moving_mask)]
    found = frames.shared_frame(_grey(fixed), _grey(moving), (allowed[0], allowed[1]), known)
    if found is None:
        return fixed_mask, moving_mask
    values = ", ".join(sorted({f"{value:g}" for pair in found.values for value in pair}))
    masks = _less(fixed_mask, found.fixed, fixed), _less(moving_mask, found.moving, moving)
    if not all(mask.values.any() for mask in masks):
        return fixed_mask, moving_mask
    warnings.append(
        f"fixed and moving show one frame of {values} at the same place ({found.fixed.mean():.1%} of fixed), while what is "
        "between has moved: masked"
    )
    return masks


def _grey(image: Image) -> frames.Values:
    return image.values if image.values.ndim == image.ndim else image.values.mean(axis=-1, dtype=np.float32)


def _less(mask: Labels | None, where: frames.Mask, image: Image) -> Labels:
    """The mask without some voxels."""
    kept = ~where if mask is None else ~where & (mask.values != 0)
    return Labels(kept.astype(np.uint8), image.grid)
