"""Pairs of a real image and a random deformation of it: what a network learns from where nothing is known of anatomy.

    moving(y) = I(B(y)),    fixed = I,    u = psi - id,        B = psi^-1,        or the two in exchanged roles,

with psi = id + u a random smooth map (`augreg.synthesis.generators.fields`), and B the spline through its inverse at nodes,
which is the map from there on (`augreg.synthesis.render.maps`). Rendered like the pairs of an appearance model, with
the same exactness, so that a comparison of both compares the deformations and not the programs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image, Labels, as_image
from augreg.geometry.splines import control_grid
from augreg.sam.alignment import pose_size
from augreg.sam.checks import checked_labels
from augreg.sam.motion import Displacement
from augreg.synthesis.generators.fields import Field, SmoothField, described
from augreg.synthesis.pairs import Draw, PairBatch, PairGenerator, make_pairs
from augreg.synthesis.render.held import held, narrow_labels, rendering
from augreg.synthesis.render.maps import MADE
from augreg.synthesis.render.renderer import INTENSITY_NODES, Looks, Shapes, renderer_on
from augreg.tensors import flows_to_displacements

# spacings of random coefficients as shares of the longest side
_SPACINGS = (1 / 4, 1 / 8, 1 / 12)


@dataclass(frozen=True, eq=False)
class DeformationDraw(Draw):
    """Random numbers of B pairs.

    Parameters
    ----------
    chosen : number of the image, (B,)
    coefficients : spline coefficients of both displacements, (B, 2, *control shape, D) mm, zero for the image that stays as it is
    light : coefficients of the logarithm of a smooth gain, (B, 2, INTENSITY_NODES^D)
    """

    chosen: npt.NDArray[np.int64]
    coefficients: FloatArray
    light: FloatArray


@dataclass(frozen=True, eq=False)
class RandomDeformations:
    """Pairs of a real image and a random deformation of it.

    Parameters
    ----------
    images : intensities of n images, (n, *shape) float32, all on `grid`; see `of`
    grid : grid of all images
    families : families of random fields; one is taken at random for every pair
    intensity : standard deviation of the logarithm of a smooth gain, independent for both images
    labels : label maps of the images, (n, *shape) integers, if they have any
    """

    images: npt.NDArray[np.float32]
    grid: Grid
    families: tuple[Field, ...]
    intensity: float = 0.0
    labels: npt.NDArray[np.integer] | None = None

    def __post_init__(self) -> None:
        if self.images.shape[1:] != self.grid.shape or not len(self.images):
            raise ValueError(f"images: expected shape (n, {self.grid.shape}), those of the grid, got {self.images.shape}")
        # in the order and of the type that they are rendered in, however they come
        object.__setattr__(self, "images", np.ascontiguousarray(self.images, dtype=np.float32))
        if not np.isfinite(self.images).all():
            raise ValueError("images: expected finite intensities, got NaN or infinity; replace them first")
        if self.labels is not None:
            if self.labels.shape != self.images.shape or self.labels.dtype.kind not in "iu":
                raise ValueError(
                    f"labels: expected integers of the images' shape {self.images.shape}, got {self.labels.dtype} of "
                    f"{self.labels.shape}"
                )
            narrow_labels("labels", self.labels)
        if not self.families:
            raise ValueError("families: expected at least one family of fields, got none")
        if not 0 <= self.intensity < np.inf:
            raise ValueError(f"intensity: expected a factor of at least 0, got {self.intensity}")

    @staticmethod
    def of(
        images: Sequence[Image | npt.NDArray[Any]],
        families: Sequence[Field] | None = None,
        *,
        magnitudes: Sequence[float] = (4.0,),
        intensity: float = 0.0,
        labels: Sequence[Labels | npt.NDArray[Any]] | None = None,
    ) -> RandomDeformations:
        """Deformations of images of one grid.

        Parameters
        ----------
        images : one or more images on one grid, or arrays, whose spacing is 1; colour becomes luminance
        families : families of random fields; by default smooth ones with coefficients every fourth, eighth and twelfth of the
            longest side
        magnitudes : root mean square |u| of the default families, mm; `magnitudes_of` takes them from another generator, so
            that the two are matched in amplitude
        intensity, labels : see the class
        """
        on_grids = [as_image(f"images[{i}]", image) for i, image in enumerate(images)]
        grid = on_grids[0].grid
        for i, image in enumerate(on_grids):
            if not image.grid.matches(grid):
                raise ValueError(f"images[{i}]: expected the grid of images[0], {grid}, got {image.grid}; resample it")
        if families is None:
            longest = float(grid.sides.max())
            families = [SmoothField(share * longest, tuple(magnitudes)) for share in _SPACINGS]
        values = np.stack([image.luminance().values for image in on_grids]).astype(np.float32)
        known = None if labels is None else _stacked(labels, on_grids)
        return RandomDeformations(values, grid, tuple(families), intensity, known)

    def draw(self, rngs: Sequence[np.random.Generator]) -> DeformationDraw:
        """The random numbers of one pair per random generator."""
        control = control_grid(self.grid)
        chosen = np.array([rng.integers(len(self.images)) for rng in rngs])
        coefficients = np.zeros((len(rngs), 2, *control.shape, self.grid.ndim))
        for pair, rng in zip(coefficients, rngs, strict=True):
            family = self.families[rng.integers(len(self.families))]
            pair[rng.integers(2)] = family.draw(rng, control, self.grid)
        light = np.stack([rng.standard_normal((2, INTENSITY_NODES**self.grid.ndim)) for rng in rngs])
        return DeformationDraw(chosen, coefficients, self.intensity * light)

    def render(self, draw: DeformationDraw, device: torch.device | str | None = None) -> PairBatch:
        """The pairs of a draw on the images' grid."""
        renderer = renderer_on(self.grid, torch.device(device or "cpu"))
        count, device = 2 * len(draw), renderer.device
        voxels = draw.coefficients.reshape(count, *draw.coefficients.shape[2:]) @ self.grid.world_to_index.T
        still = np.zeros((count, pose_size(self.grid.ndim)))
        labels = None if self.labels is None else lambda: torch.from_numpy(self._known_labels[draw.chosen]).to(device)
        with rendering(device):
            shapes = Shapes(held(voxels, device, torch.float64), Displacement(), still, self.grid.center)
            looks = Looks(held(self.images[draw.chosen], device), draw.light.reshape(count, -1), labels=labels)
            return renderer.pairs(shapes, looks)

    def describe(self) -> Mapping[str, Any]:
        """The families of fields and a hash of the images."""
        families = described(self.families)
        known = {"images": self._fingerprint, "families": families, "intensity": self.intensity}
        return {"kind": "random deformations", **known, "range": "clipped", "maps": MADE}

    @cached_property
    def _known_labels(self) -> npt.NDArray[np.integer]:
        return np.ascontiguousarray(narrow_labels("labels", np.asarray(self.labels)))

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(self.images).tobytes())
        digest.update(b"" if self.labels is None else np.ascontiguousarray(self._known_labels).tobytes())
        digest.update(repr(asdict(self.grid)).encode())
        return digest.hexdigest()[:16]


def _stacked(given: Sequence[Labels | npt.NDArray[Any]], images: Sequence[Image]) -> npt.NDArray[np.integer]:
    """Label maps of the images as one array."""
    labels = checked_labels(given, images)
    # one by one: numpy would make float64 of signed and unsigned types together
    return np.stack([narrow_labels(f"labels[{i}]", one.values).astype(np.int64) for i, one in enumerate(labels)])


def magnitudes_of(generator: PairGenerator[Any], seed: int = 0, count: int = 64) -> tuple[float, ...]:
    """Root mean square |u| over the grid of some of a generator's pairs, mm: for fields matched to it in amplitude."""
    found: list[float] = []
    for begin in range(0, count, 8):
        batch = make_pairs(generator, seed, range(begin, min(begin + 8, count)))
        u = flows_to_displacements(batch.flow, generator.grid)
        found += np.sqrt(np.square(u).sum(axis=-1).mean(axis=tuple(range(1, u.ndim - 1)))).tolist()
    return tuple(found)
