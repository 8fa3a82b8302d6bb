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

import numpy.typing as npt

from augreg.geometry.image import Image, Labels
from augreg.geometry.transforms import Affine, Transform
from augreg.lp.constraints import Landmarks, RigidMask
from augreg.lp.criteria import LABEL_CRITERIA, CriterionName
from augreg.lp.descent import Solver
from augreg.lp.run import Run, TransformKind
from augreg.registration import State, prepare
from solvers import InteriorPoint


@dataclass(frozen=True)
class LPRegistration:
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
    ValueError : when called, for unusable images (see `augreg.registration.prepare`), missing label maps or unequal landmarks.
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

    def __call__(
        self,
        fixed: Image,
        moving: Image,
        *,
        fixed_mask: Labels | None = None,
        moving_mask: Labels | None = None,
        fixed_labels: Labels | None = None,
        moving_labels: Labels | None = None,
        fixed_points: npt.ArrayLike | None = None,
        moving_points: npt.ArrayLike | None = None,
        initial: Transform | None = None,
        rigid_mask: Labels | None = None,
    ) -> Transform:
        """The transform of the last state of `steps`."""
        states = self.steps(
            fixed,
            moving,
            fixed_mask=fixed_mask,
            moving_mask=moving_mask,
            fixed_labels=fixed_labels,
            moving_labels=moving_labels,
            fixed_points=fixed_points,
            moving_points=moving_points,
            initial=initial,
            rigid_mask=rigid_mask,
        )
        transform: Transform = Affine.identity(fixed.ndim)
        for state in states:
            transform = state.transform
        return transform

    def steps(
        self,
        fixed: Image,
        moving: Image,
        *,
        fixed_mask: Labels | None = None,
        moving_mask: Labels | None = None,
        fixed_labels: Labels | None = None,
        moving_labels: Labels | None = None,
        fixed_points: npt.ArrayLike | None = None,
        moving_points: npt.ArrayLike | None = None,
        initial: Transform | None = None,
        rigid_mask: Labels | None = None,
    ) -> Iterator[State]:
        """A state after every program; the first one is the start. `objective` is the mean cost of a keypoint.

        Parameters
        ----------
        fixed, moving : images of one dimension; grids, sizes and directions may differ
        fixed_mask, moving_mask : where to look, not 0; on any grid
        fixed_labels, moving_labels : label maps, for the criteria "labels" and "classes"
        fixed_points, moving_points : landmark pairs (N, D) mm, inside their images, that must end up within `tolerance` of each
            other
        initial : a first guess, kept as the left part of the result
        rigid_mask : in the fixed space, not 0 where the transform is to be locally rigid, to first order; how far it is not is
            said in the warnings
        """
        begin = time.perf_counter()
        ready = prepare(fixed, moving, fixed_mask=fixed_mask, moving_mask=moving_mask, initial=initial)
        landmarks = Landmarks.of(fixed_points, moving_points, self.tolerance, fixed.grid, moving.grid)
        constraints = [*landmarks, *RigidMask.of(rigid_mask, fixed.ndim)]
        labels = None
        if self.criterion in LABEL_CRITERIA:
            if fixed_labels is None or moving_labels is None:
                raise ValueError(
                    f"criterion {self.criterion}: expected fixed_labels and moving_labels, got none; give both or take another "
                    "criterion"
                )
            labels = (fixed_labels, moving_labels)
        run = Run(self, ready, labels, constraints, begin)
        yield from run.states(search=self.search and initial is None)
