"""Registration by boundary sampling and linear programming (after Kybic and Borovec, MICCAI 2018).

Coarse to fine, at every level, with the current transform phi:

1. profiles of both images across the boundary at every keypoint, cost D_i(xi) of every normal displacement xi;
2. D_i's lower convex envelope, a piecewise-linear function;
3. minimise  sum_i D_i(n_i . v(p_i)) + lambda |R c|_1  over the coefficients c of v, a linear program;
4. phi <- phi @ (id + v), if the costs sampled anew have fallen.

The window of xi narrows from level to level and within a level, since an envelope is the tighter the narrower its window.
Rigid, similarity and affine steps compose; the B-spline's coefficients add up, phi = phi_affine @ (id + v), and their total is
bounded so that id + v is injective. A B-spline found by correlation is followed by the dense stage of `augreg.dense`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from augreg.dense import DenseRegistration
from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.transforms import Affine
from augreg.lp import work
from augreg.lp.constraints import Landmarks, RigidMask
from augreg.lp.contrast import begun_as_either
from augreg.lp.criteria import Criterion, CriterionName, criterion_called
from augreg.lp.descent import Descent, Solver
from augreg.lp.doubts import doubts, scarce
from augreg.lp.levels import Kind, Levels
from augreg.lp.models import MatrixModel
from augreg.lp.plan import Plan, TransformKind, plan_of
from augreg.lp.pose import MatrixPose
from augreg.lp.search import Search, begun, surer
from augreg.lp.shortcut import shortened
from augreg.lp.tracker import tracker_of
from augreg.lp.walk import Walk
from augreg.registration import Clock, Method, Pair, State, Tracker
from augreg.registration.clock import as_budget
from augreg.registration.incoming import Prepared, place_of
from augreg.registration.pair import Array
from solvers import InteriorPoint

if TYPE_CHECKING:
    from typing import Unpack

ContrastName = Literal["same", "any"]


@dataclass(frozen=True)
class LPRegistration(Method):
    """Align two images: a callable (fixed, moving) -> phi, fixed space to moving space.

    Parameters
    ----------
    transform : rigid, similarity, affine, or bspline (affine first, then one cubic B-spline)
    criterion : ncc, ssd, mi, or of the label maps given in the call: labels, if their numbers mean the same in both images,
        classes, if they do not (see `augreg.lp.superpixel_classes`)
    grid_spacing : spacing of the B-spline's control points, mm; default a sixteenth of the fixed image's longest side
    smoothness : weight of the L1 norm of second differences of the coefficients, cost per voxel and thousand keypoints;
        default 0.003 in 2-D, at the end 0.0012 where images agree (ncc), 0.00004 in 3-D
    fold_free : bound the B-spline so that it is injective
    search : try rotations, scales and translations first (only without an initial transform)
    rotation : degrees up to which rotations are tried; 180 for images that lie anyhow, in 3-D from 90 on around all turns of a
        cube, for headers whose axes are wrong
    mirror : try mirrored images, too; a mirrored result has a negative determinant
    contrast : same, or any if the moving image may look like the negative of the fixed one (ncc only; mi takes any contrast,
        changes from place to place, too)
    keypoints : approximate number of keypoints, for B-splines at the finest level; default 700 and 2000 in 2-D, 2000 and 32000 in
        3-D
    profile : half length across the boundary and half width along it of what is compared around a keypoint, in voxels of the
        level; default (6, 2) in 2-D, (6, 1) in 3-D
    polish : Gauss-Newton steps at the end, at most (ncc and ssd only)
    tolerance : largest distance of landmarks given in the call, mm
    budget : seconds within which the best transform so far is returned, for processes that have compiled their kernels; None for
        no limit. The last state tells how far it got (`stage`, `late`)
    dense : what follows on the transform (ncc only); by default a `DenseRegistration()` on a B-spline and nothing on matrices,
        None for nothing. It knows of no landmarks and no rigid mask: where these are given it is left out. Other contrasts it
        only harms, by descriptors too (`python -m benchmarks run descriptors`)
    solver : solver of the programs: `solvers.InteriorPoint`, `solvers.HiGHS` or any callable like them

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
    mirror: bool = False
    contrast: ContrastName = "same"
    keypoints: int | None = None
    profile: tuple[int, int] | None = None
    polish: int = 4
    tolerance: float = 0.0
    budget: float | None = None
    dense: DenseRegistration | Literal["default"] | None = "default"
    solver: Solver = field(default_factory=lambda: InteriorPoint(tolerance=1e-3))

    @classmethod
    def for_people(cls) -> LPRegistration:
        """For different people, who agree only roughly anywhere: an affine map to begin with, and all the rest is dense."""
        return cls(transform="affine", dense=DenseRegistration())

    @classmethod
    def quick(cls) -> LPRegistration:
        """In half the time: a third of the keypoints, half the polish, and no dense stage."""
        return cls(keypoints=700, polish=2, dense=None)

    def __post_init__(self) -> None:
        for name, known in (
            ("transform", get_args(TransformKind)),
            ("criterion", get_args(CriterionName)),
            ("contrast", get_args(ContrastName)),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.contrast == "any" and self.criterion not in ("ncc", "mi"):
            raise ValueError(f"contrast any: expected criterion ncc, or mi, which takes any, got {self.criterion}; leave one out")
        if self.grid_spacing is not None and not self.grid_spacing > 0:
            raise ValueError(f"grid_spacing: expected a positive number, got {self.grid_spacing}")
        as_budget(self.budget)
        if self.profile is not None and (len(self.profile) != 2 or self.profile[0] < 1 or self.profile[1] < 0):
            raise ValueError(f"profile: expected a half length of at least 1 and a half width of at least 0, got {self.profile}")
        for name in ("smoothness", "tolerance", "polish", "rotation"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name}: expected a number of at least 0, got {value}")
        if isinstance(self.dense, DenseRegistration):
            if self.criterion != "ncc":
                raise ValueError(
                    f"dense: expected criterion ncc, which it compares by, got {self.criterion}; leave one of them out"
                )
            if self.dense.budget is not None:
                raise ValueError(
                    f"dense: expected no budget of its own, got {self.dense.budget}; give it to LPRegistration for the whole"
                )
        elif self.dense not in ("default", None):
            raise TypeError(f"dense: expected a DenseRegistration, None or 'default', got {self.dense!r}")

    def prepare(self, fixed: Image | Array, *, moving_grid: Grid | None = None, **given: Unpack[Prepared]) -> Tracker:
        """A tracker that keeps the fixed image's levels, keypoints and bundles (see `augreg.lp.tracker`).

        With `initial` given, a frame is looked at on the levels that its motion needs; neither padding nor borders that stand
        still are looked for in it: whoever has some gives masks. Label maps cannot be tracked.
        """
        place, criterion = place_of(fixed, moving_grid, **given), criterion_called(self.criterion)
        if criterion.of_labels:
            raise ValueError(
                f"prepare: expected a criterion of images, got {self.criterion}; call the registration for each pair"
            )
        if self.contrast == "any" and not criterion.any_contrast:
            raise ValueError("prepare: expected contrast same, got any; hand over the negatives of such frames")
        constraints = RigidMask.of(place)
        plan = self._plan(place.fixed.grid, criterion, constrained=bool(constraints))
        dense = self._dense_stage(constrained=bool(constraints))
        return tracker_of(self, place, plan, criterion, Descent(self.solver, tuple(constraints)), dense, self.budget)

    def near(self) -> Method:
        """The dense stage of an affine registration; itself, if it has none, or bends before."""
        if self.transform == "bspline" or not isinstance(self.dense, DenseRegistration):
            return self
        return replace(self.dense, budget=self.budget)

    def _plan(self, grid: Grid, criterion: type[Criterion], *, constrained: bool) -> Plan:
        """What is done for a fixed image's grid."""
        return plan_of(
            grid,
            self.transform,
            # it knows of no constraints
            polish=self.polish if criterion.derivatives and not constrained else 0,
            fold_free=self.fold_free,
            keypoints=self.keypoints,
            profile=self.profile,
            grid_spacing=self.grid_spacing,
            smoothness=self.smoothness,
            rough=self._dense_stage(constrained=constrained) is not None,
            alike=self.criterion == "ncc",
        )

    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        """A state after every program; the first one is the start. `objective` is the mean cost of a keypoint.

        Landmarks must end up within `tolerance` of each other; the rigid mask is held to first order: how far it is not is said
        in the warnings.
        """
        clock = clock.within(self.budget)
        criterion = criterion_called(self.criterion)
        labels = self._labels(pair, criterion)
        descent = Descent(self.solver, (*Landmarks.of(pair, self.tolerance), *RigidMask.of(pair)))
        dense = self._dense_stage(constrained=bool(descent.constraints))
        grid = pair.fixed.grid
        plan = self._plan(grid, criterion, constrained=bool(descent.constraints))
        levels = Levels(pair, plan.spacings, Kind(criterion, plan.bundle, plan.keypoints, labels), clock)
        if not levels.possible(0, work.of_start(grid.ndim)):
            yield State.unmoved(pair, clock)
            return
        model = MatrixModel(plan.group, grid.center, float(np.linalg.norm(grid.extent)) / 2)
        pose = MatrixPose(model, pair.start, Affine.identity(grid.ndim))
        searched = self.search and pair.initial is None
        search = Search(self.rotation, self.mirror)
        # labels have no brightness to compare, and landmarks say where to look
        more = searched and labels is None and not descent.constraints
        seen = (descent, levels[0], pose, levels.scout if searched else None, search, clock)
        if self.contrast == "any" and not criterion.any_contrast:
            here, negative = begun_as_either(*seen, more=more, roughly=plan.rough)
            if negative:
                pair = pair.negative()
                levels.turn_negative()
        else:
            here = begun(*seen)
            if more:
                here = surer(descent, levels[0], here, levels.scout, search, clock, roughly=plan.rough)
        said = list(levels.warnings)
        if labels is None and (pair.fixed_labels is not None or pair.moving_labels is not None):
            said.append(f"fixed_labels, moving_labels: not used by criterion {self.criterion}")
        if descent.constraints and isinstance(self.dense, DenseRegistration):
            said.append("landmarks, rigid mask: the dense stage knows of none and was left out")
        here = replace(here, warnings=()).saying(*said, *scarce(levels[0]), *here.warnings)
        here, stages = shortened(plan, levels, descent, here, clock)
        # who goes the short way has been asked already
        asked = doubts if stages is plan.stages else lambda *_: []
        walk = Walk(replace(plan, stages=stages), levels, descent, grid, clock, asked)
        for step in walk.steps(here):
            state = step.state(clock.seconds, len(plan.stages) - len(stages))
            yield state
        if dense is not None and not state.late:
            # their rasters are most of the memory
            del walk, step, levels, here
            yield from dense.continued(pair, state, clock)

    def _dense_stage(self, *, constrained: bool) -> DenseRegistration | None:
        """What follows, if anything."""
        if constrained:
            return None
        if isinstance(self.dense, DenseRegistration):
            return self.dense
        usual = self.dense == "default" and self.transform == "bspline" and self.criterion == "ncc"
        return DenseRegistration() if usual else None

    def _labels(self, pair: Pair, criterion: type[Criterion]) -> tuple[Labels, Labels] | None:
        """Label maps where the criterion compares these."""
        if not criterion.of_labels:
            return None
        if pair.fixed_labels is None or pair.moving_labels is None:
            raise ValueError(
                f"criterion {self.criterion}: expected fixed_labels and moving_labels, got none; give both or take another "
                "criterion"
            )
        return pair.fixed_labels, pair.moving_labels
