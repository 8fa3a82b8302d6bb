"""From displaced landmarks to one exact dense map: a thin-plate spline, carried over to a cubic B-spline.

The thin-plate spline v for displacements d_j at centres x_j minimises  sum_j |v(x_j) - d_j|^2 / lambda_j + E(v)  with the bending
energy E (Bookstein 1989; Wahba 1990), where lambda_j = 0 means d_j exactly. So are the anchors d = 0, around the frame and
wherever landmarks are far: else a spline would carry the growth of one small structure over the whole image. It is evaluated
once, at the nodes of a control grid; from there on the map *is* the cubic B-spline with these values at the nodes,

    psi(x) = x + sum_j b_j(x) c_j,

so that every program that evaluates it (numpy, torch, ITK) means the same function. Both steps are linear in d: a mode of the
landmarks is a mode of c.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from augreg.geometry._small import determinants
from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.transforms import BSpline

# the frame beyond the template in which displacements die out, as a share of its sides
MARGIN = 0.2
# farther from all landmarks than this share of the mean side, nothing moves
REACH = 0.25
_CELLS = {2: 48, 3: 24}


def control_grid(template: Grid) -> Grid:
    """The control points of a template's maps: MARGIN beyond it, about 48 (2-D) or 24 (3-D) cells in its longest side."""
    spacing = max(template.sides.max() / _CELLS[template.ndim], 2 * max(template.spacing))
    wide = template.padded([int(np.ceil(MARGIN * n)) for n in template.shape])
    return BSpline.zeros(wide, spacing).grid


def lift(displacements: FloatArray, centers: FloatArray, template: Grid, control: Grid, smoothing: FloatArray) -> FloatArray:
    """B-spline coefficients of displaced landmarks.

    Parameters
    ----------
    displacements : displacements of the landmarks, (K, m, D) mm, one row per map
    centers : positions of the landmarks in the template, (m, D) mm
    template : grid of the template
    control : grid of the control points, see `control_grid`
    smoothing : lambda of each landmark, (m,) mm^2; with 0 the spline interpolates

    Returns
    -------
    (K, *control.shape, D) mm; the three outer layers are zero
    """
    from scipy.interpolate import RBFInterpolator  # slow to import, and no registration needs it

    maps, _, ndim = displacements.shape
    reach = REACH * float(np.mean(template.extent))
    still = anchors(template, MARGIN, centers, reach, per_axis=9 if ndim == 2 else 5)
    values = np.zeros((len(centers) + len(still), maps * ndim))
    values[: len(centers)] = displacements.transpose(1, 0, 2).reshape(len(centers), -1)
    # millimetres over the template's size: the system's condition does not depend on the unit of length
    size = template.diagonal
    softness = np.concatenate([smoothing, np.zeros(len(still))]) / size**2
    places = np.concatenate([centers, still]) / size
    spline = RBFInterpolator(places, values, kernel="thin_plate_spline", smoothing=softness, degree=1)
    nodes = spline(control.points().reshape(-1, ndim) / size).reshape(*control.shape, maps, ndim)
    return through(np.moveaxis(nodes, -2, 0), control)


def anchors(grid: Grid, margin: float, centers: FloatArray, reach: float, per_axis: int = 5) -> FloatArray:
    """Points that never move, (a, D) mm: of a regular lattice over a grid's box widened by `margin` (share of each side), those
    on its surface, and those farther than `reach` (mm) from all `centers` (m, D), where nothing is known about motion.
    """
    from scipy.spatial.distance import cdist

    axes = [np.linspace(-margin * (n - 1), (1 + margin) * (n - 1), per_axis) for n in grid.shape]
    index = np.stack(np.meshgrid(*[np.arange(per_axis)] * grid.ndim, indexing="ij"), axis=-1).reshape(-1, grid.ndim)
    points = grid.points_at(np.stack([axes[a][index[:, a]] for a in range(grid.ndim)], axis=1))
    surface = np.any((index == 0) | (index == per_axis - 1), axis=1)
    far = cdist(points, centers).min(axis=1) > reach
    return points[surface | far]


def through(values: FloatArray, control: Grid) -> FloatArray:
    """Coefficients (K, *control.shape, D) of the cubic B-splines through values at the nodes of a control grid, alike in shape.

    The three outer layers of coefficients are zero.
    """
    from scipy.ndimage import spline_filter1d

    c = values
    for axis in range(1, control.ndim + 1):
        c = spline_filter1d(c, order=3, axis=axis, mode="mirror")
    out = np.zeros_like(c)
    inner = (slice(None), *(slice(3, -3),) * control.ndim)
    out[inner] = c[inner]
    return out


def least_determinant(coefficients: FloatArray, control: Grid, per_cell: int = 2) -> FloatArray:
    """The least det(D psi) of maps (B, *control.shape, D) at `per_cell` points per control cell and axis, (B,)."""
    ndim = control.ndim
    by_index = coefficients @ control.world_to_index.T
    axes = [cubic_basis(n, per_cell) for n in control.shape]
    J = np.empty((ndim, ndim, len(coefficients), *[len(values) for values, _ in axes]))
    for b in range(ndim):
        for d in range(ndim):
            field = by_index[..., d]
            for a, (values, slopes) in enumerate(axes):
                field = np.moveaxis(np.tensordot(slopes if a == b else values, field, axes=(1, a + 1)), 0, a + 1)
            J[d, b] = field + (d == b)
    return determinants(np.moveaxis(J, (0, 1), (-2, -1))).reshape(len(coefficients), -1).min(axis=1)


def least_smoothing(
    lifted: Callable[[int], FloatArray], count: int, control: Grid, least: float, per_cell: int = 2
) -> tuple[int, FloatArray]:
    """The first of some maps, ever smoother ones, that do not fold: its number, and its coefficients.

    Parameters
    ----------
    lifted : coefficients (B, *control.shape, D) of the maps of a number
    count : how many numbers there are; the last one is taken where all before it fold
    control : grid of the control points
    least : determinant that all maps must have
    per_cell : points per control cell and axis at which it is looked at
    """

    def tried(number: int) -> tuple[FloatArray, bool]:
        coefficients = lifted(number)
        return coefficients, bool(least_determinant(coefficients, control, per_cell).min() >= least)

    # the more smoothing, the fewer folds: the first that will do is found by halving the list
    low, high = 0, count - 1
    coefficients, unfolded = tried(low)
    if unfolded:
        return low, coefficients
    coefficients, _ = tried(high)
    while high - low > 1:
        middle = (low + high) // 2
        trial, unfolded = tried(middle)
        if unfolded:
            high, coefficients = middle, trial
        else:
            low = middle
    return high, coefficients


def cubic_basis(size: int, per_cell: int) -> tuple[FloatArray, FloatArray]:
    """Values and slopes of all cubic B-splines, (points, size) each, at regular points of the domain [1, size - 2]."""
    at = np.linspace(1, size - 2, per_cell * (size - 3) + 1)
    r = np.subtract.outer(at, np.arange(size))
    return cubic(r), cubic_slope(r)


def cubic(r: FloatArray) -> FloatArray:
    """The cubic B-spline at a distance of r knots: 2/3 - r^2 + |r|^3 / 2 up to 1, (2 - |r|)^3 / 6 up to 2, 0 beyond."""
    t = np.minimum(np.abs(r), 2)
    return np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, (2 - t) ** 3 / 6)


def cubic_slope(r: FloatArray) -> FloatArray:
    """Its derivative."""
    t = np.minimum(np.abs(r), 2)
    return np.sign(r) * np.where(t < 1, -2 * t + 1.5 * t**2, -0.5 * (2 - t) ** 2)
