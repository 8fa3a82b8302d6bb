"""Frames in known motion: real images moved smoothly, a few voxels from one frame to the next, with noise.

fixed(x) = image(x), frame_k(y) = image(T_k^-1(y)), each with noise of its own, so T_k maps fixed to frame k. T_k = A_k about the
image's centre: rotations, scales and shifts are sums of two sines of the time. What comes in from outside is mirrored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import skimage.data
import skimage.transform

import augreg as ar
from benchmarks.harness.places import DATA

Array = npt.NDArray[np.float64]
# largest frequency of the motion, turns per frame
_TURNS = 0.03
# standard deviation of the noise, of 255
_NOISE = 3.0
# points per axis at which errors are measured, at this share of the sides from the border
_LATTICE, _BORDER = {2: 20, 3: 8}, 0.12
BRAINS = ("1000", "1003", "1006", "1012")
PHOTOGRAPHS = ("camera", "coins", "retina", "immunohistochemistry")


@dataclass(frozen=True, eq=False)
class Motion:
    """An image on its way.

    Parameters
    ----------
    name : of the image
    image : (*shape), 0..255
    kind : rigid or affine
    depth : type of the frames
    seed : of the motion and the noise
    speed : motion from frame to frame, as a share of what is usual
    """

    name: str
    image: Array
    kind: str
    depth: type[np.generic] = np.uint8
    seed: int = 0
    speed: float = 1.0

    @cached_property
    def _smooth(self) -> Array:
        return scipy.ndimage.spline_filter(self.image, 3, mode="mirror")

    @cached_property
    def fixed(self) -> npt.NDArray[Any]:
        """The image with noise."""
        return self._shown(self.image, -1)

    @cached_property
    def points(self) -> Array:
        """Where errors are measured, (N, D)."""
        axes = [np.linspace(_BORDER * n, (1 - _BORDER) * (n - 1), _LATTICE[self.image.ndim]) for n in self.image.shape]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, self.image.ndim)

    def truth(self, k: int) -> ar.Affine:
        """T_k; T_0 is the identity."""
        ndim, side = self.image.ndim, min(self.image.shape)
        rng = np.random.default_rng([self.seed, ndim])
        shift, planes = np.zeros(ndim), [(a, b) for a in range(ndim) for b in range(a + 1, ndim)]
        for axis in range(ndim):
            shift[axis] = 0.04 * side * self._wave(rng, k)
        matrix = np.eye(ndim)
        for a, b in planes:
            angle, turn = np.deg2rad(5.0) * self._wave(rng, k), np.eye(ndim)
            turn[[a, b], [a, b]] = np.cos(angle)
            turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ turn
        if self.kind == "affine":
            matrix = matrix @ (np.eye(ndim) + [[0.03 * self._wave(rng, k) for _ in range(ndim)] for _ in range(ndim)])
        return ar.Affine.about(matrix, (np.array(self.image.shape) - 1) / 2, shift)

    def frame(self, k: int) -> npt.NDArray[Any]:
        """The k-th one."""
        back = self.truth(k).inverse()
        moved = scipy.ndimage.affine_transform(
            self._smooth, back.matrix, back.translation, order=3, mode="mirror", prefilter=False
        )
        return self._shown(moved, k)

    def error(self, phi: Any, k: int) -> float:
        """Mean distance from the truth, voxels, of the points that the frame shows; infinite for a map that is not finite."""
        targets = self.truth(k)(self.points)
        seen = np.all((targets >= 0) & (targets <= np.array(self.image.shape) - 1), axis=1)
        found = float(np.linalg.norm(phi(self.points[seen]) - targets[seen], axis=1).mean())
        return found if np.isfinite(found) else float("inf")

    def steps(self, count: int) -> Iterator[float]:
        """How far the points move from each frame to the next, the largest distance."""
        for k in range(count - 1):
            yield float(np.linalg.norm(self.truth(k + 1)(self.points) - self.truth(k)(self.points), axis=1).max())

    def _wave(self, rng: np.random.Generator, k: int) -> float:
        """A sum of two sines within -1 .. 1, 0 at the first frame."""
        turns = 2 * np.pi * self.speed * _TURNS * rng.uniform(0.4, 1.0, 2)
        signs = rng.choice([-1.0, 1.0], 2)
        return float(np.sin(turns * k) @ signs / 2)

    def _shown(self, image: Array, k: int) -> npt.NDArray[Any]:
        rng = np.random.default_rng([self.seed, k + 1])
        values = (image + rng.normal(0, _NOISE, image.shape)).clip(0, 255)
        if self.depth is np.uint8:
            return values.round().astype(np.uint8)
        return (values * 100).round().astype(np.uint16) if self.depth is np.uint16 else values.astype(np.float32)


def photograph(name: str, side: int = 512) -> Array:
    """Grey, (side, side), x first."""
    values = getattr(skimage.data, name)().swapaxes(0, 1).astype(float)
    grey = values if values.ndim == 2 else values[..., :3] @ np.array([0.299, 0.587, 0.114])
    n = min(grey.shape)
    first = [(m - n) // 2 for m in grey.shape]
    square = grey[first[0] : first[0] + n, first[1] : first[1] + n]
    return skimage.transform.resize(square, (side, side), order=3, anti_aliasing=n > side).clip(0, 255)


def brain(person: str, side: int = 80) -> Array:
    """A volume of `brain3d`, (side, side, side); FileNotFoundError where it is not there."""
    path = DATA / "brain3d" / f"{person}.nii.gz"
    if not path.exists():
        raise FileNotFoundError(path)
    values = ar.read_image(path).values.astype(float)
    shape = np.array(values.shape) * side // max(values.shape)
    small = skimage.transform.resize(values, tuple(shape), order=3, anti_aliasing=True)
    spare = [((side - n) // 2, side - n - (side - n) // 2) for n in small.shape]
    return np.pad(small * 255 / np.percentile(small, 99.9), spare).clip(0, 255)
