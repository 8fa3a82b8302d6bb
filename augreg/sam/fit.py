"""Fitting an appearance model to a few images.

    correspondences   x_i, (m, D) per image: contours of label maps, given landmarks, or the points of a lattice on a template
                      image, carried along by a registration phi_i of the template to image i
    alignment         poses T_i and the mean shape by Procrustes; shape residuals T_i^-1(x_i) - mean
    maps              psi_i = T_i o (id + thin-plate spline of the residuals): template -> image i; dense models take its
                      displacements, or the velocities that lead to them, at the nodes of a control grid for their shapes
    textures          image_i(psi_i(x)), scaled to a common intensity; appearance residuals
    modes             of both, under one locality (`augreg.sam.locality`)

Landmarks of different images never correspond perfectly, least of all where the contours of neighbours meet. A spline through
every one of them would fold there. The smoothing lambda_j = lambda e_j / median(e), e_j the mean squared distance of landmark j
from the maps of the previous round (1 in the first), trusts the consistent ones; lambda is the least of a list for which no
training map folds.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import scipy.ndimage
from threadpoolctl import threadpool_limits

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.splines import control_grid, least_determinant, lift
from augreg.geometry.transforms import BSpline, Composition, Transform
from augreg.registration import Registration
from augreg.sam.alignment import Aligned, Alignment, pose_about, pose_transform, procrustes
from augreg.sam.annotations import doubts_of_labels, doubts_of_landmarks, doubts_of_structures
from augreg.sam.landmarks import Contours, lattice
from augreg.sam.locality import GridPlaces, Locality, local_subspace
from augreg.sam.maps import DisplacementMaps, LandmarkMaps, Maps, VelocityMaps
from augreg.sam.model import AppearanceModel, sample_labels, sample_texture
from augreg.sam.selection import choose_scale

# lambda in units of the squared median distance of neighbouring landmarks; in small steps, for a model loses what is smoothed
_SMOOTHINGS = (0.0, *(10 ** (k / 4) for k in range(-8, 21)))
_TRUST_ROUNDS = 2
# the more, the smoother: 0.25 costs networks that learn from the model 0.01 of Jaccard between brains
_LEAST_DETERMINANT = 0.15
# a compromise: without it instances have half of real images' power above 0.4 cycles per pixel, with it two thirds, with twice
# as much the middle of the spectrum exceeds real images by a third and more (benchmarks/synthesis/plausibility.py)
_CRISP = 0.02
# shape modes of landmarks are cheap, up to some hundreds
_LANDMARK_RANK = 500
_LATTICE_CELLS = {2: 16, 3: 10}


def fit_appearance_model(
    images: Sequence[Image],
    *,
    labels: Sequence[Labels] | None = None,
    landmarks: Sequence[npt.ArrayLike] | None = None,
    registration: Registration | None = None,
    template: Image | None = None,
    structures: Sequence[int] | None = None,
    locality: Locality | None = None,
    alignment: Alignment = "translation",
    dense: DisplacementMaps | VelocityMaps | None = None,
    points: int = 400,
    rank: int = 128,
    rounds: int = 2,
) -> AppearanceModel:
    """Fit a statistical model of shape and appearance.

    Parameters
    ----------
    images : at least 3, of equal shape and spacing; colour becomes luminance
    labels : a label map per image. The model carries them; their contours or surfaces and centroids are the landmarks if neither
        landmarks nor a registration are given
    landmarks : corresponding points (m, D) mm per image
    registration : callable (fixed, moving) -> Transform that finds the landmarks, unless they are given
    template : image that is registered to all others; by default the one nearest to the mean image
    structures : labels to use; by default those that every map has
    locality : by default five levels, Gaussian, nested; a scale that it leaves open is chosen from the shapes
    alignment : what is taken out of the shapes as pose: "none", "translation", "rigid" or "similarity". Poses are kept in the
        model and drawn with it, so nothing is lost; translation alone keeps size and orientation part of the shape, which is
        right for images that are already aligned, and safe for round structures, whose rotation is noise.
    dense : what shapes are: by default displaced landmarks; or displacements or velocities at all points of a control grid
    points : number of points of contours or surfaces
    rank : most appearance modes, and most shape modes of dense models
    rounds : registrations; after each but the last, the mean image in the mean shape is the new template

    Raises
    ------
    ValueError : for too few, unequal or non-finite images, unusable labels or landmarks, or nothing to find correspondences with.

    Warns
    -----
    UserWarning : where a label map lacks a structure, which then has no landmarks, and where annotations seem to be exchanged.
    """
    grey = _check_images(images)
    n = len(grey)
    locality = locality or Locality()
    contours = objects = None
    doubts: list[str] = []
    if labels is not None:
        _check_labels(labels, grey)
    if template is not None:
        _check_template(template, grey[0].ndim)
    if landmarks is not None:
        corresponding = _check_landmarks(landmarks, n, grey[0].ndim)
        doubts = doubts_of_landmarks(corresponding, grey)
    elif registration is not None:
        start = template.luminance() if template is not None else most_typical(grey)
        corresponding = registered(grey, registration, start)
        for _ in range(rounds - 1):
            start = _mean_image(grey, corresponding, alignment)
            corresponding = registered(grey, registration, start)
    elif labels is not None:
        contours = Contours.from_labels(labels, points, structures)
        corresponding = contours.corresponding(labels)
        doubts = doubts_of_labels(labels, grey) if structures is None else []
        objects = np.repeat(np.arange(len(contours.counts)), np.add(contours.counts, 1))
        doubts += doubts_of_structures(corresponding, contours.structures, objects)
    else:
        raise ValueError(
            "correspondences: expected labels, landmarks or a registration, got none; pass registration=LPRegistration() to "
            "align every image to a template"
        )
    for doubt in doubts:
        warnings.warn(doubt, stacklevel=2)
    if objects is None and locality.affinity < 1:
        raise ValueError(
            f"affinity: expected label maps, whose structures are the objects, to go with {locality.affinity}, got none"
        )
    shapes = procrustes(corresponding, alignment)
    grid = _template_grid(template, grey)
    control = control_grid(grid)
    extent = float(np.linalg.norm(grid.extent))
    if locality.scale is None and locality.levels > 1:
        with _one_thread():
            locality = replace(locality, scale=choose_scale(shapes.points, locality, extent, objects).scale)
    smoothing, coefficients = training_splines(shapes, grid)
    maps: Maps = LandmarkMaps(smoothing) if dense is None else dense
    mean = maps.points(shapes.mean, control)
    residuals = maps.displaced(shapes.points - shapes.mean, coefficients, control)
    places = maps.places(mean, control, extent, objects)
    most = min(mean.size, _LANDMARK_RANK) if dense is None else rank
    with _one_thread():
        shape = local_subspace(mean.ravel(), residuals, places, locality, most, name="shapes")
    # poses turn about the centre of the mean's points, whichever these are
    poses = np.stack([pose_about(pose, shapes.mean.mean(axis=0), mean.mean(axis=0)) for pose in shapes.poses])
    psis = training_maps(maps.coefficients(residuals, mean, grid, control), maps, control, poses, mean.mean(axis=0))
    textures, gains = _equalised(np.stack([sample_texture(image, psi, grid) for image, psi in zip(grey, psis, strict=True)]))
    average = textures.mean(axis=0)
    changes = (textures - average)[..., None]
    with _one_thread():
        appearance = local_subspace(average, changes, GridPlaces(grid, extent), locality.of_textures, rank, name="appearances")
    return AppearanceModel(
        template=grid,
        shape=shape,
        appearance=appearance,
        textures=_crisp(textures, grid),
        gains=gains,
        poses=poses,
        alignment=alignment,
        maps=maps,
        locality=locality,
        contours=contours,
        label_maps=None if labels is None else _compact([_pulled(o, psi, grid) for o, psi in zip(labels, psis, strict=True)]),
        intensities=(float(textures.min()), float(textures.max())),
        residuals=residuals,
        observed=(min(float(image.values.min()) for image in grey), max(float(image.values.max()) for image in grey)),
    )


def _one_thread() -> threadpool_limits:
    """Thin matrices: LAPACK's threads wait for each other longer than they work, on a busy machine ten times longer."""
    return threadpool_limits(limits=1, user_api="blas")


