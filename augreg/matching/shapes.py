"""Outlines on each other, without a look at the images: targets that SVF-Net learned from (Rohe et al., MICCAI 2017).

    phi = A @ exp(v),     exp(v) takes corresponding points of the outlines to each other

Points of equal arc length (2-D) or of equal rays (3-D), see `augreg.sam.contours`; through their displacements a thin-plate
spline (`augreg.geometry.splines`), and of it the velocity. So the map does not fold, and exp(-v) @ A^-1 is its inverse. What is
far from all outlines moves by the affine map alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.spatial

from augreg.geometry.image import Labels
from augreg.geometry.splines import control_grid, least_smoothing, lift, through
from augreg.geometry.transforms import BSpline
from augreg.geometry.velocity import Exponential, logarithm
from augreg.matching.spline import SMOOTHINGS, fitted
from augreg.registration.clock import Clock
from augreg.registration.method import Method, State
from augreg.registration.pair import Pair
from augreg.sam.contours import Contours, contours_correspond

# of the displacement whose velocity is sought: where it folds it has none
_LEAST = 0.1


@dataclass(frozen=True)
class ShapeRegistration(Method):
    """Label maps on each other by their outlines: a callable (fixed, moving, fixed_labels=, moving_labels=) -> phi.

    For structures of one piece that both maps have, whose outlines are not folded much: hearts, glands. Where they branch,
    `LPRegistration(criterion="labels")` needs no corresponding points.

    Parameters
    ----------
    points : about how many points of all outlines together
    structures : labels to use; by default those that both maps have

    Raises
    ------
    ValueError : when called, without label maps, or where these have no structure in common, or lack one asked for.
    """

    points: int = 400
    structures: tuple[int, ...] | None = None

    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        """One state: the objective is the mean distance of corresponding points, mm."""
        fixed, moving = pair.fixed_labels, pair.moving_labels
        if fixed is None or moving is None:
            raise ValueError("ShapeRegistration: expected fixed_labels and moving_labels, got none; give both")
        contours = Contours.from_labels([fixed, moving], self.points, self.structures)
        p, q = contours.corresponding([fixed, moving])
        start = pair.initial
        if start is not None:
            q = start.solve(q)
        affine = fitted(p, q, np.ones(len(p)))
        left = affine.solve(q) - p
        grid = pair.fixed.grid
        control = control_grid(grid)
        near = float(np.median(scipy.spatial.KDTree(p).query(p, 2)[0][:, 1]))
        _, (c,) = least_smoothing(
            lambda number: lift(left[None], p, grid, control, np.full(len(p), SMOOTHINGS[1:][number] * near**2)),
            len(SMOOTHINGS) - 1,
            control,
            _LEAST,
        )
        nodes = control.points()
        v = logarithm(BSpline(c, control)(nodes) - nodes, control)
        found = affine @ Exponential(BSpline(through(v[None], control)[0], control))
        transform = found if start is None else start @ found
        missed = float(np.linalg.norm(found(p) - q, axis=1).mean())
        said = self._said(pair, fixed, moving)
        yield State(0, 0, missed, float("nan"), transform, clock.seconds, said, len(p), stage="outlines")

    def _said(self, pair: Pair, fixed: Labels, moving: Labels) -> tuple[str, ...]:
        """What is not used, and whether points of equal arc length may be others'."""
        unused = [name for name in pair.known() if not name.endswith("labels") and name != "initial"]
        said = [f"{', '.join(unused)}: not used by ShapeRegistration, which looks at label maps alone"] if unused else []
        if fixed.ndim == 2 and not contours_correspond([fixed, moving]):
            said.append("labels: outlines are in pieces or folded, points of equal arc length may not correspond")
        return tuple(said)
