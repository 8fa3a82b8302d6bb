"""How good an appearance model is: generalisation, specificity, compactness (Davies 2002; Styner et al. 2003).

    generalisation   mean distance of unseen images to their projections onto the model          (lower: more flexible)
    specificity      mean distance of the model's samples to the nearest of the given images      (lower: more plausible)
    compactness      share of the variance in the first k modes

Distance of shapes: mean Euclidean distance of corresponding points, poses removed, mm; points of a dense model count where they
lie over the template. Distance of appearances: root mean
square difference of intensities in the mean shape. Specificity is measured against the images given, best ones that the model has
not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Image, Labels
from augreg.registration import Registration
from augreg.sam.alignment import align
from augreg.sam.contours import Contours
from augreg.sam.model import AppearanceModel
from augreg.sam.subspace import Subspace


@dataclass(frozen=True, eq=False)
class Measure:
    """A mean over images or samples with its standard error."""

    mean: float
    error: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Measures of a model on images.

    Parameters
    ----------
    shape_generalisation, shape_specificity : mean distances of shapes, mm
    appearance_generalisation, appearance_specificity : mean distances of textures, in intensities of the mean appearance
    shape_compactness, appearance_compactness : cumulative share of the modes' variance, (K,)
    images, samples : numbers of images and samples that were used
    """

    shape_generalisation: Measure
    shape_specificity: Measure
    appearance_generalisation: Measure
    appearance_specificity: Measure
    shape_compactness: FloatArray
    appearance_compactness: FloatArray
    images: int
    samples: int


@dataclass(frozen=True, eq=False)
class Unseen:
    """Images as a model sees them.

    Parameters
    ----------
    shapes : landmarks without their pose, (n, m D) mm
    textures : intensities in the mean shape, (n, N)
    counted : points that count in distances, (m,) bool
    """

    shapes: FloatArray
    textures: FloatArray
    counted: npt.NDArray[np.bool_]

    @staticmethod
    def of(model: AppearanceModel, images: Sequence[Image], landmarks: Sequence[npt.ArrayLike]) -> Unseen:
        """Images with landmarks (m, D) mm.

        Raises
        ------
        ValueError : for no images or landmarks that do not fit.
        """
        if not images or len(images) != len(landmarks):
            raise ValueError(
                f"images, landmarks: expected at least one image, each with landmarks, got {len(images)} and {len(landmarks)}"
            )
        points = [np.asarray(p, dtype=np.float64) for p in landmarks]
        for i, p in enumerate(points):
            if p.shape != model.landmarks.shape:
                raise ValueError(f"landmarks[{i}]: expected shape {model.landmarks.shape}, the model's, got {p.shape}")
        shapes = np.stack([align(p, model.landmarks, model.alignment)[0].ravel() for p in points])
        textures = np.stack([model.texture(image, p) for image, p in zip(images, points, strict=True)])
        inside = model.template.contains(model.landmarks)
        return Unseen(shapes, textures, inside if model.maps.dense else np.ones_like(inside))

    def shape_errors(self, shape: Subspace) -> FloatArray:
        """Distances of the shapes to their projections, (n,) mm."""
        return self._apart(self.shapes, shape.project(self.shapes))

    def appearance_errors(self, appearance: Subspace) -> FloatArray:
        """Distances of the textures to their projections, (n,)."""
        return _rms(self.textures, appearance.project(self.textures))

    def distances(self, samples: FloatArray) -> FloatArray:
        """Distances of samples (count, m D) to all shapes, (count, n) mm."""
        return np.stack([self._apart(one, self.shapes) for one in samples])

    def nearest_shapes(self, samples: FloatArray) -> FloatArray:
        """Distances of samples (count, m D) to the nearest of the shapes, (count,) mm."""
        return np.array([self._apart(one, self.shapes).min() for one in samples])

    def nearest_appearances(self, samples: FloatArray) -> FloatArray:
        """Distances of samples (count, N) to the nearest of the textures, (count,)."""
        return np.array([_rms(one, self.textures).min() for one in samples])

    def _apart(self, a: FloatArray, b: FloatArray) -> FloatArray:
        difference = np.subtract(a, b)
        points = difference.reshape(*difference.shape[:-1], len(self.counted), -1)
        return np.linalg.norm(points[..., self.counted, :], axis=-1).mean(axis=-1)


