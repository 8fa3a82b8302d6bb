"""Simulated people: a head-like pattern in an oblique grid, deformed smoothly, with exact landmarks."""

import functools

import numpy as np

from augreg import Grid, Image, Labels
from augreg.sam import AppearanceModel, DisplacementMaps, Locality, VelocityMaps, fit_appearance_model
from support.spaces import directions


def grid(ndim: int) -> Grid:
    shape, spacing = ((60, 48), (1.2, 0.9)) if ndim == 2 else ((22, 18, 16), (1.5, 2.0, 1.8))
    return Grid(shape, spacing, (-11.0, 5.0, 40.0)[:ndim], directions(ndim)["oblique"])


def lattice(ndim: int) -> np.ndarray:
    axes = np.meshgrid(*[np.linspace(-0.8, 0.8, 6 if ndim == 2 else 4)] * ndim, indexing="ij")
    return np.stack(axes, axis=-1).reshape(-1, ndim)


def _scale(g: Grid) -> np.ndarray:
    return 0.5 * g.extent


def _world(g: Grid, unit: np.ndarray) -> np.ndarray:
    return g.center + (unit * _scale(g)) @ np.asarray(g.direction).T


def _bend(unit: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A smooth invertible map of unit coordinates: scale, shear and a wave per axis."""
    ndim = unit.shape[-1]
    out = unit * (1 + 0.08 * weights[:ndim]) + 0.06 * weights[ndim] * np.roll(unit, 1, axis=-1)
    return out + 0.04 * weights[ndim + 1] * np.sin(2 * unit + weights[ndim + 2])


@functools.cache
def people(ndim: int, count: int = 8, seed: int = 0) -> tuple[list[Image], list[Labels], list[np.ndarray]]:
    """Images, label maps and corresponding landmarks (m, D) mm."""
    rng = np.random.default_rng(seed)
    g = grid(ndim)
    unit = (g.points() - g.center) @ np.asarray(g.direction) / _scale(g)
    images, labels, landmarks = [], [], []
    for _ in range(count):
        weights, bright = rng.standard_normal(ndim + 3), rng.uniform(0.8, 1.2)
        shift = rng.normal(0, 1.5, ndim)
        # x = bend(q) + shift; invert by fixed point, the map is a contraction away from the identity
        y = unit - shift / _scale(g)
        q = y.copy()
        for _ in range(60):
            q += y - _bend(q, weights)
        radius = np.linalg.norm(q / np.array([0.85, 0.8, 0.82][:ndim]), axis=-1)
        inner = np.linalg.norm((q - 0.2) / np.array([0.3, 0.22, 0.25][:ndim]), axis=-1)
        edge = [1 / (1 + np.exp(25 * (r - 1))) for r in (radius, inner)]
        spot = rng.normal(0, 0.3, ndim)
        texture = 1 + 0.3 * np.sin(5 * q[..., 0]) * np.cos(4 * q[..., -1]) + 0.3 * np.exp(-8 * ((q - spot) ** 2).sum(-1))
        images.append(Image((100 * bright * (edge[0] * texture + 0.8 * edge[1])).astype(np.float32), g))
        labels.append(Labels((edge[0] > 0.5).astype(np.uint8) + 4 * (edge[1] > 0.5).astype(np.uint8), g))
        landmarks.append(_world(g, _bend(lattice(ndim), weights)) + shift @ np.asarray(g.direction).T)
    return images, labels, landmarks


@functools.cache
def model(kind: str = "labels") -> AppearanceModel:
    """A model of eight people: "labels", "displacement", "velocity" (2-D), "landmarks" or "landmarks3d", "velocity3d"."""
    ndim = 3 if kind.endswith("3d") else 2
    images, labels, landmarks = people(ndim)
    if kind in ("displacement", "velocity", "velocity3d"):
        dense = DisplacementMaps() if kind == "displacement" else VelocityMaps()
        given = {"landmarks": landmarks, "dense": dense, "rank": 30, "locality": Locality(levels=3)}
        return fit_appearance_model(images, labels=labels, **given)
    if kind == "labels":
        return fit_appearance_model(images, labels=labels, points=60, rank=40, locality=Locality(levels=4))
    return fit_appearance_model(images, landmarks=landmarks, rank=30, alignment="similarity", locality=Locality(levels=3))