def registered(images: Sequence[Image], registration: Registration, template: Image) -> FloatArray:
    """Points of a lattice on the template, carried to every image by registering template -> image, (n, m, D) mm."""
    points = lattice(template.grid, float(template.grid.extent.max()) / _LATTICE_CELLS[template.ndim])
    return np.stack([registration(template, image)(points) for image in images])


def most_typical(images: Sequence[Image]) -> Image:
    """The image that is least far from the mean image, each scaled to unit mean square."""
    values = np.stack([np.asarray(image.values, dtype=np.float64).ravel() for image in images])
    values /= np.sqrt(np.mean(np.square(values), axis=1, keepdims=True)) + 1e-30
    return images[int(np.argmin(np.square(values - values.mean(axis=0)).sum(axis=1)))]


def training_splines(shapes: Aligned, template: Grid) -> tuple[FloatArray, FloatArray]:
    """Splines of the training shapes without folds: the smoothing (m,) mm^2 of every landmark, and their coefficients."""
    control = control_grid(template)
    displacements = shapes.points - shapes.mean
    trust = np.ones(len(shapes.mean))
    for _ in range(_TRUST_ROUNDS):
        smoothing, coefficients = _least_smoothing(displacements, shapes.mean, template, control, trust)
        if not smoothing.any():
            break
        misses = np.stack([BSpline(c, control)(shapes.mean) for c in coefficients]) - shapes.points
        error = np.mean(np.sum(misses**2, axis=-1), axis=0)
        trust = np.maximum(error / np.median(error), 1e-3)
    return smoothing, coefficients


