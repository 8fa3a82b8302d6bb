"""One map through corresponding points that does not fold.

    phi = A @ (id + v),      A affine, least squares of the pairs;   v a thin-plate spline through what is left of them, carried
                             over to a cubic B-spline (`augreg.geometry.splines`)

Points of other people, and of networks, contradict each other somewhere: through all of them a spline would fold. The smoothing
of point j is lambda m^2 / t_j, m the median distance of neighbouring points, t_j the trust in it; lambda is the least of a list
with which the least determinant over the control grid is above `guard`.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import scipy.spatial

from augreg.geometry.grid import FloatArray, Grid, reals
from augreg.geometry.splines import MARGIN, least_smoothing, lift
from augreg.geometry.transforms import Affine, BSpline, Transform

# lambda, from an interpolating spline to a nearly affine one
SMOOTHINGS = (0.0, *(10.0 ** (k / 2) for k in range(-6, 9)))
# what is missed by more than others is trusted less, in so many rounds, and never more than so many times as much
_ROUNDS, _LEAST_DOUBT = 3, 1e-3
# control points along the longest side
_CELLS = {2: 48, 3: 32}


def splined(
    points: npt.ArrayLike,
    partners: npt.ArrayLike,
    template: Grid,
    *,
    trust: npt.ArrayLike | None = None,
    spacing: float | None = None,
    guard: float = 0.05,
) -> Transform:
    """phi with phi(points) near partners, without folds.

    Parameters
    ----------
    points : places in the template's space, (N, D) mm, N > D
    partners : where these lie in the other space, (N, D) mm
    template : grid over which the map is wanted
    trust : trust in each pair, (N,), above 0; by default that in all is 1
    spacing : distance of the control points, mm; default a 48th (2-D) or 32nd (3-D) of the longest side
    guard : least determinant of id + v at two points per control cell and axis, between 0 and 1

    Raises
    ------
    ValueError : for fewer points than an affine map needs, points in one plane, other shapes, and trusts that are not positive.
    """
    p, q = reals("points", points), reals("partners", partners)
    D = template.ndim
    if p.ndim != 2 or p.shape != q.shape or p.shape[1] != D or len(p) <= D:
        raise ValueError(f"points, partners: expected as many of both, {D + 1} or more, {D}-D, got {p.shape}, {q.shape}")
    t = np.ones(len(p)) if trust is None else reals("trust", trust)
    if t.shape != (len(p),) or not t.min() > 0:
        raise ValueError(f"trust: expected {len(p)} positive numbers, one per point, got shape {t.shape}, least {t.min():g}")
    if not 0 < guard < 1:
        raise ValueError(f"guard: expected a determinant between 0 and 1, got {guard}")
    affine = fitted(p, q, t)
    control = BSpline.zeros(
        template.padded([int(np.ceil(MARGIN * n)) for n in template.shape]), spacing or float(template.sides.max()) / _CELLS[D]
    ).grid
    left = affine.solve(q) - p
    near = scipy.spatial.KDTree(p).query(p, 2)[0][:, 1]
    # two points at one place leave interpolation without a solution
    factors = SMOOTHINGS[int(near.min() <= 1e-6 * template.diagonal) :]
    softness = float(np.median(near)) ** 2 / (t / t.mean())
    doubt = np.ones(len(p))
    for _ in range(_ROUNDS):
        lifted = partial(_lifted, left, p, template, control, softness * doubt, factors)
        number, (c,) = least_smoothing(lifted, len(factors), control, guard)
        if number == 0:
            break
        missed = np.square(BSpline(c, control)(p) - p - left).sum(axis=1)
        doubt = np.maximum(missed / np.median(missed), _LEAST_DOUBT)
    return affine @ BSpline(c, control)


def _lifted(
    left: FloatArray, p: FloatArray, template: Grid, control: Grid, softness: FloatArray, factors: tuple[float, ...], number: int
) -> FloatArray:
    return lift(left[None], p, template, control, factors[number] * softness)


def fitted(p: FloatArray, q: FloatArray, t: FloatArray) -> Affine:
    """The affine map nearest to the pairs, sum_j t_j |A(p_j) - q_j|^2 least."""
    center, target = np.average(p, axis=0, weights=t), np.average(q, axis=0, weights=t)
    root = np.sqrt(t)[:, None]
    M, _, rank, _ = np.linalg.lstsq(root * (p - center), root * (q - target), rcond=None)
    if rank < p.shape[1] or np.linalg.matrix_rank(M) < p.shape[1]:
        raise ValueError("points, partners: expected points that fill the space, got some on a line or in a plane; add others")
    return Affine.about(M.T, center, target - center)
