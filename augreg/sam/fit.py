"""Fitting an appearance model to a few images.

    correspondences   x_i, (m, D) per image (`augreg.sam.correspondences`)
    alignment         poses T_i and the mean shape by Procrustes; shape residuals T_i^-1(x_i) - mean
    maps              psi_i = T_i o (id + thin-plate spline of the residuals): template -> image i, without folds
                      (`augreg.sam.training_splines`); dense models take its displacements, or the velocities that lead to them,
                      at the nodes of a control grid for their shapes
    textures          image_i(psi_i(x)), scaled to a common intensity; appearance residuals
    modes             of both, under one locality (`augreg.sam.locality`)

`fit_corresponding` takes any kind of correspondences; `fit_appearance_model` makes them of what is at hand.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.splines import control_grid
from augreg.registration import Registration
from augreg.sam.alignment import Alignment, pose_about, procrustes
from augreg.sam.checks import checked_images, checked_labels, checked_template
from augreg.sam.correspondences import ByRegistration, Correspondences, FromContours, GivenLandmarks
from augreg.sam.label_maps import pulled_labels
from augreg.sam.locality import GridPlaces, Locality, local_subspace
from augreg.sam.maps import DisplacementMaps, LandmarkMaps, Maps, VelocityMaps
from augreg.sam.model import AppearanceModel
from augreg.sam.selection import choose_scale
from augreg.sam.textures import crisp, equalised, sample_texture
from augreg.sam.training_splines import training_splines, training_transforms

# shape modes of landmarks are cheap, up to some hundreds
_LANDMARK_RANK = 500


def fit_appearance_model(
    images: Sequence[Image | npt.NDArray[Any]],
    *,
    labels: Sequence[Labels | npt.NDArray[Any]] | None = None,
    landmarks: Sequence[npt.ArrayLike] | None = None,
    registration: Registration | None = None,
    template: Image | npt.NDArray[Any] | None = None,
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
    images : three or more images of equal shape and spacing, or arrays, whose spacing is 1; colour becomes luminance
    labels : a label map per image, or arrays of integers. The model carries them; their contours or surfaces and centroids are
        the landmarks if neither landmarks nor a registration are given
    landmarks : corresponding points (m, D) mm per image
    registration : callable (fixed, moving) -> Transform that finds the landmarks, unless they are given
    template : image that is registered to all others; by default the one nearest to the mean image
    structures : labels to use; by default those that every map has
    locality : reach of correlations; by default five levels, Gaussian, nested; a scale that it leaves open is chosen from the
        shapes
    alignment : what is taken out of the shapes as pose: "none", "translation", "rigid" or "similarity". Poses are kept in the
        model and drawn with it, so nothing is lost; translation alone keeps size and orientation part of the shape, which is
        right for images that are already aligned, and safe for round structures, whose rotation is noise.
    dense : kind of shape vectors: displacements or velocities at all points of a control grid; by default displaced landmarks
    points : number of points of contours or surfaces
    rank : largest number of appearance modes, and of shape modes of dense models
    rounds : number of times that all images are registered; after each but the last, the mean image in the mean shape is the new
        template

    Raises
    ------
    ValueError : for too few, unequal or non-finite images, unusable labels or landmarks, or nothing to find correspondences with.

    Warns
    -----
    UserWarning : where a label map lacks a structure, which then has no landmarks, and where annotations seem to be exchanged.
    """
    grey = checked_images(images)
    carried = None if labels is None else checked_labels(labels, grey)
    start = None if template is None else checked_template(template, grey[0].ndim)
    correspondences: Correspondences
    if landmarks is not None:
        correspondences = GivenLandmarks(landmarks)
    elif registration is not None:
        correspondences = ByRegistration(registration, start, rounds, alignment)
    elif carried is not None:
        correspondences = FromContours(carried, points, structures)
    else:
        raise ValueError(
            "correspondences: expected labels, landmarks or a registration, got none; pass registration=LPRegistration() to "
            "align every image to a template"
        )
    grid = grey[0].grid if start is None else start.grid
    return _fitted(grey, correspondences, carried, grid, locality or Locality(), alignment, dense, rank)


