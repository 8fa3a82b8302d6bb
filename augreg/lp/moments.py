"""Starts of label maps: centroids on centroids, second moments on second moments.

Label l that both maps have fills m_l mm^D around the centroid c_l with the covariance S_l; over all of them, with weights
w_l = min(m_l, m'_l), lie the mean c and the covariance S = sum_l w_l (S_l + (c_l - c)(c_l - c)^T). A start is

    x -> A (x - c) + c',      A = 1,  s Q,  S^-1/2 (S^1/2 S' S^1/2)^1/2 S^-1/2  or  V' L'^1/2 E L^-1/2 V^T,

with s = (tr S' / tr S)^1/2; Q the rotation that brings the centroids nearest to each other (Kabsch 1976); the third one the map
of least motion between two normal distributions; V and L axes and variances of S, E signs. Which of them is best, the criterion
of the labels decides. Axes tell no direction, so rotations that only they suggest are held to those that are searched.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from augreg.geometry.grid import FloatArray
from augreg.geometry.transforms import Affine, Transform
from augreg.keypoints.pyramid import Raster
from augreg.lp.models import Group

# centroids lie in a flat of fewer dimensions if their spread across it is below this share of the widest one
_FLAT = 0.05
# sizes beyond which a label is rather cut off than scaled
_LEAST, _MOST = 0.5, 2.0


@dataclass(frozen=True, eq=False)
class Moments:
    """Of some labels of one map.

    Parameters
    ----------
    volumes : (L,) mm^D
    centroids : (L, D) mm
    covariances : (L, D, D) mm^2
    """

    volumes: FloatArray
    centroids: FloatArray
    covariances: FloatArray

    def mean(self, weights: FloatArray) -> FloatArray:
        """c, (D,)."""
        return weights @ self.centroids

    def covariance(self, weights: FloatArray) -> FloatArray:
        """S, (D, D)."""
        arms = self.centroids - self.mean(weights)
        return np.einsum("l,lab->ab", weights, self.covariances + arms[:, :, None] * arms[:, None, :])


def moment_starts(fixed: Raster, moving: Raster, initial: Transform, group: Group, degrees: float) -> list[Affine]:
    """Affine starts A of a group on the fixed side (phi = initial @ A) of two label maps; none if they share no label but 0."""
    common = np.setdiff1d(np.intersect1d(_labels(fixed), _labels(moving)), [0])
    if common.size == 0:
        return []
    # what the start does to the moving map is undone here, and seen from the fixed side
    here, there = _moments(fixed, common, None), _moments(moving, common, initial)
    weights = np.minimum(here.volumes, there.volumes)
    weights = weights / weights.sum()
    ends = here.mean(weights), there.mean(weights)
    found = [np.eye(len(ends[0])), *_matrices(here, there, weights, group, degrees)]
    return [Affine(matrix, ends[1] - matrix @ ends[0]) for matrix in found]


def _labels(raster: Raster) -> FloatArray:
    return np.unique(raster.values[raster.allowed] if raster.allowed.size else raster.values)


def _moments(raster: Raster, labels: FloatArray, initial: Transform | None) -> Moments:
    """Of the labels where a mask allows them, seen through a start."""
    values = raster.values.reshape(raster.grid.shape)
    inside = np.isin(values, labels)
    if raster.allowed.size:
        inside &= raster.allowed.reshape(values.shape)
    points = raster.grid.points_at(np.argwhere(inside).astype(float))
    points = points if initial is None else initial.solve(points)
    number = np.searchsorted(labels, values[inside])
    counts = np.bincount(number, minlength=len(labels)).astype(float)

    def means(columns: FloatArray) -> FloatArray:
        sums = np.stack([np.bincount(number, column, len(labels)) for column in columns.T], axis=1)
        return sums / counts[:, None]

    centroids = means(points)
    arms = points - centroids[number]
    ndim = points.shape[1]
    products = means((arms[:, :, None] * arms[:, None, :]).reshape(len(arms), -1)).reshape(-1, ndim, ndim)
    # of a voxel itself, so that a single one has an extent
    own = raster.grid.axes * np.asarray(raster.grid.spacing)
    return Moments(counts * float(np.prod(raster.grid.spacing)), centroids, products + own @ own.T / 12)


def _matrices(here: Moments, there: Moments, weights: FloatArray, group: Group, degrees: float) -> list[FloatArray]:
    """A of all starts but the pure shift."""
    S, T = here.covariance(weights), there.covariance(weights)
    ndim = len(S)
    scale = 1.0 if group == "rigid" else float(np.clip(np.sqrt(np.trace(T) / np.trace(S)), _LEAST, _MOST))
    turn = _turn(here, there, weights)
    found = [scale * turn] if turn is not None else []
    if group != "rigid":
        found.append(scale * np.eye(ndim))
    if group == "affine":
        root = _root(S)
        back = np.linalg.inv(root)
        found.append(back @ _root(root @ T @ root) @ back)
    (small, V), (large, W) = np.linalg.eigh(S), np.linalg.eigh(T)
    stretch = np.sqrt(large / small) if group == "affine" else np.full(ndim, scale)
    for signs in itertools.product((1.0, -1.0), repeat=ndim):
        turn = (W * signs) @ V.T
        if np.linalg.det(turn) > 0 and angle(turn) <= degrees:
            found.append((W * (signs * stretch)) @ V.T)
    return found


def _turn(here: Moments, there: Moments, weights: FloatArray) -> FloatArray | None:
    """Q; None where the centroids leave it open."""
    arms, others = here.centroids - here.mean(weights), there.centroids - there.mean(weights)
    u, spread, vt = np.linalg.svd((others * weights[:, None]).T @ arms)
    # in D dimensions D - 1 directions and the orientation give the last one
    if spread[-2] <= _FLAT * spread[0] or spread[0] <= 0:
        return None
    signs = np.ones(len(spread))
    signs[-1] = np.sign(np.linalg.det(u @ vt))
    return (u * signs) @ vt


def angle(turn: FloatArray) -> float:
    """Of a rotation matrix, degrees."""
    ndim = len(turn)
    cosine = (np.trace(turn) - (ndim - 2)) / 2
    return float(np.rad2deg(np.arccos(np.clip(cosine, -1.0, 1.0))))


def _root(matrix: FloatArray) -> FloatArray:
    """The square root of a matrix that is symmetric and positive."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
