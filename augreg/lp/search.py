"""Where a registration begins: the best of several starts at the coarsest level, and of more where the images hardly agree."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from augreg.geometry.grid import FloatArray
from augreg.geometry.transforms import Affine, Transform
from augreg.lp.agreement import agreement
from augreg.lp.descent import Descent, Outcome, last
from augreg.lp.doubts import LEAST_AT_HOME, PLAIN, SURE, at_home
from augreg.lp.level import Level
from augreg.lp.moments import moment_starts
from augreg.lp.pose import MatrixPose, Pose
from augreg.lp.profiles import Window
from augreg.lp.start import all_around, candidates, nearby, reflections, turned
from augreg.lp.work import of_doubts, of_program, of_search
from augreg.registration.clock import Clock

# programs at the coarsest level from each candidate of the start, with so many keypoints
_WINDOWS = (Window(8, 1), Window(8, 1))
START_KEYPOINTS = 300
# of other poses: how much more of the images must agree, and how much at all; below what share all of them are tried
_BETTER, _CONVINCING, _HARDLY = 0.05, 0.4, 0.3
# norm of what takes one matrix to another below which the two are one start: 20 degrees, or a third in size
_ALIKE = 0.35
# starts of every kind that are taken on; degrees up to which a start is near, and how many matrices of wider ones are left to
# the normalised correlation, and starts to programs
_COUNT = 3
_NEAR = 45.0
_LEFT, _WIDE_COUNT = 48, 5
# share of the time that is left that a search may take: to be made at once, and at all
_MUCH, _MOST = 0.2, 0.6
# of what is tried all around: as many matrices of the normalised correlation, about
_FAR = 60


@dataclass(frozen=True)
class Search:
    """How far is searched.

    Parameters
    ----------
    degrees : up to which rotations are tried
    mirror : mirrored images are tried, too
    """

    degrees: float = 15.0
    mirror: bool = False

    @property
    def wide(self) -> bool:
        """Whether starts far from each other are to be expected."""
        return self.degrees > _NEAR


def begun(
    descent: Descent, level: Level, pose: MatrixPose, scout: Level | None, search: Search, clock: Clock | None = None
) -> Outcome:
    """The best of what the scouting level suggests, or the pose itself, after some programs at the coarsest level.

    Where the search would take much of the time that is left, it is made only if the pose does not agree with the images, and
    of translations alone if there is no time for rotations.

    Parameters
    ----------
    level : the coarsest one
    pose : nothing behind the initial transform
    scout : a coarser level of images; None where nothing else is to be tried
    search : how far to look
    clock : is asked before every part; by default there is time for everything
    """
    clock = Clock() if clock is None else clock
    level = level.with_count(min(level.count, START_KEYPOINTS))
    if not clock.limited:
        return _best_start(descent, level, pose, scout, search)
    seconds = 0.0 if scout is None else _work(level, pose, search)
    if clock.allows("search", seconds, _MUCH):
        return _best_start(descent, level, pose, scout, search)
    here = Outcome(pose)
    for window in _WINDOWS:
        seconds = of_program(level, level.count, pose, window)
        if not clock.allows("start", seconds):
            return here
        with clock.timed("start", seconds):
            here = last(descent.programs(level, here, (window,)), here)
    if scout is None:
        return here
    if at_home(level, here.pose.transform) >= PLAIN:
        return replace(here, plain=not (level.criterion.learned or level.thin))
    for some in (search, Search(0.0)):
        seconds = _work(level, pose, some)
        if clock.allows("search", seconds, _MOST):
            with clock.timed("search", seconds):
                return _best_start(descent, level, pose, scout, some)
    return here


def _work(level: Level, pose: MatrixPose, search: Search) -> float:
    """Of a search, seconds."""
    matrices = (turned if search.wide else nearby)(
        level.fixed.grid.ndim, rigid=pose.model.group == "rigid", degrees=search.degrees
    )
    starts = 1 + (_WIDE_COUNT if search.wide else _COUNT) * (1 + search.mirror)
    each = sum(of_program(level, level.count, pose, window) for window in _WINDOWS)
    return 0.75 * starts * each + of_search(len(matrices) * (1 + search.mirror), level.fixed)


def _best_start(descent: Descent, level: Level, pose: MatrixPose, scout: Level | None, search: Search) -> Outcome:
    """The best of the pose and of what the scouting level suggests, after some programs.

    Where what correlates best is plain after its first program, nothing else is tried.
    """
    poses = [pose] if scout is None else [pose, *_suggested(scout, pose, search)]
    likely = None
    # thin volumes tell little about their third axis, and a table that was learned at a pose speaks for it
    if len(poses) > 1 and not (search.mirror or search.wide or level.criterion.learned or level.thin):
        likely = last(descent.programs(level, Outcome(poses[1]), _WINDOWS[:1]), Outcome(poses[1]))
        if at_home(level, likely.pose.transform) >= PLAIN and misfit(level, likely.pose) < misfit(level, pose):
            return replace(likely, plain=True)
    if scout is not None and level.criterion.same_labels:
        found = moment_starts(level.fixed, level.moving, pose.base, pose.model.group, search.degrees)
        poses += [MatrixPose(pose.model, pose.base, pose.model.nearest(start)) for start in found]
    tried, given_up = [Outcome(start) for start in poses], []
    # successive halving: a program for all, then one for the better half
    for number, window in enumerate(_WINDOWS):
        ready = likely if number == 0 else None
        tried = [
            ready if ready is not None and start.pose is poses[1] else last(descent.programs(level, start, (window,)), start)
            for start in tried
        ]
        tried = sorted(tried, key=lambda outcome: misfit(level, outcome.pose))
        half = (len(tried) + 1) // 2
        given_up += tried[half:]
        tried = tried[:half]
    given_up += tried[1:]
    # what was said of a way not taken does not matter
    return _beside(tried[0], given_up)


def _suggested(scout: Level, pose: MatrixPose, search: Search) -> Iterator[MatrixPose]:
    """What images suggest: near starts from the given one, wide ones from centred grids, too; each and its mirror image."""
    fixed, moving, ndim, wide = scout.fixed, scout.moving, scout.fixed.grid.ndim, search.wide
    matrices = (turned if wide else nearby)(ndim, rigid=pose.model.group == "rigid", degrees=search.degrees)
    for initial in _initials(scout, pose) if wide else [pose.base]:
        for family in _families(matrices, scout, search, any_turn=wide):
            contrast = scout.criterion.any_contrast
            if wide:
                found = candidates(
                    fixed, moving, initial, family, count=_WIDE_COUNT, far=True, contrast=contrast, left=_LEFT, apart=_ALIKE
                )
            else:
                found = candidates(fixed, moving, initial, family, count=_COUNT, contrast=contrast)
            # a scale that the group lacks is dropped
            yield from (MatrixPose(pose.model, initial, pose.model.nearest(start)) for start in found)


def _families(matrices: list[FloatArray], scout: Level, search: Search, *, any_turn: bool) -> Iterator[list[FloatArray]]:
    """The matrices, and behind mirrors: each family has starts of its own, since the one may look like the other from afar."""
    yield matrices
    if search.mirror:
        mirrors = reflections(scout.fixed.grid.axes, any_turn=any_turn)
        yield [matrix @ mirror for mirror in mirrors for matrix in matrices]


def _initials(scout: Level, pose: MatrixPose) -> list[Transform]:
    """The given start, and centred grids unless they are much the same."""
    fixed, moving = scout.fixed.grid, scout.moving.grid
    apart = moving.center - fixed.center
    if np.abs(fixed.center + apart - pose.base(fixed.center)).max() <= min(fixed.spacing):
        return [pose.base]
    return [pose.base, Affine(np.eye(fixed.ndim), apart)]


def surer(
    descent: Descent, level: Level, here: Outcome, scout: Level, search: Search, clock: Clock, *, roughly: bool = False
) -> Outcome:
    """An outcome at the coarsest level, or a better one from anywhere if the images hardly agree there.

    With `roughly` what a dense stage can go on from is enough.
    """
    if here.plain or not clock.allows("doubts", 2 * of_doubts(level, level.count)):
        return here
    pose = _matrix(here.pose)
    if at_home(level, pose.transform) >= (LEAST_AT_HOME if roughly else PLAIN):
        return here
    best = agreement(level, pose.transform)
    if best.share >= SURE:
        return here
    few = level.with_count(START_KEYPOINTS)
    # what one image lacks can stretch an affine map, but hardly a similarity
    stiff = replace(pose.model, group="similarity")
    starts = [MatrixPose(stiff, pose.base, stiff.nearest(pose.affine))] if pose.model.group == "affine" else []
    each = sum(of_program(few, few.count, pose, window) for window in _WINDOWS) + of_doubts(level, level.count)
    # no candidate is looked for before those before it have been tried
    anywhere = _from_anywhere(scout, pose, search, anything=best.share < _HARDLY)
    for start in itertools.chain(starts, anywhere if clock.allows("search", of_search(_FAR, level.fixed)) else ()):
        if not clock.allows("start", each):
            break
        with clock.timed("start", each):
            there = last(descent.programs(few, Outcome(start), _WINDOWS), Outcome(start))
            there = replace(there, pose=replace(_matrix(there.pose), model=pose.model))
            found = agreement(level, there.pose.transform)
        if found.matched > best.matched and found.share > max(best.share + _BETTER, _CONVINCING):
            here, best = _beside(replace(there, warnings=here.warnings), [here]).saying(*there.warnings), found
        else:
            # what was said of a way not taken does not matter
            here = _beside(here, [there])
    return here


def _from_anywhere(scout: Level, pose: MatrixPose, search: Search, *, anything: bool) -> Iterator[MatrixPose]:
    """Starts all around, from the given start and from centred grids: those better than one like the pose, or the best few.

    Starts are compared with starts: the pose has been fitted, and correlates better than it deserves.
    """
    fixed, moving, ndim = scout.fixed, scout.moving, scout.fixed.grid.ndim
    matrices = all_around(ndim, rigid=pose.model.group == "rigid")
    back = np.linalg.inv(pose.affine.matrix)
    contrast = scout.criterion.any_contrast
    for initial in _initials(scout, pose):
        for family in _families(matrices, scout, search, any_turn=True):
            for some in _by_size(family) if contrast else [family]:
                for candidate in candidates(fixed, moving, initial, some, count=_COUNT, far=True, contrast=contrast):
                    alike = initial is pose.base and np.linalg.norm(back @ candidate.matrix - np.eye(ndim), 2) < _ALIKE
                    if alike and not anything:
                        break
                    yield MatrixPose(pose.model, initial, pose.model.nearest(candidate))


def _by_size(family: list[FloatArray]) -> list[list[FloatArray]]:
    """Those that keep sizes, and all others: what shows a part enlarged has fewer details, which any contrast explains easily."""
    keep = [np.isclose(abs(np.linalg.det(matrix)), 1.0) for matrix in family]
    sized = [[matrix for matrix, kept in zip(family, keep, strict=True) if kept == same] for same in (True, False)]
    return [some for some in sized if some]


def _beside(best: Outcome, others: Sequence[Outcome]) -> Outcome:
    """The best of several outcomes, which all have taken their time."""
    return replace(best, solve_seconds=best.solve_seconds + sum(other.solve_seconds for other in others))


def _matrix(pose: Pose) -> MatrixPose:
    """What a pose of a matrix group stays."""
    assert isinstance(pose, MatrixPose)
    return pose


def misfit(level: Level, pose: Pose) -> float:
    """Mean cost over all keypoints; those that left the view must not make a pose look better.

    Of labels that mean the same in both maps it is the share that differs: probabilities are estimated at the pose, and where all
    labels miss each other, each is sure of what it meets.
    """
    if level.criterion.same_labels:
        return level.unlike(pose.transform)
    costs = level.costs(pose.transform)[:, 0]
    valid = np.isfinite(costs)
    return float(np.where(valid, costs, max(1.0, costs[valid].max(initial=0.0))).mean())
