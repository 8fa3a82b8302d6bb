"""The middle of several maps phi_i from one space X, a template's, to those of images:

    m: X -> middle,      phi'_i = phi_i @ m^-1 : middle -> image i,      so that the phi'_i have the identity as their mean.

Seen from the middle, the images lie around it evenly. With m(x) = mean_i phi_i(x) the mean of all phi'_i is the identity exactly,
wherever X was: for another start X' with g: X -> X' all phi_i are phi'_i @ g, and so is m, and the middle is the same (Joshi et
al., NeuroImage 2004; Guimond et al., CVIU 2000, remove the mean of the inverse displacements, which is the first term of this).

Means of large rotations and scales shrink, so that affine maps A_i, fitted by least squares, are averaged among themselves:

    mean_i log(A_i A^-1) = 0                                               (Pennec and Arsigny 2013, exponential barycentres)
    r = id + mean_i (w_i - id),   w_i = A_i^-1 phi_i,   m = A r

and where the displacements w_i are so large that their mean takes away half of the volume in many places, or nearly all of it
somewhere, r is the exponential of the mean of their velocities, r = exp(mean_i log w_i) (Arsigny et al. 2006), which is the
middle up to second order; rounds remove the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.jacobian import jacobian_determinant
from augreg.geometry.splines import control_grid, through
from augreg.geometry.transforms import Affine, BSpline, DisplacementField, Transform
from augreg.geometry.velocity import Exponential, logarithm

# points per axis to which an affine map is fitted
_LATTICE = {2: 24, 3: 12}
# nodes of the mean displacement, about: it is smooth, and an inverse is looked for at each of them
_NODES = {2: 1 << 14, 3: 1 << 17}
# nodes around the template, where displacements fade out
_MARGIN = 8
# velocities are averaged where so many nodes of the mean displacement have such a determinant, or any has less than the least: in
# the first round of brains 1 % of the nodes are below 0.5, and the least is 0.27
_SHRUNK, _MANY, _LEAST = 0.5, 0.02, 0.2
# mm that are nothing
_NOTHING = 1e-6
# of the affine mean
_ROUNDS, _SETTLED = 30, 1e-12


def from_middle(transforms: Sequence[Transform], grid: Grid) -> Transform:
    """m^-1, from the middle to the space that the transforms start from.

    Parameters
    ----------
    transforms : maps phi_i, all from the space of the grid
    grid : where they are looked at
    """
    affine = [fitted(phi, grid) for phi in transforms]
    # threads of LAPACK wait for each other much longer than matrices of four rows take
    with threadpool_limits(1, user_api="blas"):
        middle = mean_affine(affine)
    nodes = _nodes(grid)
    # A_i^-1 phi_i - id, of which the mean is left
    rests = [_rest(phi, A, nodes) for phi, A in zip(transforms, affine, strict=True)]
    mean = np.mean(rests, axis=0)
    back = middle.inverse()
    if np.abs(mean).max() < _NOTHING:
        return back
    r = DisplacementField(mean, nodes)
    left = jacobian_determinant(r, nodes)
    if left.min() >= _LEAST and np.mean(left < _SHRUNK) <= _MANY:
        return r.inverse(nodes) @ back
    # integrated once, and not for every image
    slow = _mean_velocity(transforms, affine, grid).inverse()
    return DisplacementField(slow.displacement(nodes), nodes) @ back


def fitted(transform: Transform, grid: Grid) -> Affine:
    """The affine map nearest to a transform, in the mean square over a grid."""
    x = grid.lattice([min(n, _LATTICE[grid.ndim]) for n in grid.shape])
    center = x.mean(axis=0)
    known = np.concatenate([x - center, np.ones((len(x), 1))], axis=1)
    found = np.linalg.lstsq(known, transform(x), rcond=None)[0]
    matrix = found[:-1].T
    return Affine(matrix, found[-1] - matrix @ center)


def mean_affine(maps: Sequence[Affine]) -> Affine:
    """A with mean_i log(A_i A^-1) = 0; the mean of their numbers where there is none, as among maps that mirror and others."""
    parts = np.stack([_homogeneous(A) for A in maps])
    mean = parts.mean(axis=0)
    found = mean
    for _ in range(_ROUNDS):
        steps = [_logarithm(part @ np.linalg.inv(found)) for part in parts]
        if any(step is None for step in steps):
            found = mean
            break
        step = np.mean(np.stack([step for step in steps if step is not None]), axis=0)
        found = _exponential(step) @ found
        if np.abs(step).max() < _SETTLED * (1 + np.abs(found).max()):
            break
    return Affine(found[:-1, :-1], found[:-1, -1])


def _mean_velocity(transforms: Sequence[Transform], affine: Sequence[Affine], grid: Grid) -> Exponential:
    """exp(mean_i log w_i), on the control points of a template's maps."""
    control = control_grid(grid)
    free = BSpline(np.zeros((*control.shape, control.ndim)), control).free[..., None]
    velocities = [
        logarithm(np.where(free, _rest(phi, A, control), 0.0), control) for phi, A in zip(transforms, affine, strict=True)
    ]
    return Exponential(BSpline(through(np.mean(velocities, axis=0)[None], control)[0], control))


def _rest(phi: Transform, A: Affine, nodes: Grid) -> FloatArray:
    """A^-1 phi - id at nodes, (*shape, D) mm."""
    return (A.inverse() @ phi).displacement(nodes)


def _nodes(grid: Grid) -> Grid:
    """Where the mean displacement is known: the grid and some of its voxels around it, coarser where there are many."""
    wide = grid.padded(_MARGIN)
    factor = max(1.0, (wide.size / _NODES[grid.ndim]) ** (1 / grid.ndim))
    return wide if factor == 1 else wide.with_shape([max(2, round(n / factor)) for n in wide.shape])


def _homogeneous(A: Affine) -> FloatArray:
    out = np.eye(A.ndim + 1)
    out[:-1, :-1], out[:-1, -1] = A.matrix, A.translation
    return out


def _logarithm(matrix: FloatArray) -> FloatArray | None:
    """Of a matrix; None where it has no real one."""
    from scipy.linalg import logm  # slow to import

    values = np.linalg.eigvals(matrix)
    if np.any((np.abs(values.imag) < 1e-12 * np.abs(values)) & (values.real <= 0)):
        return None
    found = np.asarray(logm(matrix))
    return found.real if np.abs(found.imag).max(initial=0) < 1e-9 else None


def _exponential(matrix: FloatArray) -> FloatArray:
    from scipy.linalg import expm

    return np.asarray(expm(matrix))