def training_maps(coefficients: FloatArray, maps: Maps, control: Grid, poses: FloatArray, center: FloatArray) -> list[Transform]:
    """The maps psi_i, template -> image i."""
    return [
        Composition((pose_transform(pose, center), maps.motion.transform(c, control)))
        for c, pose in zip(coefficients, poses, strict=True)
    ]


def _least_smoothing(
    displacements: FloatArray, mean: FloatArray, template: Grid, control: Grid, trust: FloatArray
) -> tuple[FloatArray, FloatArray]:
    # two landmarks at one place, as where contours share a border, leave exact interpolation without a solution
    near = np.sort(np.linalg.norm(mean[:, None] - mean, axis=-1), axis=1)[:, 1]
    distinct = near.min() > 1e-3 * template.diagonal / len(mean)
    factors = _SMOOTHINGS[0 if distinct else 1 :]

    def tried(number: int) -> tuple[FloatArray, FloatArray, bool]:
        smoothing = factors[number] * float(np.median(near)) ** 2 * trust
        coefficients = lift(displacements, mean, template, control, smoothing)
        return smoothing, coefficients, bool(least_determinant(coefficients, control).min() >= _LEAST_DETERMINANT)

    # the more smoothing, the fewer folds: the least that will do is found by halving the list
    low, high = 0, len(factors) - 1
    smoothing, coefficients, unfolded = tried(low)
    if unfolded:
        return smoothing, coefficients
    found = tried(high)
    while high - low > 1:
        middle = (low + high) // 2
        trial = tried(middle)
        low, high, found = (low, middle, trial) if trial[2] else (middle, high, found)
    smoothing, coefficients, _ = found
    return smoothing, coefficients


def _equalised(textures: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], FloatArray]:
    """Textures (n, N) scaled to a common intensity, and the gains (n,) that lead back.

    Places that an image does not cover take the mean of the others.
    """
    seen = np.isfinite(textures)
    filled = np.where(seen, textures, 0).astype(np.float64)
    gains = np.ones(len(textures))
    for _ in range(5):
        mean = (gains[:, None] * filled).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
        gains = np.array([f @ (mean * s) / max(f @ f, 1e-300) for f, s in zip(filled, seen, strict=True)])
        gains /= np.exp(np.mean(np.log(np.maximum(gains, 1e-300))))
    mean = (gains[:, None] * filled).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    return np.where(seen, gains[:, None] * filled, mean).astype(np.float32), 1 / gains


def _crisp(textures: npt.NDArray[np.float32], grid: Grid) -> npt.NDArray[np.float32]:
    """Textures (n, N) times 1 + 2 a (1 - cos omega) along each axis: two samplings take about that from high frequencies."""
    values = textures.reshape(-1, *grid.shape)
    for axis in range(1, values.ndim):
        values = scipy.ndimage.correlate1d(values, [-_CRISP, 1 + 2 * _CRISP, -_CRISP], axis=axis, mode="mirror")
    return np.clip(values.reshape(textures.shape), textures.min(), textures.max())