def fit_corresponding(
    images: Sequence[Image | npt.NDArray[Any]],
    correspondences: Correspondences,
    *,
    labels: Sequence[Labels | npt.NDArray[Any]] | None = None,
    template: Grid | None = None,
    locality: Locality | None = None,
    alignment: Alignment = "translation",
    dense: DisplacementMaps | VelocityMaps | None = None,
    rank: int = 128,
) -> AppearanceModel:
    """Fit a model to images between which there are correspondences of any kind; errors and warnings as `fit_appearance_model`.

    Parameters
    ----------
    images : three or more images of equal shape and spacing, or arrays, whose spacing is 1; colour becomes luminance
    correspondences : a way to find corresponding points
    labels : a label map per image, for the model to carry
    template : grid of the template; by default that of the first image
    locality, alignment, dense, rank : see `fit_appearance_model`
    """
    grey = checked_images(images)
    carried = None if labels is None else checked_labels(labels, grey)
    return _fitted(grey, correspondences, carried, template or grey[0].grid, locality or Locality(), alignment, dense, rank)


def _fitted(
    grey: Sequence[Image],
    correspondences: Correspondences,
    labels: Sequence[Labels] | None,
    grid: Grid,
    locality: Locality,
    alignment: Alignment,
    dense: DisplacementMaps | VelocityMaps | None,
    rank: int,
) -> AppearanceModel:
    found = correspondences.find(grey)
    for doubt in found.doubts:
        warnings.warn(doubt, stacklevel=3)
    if found.objects is None and locality.affinity < 1:
        raise ValueError(
            f"affinity: expected label maps, whose structures are the objects, to go with {locality.affinity}, got none"
        )
    shapes = procrustes(found.points, alignment)
    control = control_grid(grid)
    extent = float(np.linalg.norm(grid.extent))
    if locality.scale is None and locality.levels > 1:
        locality = replace(locality, scale=choose_scale(shapes.points, locality, extent, found.objects).scale)
    smoothing, coefficients = training_splines(shapes, grid)
    maps: Maps = LandmarkMaps(smoothing) if dense is None else dense
    mean = maps.points(shapes.mean, control)
    residuals = maps.displaced(shapes.points - shapes.mean, coefficients, control)
    places = maps.places(mean, control, extent, found.objects)
    most = min(mean.size, _LANDMARK_RANK) if dense is None else rank
    shape = local_subspace(mean.ravel(), residuals, places, locality, most, name="shapes")
    # poses turn about the centre of the mean's points, whichever these are
    poses = np.stack([pose_about(pose, shapes.mean.mean(axis=0), mean.mean(axis=0)) for pose in shapes.poses])
    coefficients = maps.coefficients(residuals, mean, grid, control)
    psis = training_transforms(coefficients, maps.motion, control, poses, mean.mean(axis=0))
    textures, gains = equalised(np.stack([sample_texture(image, psi, grid) for image, psi in zip(grey, psis, strict=True)]))
    average = textures.mean(axis=0)
    changes = (textures - average)[..., None]
    appearance = local_subspace(average, changes, GridPlaces(grid, extent), locality.of_textures, rank, name="appearances")
    return AppearanceModel(
        template=grid,
        shape=shape,
        appearance=appearance,
        textures=crisp(textures, grid),
        gains=gains,
        poses=poses,
        alignment=alignment,
        maps=maps,
        locality=locality,
        contours=found.contours,
        label_maps=None if labels is None else pulled_labels(labels, psis, grid),
        intensities=(float(textures.min()), float(textures.max())),
        residuals=residuals,
        observed=(min(float(image.values.min()) for image in grey), max(float(image.values.max()) for image in grey)),
    )
