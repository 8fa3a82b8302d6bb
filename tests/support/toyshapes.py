"""Three closed contours of 112 landmarks that move by Gaussian fields of two known lengths, the same along both axes."""

import functools

import numpy as np

LENGTHS = (60.0, 15.0)
DEVIATIONS = (5.0, 4.0)


@functools.cache
def contours() -> tuple[np.ndarray, np.ndarray]:
    """The mean shape (112, 2) and the object of every landmark."""
    parts = []
    for count, centre, radii in ((44, (0, 0), (30, 55)), (44, (90, 0), (30, 55)), (24, (48, -15), (12, 20))):
        angle = 2 * np.pi * np.arange(count) / count
        parts.append(np.stack([centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * np.sin(angle)], axis=1))
    return np.concatenate(parts), np.repeat([0, 1, 2], [44, 44, 24])


def covariance() -> np.ndarray:
    """Of one coordinate, (112, 112)."""
    mean, _ = contours()
    squared = np.sum((mean[:, None] - mean) ** 2, axis=-1)
    return sum(s**2 * np.exp(-0.5 * squared / length**2) for s, length in zip(DEVIATIONS, LENGTHS, strict=True))


def shapes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random shapes (count, 112, 2)."""
    mean, _ = contours()
    root = np.linalg.cholesky(covariance() + 1e-9 * np.eye(len(mean)))
    return mean + np.einsum("ab,nbc->nac", root, rng.standard_normal((count, len(mean), 2)))


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean distance of corresponding landmarks of vectors (..., 224)."""
    return np.linalg.norm((a - b).reshape(*np.broadcast_shapes(a.shape, b.shape)[:-1], -1, 2), axis=-1).mean(axis=-1)
