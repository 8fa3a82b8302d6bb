"""Where shapes are drawn from: densities of a model's shape coefficients b, which count in standard deviations.

    gaussian   b ~ N(0, I), what the modes say
    kernel     b = sqrt(1 - h^2) b_i + h e,  i one of the n training shapes at random, e ~ N(0, I)
    mixture    b ~ sum_c w_c N(m_c, diag(s_c^2)), fitted by expectation maximisation (scikit-learn)

The kernel density is the smoothed bootstrap that keeps the variance (Silverman 1986, 6.4.1): h = 1 is the Gaussian, h = 0 the
training shapes themselves. A few shapes say nothing of the finest modes: only the first n / 2 follow a density other than
N(0, 1).

Each is judged by what it says of a shape it has not seen: the mean of log p(b_i) where b_i is left out in turn, of the same
modes. h and the number of parts are chosen so; `best` is the one with the greatest mean, but the Gaussian unless another is
better by more than the standard error of their differences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray

Kind = Literal["gaussian", "kernel", "mixture", "best"]
SINGLE: tuple[Kind, ...] = ("gaussian", "kernel", "mixture")
KINDS: tuple[Kind, ...] = (*SINGLE, "best")
_BANDWIDTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_PARTS = (1, 2, 3, 4)
# shapes for each part of a mixture, and the least variance that it may have
_FOR_A_PART, _LEAST_VARIANCE = 4, 0.1


@dataclass(frozen=True, eq=False)
class ShapeDensity:
    """A mixture of Gaussians of the first d coefficients; the others are N(0, 1).

    Parameters
    ----------
    kind : gaussian, kernel or mixture
    weights : of its parts, (C,), sum 1
    means, deviations : (C, d) each
    held_out : log p of the training shapes, each left out in turn, (n,)
    """

    kind: str
    weights: FloatArray
    means: FloatArray
    deviations: FloatArray
    held_out: FloatArray

    def shaped(self, chosen: npt.ArrayLike, noise: FloatArray) -> FloatArray:
        """Coefficients (..., K) of standard normal numbers (..., K) in the parts `chosen` (...)."""
        b, d = noise.copy(), self.means.shape[1]
        b[..., :d] = self.means[np.asarray(chosen)] + self.deviations[np.asarray(chosen)] * noise[..., :d]
        return b

    def choose(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        """Parts at random, (count,)."""
        return rng.choice(len(self.weights), size=count, p=self.weights)

    def sample(self, rng: np.random.Generator, count: int, rank: int) -> FloatArray:
        """Random coefficients (count, rank)."""
        return self.shaped(self.choose(rng, count), rng.standard_normal((count, rank)))

    def log_density(self, b: npt.ArrayLike) -> FloatArray:
        """log p of the first d of coefficients (n, d or more), (n,)."""
        return _log_density(np.asarray(b, dtype=np.float64)[:, : self.means.shape[1]], self.weights, self.means, self.deviations)


def fit_density(b: npt.ArrayLike, kind: Kind) -> ShapeDensity:
    """The density of some training shapes' coefficients (n, K).

    Raises
    ------
    ValueError : for an unknown kind, or fewer than four shapes where another than the Gaussian is asked for.
    """
    if kind not in KINDS:
        raise ValueError(f"shapes: expected one of {', '.join(KINDS)}, got {kind!r}")
    known = np.asarray(b, dtype=np.float64)
    n, rank = known.shape
    leading = known[:, : min(rank, max(1, n // 2))]
    gaussian = _gaussian(leading)
    if kind == "gaussian":
        return gaussian
    if n < _FOR_A_PART:
        raise ValueError(f"shapes: expected {_FOR_A_PART} training shapes or more for a {kind} density, got {n}; take gaussian")
    if kind == "kernel":
        return _kernel(leading)
    if kind == "mixture":
        return _mixture(leading)
    return chosen([gaussian, _kernel(leading), _mixture(leading)])


def chosen(densities: list[ShapeDensity]) -> ShapeDensity:
    """The one that says most of unseen shapes; the first, unless another is better by more than a standard error."""
    first, best = densities[0], max(densities, key=lambda one: float(one.held_out.mean()))
    gain = best.held_out - first.held_out
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    return best if gain.mean() > error else first


def _gaussian(b: FloatArray) -> ShapeDensity:
    d = b.shape[1]
    weights, means, deviations = np.ones(1), np.zeros((1, d)), np.ones((1, d))
    return ShapeDensity("gaussian", weights, means, deviations, _log_density(b, weights, means, deviations))


def _kernel(b: FloatArray) -> ShapeDensity:

    def at(h: float, some: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        return np.full(len(some), 1 / len(some)), np.sqrt(1 - h**2) * some, np.full(some.shape, h)

    scores = [_left_out(b, lambda rest, h=h: at(h, rest)) for h in _BANDWIDTHS]  # type: ignore[misc]
    best = int(np.argmax([score.mean() for score in scores]))
    return ShapeDensity("kernel", *at(_BANDWIDTHS[best], b), scores[best])


def _mixture(b: FloatArray) -> ShapeDensity:
    # slow to import
    from sklearn.mixture import GaussianMixture

    def with_parts(parts: int, some: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        mixture = GaussianMixture(
            parts, covariance_type="diag", reg_covar=_LEAST_VARIANCE, max_iter=500, tol=1e-2, random_state=0
        ).fit(some)
        return mixture.weights_, mixture.means_, np.sqrt(mixture.covariances_)

    tried = [parts for parts in _PARTS if parts * _FOR_A_PART <= len(b)]
    scores = [_left_out(b, lambda rest, parts=parts: with_parts(parts, rest)) for parts in tried]  # type: ignore[misc]
    best = int(np.argmax([score.mean() for score in scores]))
    return ShapeDensity("mixture", *with_parts(tried[best], b), scores[best])


def _left_out(b: FloatArray, fit: Callable[[FloatArray], tuple[FloatArray, FloatArray, FloatArray]]) -> FloatArray:
    """log p of each shape by what is fitted to the others, (n,)."""
    return np.concatenate([_log_density(b[i : i + 1], *fit(np.delete(b, i, axis=0))) for i in range(len(b))])


def _log_density(b: FloatArray, weights: FloatArray, means: FloatArray, deviations: FloatArray) -> FloatArray:
    from scipy.special import logsumexp

    away = (b[:, None] - means) / deviations
    parts = -0.5 * np.square(away).sum(axis=-1) - np.log(deviations).sum(axis=-1) - 0.5 * b.shape[1] * np.log(2 * np.pi)
    return np.asarray(logsumexp(parts + np.log(weights), axis=1))
