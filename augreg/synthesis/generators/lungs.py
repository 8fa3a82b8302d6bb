"""Fields of chests, after Sokooti et al. 2017 (MICCAI, LNCS 10433) and 2019 (arXiv 1908.10235).

RespiratoryField   a shift along one axis and a scale along another that die out logarithmically away from the diaphragm, plus
                   a small `BSplineField`
MixedField         single frequencies that stand at edges of the image alone, in a pattern of chance, smoothed: several
                   frequencies in one field, as where lobes slide. Edges (there Canny's, here the image's strongest gradients
                   in every few voxels), one copy per component; 150 to 200 random blocks of each erased or dilated; times a
                   single frequency of one to two times the largest |u|; smoothed by a Gaussian of 5 to 15 mm. The sizes of
                   the blocks, and that its largest |u| is uniform from 0.4 to 1 of the largest, are augreg's own
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.ndimage

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image
from augreg.geometry.splines import through
from augreg.keypoints.boundary import find_keypoints
from augreg.keypoints.pyramid import rasters
from augreg.synthesis.generators.fields import BSplineField, Field, ZeroField, framed, over, refined

# nodes of a mixed field's pattern per control cell
_FINER = 2
# sides of its random blocks, nodes
_BLOCK = (2, 9)
# voxels along each axis for one edge
_APART = 3
# share of the largest |u|
_LEAST_SIZE = 0.4


@dataclass(frozen=True)
class RespiratoryField:
    """Breathing: a shift along one axis and a stretch along another, largest at one end of the first.

    Parameters
    ----------
    shift : largest shift at the diaphragm, mm; multiplied by U(0.8, 1.1) and a random sign
    stretch : largest relative change of length of the second axis
    axes : index axes of shift and stretch: cranio-caudal and antero-posterior
    rest : family of small random fields that are added
    """

    shift: float
    stretch: float
    axes: tuple[int, int]
    rest: BSplineField

    def draw(self, rng: np.random.Generator, control: Grid, template: Grid) -> FloatArray:
        """Coefficients (*control.shape, D) mm."""
        nodes = template.indices_at(control.points())
        along, across = self.axes
        size = template.last
        # 1 at the diaphragm, 0 from the middle of the lung on
        share = np.clip(1 - 2 * nodes[..., along] / size[along], 0, 1)
        profile = np.log1p(9 * share) / np.log(10)
        u = np.zeros((*control.shape, control.ndim))
        sign = rng.choice((-1.0, 1.0))
        u[..., along] = sign * self.shift * rng.uniform(0.8, 1.1) * profile
        middle = (nodes[..., across] - 0.5 * size[across]) * template.spacing[across]
        u[..., across] = sign * self.stretch * rng.uniform(0.8, 1.1) * profile * middle
        inside = np.all((nodes > -0.1 * size) & (nodes < 1.1 * size), axis=-1)
        soft = scipy.ndimage.gaussian_filter(u * inside[..., None], sigma=[1.5] * control.ndim + [0])
        return framed(soft @ template.axes.T) + self.rest.draw(rng, control, template)


@dataclass(frozen=True, eq=False)
class MixedField:
    """Several frequencies in one field.

    Parameters
    ----------
    edges : places that edges go through, (N, D) mm; see `of`
    largest : upper bound of |u|, mm
    spacing : least and largest spacing of the random coefficients that fill the pattern, mm
    width : least and largest deviation of the Gaussian, mm
    blocks : least and largest number of random blocks
    """

    edges: FloatArray = field(repr=False)
    largest: float
    spacing: tuple[float, float] = (45.0, 80.0)
    width: tuple[float, float] = (5.0, 15.0)
    blocks: tuple[int, int] = (150, 200)

    @staticmethod
    def of(image: Image, largest: float) -> MixedField:
        """That of the edges of an image, where its gradient is strongest in every few voxels."""
        (raster,) = rasters(image.luminance(), None, [float(min(image.grid.spacing))])
        return MixedField(find_keypoints(raster, max(1, image.grid.size // _APART**image.ndim)).points, largest)

    def draw(self, rng: np.random.Generator, control: Grid, template: Grid) -> FloatArray:
        """Coefficients (*control.shape, D) mm."""
        D = control.ndim
        lattice = Grid(
            tuple(_FINER * (n - 1) + 1 for n in control.shape),
            tuple(s / _FINER for s in control.spacing),
            control.origin,
            control.direction,
        )
        nodes = np.rint(lattice.indices_at(self.edges)).astype(int)
        nodes = nodes[np.all((nodes >= 0) & (nodes < lattice.shape), axis=1)]
        marks = np.zeros((D, *lattice.shape), dtype=bool)
        marks[(slice(None), *nodes.T)] = True
        for pattern in marks:
            for _ in range(rng.integers(self.blocks[0], self.blocks[1] + 1)):
                corner = rng.integers(0, lattice.shape)
                block = tuple(slice(c, c + side) for c, side in zip(corner, rng.integers(*_BLOCK, size=D), strict=True))
                pattern[block] = scipy.ndimage.binary_dilation(pattern[block]) if rng.random() < 0.5 else False

        def uniform(shape: tuple[int, ...]) -> FloatArray:
            return rng.choice((-1.0, 1.0), shape) * rng.uniform(self.largest, 2 * self.largest, shape)

        filled = np.moveaxis(marks, 0, -1) * refined(uniform, rng.uniform(*self.spacing), lattice)
        sigma = rng.uniform(*self.width) / np.asarray(lattice.spacing)
        soft = scipy.ndimage.gaussian_filter(filled, [*sigma, 0])[(slice(None, None, _FINER),) * D]
        c = framed(through(soft[None], control)[0])
        length = np.linalg.norm(over(c, control, template), axis=-1).max()
        return c * (rng.uniform(_LEAST_SIZE, 1.0) * self.largest / max(float(length), 1e-300))


def lung_fields(largest: float = 20.0, images: Sequence[Image] = ()) -> tuple[Field, ...]:
    """The families of Sokooti et al. 2019 for volumes (x, y, z) of the chest, scaled to a largest |u|, mm.

    Single frequencies from coarse to fine with smaller displacements at finer ones, breathing, nothing, and mixed frequencies at
    the edges of images, where these are given.
    """
    return (
        BSplineField((45.0, 80.0), largest),
        BSplineField((35.0, 60.0), 0.75 * largest),
        BSplineField((20.0, 50.0), 0.35 * largest),
        RespiratoryField(1.1 * largest, 0.12, (2, 1), BSplineField((45.0, 80.0), 0.5 * largest)),
        ZeroField(),
        *(MixedField.of(image, 0.75 * largest) for image in images),
    )
