"""Pairs whose displacement comes from registering real images.

For images i and j and phi = registration(image_i, image_j), image_j(phi(x)) ~ image_i(x), there are two readings:

    estimated   fixed = image_i, moving = image_j, u = phi - id: real images, but a truth that is only as good as the registration
    warped      fixed = image_j o phi, moving = image_j, u = phi - id: exact, but an image that the registration made; clipped to
                the range of image_j, and mirrored where phi leaves it, as rendered images are

The reverse displacement is the one of registering j to i in the first reading, the numerical inverse of phi in the second. Label
maps go with their images; in the second reading that of the fixed image is labels_j o phi.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image, Labels, as_image
from augreg.geometry.resampling import sample, warp
from augreg.geometry.transforms import Transform
from augreg.registration import Registration
from augreg.sam.checks import checked_labels
from augreg.sam.textures import mirrored_points
from augreg.synthesis.later import Later
from augreg.synthesis.pairs import TOLERANCE, Draw, PairBatch
from augreg.synthesis.render.held import narrow_labels
from augreg.synthesis.render.renderer import INTENSITY_NODES, renderer_on
from augreg.tensors import displacement_to_flow


@dataclass(frozen=True, eq=False)
class StoredDraw(Draw):
    """Random numbers of B pairs: `chosen` (B,) which ones, `light` (B, 2, INTENSITY_NODES^D) of smooth gains."""

    chosen: npt.NDArray[np.int64]
    light: FloatArray


@dataclass(frozen=True, eq=False)
class StoredPairs:
    """A generator that takes its pairs from a few that are at hand.

    Parameters
    ----------
    pairs : the pairs at hand
    grid : grid of both images
    intensity : standard deviation of the logarithm of a smooth gain, independent for both images
    """

    pairs: PairBatch
    grid: Grid
    intensity: float = 0.0

    def draw(self, rngs: Sequence[np.random.Generator]) -> StoredDraw:
        """The random numbers of one pair per random generator."""
        chosen = np.array([rng.integers(len(self.pairs)) for rng in rngs])
        light = np.stack([rng.standard_normal((2, INTENSITY_NODES**self.grid.ndim)) for rng in rngs])
        return StoredDraw(chosen, self.intensity * light)

    def render(self, draw: StoredDraw, device: torch.device | str | None = None) -> PairBatch:
        """The pairs of a draw."""
        device = torch.device(device or "cpu")
        taken = self.pairs[torch.from_numpy(draw.chosen)].to(device)
        light = renderer_on(self.grid, device).gains(draw.light.reshape(2 * len(draw), -1))
        both = torch.stack([taken.fixed, taken.moving], dim=1).flatten(0, 2) * light
        return replace(taken, fixed=both[0::2, None], moving=both[1::2, None])

    def describe(self) -> Mapping[str, Any]:
        """A hash of the pairs."""
        return {"kind": "stored pairs", "pairs": self._fingerprint, "intensity": self.intensity}

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(repr(self.grid).encode())
        labels = (self.pairs.fixed_labels, self.pairs.moving_labels)
        for tensor in (self.pairs.fixed, self.pairs.moving, self.pairs.flow, self.pairs.mask, *labels):
            if tensor is not None:
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def registered_pairs(
    images: Sequence[Image | npt.NDArray[Any]],
    registration: Registration,
    reading: Literal["estimated", "warped"],
    *,
    labels: Sequence[Labels | npt.NDArray[Any]] | None = None,
) -> Iterator[PairBatch]:
    """Register every image to every other one; a batch of one pair after each registration.

    Parameters
    ----------
    images : two or more images on one grid, or arrays, whose spacing is 1
    registration : callable (fixed, moving) -> phi; with labels (fixed, moving, fixed_labels=, moving_labels=) -> phi, such as
        `augreg.matching.ShapeRegistration()`, or any of augreg's, which says what it does not use
    reading : "estimated" or "warped", see the module's docstring
    labels : label maps of the images, on their grid, which pairs then have too

    Raises
    ------
    ValueError : for fewer than two images, images of different grids, or with NaN, and label maps that are not theirs.
    """
    if len(images) < 2:
        raise ValueError(f"images: expected at least 2, got {len(images)}")
    on_grids = [as_image(f"images[{i}]", image) for i, image in enumerate(images)]
    grid = on_grids[0].grid
    for i, image in enumerate(on_grids):
        if not image.grid.matches(grid):
            raise ValueError(f"images[{i}]: expected the grid of images[0], {grid}, got {image.grid}; resample it")
        if not np.isfinite(image.values).all():
            raise ValueError(f"images[{i}]: expected finite intensities, got NaN or infinity; replace them first")
    grey = [image.luminance() for image in on_grids]
    maps = None if labels is None else checked_labels(labels, on_grids)
    known: dict[tuple[int, int], Transform] = {}

    def phi(i: int, j: int) -> Transform:
        if (i, j) not in known:
            given = {} if maps is None else {"fixed_labels": maps[i], "moving_labels": maps[j]}
            known[i, j] = registration(grey[i], grey[j], **given)
        return known[i, j]

    def labelled(pair: PairBatch, i: int, j: int) -> PairBatch:
        if maps is None:
            return pair
        fixed = maps[i] if reading == "estimated" else warp(maps[j], phi(i, j), grid)
        return pair.labelled(_labels(fixed), _labels(maps[j]))

    for i, j in permutations(range(len(images)), 2):
        if reading == "estimated":
            pair = _pair(grid, grey[i].values, grey[j].values, phi(i, j)(grid.points()), phi(j, i)(grid.points()))
        else:
            target = phi(i, j)(grid.points())
            back = phi(i, j).solve(grid.points())
            residual = np.linalg.norm((phi(i, j)(back) - grid.points()) / grid.spacing, axis=-1)
            warped = sample(grey[j], mirrored_points(target, grid), interpolation="cubic")
            warped = np.clip(warped, grey[j].values.min(), grey[j].values.max())
            pair = _pair(grid, warped, grey[j].values, target, back, residual)
        yield labelled(pair, i, j)


def _labels(labels: Labels) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(narrow_labels("labels", labels.values)))[None, None]


def _pair(
    grid: Grid,
    fixed: npt.NDArray[Any],
    moving: npt.NDArray[Any],
    target: FloatArray,
    back: FloatArray,
    residual: FloatArray | None = None,
) -> PairBatch:
    def flow(points: FloatArray) -> torch.Tensor:
        return displacement_to_flow(points - grid.points(), grid)

    def image(values: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.array(values, dtype=np.float32, order="C"))[None, None]

    errors = np.zeros(grid.shape) if residual is None else residual
    slopes = [np.gradient(target @ grid.world_to_index.T, axis=axis) for axis in range(grid.ndim)]
    det = np.linalg.det(np.stack(slopes, axis=-1))
    return PairBatch(
        fixed=image(fixed),
        moving=image(moving),
        flow=flow(target),
        mask=torch.from_numpy(grid.contains(target, margin=0.0))[None, None],
        back=Later.known(flow(back), torch.from_numpy(grid.contains(back, margin=0.0) & (errors < TOLERANCE))[None, None]),
        least_det=torch.tensor([det.min()]),
        residual=torch.tensor([errors.max()]),
        scale=torch.ones((1, 2), dtype=torch.float64),
        rejected=torch.zeros(1, dtype=torch.int64),
    )
