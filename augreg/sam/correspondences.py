"""Where points of different images correspond: x_i, (m, D) mm per image i, in one order.

    FromContours      points of contours or surfaces of label maps, and centroids
    GivenLandmarks    landmarks that somebody has set
    ByRegistration    points of a lattice on a template image, carried along by a registration phi_i of the template to image i

Anything else with `find(images) -> Corresponding` will do as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Image, Labels
from augreg.geometry.splines import control_grid
from augreg.registration import Registration
from augreg.sam.alignment import Alignment, procrustes
from augreg.sam.annotations import doubts_of_labels, doubts_of_landmarks, doubts_of_structures
from augreg.sam.checks import checked_labels, checked_landmarks, checked_template
from augreg.sam.contours import Contours
from augreg.sam.motion import Displacement
from augreg.sam.textures import equalised, sample_texture
from augreg.sam.training_splines import training_splines, training_transforms

_LATTICE_CELLS = {2: 16, 3: 10}


@dataclass(frozen=True, eq=False)
class Corresponding:
    """Corresponding points of some images.

    Parameters
    ----------
    points : positions, (n, m, D) mm
    contours : scheme of the points, if they come from label maps
    objects : number of the structure that each point belongs to, (m,), likewise
    doubts : sentences about annotations that may be wrong
    """

    points: FloatArray
    contours: Contours | None = None
    objects: npt.NDArray[np.integer] | None = None
    doubts: tuple[str, ...] = ()


class Correspondences(Protocol):
    """A way to find corresponding points."""

    def find(self, images: Sequence[Image]) -> Corresponding:
        """Corresponding points of some grey images of one shape."""


@dataclass(frozen=True, eq=False)
class FromContours:
    """Points of label maps.

    Parameters
    ----------
    labels : a label map per image
    points : number of points of contours or surfaces
    structures : labels to use; by default those that every map has
    """

    labels: Sequence[Labels | npt.NDArray[Any]]
    points: int = 400
    structures: Sequence[int] | None = None

    def find(self, images: Sequence[Image]) -> Corresponding:
        """Contours, or surfaces in 3-D, and centroids.

        Raises
        ------
        ValueError : for label maps that do not fit the images, or lack structures.
        """
        labels = checked_labels(self.labels, images)
        contours = Contours.from_labels(labels, self.points, self.structures)
        points = contours.corresponding(labels)
        doubts = doubts_of_labels(labels, images) if self.structures is None else []
        objects = np.repeat(np.arange(len(contours.counts)), np.add(contours.counts, 1))
        doubts += doubts_of_structures(points, contours.structures, objects)
        return Corresponding(points, contours, objects, tuple(doubts))


@dataclass(frozen=True, eq=False)
class GivenLandmarks:
    """Landmarks that are known: `landmarks` (m, D) mm per image, in one order."""

    landmarks: Sequence[npt.ArrayLike]

    def find(self, images: Sequence[Image]) -> Corresponding:
        """The landmarks.

        Raises
        ------
        ValueError : for other numbers of images or points, or points that are not finite.
        """
        points = checked_landmarks(self.landmarks, len(images), images[0].ndim)
        return Corresponding(points, doubts=tuple(doubts_of_landmarks(points, images)))


@dataclass(frozen=True, eq=False)
class ByRegistration:
    """Points of a lattice that a registration carries from a template to every image.

    Parameters
    ----------
    registration : method that registers the template to every image, a callable (fixed, moving) -> Transform
    template : image that is registered to all others; by default the one nearest to the mean image
    rounds : number of times that all images are registered; after each but the last, the mean image in the mean shape is the new
        template
    alignment : kind of pose that is taken out of the shapes where the mean image is made
    """

    registration: Registration
    template: Image | npt.NDArray[Any] | None = None
    rounds: int = 2
    alignment: Alignment = "translation"

    def find(self, images: Sequence[Image]) -> Corresponding:
        """The points of the lattice in every image.

        Raises
        ------
        ValueError : for a template of another dimension, or with NaN.
        """
        given = self.template
        start = most_typical(images) if given is None else checked_template(given, images[0].ndim).luminance()
        points = carried(images, self.registration, start)
        for _ in range(self.rounds - 1):
            points = carried(images, self.registration, mean_image(images, points, self.alignment))
        return Corresponding(points)


def carried(images: Sequence[Image], registration: Registration, template: Image) -> FloatArray:
    """Points of a lattice on the template, carried to every image by registering template -> image, (n, m, D) mm."""
    grid = template.grid
    spacing = float(grid.extent.max()) / _LATTICE_CELLS[grid.ndim]
    points = grid.lattice(np.maximum(2, np.rint(grid.extent / spacing).astype(int) + 1).tolist())
    return np.stack([registration(template, image)(points) for image in images])


def most_typical(images: Sequence[Image]) -> Image:
    """The image that is least far from the mean image, each scaled to unit mean square."""
    values = np.stack([np.asarray(image.values, dtype=np.float64).ravel() for image in images])
    values /= np.sqrt(np.mean(np.square(values), axis=1, keepdims=True)) + 1e-30
    return images[int(np.argmin(np.square(values - values.mean(axis=0)).sum(axis=1)))]


def mean_image(images: Sequence[Image], corresponding: FloatArray, alignment: Alignment) -> Image:
    """The mean image in the mean shape of corresponding points (n, m, D) mm."""
    shapes = procrustes(corresponding, alignment)
    grid = images[0].grid
    _, coefficients = training_splines(shapes, grid)
    psis = training_transforms(coefficients, Displacement(), control_grid(grid), shapes.poses, shapes.mean.mean(axis=0))
    textures, _ = equalised(np.stack([sample_texture(image, psi, grid) for image, psi in zip(images, psis, strict=True)]))
    return Image(textures.mean(axis=0).reshape(grid.shape), grid)
