"""How alike two images look, from place to place.

NCC(x) = cov_w(f, m) / sqrt(var_w(f) var_w(m)) over a window around x, both images with mean 0 and variance 1 before; where a
window is flat its variance counts as 0.0001
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from augreg.geometry.image import Image

# of images with variance 1
_LEAST_VARIANCE = 1e-4
# share of the variance from which on a window shows something
_SHOWS = 0.02


def local_ncc(
    fixed: npt.NDArray[np.float32], radius: int
) -> tuple[Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """The function moving -> NCC with an array of any number of axes, and the fixed array's variance in every window."""
    size = [2 * radius + 1 if n > 1 else 1 for n in fixed.shape]

    def mean(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return scipy.ndimage.uniform_filter(values, size, mode="nearest")

    f = standard(fixed)
    mean_f = mean(f)
    shown = mean(f * f) - mean_f**2
    var_f = np.maximum(shown, _LEAST_VARIANCE)

    def ncc(moving: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        m = standard(moving)
        mean_m = mean(m)
        var_m = np.maximum(mean(m * m) - mean_m**2, _LEAST_VARIANCE)
        return (mean(f * m) - mean_f * mean_m) / np.sqrt(var_f * var_m)

    return ncc, shown


def likeness(target: Image, radius: int = 3) -> Callable[[Image], float]:
    """The function image -> mean NCC with a target on its grid, where the target shows something."""
    ncc, shown = local_ncc(target.luminance().values.astype(np.float32), radius)
    where = shown > _SHOWS

    def like(image: Image) -> float:
        found = ncc(image.luminance().values.astype(np.float32))[where]
        return float(np.clip(found, -1, 1).mean()) if found.size else 0.0

    return like


def standard(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """With mean 0 and variance 1."""
    return ((values - values.mean()) / max(float(values.std()), 1e-12)).astype(np.float32)