def _mean_image(images: Sequence[Image], corresponding: FloatArray, alignment: Alignment) -> Image:
    shapes = procrustes(corresponding, alignment)
    grid = images[0].grid
    smoothing, coefficients = training_splines(shapes, grid)
    psis = training_maps(coefficients, LandmarkMaps(smoothing), control_grid(grid), shapes.poses, shapes.mean.mean(axis=0))
    textures, _ = _equalised(np.stack([sample_texture(image, psi, grid) for image, psi in zip(images, psis, strict=True)]))
    return Image(textures.mean(axis=0).reshape(grid.shape), grid)


def _pulled(labels: Labels, psi: Transform, template: Grid) -> npt.NDArray[np.int64]:
    return sample_labels(labels, psi(template.points())).astype(np.int64)


def _compact(maps: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.integer]:
    """Label maps (n, N) in the smallest type that holds them."""
    stack = np.stack(maps).reshape(len(maps), -1)
    least, most = int(stack.min()), int(stack.max())
    if least >= 0:
        return stack.astype(np.min_scalar_type(most))
    return stack.astype(np.int32 if least >= np.iinfo(np.int32).min and most <= np.iinfo(np.int32).max else np.int64)


def _template_grid(template: Image | None, images: Sequence[Image]) -> Grid:
    return images[0].grid if template is None else template.grid


def _check_images(images: Sequence[Image]) -> list[Image]:
    if len(images) < 3:
        raise ValueError(f"images: expected at least 3, got {len(images)}: variation cannot be learned from fewer")
    first = images[0].grid
    for i, image in enumerate(images):
        if image.grid.shape != first.shape or not np.allclose(image.grid.spacing, first.spacing, rtol=1e-3):
            raise ValueError(
                f"images[{i}]: expected shape {first.shape} and spacing {first.spacing} mm, those of images[0], got "
                f"{image.grid.shape} and {image.grid.spacing}; resample the images to one grid"
            )
        if not np.isfinite(image.values).all():
            raise ValueError(f"images[{i}]: expected finite intensities, got NaN or infinity; replace them first")
    return [image.luminance().with_values(image.luminance().values.astype(np.float32)) for image in images]


def _check_template(template: Image, ndim: int) -> None:
    if template.ndim != ndim:
        raise ValueError(f"template: expected a {ndim}-D image, as the others, got {template.ndim}-D")
    if not np.isfinite(template.values).all():
        raise ValueError("template: expected finite intensities, got NaN or infinity; replace them first")


def _check_labels(labels: Sequence[Labels], images: Sequence[Image]) -> None:
    if len(labels) != len(images):
        raise ValueError(f"labels: expected {len(images)}, one per image, got {len(labels)}")
    for i, (one, image) in enumerate(zip(labels, images, strict=True)):
        if not one.grid.matches(image.grid, tolerance=0.1):
            raise ValueError(f"labels[{i}]: expected the grid of images[{i}], {image.grid}, got {one.grid}")
        if int(one.values.max()) > np.iinfo(np.int64).max:
            raise ValueError(f"labels[{i}]: expected ids below 2^63, got {one.values.max()}; give the structures other numbers")


def _check_landmarks(landmarks: Sequence[npt.ArrayLike], count: int, ndim: int) -> FloatArray:
    if len(landmarks) != count:
        raise ValueError(f"landmarks: expected {count} sets, one per image, got {len(landmarks)}")
    # in one order: sums over other ones differ in their last bits
    sets = [np.ascontiguousarray(points, dtype=np.float64) for points in landmarks]
    for i, points in enumerate(sets):
        if points.shape != sets[0].shape or points.ndim != 2 or points.shape[1] != ndim:
            raise ValueError(
                f"landmarks[{i}]: expected shape {(len(sets[0]), ndim)}, as many points as landmarks[0], got {points.shape}"
            )
        if not np.isfinite(points).all():
            raise ValueError(f"landmarks[{i}]: expected finite coordinates, got NaN or infinity")
    if len(sets[0]) < ndim + 1:
        raise ValueError(f"landmarks: expected at least {ndim + 1} points per image, got {len(sets[0])}")
    return np.stack(sets)
