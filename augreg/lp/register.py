"""Registration by boundary sampling and linear programming (after Kybic and Borovec, MICCAI 2018).

Coarse to fine, at every level, with the current transform phi:

1. profiles of both images across the boundary at every keypoint, cost D_i(xi) of every normal displacement xi;
2. D_i's lower convex envelope, a piecewise-linear function;
3. minimise  sum_i D_i(n_i . v(p_i)) + lambda |R c|_1  over the coefficients c of v, a linear program;
4. phi <- phi @ (id + v), if the costs sampled anew have fallen.

The window of xi narrows from level to level and within a level, since an envelope is the tighter the narrower its window.
Rigid, similarity and affine steps compose; the B-spline's coefficients add up, phi = phi_affine @ (id + v), and their total is
bounded so that id + v is injective.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import get_args

from augreg.lp.constraints import Landmarks, RigidMask
from augreg.lp.criteria import LABEL_CRITERIA, CriterionName
from augreg.lp.descent import Solver
from augreg.lp.run import Run, TransformKind
from augreg.registration import Method, Pair, State
from solvers import InteriorPoint


@dataclass(frozen=True)
class LPRegistration(Method):
    """Align two images: a callable (fixed, moving) -> phi, fixed space to moving space.

    Parameters
    ----------
    transform : rigid, similarity, affine, or bspline (affine first, then one cubic B-spline)
    criterion : ncc, ssd, mi, or of the label maps given in the call: labels, if their numbers mean the same in both images,
        classes, if they do not (see `augreg.lp.superpixel_classes`)
    grid_spacing : of the B-spline's control points, mm; default a sixteenth of the fixed image's longest side
    smoothness : weight of the L1 norm of second differences of the coefficients, cost per voxel and thousand keypoints;
        default 0.003 in 2-D, 0.00004 in 3-D
    fold_free : bound the B-spline so that it is injective
    search : try rotations, scales and translations first (only without an initial transform)
    rotation : degrees up to which rotations are tried
    keypoints : about how many, of B-splines at the finest level; default 700 and 2000 in 2-D, 2000 and 32000 in 3-D
    profile : half length across the boundary and half width along it of what is compared around a keypoint, in voxels of the
        level; default (6, 2) in 2-D, (6, 1) in 3-D
    polish : Gauss-Newton steps at the end, at most (ncc and ssd only)
    tolerance : of landmarks given in the call, mm
    budget : seconds after which the best transform so far is returned; None for no limit
    solver : of the programs: `solvers.InteriorPoint`, `solvers.HiGHS` or any callable like them

    Raises
    ------
    ValueError : when called, for unusable images (see `augreg.registration.Pair`) and missing label maps.
    """

    transform: TransformKind = "bspline"
    criterion: CriterionName = "ncc"
    grid_spacing: float | None = None
    smoothness: float | None = None
    fold_free: bool = True
    search: bool = True
    rotation: float = 15.0
    keypoints: int | None = None
    profile: tuple[int, int] | None = None
    polish: int = 4
    tolerance: float = 0.0
    budget: float | None = None
    solver: Solver = field(default_factory=lambda: InteriorPoint(tolerance=1e-3))

    def __post_init__(self) -> None:
        for name, known in (
            ("transform", get_args(TransformKind)),
            ("criterion", get_args(CriterionName)),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in ("grid_spacing", "budget"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}: expected a positive number, got {value}")
        if self.profile is not None and (len(self.profile) != 2 or self.profile[0] < 1 or self.profile[1] < 0):
            raise ValueError(f"profile: expected a half length of at least 1 and a half width of at least 0, got {self.profile}")
        for name in ("smoothness", "tolerance", "polish", "rotation"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name}: expected a number of at least 0, got {value}")

    def _states(self, pair: Pair) -> Iterator[State]:
        """A state after every program; the first one is the start. `objective` is the mean cost of a keypoint.

        Landmarks must end up within `tolerance` of each other; the rigid mask is held to first order: how far it is not is said
        in the warnings.
        """
        begin = time.perf_counter()
        labels = None
        if self.criterion in LABEL_CRITERIA:
            if pair.fixed_labels is None or pair.moving_labels is None:
                raise ValueError(
                    f"criterion {self.criterion}: expected fixed_labels and moving_labels, got none; give both or take another "
                    "criterion"
                )
            labels = (pair.fixed_labels, pair.moving_labels)
        constraints = [*Landmarks.of(pair, self.tolerance), *RigidMask.of(pair)]
        run = Run(self, pair, labels, constraints, begin)
        yield from run.states(search=self.search and pair.initial is None)