def evaluate(
    model: AppearanceModel,
    images: Sequence[Image],
    landmarks: Sequence[npt.ArrayLike],
    rng: np.random.Generator,
    samples: int = 200,
) -> Evaluation:
    """Measure a model on images with landmarks, best ones that it has not seen.

    Parameters
    ----------
    model : appearance model
    images : one or more images
    landmarks : landmarks of each image, (m, D) mm, in the model's order: see `find_landmarks`
    rng : random generator of the samples of the specificity
    samples : number of samples

    Raises
    ------
    ValueError : for no images or landmarks that do not fit.
    """
    unseen = Unseen.of(model, images, landmarks)
    shapes, textures = drawn(model, rng, samples)
    return Evaluation(
        shape_generalisation=measure(unseen.shape_errors(model.shape)),
        shape_specificity=measure(unseen.nearest_shapes(shapes)),
        appearance_generalisation=measure(unseen.appearance_errors(model.appearance)),
        appearance_specificity=measure(unseen.nearest_appearances(textures)),
        shape_compactness=compactness(model.shape.variance),
        appearance_compactness=compactness(model.appearance.variance),
        images=len(images),
        samples=samples,
    )


def compactness(variance: FloatArray) -> FloatArray:
    """The share of the variance in the first k modes, k = 1..K."""
    cumulative = np.cumsum(variance, dtype=np.float64)
    return cumulative / cumulative[-1]


def find_landmarks(
    model: AppearanceModel,
    images: Sequence[Image],
    labels: Sequence[Labels] | None = None,
    registration: Registration | None = None,
) -> list[FloatArray]:
    """The model's landmarks in other images: from label maps, or by registering the mean image to each.

    Points of structures that a label map lacks are those the model expects from the others.

    Raises
    ------
    ValueError : if the model was not fitted to label maps but labels are given, a map has none of the model's structures, or
        nothing to go by is given.
    """
    if labels is not None:
        if model.contours is None:
            raise ValueError("labels: expected landmarks or a registration, this model was not fitted to label maps")
        return [_from_labels(model, model.contours, one, f"labels[{i}]") for i, one in enumerate(labels)]
    if registration is None:
        raise ValueError("landmarks: expected labels or a registration to find them with, got neither")
    return [registration(model.mean, image)(model.landmarks) for image in images]


def _from_labels(model: AppearanceModel, contours: Contours, labels: Labels, name: str) -> FloatArray:
    mean = model.landmarks
    there, seen = contours.within(labels)
    if not there.structures:
        raise ValueError(
            f"{name}: expected some of the structures {contours.structures[:8]} of the model, got none; leave it out"
        )
    points = there.landmarks(labels, mean[seen])
    if seen.all():
        return points
    known = np.full(mean.shape, np.nan)
    known[seen] = points
    # points of label maps are right to about a voxel
    expected = model.posterior(known, float(np.mean(model.template.spacing))).landmarks
    expected[seen] = points
    return expected


def drawn(model: AppearanceModel, rng: np.random.Generator, count: int) -> tuple[FloatArray, FloatArray]:
    """Random shapes (count, m D) mm and textures (count, N) of a model's modes."""
    return model.shape.sample(rng, count), np.clip(model.appearance.sample(rng, count), *model.intensities)


def measure(values: FloatArray) -> Measure:
    """The mean of some distances; its error is NaN for a single one."""
    return Measure(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan"))


def _rms(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.sqrt(np.mean(np.square(np.subtract(a, b)), axis=-1, dtype=np.float64))
